//! Counters and the plain snapshot made from them, declared once so that they cannot drift apart.

macro_rules! stats {
    ($(#[$meta:meta])* $stats:ident from $counters:ident { $($(#[$doc:meta])* $field:ident,)+ }) => {
        #[derive(Debug, Default)]
        pub(crate) struct $counters {
            $(pub(crate) $field: crate::sync::Counter,)+
        }

        impl $counters {
            pub(crate) fn read(&self) -> $stats {
                let Self { $($field),+ } = self;
                $stats { $($field: $field.get()),+ }
            }
        }

        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $stats {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl $stats {
            /// What happened between `earlier`, a snapshot of the same policy, and this one.
            #[must_use]
            pub const fn since(&self, earlier: &Self) -> Self {
                Self { $($field: self.$field.saturating_sub(earlier.$field)),+ }
            }
        }
    };
}

pub(crate) use stats;

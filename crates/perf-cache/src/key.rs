//! Keys: what identifies a value, in memory and as bytes that are the same in every process.

use std::borrow::Cow;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

/// A key written as bytes: self-delimiting, so that no two different keys of one type write the same bytes.
///
/// The bytes name the value in a shared store and in the invalidation log, hence they must not depend on the process, the
/// build or the platform. `std::hash::Hash` makes no such promise, which is why this trait exists.
///
/// ```
/// use perf_cache::CacheKey;
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Page { tenant: u32, path: String }
///
/// impl CacheKey for Page {
///     fn write_key(&self, out: &mut Vec<u8>) {
///         (self.tenant, &self.path).write_key(out);
///     }
/// }
/// assert_ne!(("ab", "c").key_bytes(), ("a", "bc").key_bytes());
/// ```
pub trait CacheKey {
    /// Appends the key's bytes.
    fn write_key(&self, out: &mut Vec<u8>);

    /// The key's bytes alone.
    fn key_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_key(&mut out);
        out
    }
}

/// Everything a cache asks of its keys; implemented for all types that have it.
pub trait Key: CacheKey + Hash + Eq + Clone + Send + Sync + 'static {}

impl<T: CacheKey + Hash + Eq + Clone + Send + Sync + 'static> Key for T {}

macro_rules! fixed_width {
    ($($int:ty as $wide:ty),*) => {
        $(impl CacheKey for $int {
            fn write_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(*self as $wide).to_be_bytes());
            }
        })*
    };
}

// `usize` and `isize` are written as 64 bits on every platform.
fixed_width!(u8 as u8, u16 as u16, u32 as u32, u64 as u64, u128 as u128, usize as u64);
fixed_width!(
    i8 as i8,
    i16 as i16,
    i32 as i32,
    i64 as i64,
    i128 as i128,
    isize as i64,
    bool as u8,
    char as u32
);

macro_rules! floats {
    ($($float:ty),*) => {
        $(impl CacheKey for $float {
            /// The bits: zero and negative zero are two keys.
            fn write_key(&self, out: &mut Vec<u8>) {
                self.to_bits().write_key(out);
            }
        })*
    };
}

floats!(f32, f64);

/// Length first, so that neighbours cannot run into each other.
fn delimited(bytes: &[u8], out: &mut Vec<u8>) {
    bytes.len().write_key(out);
    out.extend_from_slice(bytes);
}

impl CacheKey for str {
    fn write_key(&self, out: &mut Vec<u8>) {
        delimited(self.as_bytes(), out);
    }
}

impl CacheKey for String {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.as_str().write_key(out);
    }
}

impl<T: CacheKey> CacheKey for [T] {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.len().write_key(out);
        self.iter().for_each(|item| item.write_key(out));
    }
}

impl<T: CacheKey> CacheKey for Vec<T> {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.as_slice().write_key(out);
    }
}

impl<T: CacheKey, const N: usize> CacheKey for [T; N] {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|item| item.write_key(out));
    }
}

impl<T: CacheKey> CacheKey for Option<T> {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.is_some().write_key(out);
        self.iter().for_each(|item| item.write_key(out));
    }
}

impl CacheKey for () {
    fn write_key(&self, _: &mut Vec<u8>) {}
}

macro_rules! through_deref {
    ($($pointer:ty),*) => {
        $(impl<T: CacheKey + ?Sized> CacheKey for $pointer {
            fn write_key(&self, out: &mut Vec<u8>) {
                (**self).write_key(out);
            }
        })*
    };
}

through_deref!(&T, Box<T>, Arc<T>, Rc<T>);

impl<T: CacheKey + ToOwned + ?Sized> CacheKey for Cow<'_, T> {
    fn write_key(&self, out: &mut Vec<u8>) {
        (**self).write_key(out);
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: CacheKey),+> CacheKey for ($($name,)+) {
            #[expect(non_snake_case, reason = "the type parameters name the fields")]
            fn write_key(&self, out: &mut Vec<u8>) {
                let ($($name,)+) = self;
                $($name.write_key(out);)+
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_keys_have_different_bytes(a in any::<(String, Vec<u8>, Option<u16>)>(), b in any::<(String, Vec<u8>, Option<u16>)>()) {
            prop_assert_eq!(a == b, a.key_bytes() == b.key_bytes());
        }
    }

    #[test]
    fn owned_and_borrowed_forms_have_the_same_bytes() {
        assert_eq!("ab".key_bytes(), String::from("ab").key_bytes());
        assert_eq!(vec![1_u8, 2].key_bytes(), [1_u8, 2][..].key_bytes());
    }
}

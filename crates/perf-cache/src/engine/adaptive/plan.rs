//! The rules by which entries stay or go.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// A window that finds its own size, and admission by frequency behind it (W-TinyLFU).
    Adaptive,
    /// The same with a narrow window that stays so.
    Frequency,
    /// What was not used for longest goes (LRU): a window that is everything.
    Recency,
    /// Second chances (CLOCK with two of them, as in quick_cache and S3-FIFO): what was not used again while it was new
    /// goes, unless it comes back soon after.
    Clock,
    /// The same with nearly everything for what is new (2Q with a long queue, Johnson and Shasha, 1994): what comes twice
    /// and never more takes no room from what has yet to come again.
    Queue,
    /// One new entry in a few is let in whatever else is known, and what was not used for longest goes for it (BIP,
    /// Qureshi and others, "Adaptive Insertion Policies", 2007). Where everything comes back later than the cache is
    /// large, so that all others hit nothing, this hits some of it.
    Chance,
}

/// Share of the capacity for new entries at first under [`Plan::Adaptive`], and always under [`Plan::Frequency`] and
/// [`Plan::Chance`].
const NARROW: f64 = 0.01;
/// Share of the capacity for new entries under [`Plan::Clock`].
const COLD: f64 = 0.03;
/// And under [`Plan::Queue`].
const QUEUE: f64 = 0.9;
/// How long [`Plan::Clock`] and [`Plan::Queue`] remember what they refused, as a share of the capacity.
const REMEMBERED: f64 = 0.5;
const LONG_REMEMBERED: f64 = 1.0;
/// Share of the main part that is protected where some of it is.
const PROTECTED: f64 = 0.8;

impl Plan {
    /// Share of the capacity for new entries, at first.
    pub(super) const fn window(self) -> f64 {
        match self {
            Self::Adaptive | Self::Frequency | Self::Chance => NARROW,
            Self::Recency => 1.0,
            Self::Clock => COLD,
            Self::Queue => QUEUE,
        }
    }

    /// Share of the main part for what was used there.
    pub(super) const fn protected(self) -> f64 {
        match self {
            Self::Adaptive | Self::Frequency | Self::Recency => PROTECTED,
            Self::Clock | Self::Queue | Self::Chance => 0.0,
        }
    }

    /// Whether it asks how often a key was asked for.
    pub(super) const fn counts(self) -> bool {
        matches!(self, Self::Adaptive | Self::Frequency)
    }

    /// Whether it asks what was refused lately.
    pub(super) const fn remembers(self) -> bool {
        matches!(self, Self::Adaptive | Self::Clock | Self::Queue)
    }

    /// Whether entries have second chances.
    pub(super) const fn has_chances(self) -> bool {
        matches!(self, Self::Clock | Self::Queue)
    }

    /// Within how much refused weight, as a share of the capacity, what comes back is treated like one that was never gone.
    pub(super) const fn remembered(self) -> f64 {
        match self {
            Self::Queue => LONG_REMEMBERED,
            _ => REMEMBERED,
        }
    }
}

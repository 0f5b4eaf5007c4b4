//! The latency guard: beyond some size, the knee, more connections only make the server slower for everybody. Where that
//! is can be known only by having been there, so each growth is judged by what it has brought, and taken back if it did
//! harm.
//!
//! Up to the knee, a server that has one looks like one that has none, and a load that has risen by four times is to be
//! followed within ten observations. So the knee is first met by a step of a sixth, for one observation. After that it is
//! exceeded by one connection and for one observation only, when the load asks for more: after a window, and after twice
//! as long each time that was in vain.

/// What one observation says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) size: usize,
    /// How long leases were held, on average, in seconds.
    pub(super) hold: f64,
    /// Leases given out, per second.
    pub(super) rate: f64,
    /// Leases given out.
    pub(super) leases: f64,
    /// Whether callers waited for too long.
    pub(super) full: bool,
    /// Whether all connections were in use all the time, or nearly.
    pub(super) busy: bool,
}

/// The size beyond which the server gets slower.
#[derive(Clone, Copy, Debug)]
struct Knee {
    size: usize,
    /// Observations until one more connection is tried.
    wait: usize,
    /// What that number was at the beginning.
    interval: usize,
}

/// Bounds growth, and judges it.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    window: usize,
    /// What was seen before the last growth, until that has been judged.
    before: Option<Seen>,
    knee: Option<Knee>,
    /// The largest size at which nothing bad was seen: up to it the pool grows at once.
    proved: usize,
    /// The latest observation was begun beyond the knee and says nothing.
    unsettled: bool,
}

/// Holds this much longer after a growth…
const LONGER: f64 = 1.2;
/// …with a throughput not even this much higher mean that the server is the bottleneck.
const GAIN: f64 = 1.05;
/// By this much more, and what chance explains, a growth is judged at the latest. Until then many small ones are one.
const FAR: f64 = 1.5;
/// An attempt in vain doubles the time to the next up to so many windows.
const LONGEST: usize = 16;

/// By how much the mean of so many holds, or their number, is off by chance: by three times this once in a thousand.
fn doubt(leases: f64) -> f64 {
    1.0 / leases.max(1.0).sqrt()
}

impl Guard {
    pub(super) const fn new(window: usize) -> Self {
        Self { window, before: None, knee: None, proved: 0, unsettled: false }
    }

    /// The size at which the pool was found.
    pub(super) const fn found(&mut self, size: usize) {
        self.proved = size;
    }

    /// Whether this observation is of use: the one after a growth was taken back is not.
    pub(super) const fn settles(&mut self) -> bool {
        let was = self.unsettled;
        self.unsettled = false;
        was
    }

    /// The next size where all connections are in use and the load cannot be seen: a sixth more into the unknown, twice
    /// as many where that has proved good.
    pub(super) fn next(&self, size: usize) -> usize {
        Self::unknown(size).max(self.proved.min(size * 2))
    }

    /// The largest growth into the unknown.
    fn unknown(size: usize) -> usize {
        size + size.div_ceil(6).max(1)
    }

    /// Looks back at the last growth. Returns the size to go back to if it did harm.
    pub(super) fn judge(&mut self, seen: Seen) -> Option<usize> {
        if let Some(knee) = &mut self.knee {
            knee.wait = knee.wait.saturating_sub(1);
        }
        let before = self.before?;
        if seen.size <= before.size {
            self.before = None;
            return None;
        }
        let doubt = doubt(seen.leases.min(before.leases));
        let beyond = self.knee.filter(|knee| seen.size > knee.size);
        let growth = seen.size as f64 / before.size.max(1) as f64;
        let far = growth >= FAR + 4.0 * doubt;
        // Both together leave little room for chance: three times what it does to either.
        let slower = seen.hold > before.hold * LONGER
            && seen.rate < before.rate * GAIN
            && seen.hold * before.rate > before.hold * seen.rate * (LONGER / GAIN) * (6.0 * doubt).exp();
        // Little by little slower, and hardly a quarter of what so many more should have served.
        let idle_growth = seen.hold > before.hold * (1.1 + doubt)
            && seen.rate < before.rate * (1.0 + (growth - 1.0) / 4.0)
            && seen.busy;
        if seen.full && (slower || (far && idle_growth)) {
            let interval = beyond.map_or(self.window, |knee| (knee.interval * 2).min(self.window * LONGEST));
            self.knee = Some(Knee { size: before.size, wait: interval, interval });
            self.before = None;
            self.proved = self.proved.min(before.size);
            self.unsettled = true;
            return Some(before.size);
        }
        let paid = seen.rate >= before.rate * (1.0 + (growth - 1.0) / 2.0 + doubt);
        if paid || !seen.full || far {
            self.before = None;
            self.proved = self.proved.max(seen.size);
            if let Some(knee) = beyond {
                self.knee = Some(Knee { size: seen.size, wait: 0, ..knee });
            }
        }
        None
    }

    /// How far the pool may grow towards `wanted`; none where the knee forbids it for now.
    pub(super) fn grow(&mut self, seen: Seen, wanted: usize) -> Option<usize> {
        let mut target = wanted.min(self.proved.max(Self::unknown(seen.size)));
        if let Some(knee) = self.knee.filter(|knee| target > knee.size) {
            target = match knee {
                Knee { size, .. } if seen.size < size => size,
                Knee { wait: 0, .. } => seen.size + 1,
                _ => return None,
            };
        }
        self.before = self.before.or(Some(seen));
        Some(target)
    }
}

/// Whether an endpoint is up, by what its probes say: it takes several in a row to change that. Pure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hysteresis {
    rise: u32,
    fall: u32,
    up: bool,
    /// Probes in a row that say otherwise.
    against: u32,
}

impl Hysteresis {
    /// Up, until probes say otherwise.
    pub(super) const fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, up: true, against: 0 }
    }

    pub(super) const fn is_up(self) -> bool {
        self.up
    }

    /// Takes in a probe. Returns whether it changes anything.
    pub(super) const fn probed(&mut self, good: bool) -> bool {
        if good == self.up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < if self.up { self.fall } else { self.rise } {
            return false;
        }
        (self.up, self.against) = (good, 0);
        true
    }
}

/// How the traffic is divided among priority groups, given for each how many of its endpoints are healthy out of how many.
///
/// As in Envoy: a group keeps all of its traffic until less than five sevenths of it are healthy; what it cannot take
/// spills over to the next. Empty if nothing is healthy anywhere.
#[must_use]
pub fn spill(groups: &[(usize, usize)]) -> Vec<f64> {
    let mut shares = Vec::new();
    spill_into(groups, &mut shares);
    shares
}

/// The same into a vector that is there already.
pub(super) fn spill_into(groups: &[(usize, usize)], shares: &mut Vec<f64>) {
    /// Each endpoint is taken to be able to do this much more than its share.
    const OVERPROVISIONING: f64 = 1.4;
    let able = |(healthy, of): &(usize, usize)| {
        if *of == 0 { 0.0 } else { (OVERPROVISIONING * *healthy as f64 / *of as f64).min(1.0) }
    };
    shares.clear();
    let total = groups.iter().map(able).sum::<f64>().min(1.0);
    if total <= 0.0 {
        return;
    }
    let mut left = total;
    shares.extend(groups.iter().map(able).map(|able| {
        let taken = able.min(left);
        left -= taken;
        taken / total
    }));
}

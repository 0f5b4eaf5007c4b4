//! Popularity as it is found in the wild: a few things are asked for most of the time.

use crate::Rng;

/// Draws ranks `0..n` by Zipf's law, the most popular first, in constant time (Gray et al., "Quickly Generating
/// Billion-Record Synthetic Databases", SIGMOD 1994). Making one costs `n` steps.
///
/// ```
/// use perf_core::{Rng, Zipf};
///
/// let popular = Zipf::new(1000, 0.99);
/// let mut rng = Rng::seeded(1);
/// let first_ten = (0..1000).filter(|_| popular.sample(&mut rng) < 10).count();
/// assert!((300..500).contains(&first_ten), "{first_ten}");
/// ```
#[derive(Clone, Debug)]
pub struct Zipf {
    n: u64,
    alpha: f64,
    eta: f64,
    zeta: f64,
    second: f64,
}

impl Zipf {
    /// Over `n` ranks (0 is read as 1) with exponent `theta`, which is kept within `[0.01, 0.999]`; 0.99 is usual.
    #[must_use]
    pub fn new(n: u64, theta: f64) -> Self {
        let (n, theta) = (n.max(1), theta.clamp(0.01, 0.999));
        let zeta = (1..=n).map(|rank| (rank as f64).powf(-theta)).sum::<f64>();
        let second = 0.5_f64.powf(theta);
        let eta = (1.0 - (2.0 / n as f64).powf(1.0 - theta)) / (1.0 - (1.0 + second) / zeta);
        Self { n, alpha: 1.0 / (1.0 - theta), eta, zeta, second }
    }

    /// How many ranks there are.
    #[must_use]
    pub const fn ranks(&self) -> u64 {
        self.n
    }

    /// The next rank.
    pub fn sample(&self, rng: &mut Rng) -> u64 {
        let uniform = rng.unit();
        let scaled = uniform * self.zeta;
        if scaled < 1.0 || self.n == 1 {
            0
        } else if scaled < 1.0 + self.second || self.n == 2 {
            1
        } else {
            let rank = self.n as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
            (rank as u64).min(self.n - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_draw_is_a_rank() {
        let mut rng = Rng::seeded(3);
        for n in [0, 1, 2, 3, 50] {
            let zipf = Zipf::new(n, 0.99);
            assert!((0..2000).all(|_| zipf.sample(&mut rng) < n.max(1)), "{n}");
        }
    }

    #[test]
    fn the_first_rank_is_drawn_as_often_as_the_law_says() {
        let zipf = Zipf::new(100, 0.9);
        let mut rng = Rng::seeded(9);
        let firsts = (0..100_000).filter(|_| zipf.sample(&mut rng) == 0).count() as f64 / 100_000.0;
        assert!((firsts - 1.0 / zipf.zeta).abs() < 0.01, "{firsts}");
    }
}

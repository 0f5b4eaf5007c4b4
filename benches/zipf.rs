use perf_core::Rng;

/// Draws ranks `0..n` with Zipf's law, the most popular first (Gray et al., "Quickly Generating Billion-Record Synthetic
/// Databases", SIGMOD 1994).
#[derive(Clone, Debug)]
pub struct Zipf {
    n: f64,
    alpha: f64,
    eta: f64,
    zeta: f64,
    half: f64,
}

impl Zipf {
    /// Over `n` ranks with exponent `theta`, between 0 and 1 (0.99 is usual).
    #[must_use]
    pub fn new(n: u64, theta: f64) -> Self {
        let zeta = (1..=n).map(|rank| (rank as f64).powf(-theta)).sum::<f64>();
        let zeta_two = 1.0 + 0.5_f64.powf(theta);
        let eta = (1.0 - (2.0 / n as f64).powf(1.0 - theta)) / (1.0 - zeta_two / zeta);
        Self { n: n as f64, alpha: 1.0 / (1.0 - theta), eta, zeta, half: 0.5_f64.powf(theta) }
    }

    /// The next rank.
    pub fn sample(&self, rng: &mut Rng) -> u64 {
        let uniform = rng.unit();
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            0
        } else if scaled < 1.0 + self.half {
            1
        } else {
            (self.n * (self.eta * uniform - self.eta + 1.0).powf(self.alpha)) as u64
        }
    }
}

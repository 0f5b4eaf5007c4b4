//! Keeps an adaptive limit from following its own shadow.
//!
//! A limiter that learns what is normal from what it sees can drift: more calls in flight make the dependency slower,
//! slower becomes the new normal, and that allows still more. What tells growth that helps from growth that only queues
//! is throughput: if more calls in flight do not get more calls done, the dependency is full. The guard keeps the
//! covariance of the two, and lets the baseline rise only while they rise together.

/// How much weight the newest sample has.
const WEIGHT: f64 = 0.05;
/// Below this elasticity more calls in flight do not get more done.
const ENOUGH: f64 = 0.3;
/// Below this relative spread of the calls in flight nothing can be said.
const SPREAD: f64 = 1e-4;

#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    seen: u32,
    in_flight: f64,
    throughput: f64,
    variance: f64,
    covariance: f64,
}

impl Guard {
    /// Takes in how many were in flight and how many were done per second meanwhile.
    pub(super) fn observe(&mut self, in_flight: f64, throughput: f64) {
        if self.seen == 0 {
            (self.in_flight, self.throughput) = (in_flight, throughput);
        }
        self.seen = self.seen.saturating_add(1);
        let (d_in_flight, d_throughput) = (in_flight - self.in_flight, throughput - self.throughput);
        self.in_flight += WEIGHT * d_in_flight;
        self.throughput += WEIGHT * d_throughput;
        self.variance = (1.0 - WEIGHT) * (self.variance + WEIGHT * d_in_flight * d_in_flight);
        self.covariance = (1.0 - WEIGHT) * (self.covariance + WEIGHT * d_in_flight * d_throughput);
    }

    /// By how many percent throughput rises when the calls in flight rise by one percent; `None` while unknown.
    pub(super) fn elasticity(&self) -> Option<f64> {
        let known = self.seen >= 20
            && self.variance > SPREAD * self.in_flight * self.in_flight
            && self.throughput > 0.0;
        known.then(|| self.covariance / self.variance * self.in_flight / self.throughput)
    }

    /// Whether the dependency is full: what is slow now must not become the new normal.
    pub(super) fn is_saturated(&self) -> bool {
        self.elasticity().is_some_and(|elasticity| elasticity < ENOUGH)
    }

    /// Whether more calls in flight are known to get more done: only then may what is slow become normal.
    pub(super) fn is_elastic(&self) -> bool {
        self.elasticity().is_some_and(|elasticity| elasticity >= ENOUGH)
    }
}

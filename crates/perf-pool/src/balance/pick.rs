use perf_core::Rng;
use perf_core::time::Duration;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a choice is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndpointView {
    /// Its share of the traffic, 1 unless said otherwise. Slow start is part of it.
    pub weight: f64,
    /// How long calls take, in seconds; failures count as a penalty, so that failing fast attracts nothing.
    pub latency: f64,
    /// Calls under way.
    pub in_flight: usize,
    /// Whether it may be used.
    pub available: bool,
}

impl EndpointView {
    /// What one more call would cost here.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.latency * (self.in_flight as f64 + 1.0) / self.weight.max(f64::MIN_POSITIVE)
    }
}

/// Picks an endpoint, or none if none may be used. Callers pass only randomness they own, so that tests repeat.
pub trait Balance: Send + Sync + 'static {
    /// The index of the choice.
    fn pick(&self, endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize>;
}

const _: Option<&dyn Balance> = None;

/// One after the other, weights counting as repetitions in expectation.
#[derive(Debug, Default)]
pub struct RoundRobin(AtomicUsize);

impl Balance for RoundRobin {
    fn pick(&self, endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize> {
        let heaviest = endpoints.iter().filter(|e| e.available).map(|e| e.weight).fold(0.0, f64::max);
        if heaviest <= 0.0 {
            return None;
        }
        // Lighter endpoints are passed over in proportion; a few rounds are enough for any weight that matters.
        for _ in 0..endpoints.len() * 64 {
            let index = self.0.fetch_add(1, Ordering::Relaxed) % endpoints.len();
            let endpoint = &endpoints[index];
            let turn = endpoint.weight >= heaviest || rng.chance(endpoint.weight / heaviest);
            if endpoint.available && turn {
                return Some(index);
            }
        }
        endpoints.iter().position(|e| e.available)
    }
}

/// At random, by weight.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomPick;

impl Balance for RandomPick {
    fn pick(&self, endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize> {
        weighted(endpoints, rng, None)
    }
}

/// The one with the fewest calls under way for its weight; ties are broken at random.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastLoaded;

impl Balance for LeastLoaded {
    fn pick(&self, endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize> {
        let cost = |e: &EndpointView| (e.in_flight as f64 + 1.0) / e.weight.max(f64::MIN_POSITIVE);
        let (mut best, mut ties) = (None, 0);
        for (index, endpoint) in endpoints.iter().enumerate().filter(|(_, e)| e.available) {
            let least = best.map_or(f64::INFINITY, |found: usize| cost(&endpoints[found]));
            if cost(endpoint) < least {
                (best, ties) = (Some(index), 1);
            } else if cost(endpoint) <= least {
                ties += 1;
                if rng.below(ties) == 0 {
                    best = Some(index);
                }
            }
        }
        best
    }
}

/// The better of two drawn at random (Mitzenmacher): nearly as even as looking at all of them, and no herd runs to the
/// same best one. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct P2c;

impl Balance for P2c {
    fn pick(&self, endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize> {
        let first = uniform(endpoints, rng, None)?;
        let Some(second) = uniform(endpoints, rng, Some(first)) else { return Some(first) };
        let (a, b) = (endpoints[first].load(), endpoints[second].load());
        Some(if b < a { second } else { first })
    }
}

/// One of the available ones, each as likely, other than `except`.
fn uniform(endpoints: &[EndpointView], rng: &mut Rng, except: Option<usize>) -> Option<usize> {
    let fits = |index: usize, e: &EndpointView| e.available && Some(index) != except;
    if endpoints.is_empty() {
        return None;
    }
    // Most are available most of the time: a few draws find one, and otherwise one look at all of them does.
    for _ in 0..4 {
        let index = rng.below(endpoints.len() as u64) as usize;
        if fits(index, &endpoints[index]) {
            return Some(index);
        }
    }
    let count = endpoints.iter().enumerate().filter(|(index, e)| fits(*index, e)).count();
    let chosen = rng.below(count as u64) as usize;
    endpoints.iter().enumerate().filter(|(index, e)| fits(*index, e)).nth(chosen).map(|(index, _)| index)
}

fn weighted(endpoints: &[EndpointView], rng: &mut Rng, except: Option<usize>) -> Option<usize> {
    let fits = |index: usize, e: &EndpointView| e.available && e.weight > 0.0 && Some(index) != except;
    let total: f64 = endpoints.iter().enumerate().filter(|(i, e)| fits(*i, e)).map(|(_, e)| e.weight).sum();
    let mut left = rng.unit() * total;
    let mut last = None;
    for (index, endpoint) in endpoints.iter().enumerate().filter(|(i, e)| fits(*i, e)) {
        last = Some(index);
        left -= endpoint.weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// The share of its weight that an endpoint gets `since` it joined or recovered: from `least` at first to all of it after
/// `window`, growing as Envoy's slow start does (`aggression` 1 is linear).
#[must_use]
pub fn slow_start(since: Duration, window: Duration, least: f64, aggression: f64) -> f64 {
    if since >= window {
        return 1.0;
    }
    let grown = (since.as_secs_f64() / window.as_secs_f64()).powf(1.0 / aggression.max(f64::MIN_POSITIVE));
    grown.max(least)
}

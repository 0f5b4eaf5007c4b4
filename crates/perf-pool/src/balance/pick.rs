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

impl<B: Balance + ?Sized> Balance for Box<B> {
    fn pick(&self, endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize> {
        (**self).pick(endpoints, rng)
    }
}

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
#[derive(Clone, Copy, Debug)]
pub struct LeastLoaded {
    /// How much calls under way count against the weight: at 0 not at all, at 1 as Envoy has it.
    pub bias: f64,
}

impl Default for LeastLoaded {
    fn default() -> Self {
        Self { bias: 1.0 }
    }
}

impl Balance for LeastLoaded {
    fn pick(&self, endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize> {
        let cost =
            |e: &EndpointView| (e.in_flight as f64 + 1.0).powf(self.bias) / e.weight.max(f64::MIN_POSITIVE);
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
pub struct P2c {
    effort: Option<u32>,
}

impl P2c {
    /// Gives up after this many pairs without an available endpoint, as Finagle does; the pool then takes any. If a share
    /// `u` is unavailable, `u^(2 × pairs)` of the picks end so. Unless said otherwise, an available one is always found.
    #[must_use]
    pub const fn giving_up_after(pairs: u32) -> Self {
        Self { effort: Some(pairs) }
    }

    fn better(endpoints: &[EndpointView], first: usize, second: usize) -> usize {
        if endpoints[second].load() < endpoints[first].load() { second } else { first }
    }

    fn pick_a_pair(endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize> {
        let count = endpoints.len() as u64;
        let first = rng.below(count) as usize;
        // Another one, unless there is only one.
        let second =
            if count > 1 { (first + 1 + rng.below(count - 1) as usize) % endpoints.len() } else { first };
        match (endpoints[first].available, endpoints[second].available) {
            (true, true) => Some(Self::better(endpoints, first, second)),
            (true, false) => Some(first),
            (false, true) => Some(second),
            (false, false) => None,
        }
    }
}

impl Balance for P2c {
    fn pick(&self, endpoints: &[EndpointView], rng: &mut Rng) -> Option<usize> {
        if let Some(pairs) = self.effort.filter(|_| !endpoints.is_empty()) {
            return (0..pairs).find_map(|_| Self::pick_a_pair(endpoints, rng));
        }
        let first = uniform(endpoints, rng, None)?;
        let Some(second) = uniform(endpoints, rng, Some(first)) else { return Some(first) };
        Some(Self::better(endpoints, first, second))
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

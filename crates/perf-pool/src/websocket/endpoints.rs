use crate::balance::{Balance, EndpointView};
use crate::redact::Redacted;
use perf_core::Rng;
use perf_core::time::{Duration, Instant};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Endpoint {
    url: String,
    connections: usize,
    /// Passed over until then, because it could not be reached.
    out_until: Option<Instant>,
    /// It can never be connected to as things are configured.
    given_up: bool,
    failures: u32,
}

/// Where connections are made to, the choice being a [`Balance`].
pub(super) struct Endpoints {
    known: Mutex<Vec<Endpoint>>,
    balance: Box<dyn Balance>,
}

/// An endpoint that cannot be reached is passed over for this long per failure in a row, as long as there are others.
const OUT: Duration = Duration::from_secs(2);
const MOST_OUT: u32 = 15;

impl Endpoints {
    pub(super) fn new(urls: Vec<String>, balance: Box<dyn Balance>) -> Self {
        let known = urls
            .into_iter()
            .map(|url| Endpoint { url, connections: 0, out_until: None, given_up: false, failures: 0 })
            .collect();
        Self { known: Mutex::new(known), balance }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next connection goes, counted there until [`let_go`](Self::let_go).
    pub(super) fn choose(&self, now: Instant, rng: &mut Rng) -> (usize, String) {
        let mut known = self.lock();
        let view = |endpoint: &Endpoint, available| EndpointView {
            weight: 1.0,
            latency: 1.0,
            in_flight: endpoint.connections,
            available,
        };
        let healthy =
            |endpoint: &Endpoint| !endpoint.given_up && endpoint.out_until.is_none_or(|until| until <= now);
        let views: Vec<_> = known.iter().map(|endpoint| view(endpoint, healthy(endpoint))).collect();
        let chosen = self.balance.pick(&views, rng).or_else(|| {
            // All are out: better an ill one than none.
            let views: Vec<_> = known.iter().map(|endpoint| view(endpoint, !endpoint.given_up)).collect();
            self.balance.pick(&views, rng)
        });
        let chosen = chosen.unwrap_or(0);
        known[chosen].connections += 1;
        (chosen, known[chosen].url.clone())
    }

    pub(super) fn succeeded(&self, endpoint: usize) {
        let mut known = self.lock();
        (known[endpoint].failures, known[endpoint].out_until) = (0, None);
    }

    pub(super) fn failed(&self, endpoint: usize, now: Instant) {
        let mut known = self.lock();
        let failures = (known[endpoint].failures + 1).min(MOST_OUT);
        (known[endpoint].failures, known[endpoint].out_until) = (failures, Some(now + OUT * failures));
    }

    /// Never asks an endpoint again. Returns whether there is another one.
    pub(super) fn give_up(&self, endpoint: usize) -> bool {
        let mut known = self.lock();
        known[endpoint].given_up = true;
        known.iter().any(|endpoint| !endpoint.given_up)
    }

    /// How many are available, passed over for a while, and given up.
    pub(super) fn levels(&self, now: Instant) -> (usize, usize, usize) {
        let known = self.lock();
        let given_up = known.iter().filter(|endpoint| endpoint.given_up).count();
        let out = known
            .iter()
            .filter(|endpoint| !endpoint.given_up && endpoint.out_until.is_some_and(|until| until > now));
        let out = out.count();
        (known.len() - given_up - out, out, given_up)
    }

    pub(super) fn let_go(&self, endpoint: usize) {
        let mut known = self.lock();
        known[endpoint].connections = known[endpoint].connections.saturating_sub(1);
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.lock().iter().map(|endpoint| Redacted(&endpoint.url).to_string()))
            .finish()
    }
}

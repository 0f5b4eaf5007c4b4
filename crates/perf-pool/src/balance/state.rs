use super::choose::{Chosen, Scratch};
use super::health::Hysteresis;
use super::{BalanceConfig, Ejector, Endpoint, EndpointView, Ring, Role, slow_start, subset};
use perf_core::time::{Duration, Instant};
use perf_core::{PeakEwma, Rng};
use std::collections::BTreeSet;

/// What is known of an endpoint.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: u64,
    pub(super) endpoint: Endpoint,
    pub(super) role: Option<Role>,
    latency: PeakEwma,
    /// Whether a call has ever come back from it.
    seen: bool,
    pub(super) in_flight: usize,
    joined: Instant,
    pub(super) health: Hysteresis,
}

/// What a change of the list has done.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) joined: Vec<(u64, Endpoint)>,
    pub(super) left: Vec<u64>,
}

/// What a probe has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turned {
    /// The endpoint is up, or down, now.
    pub(super) health: Option<bool>,
    /// It takes writes, or does not, now.
    pub(super) role: Option<Role>,
}

/// Everything a choice is made from. Pure: it takes `now`.
#[derive(Debug)]
pub(super) struct State {
    pub(super) config: BalanceConfig,
    pub(super) known: Vec<Known>,
    pub(super) ejector: Ejector,
    pub(super) ring: Ring,
    /// Whether the endpoints are of more than one priority.
    pub(super) prioritised: bool,
    pub(super) rng: Rng,
    pub(super) scratch: Scratch,
    /// What tells this instance from others, for its subset.
    client: u64,
    next_id: u64,
    pub(super) picked: u64,
    pub(super) panicked: u64,
    /// Callers that went on to another endpoint.
    pub(super) retried: u64,
    pub(super) ejections: u64,
}

impl State {
    pub(super) fn new(config: BalanceConfig, mut rng: Rng, now: Instant) -> Self {
        let ejector = Ejector::new(config.ejector.clone(), 0, now);
        let client = rng.next_u64();
        Self {
            config,
            known: Vec::new(),
            ejector,
            ring: Ring::default(),
            prioritised: false,
            rng,
            scratch: Scratch::default(),
            client,
            next_id: 0,
            picked: 0,
            panicked: 0,
            retried: 0,
            ejections: 0,
        }
    }

    /// Takes in the list of endpoints. Those that stay keep what is known of them; new ones start slowly, unless they are
    /// the first.
    pub(super) fn set(&mut self, endpoints: Vec<Endpoint>, now: Instant) -> Change {
        let endpoints = self.own(endpoints);
        let first = self.known.is_empty();
        let mut change = Change::default();
        let mut before: Vec<Option<usize>> = Vec::new();
        let mut known = Vec::new();
        let mut old: Vec<Option<Known>> = std::mem::take(&mut self.known).into_iter().map(Some).collect();
        for endpoint in endpoints {
            let place =
                old.iter().position(|known| known.as_ref().is_some_and(|k| k.endpoint.name == endpoint.name));
            let kept = place.and_then(|place| old[place].take());
            before.push(kept.as_ref().and(place));
            known.push(match kept {
                Some(kept) => Known { role: kept.role.or(endpoint.role), endpoint, ..kept },
                None => {
                    self.next_id += 1;
                    change.joined.push((self.next_id, endpoint.clone()));
                    self.meet(endpoint, first, now)
                }
            });
        }
        change.left = old.into_iter().flatten().map(|known| known.id).collect();
        self.known = known;
        self.ejector.rearrange(&before);
        let shares: Vec<_> =
            self.known.iter().map(|k| (k.endpoint.name.as_str(), k.endpoint.weight)).collect();
        self.ring = Ring::new(&shares);
        let mut priorities = self.known.iter().map(|known| known.endpoint.priority);
        let first = priorities.next();
        self.prioritised = priorities.any(|priority| Some(priority) != first);
        change
    }

    /// The endpoints this instance uses, each once.
    fn own(&self, mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
        let mut names = BTreeSet::new();
        endpoints.retain(|endpoint| names.insert(endpoint.name.clone()));
        let Some(size) = self.config.subset else { return endpoints };
        let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let mut own = subset(&self.client, &names, size);
        own.sort_unstable();
        own.into_iter().map(|index| endpoints[index].clone()).collect()
    }

    fn meet(&self, endpoint: Endpoint, first: bool, now: Instant) -> Known {
        // Those there from the start have nothing to start slowly against.
        let joined = if first { now.checked_sub(self.config.slow_start).unwrap_or(now) } else { now };
        let latency = PeakEwma::new(self.config.default_rtt.as_secs_f64(), self.config.decay, now);
        let health = Hysteresis::new(self.config.rise, self.config.fall);
        let role = endpoint.role;
        Known { id: self.next_id, endpoint, role, latency, seen: false, in_flight: 0, joined, health }
    }

    pub(super) fn views(&self, now: Instant) -> Vec<EndpointView> {
        (0..self.known.len()).map(|index| self.view(index, now)).collect()
    }

    pub(super) fn view(&self, index: usize, now: Instant) -> EndpointView {
        let (config, known) = (&self.config, &self.known[index]);
        let grown = slow_start(
            now.saturating_duration_since(known.joined),
            config.slow_start,
            config.slow_start_least,
            config.slow_start_aggression,
        );
        EndpointView {
            weight: known.endpoint.weight * grown,
            // One that has never answered is tried once, and then waited for.
            latency: if known.seen || known.in_flight == 0 {
                known.latency.get(now).max(1e-9)
            } else {
                config.penalty.as_secs_f64()
            },
            in_flight: known.in_flight,
            available: self.is_available(index),
        }
    }

    pub(super) fn is_available(&self, index: usize) -> bool {
        self.known[index].health.is_up() && !self.ejector.is_out(index)
    }

    /// Compares the endpoints if it is time. Returns those that are taken out by it.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<u64> {
        let swept = self.ejector.sweep(now);
        self.ejections += swept.len() as u64;
        swept.into_iter().map(|index| self.known[index].id).collect()
    }

    /// A call has ended: well, badly, or without saying anything about its endpoint. Returns whether the endpoint is taken
    /// out by it.
    pub(super) fn finish(
        &mut self,
        call: Chosen,
        taken: Duration,
        outcome: Option<bool>,
        now: Instant,
    ) -> bool {
        let Some(index) = self.index(call.id) else { return false };
        let penalty = self.config.penalty.as_secs_f64();
        let known = &mut self.known[index];
        known.in_flight = known.in_flight.saturating_sub(1);
        let seconds = taken.as_secs_f64();
        let Some(good) = outcome else {
            if call.probe {
                self.ejector.release_probe(index);
            }
            return false;
        };
        known.seen = true;
        known.latency.observe(if good { seconds } else { seconds.max(penalty) }, now);
        if call.probe {
            self.ejector.record_probe(index, good, now);
            if !self.ejector.is_out(index) {
                self.known[index].joined = now;
            }
            return false;
        }
        let ejected = self.ejector.record(index, good, now);
        self.ejections += u64::from(ejected);
        ejected
    }

    /// A probe has ended: with a role, without one, or badly.
    pub(super) fn probed(&mut self, id: u64, answer: Option<Option<Role>>, now: Instant) -> Turned {
        let Some(index) = self.index(id) else { return Turned::default() };
        let known = &mut self.known[index];
        let mut turned = Turned::default();
        if known.health.probed(answer.is_some()) {
            turned.health = Some(known.health.is_up());
            known.joined = now;
        }
        if let Some(Some(role)) = answer
            && known.role != Some(role)
        {
            // The first answer is news only if something else was said before.
            turned.role = known.role.is_some().then_some(role);
            known.role = Some(role);
        }
        turned
    }

    /// A writer has said that it takes no writes. Returns whether that is news.
    pub(super) fn demote(&mut self, id: u64) -> bool {
        let Some(index) = self.index(id) else { return false };
        self.known[index].role.replace(Role::Reader) != Some(Role::Reader)
    }

    pub(super) fn index(&self, id: u64) -> Option<usize> {
        self.known.iter().position(|known| known.id == id)
    }
}

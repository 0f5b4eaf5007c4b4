use super::health::{Hysteresis, spill};
use super::{Balance, BalanceConfig, Ejector, Endpoint, EndpointView, Ring, Role, rank, slow_start, subset};
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
    in_flight: usize,
    joined: Instant,
    pub(super) health: Hysteresis,
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    pub(super) role: Option<Role>,
    pub(super) key: Option<u64>,
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
    config: BalanceConfig,
    pub(super) known: Vec<Known>,
    pub(super) ejector: Ejector,
    ring: Ring,
    rng: Rng,
    /// What tells this instance from others, for its subset.
    client: u64,
    next_id: u64,
    pub(super) picked: u64,
    pub(super) panicked: u64,
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
            rng,
            client,
            next_id: 0,
            picked: 0,
            panicked: 0,
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
        let config = &self.config;
        let view = |(index, known): (usize, &Known)| EndpointView {
            weight: known.endpoint.weight
                * slow_start(
                    now.saturating_duration_since(known.joined),
                    config.slow_start,
                    config.slow_start_least,
                    config.slow_start_aggression,
                ),
            // One that has never answered is tried once, and then waited for.
            latency: if known.seen || known.in_flight == 0 {
                known.latency.get(now).max(1e-9)
            } else {
                config.penalty.as_secs_f64()
            },
            in_flight: known.in_flight,
            available: known.health.is_up() && !self.ejector.is_out(index),
        };
        self.known.iter().enumerate().map(view).collect()
    }

    /// Chooses an endpoint and counts a call to it. Also returns those that the sweep, if one was due, has taken out.
    pub(super) fn choose(
        &mut self,
        wish: Wish,
        balance: &dyn Balance,
        now: Instant,
    ) -> (Option<u64>, Vec<u64>) {
        let swept: Vec<u64> = self.ejector.sweep(now).into_iter().map(|index| self.known[index].id).collect();
        self.ejections += swept.len() as u64;
        let views = self.views(now);
        let group = self.group(&self.candidates(wish.role, &views), &views);
        let chosen = self.due_probe(&group, now).or_else(|| self.pick(&group, views, wish.key, balance));
        let Some(index) = chosen else { return (None, swept) };
        self.picked += 1;
        self.known[index].in_flight += 1;
        (Some(self.known[index].id), swept)
    }

    /// Those that may do what is asked for. Reads go to a writer if no reader is available; a role that nobody has told
    /// is given the benefit of the doubt if there is nobody else.
    fn candidates(&self, role: Option<Role>, views: &[EndpointView]) -> Vec<usize> {
        let all = || (0..self.known.len()).collect::<Vec<_>>();
        let of = |role: Option<Role>| -> Vec<usize> {
            all().into_iter().filter(|index| self.known[*index].role == role).collect()
        };
        let some_available = |of: &[usize]| of.iter().any(|index| views[*index].available);
        let choices = match role {
            None => return all(),
            Some(Role::Writer) => [of(Some(Role::Writer)), of(None)],
            Some(Role::Reader) => {
                let mut writers = of(Some(Role::Writer));
                writers.extend(of(None));
                [of(Some(Role::Reader)), writers]
            }
        };
        let available = choices.iter().find(|choice| some_available(choice));
        available.or_else(|| choices.iter().find(|choice| !choice.is_empty())).cloned().unwrap_or_default()
    }

    /// The priority group whose turn it is, out of the candidates.
    fn group(&mut self, candidates: &[usize], views: &[EndpointView]) -> Vec<usize> {
        let priorities: BTreeSet<u32> = candidates.iter().map(|i| self.known[*i].endpoint.priority).collect();
        if priorities.len() < 2 {
            return candidates.to_vec();
        }
        let groups: Vec<Vec<usize>> = priorities
            .iter()
            .map(|priority| {
                let of = |index: &&usize| self.known[**index].endpoint.priority == *priority;
                candidates.iter().filter(of).copied().collect()
            })
            .collect();
        let healthy = |group: &Vec<usize>| group.iter().filter(|index| views[**index].available).count();
        let counts: Vec<_> = groups.iter().map(|group| (healthy(group), group.len())).collect();
        let mut left = self.rng.unit();
        for (group, share) in groups.iter().zip(spill(&counts)) {
            left -= share;
            if left < 0.0 {
                return group.clone();
            }
        }
        groups.into_iter().next().unwrap_or_default()
    }

    /// One that was taken out and may prove itself by one call.
    fn due_probe(&mut self, group: &[usize], now: Instant) -> Option<usize> {
        let due = |index: &usize| {
            self.known[*index].health.is_up()
                && self.ejector.is_out(*index)
                && self.ejector.admit(*index, now)
        };
        group.iter().copied().find(due)
    }

    fn pick(
        &mut self,
        group: &[usize],
        mut views: Vec<EndpointView>,
        key: Option<u64>,
        balance: &dyn Balance,
    ) -> Option<usize> {
        let out = group.iter().filter(|index| !views[**index].available).count();
        if out > 0 && out == group.len() {
            // All are out: the list says nothing any more.
            group.iter().for_each(|index| self.ejector.forgive(*index));
        }
        let panicking = out as f64 > self.config.ejector.panic_threshold * group.len() as f64;
        let all = group.len() == views.len();
        for (index, view) in views.iter_mut().enumerate() {
            view.available = (view.available || panicking) && (all || group.contains(&index));
        }
        self.panicked += u64::from(panicking);
        match key {
            Some(key) => self.owner(key, &views),
            None => balance.pick(&views, &mut self.rng).or_else(|| {
                // The balance has given up: better an ill one than none.
                self.panicked += u64::from(!panicking);
                views
                    .iter_mut()
                    .enumerate()
                    .for_each(|(index, view)| view.available = group.contains(&index));
                balance.pick(&views, &mut self.rng)
            }),
        }
    }

    /// The owner of a key, or the next in the key's own order if it may not be used.
    fn owner(&self, key: u64, views: &[EndpointView]) -> Option<usize> {
        self.ring.owner(key).filter(|owner| views[*owner].available).or_else(|| {
            let available = (0..views.len()).filter(|index| views[*index].available);
            available.max_by_key(|index| rank(key, &self.known[*index].endpoint.name))
        })
    }

    /// A call has ended. Returns whether its endpoint is taken out by it.
    pub(super) fn finish(&mut self, id: u64, taken: Duration, outcome: Option<bool>, now: Instant) -> bool {
        let Some(index) = self.index(id) else { return false };
        let penalty = self.config.penalty.as_secs_f64();
        let known = &mut self.known[index];
        known.in_flight = known.in_flight.saturating_sub(1);
        let seconds = taken.as_secs_f64();
        let Some(good) = outcome else {
            self.ejector.release_probe(index);
            return false;
        };
        known.seen = true;
        known.latency.observe(if good { seconds } else { seconds.max(penalty) }, now);
        let was_out = self.ejector.is_out(index);
        let ejected = self.ejector.record(index, good, now);
        if was_out && !self.ejector.is_out(index) {
            self.known[index].joined = now;
        }
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

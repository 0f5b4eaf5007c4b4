//! The pure decision machine: plain data, no clock of its own, no lock.

use super::config::BreakerConfig;
use super::event::{BreakerEvent, BreakerState, Cause};
use super::window::{Calls, Seen};
use super::word::{self, Word, token, token_parts};
use crate::gate::Now;
use perf_core::time::{Duration, Instant};
use perf_core::{Name, Outcome, Rng};

/// The smallest share of calls let through while ramping.
const RAMP_FLOOR: f64 = 0.1;

/// A refusal, before it has a policy's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) wait: Option<Duration>,
    pub(super) cause: Option<Cause>,
}

/// What became of a reported call.
#[derive(Debug, PartialEq)]
pub(super) enum Settled {
    Counted,
    /// It belongs to an earlier generation, or lost its lease.
    Late,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    probe: u32,
    until: Option<Instant>,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed { since: Instant, ramp_until: Option<Instant> },
    Open { since: Instant, until: Option<Instant>, cause: Cause },
    HalfOpen { leases: Vec<Lease>, next: u32, succeeded: u32, failed: u32, slow: u32 },
    Manual { state: BreakerState, reason: Name, since: Instant },
}

/// The breaker's state machine. Every method takes the present moment.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    config: BreakerConfig,
    phase: Phase,
    generation: u32,
    seen: Seen,
    in_a_row: u32,
    openings: u32,
    /// Whether the observing state has said that it would have opened.
    would_open: bool,
    latest: Instant,
    rng: Rng,
}

impl Machine {
    pub(super) fn new(config: BreakerConfig, rng: Rng, now: Instant) -> Self {
        let seen = Seen::new(&config, now);
        let phase = Phase::Closed { since: now, ramp_until: None };
        Self {
            config,
            phase,
            generation: 0,
            seen,
            in_a_row: 0,
            openings: 0,
            would_open: false,
            latest: now,
            rng,
        }
    }

    pub(super) fn word(&self) -> Word {
        match &self.phase {
            Phase::Closed { ramp_until, .. } => {
                let settled = if self.in_a_row == 0 && self.seen.is_settled() { word::SETTLED } else { 0 };
                let ramping = if ramp_until.is_some() { word::RAMPING } else { 0 };
                Word::new(word::CLOSED, self.generation, settled | ramping)
            }
            Phase::Open { .. } => Word::new(word::OPEN, self.generation, 0),
            Phase::HalfOpen { .. } => Word::new(word::HALF_OPEN, self.generation, 0),
            Phase::Manual { state: BreakerState::ForcedOpen, .. } => {
                Word::new(word::OPEN, self.generation, 0)
            }
            Phase::Manual { .. } => Word::new(word::MANUAL, self.generation, 0),
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match &self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::Manual { state, .. } => *state,
        }
    }

    /// Whether it refuses every call without another look, and until when: `Some(None)` is until somebody says otherwise.
    pub(super) const fn refuses_until(&self) -> Option<Option<Instant>> {
        match &self.phase {
            Phase::Open { until, .. } => Some(*until),
            Phase::Manual { state: BreakerState::ForcedOpen, .. } => Some(None),
            _ => None,
        }
    }

    pub(super) const fn config(&self) -> &BreakerConfig {
        &self.config
    }

    /// Lets a call in, or not. The event, if any, happened whatever the answer.
    pub(super) fn enter(&mut self, now: Instant) -> (Result<u64, Refusal>, Option<BreakerEvent>) {
        let now = self.seen_at(now);
        let mut event = None;
        if let Phase::Open { until: Some(until), .. } = self.phase
            && until <= now
        {
            self.go(Phase::HalfOpen { leases: Vec::new(), next: 1, succeeded: 0, failed: 0, slow: 0 });
            event = Some(BreakerEvent::HalfOpened);
        }
        (self.admit(now), event)
    }

    fn admit(&mut self, now: Instant) -> Result<u64, Refusal> {
        let generation = self.generation;
        match &mut self.phase {
            Phase::Closed { since, ramp_until } => {
                let Some(end) = *ramp_until else { return Ok(token(generation, 0)) };
                if end <= now {
                    *ramp_until = None;
                    return Ok(token(generation, 0));
                }
                let (gone, whole) = ((now - *since).as_secs_f64(), (end - *since).as_secs_f64());
                let share = (gone / whole).max(RAMP_FLOOR);
                if self.rng.chance(share) {
                    return Ok(token(generation, 0));
                }
                Err(Refusal { wait: Some(end - now), cause: Some(Cause::Ramping { share }) })
            }
            Phase::Open { until, cause, .. } => {
                let wait = until.map(|until| until.saturating_duration_since(now));
                Err(Refusal { wait, cause: Some(*cause) })
            }
            Phase::HalfOpen { leases, next, succeeded, failed, .. } => {
                leases.retain(|lease| lease.until.is_none_or(|until| now < until));
                let taken = leases.len() as u32 + *succeeded + *failed;
                if taken >= self.config.probes {
                    let freed = leases.iter().filter_map(|lease| lease.until).min();
                    let wait = freed.map(|until| until.saturating_duration_since(now));
                    return Err(Refusal { wait, cause: Some(Cause::Probing { probes: self.config.probes }) });
                }
                let probe = *next;
                *next = next.checked_add(1).unwrap_or(1);
                leases.push(Lease { probe, until: now.checked_add(self.config.probe_timeout) });
                Ok(token(generation, probe))
            }
            Phase::Manual { state: BreakerState::ForcedOpen, .. } => Err(Refusal { wait: None, cause: None }),
            Phase::Manual { .. } => Ok(token(generation, 0)),
        }
    }

    /// Takes back a call.
    pub(super) fn leave(
        &mut self,
        token: u64,
        outcome: Outcome,
        slow: bool,
        now: &Now,
    ) -> (Settled, Option<BreakerEvent>) {
        let (generation, probe) = token_parts(token);
        if generation != self.generation {
            return (Settled::Late, None);
        }
        match &mut self.phase {
            Phase::Closed { .. } => (Settled::Counted, self.record(outcome, slow, now)),
            Phase::HalfOpen { leases, .. } => {
                let Some(place) = leases.iter().position(|lease| lease.probe == probe) else {
                    return (Settled::Late, None);
                };
                leases.swap_remove(place);
                (Settled::Counted, self.probed(outcome, slow, now))
            }
            Phase::Manual { state: BreakerState::Observing | BreakerState::ForcedClosed, .. } => {
                (Settled::Counted, self.observe(outcome, slow, now))
            }
            // An open breaker admitted nobody in this generation; a disabled one does not look.
            Phase::Open { .. } | Phase::Manual { .. } => (Settled::Counted, None),
        }
    }

    fn record(&mut self, outcome: Outcome, slow: bool, now: &Now) -> Option<BreakerEvent> {
        let cause = self.judge(outcome, slow, now)?;
        let now = self.seen_at(now.get());
        if let Phase::Closed { since, .. } = self.phase
            && now - since >= self.config.stable_after
        {
            self.openings = 0;
        }
        Some(self.open(cause, now))
    }

    fn observe(&mut self, outcome: Outcome, slow: bool, now: &Now) -> Option<BreakerEvent> {
        let cause = self.judge(outcome, slow, now);
        let Phase::Manual { state: BreakerState::Observing, .. } = self.phase else { return None };
        let news = cause.is_some() && !self.would_open;
        self.would_open = cause.is_some();
        cause.filter(|_| news).map(|cause| BreakerEvent::WouldOpen { cause })
    }

    /// Takes the outcome into the window and says what speaks for opening.
    fn judge(&mut self, outcome: Outcome, slow: bool, now: &Now) -> Option<Cause> {
        if !outcome.is_counted() {
            return None;
        }
        match outcome {
            Outcome::Failure => self.in_a_row = self.in_a_row.saturating_add(1),
            Outcome::Success => self.in_a_row = 0,
            // Overload is a matter of rate: it neither makes a row of failures nor breaks one.
            _ => {}
        }
        if self.config.consecutive.is_none() {
            self.in_a_row = 0;
        }
        let calls = self.seen.record(Calls::one(outcome.is_failure(), slow), now);
        self.tripped_in_a_row().or_else(|| self.tripped_by_rate(calls))
    }

    fn tripped_in_a_row(&self) -> Option<Cause> {
        let limit = self.config.consecutive?;
        (self.in_a_row >= limit).then_some(Cause::InARow { failures: self.in_a_row })
    }

    fn tripped_by_rate(&self, calls: Calls) -> Option<Cause> {
        let Calls { total, failed, slow } = calls;
        let counted = if total >= self.config.min_calls {
            total
        } else if self.config.decide_early && self.seen.counts_calls() {
            // The calls still missing are taken as good ones.
            self.config.min_calls
        } else {
            return None;
        };
        let (failure_rate, slow_rate) =
            (f64::from(failed) / f64::from(counted), f64::from(slow) / f64::from(counted));
        if failed > 0 && failure_rate >= self.config.failure_rate {
            let limit = self.config.failure_rate;
            return Some(Cause::FailureRate {
                rate: f64::from(failed) / f64::from(total),
                limit,
                calls: total,
            });
        }
        if slow > 0 && slow_rate >= self.config.slow_rate {
            let limit = self.config.slow_rate;
            return Some(Cause::SlowRate { rate: f64::from(slow) / f64::from(total), limit, calls: total });
        }
        None
    }

    /// Takes in the outcome of a probe and decides as soon as the decision is certain.
    fn probed(&mut self, outcome: Outcome, was_slow: bool, now: &Now) -> Option<BreakerEvent> {
        let Phase::HalfOpen { succeeded, failed, slow, .. } = &mut self.phase else { return None };
        if !outcome.is_counted() {
            return None;
        }
        let probes = self.config.probes;
        *(if outcome.is_failure() { &mut *failed } else { &mut *succeeded }) += 1;
        *slow += u32::from(was_slow);
        let needed = self.config.needed_successes();
        let left = probes.saturating_sub(*succeeded + *failed);
        let too_slow = |count: u32| f64::from(count) / f64::from(probes) >= self.config.slow_rate;
        let hopeless = *succeeded + left < needed || (*slow > 0 && too_slow(*slow));
        let safe = *succeeded >= needed
            && (*slow + left == 0 || !too_slow(*slow + left) || self.config.slow_call.is_none());
        let (bad, slow) = (*failed, *slow);
        if hopeless {
            let now = self.seen_at(now.get());
            return Some(self.open(Cause::ProbesFailed { failed: bad.max(slow), probes }, now));
        }
        safe.then(|| self.close(now.get()))
    }

    fn open(&mut self, cause: Cause, now: Instant) -> BreakerEvent {
        let steps = i32::try_from(self.openings).unwrap_or(i32::MAX);
        self.openings = self.openings.saturating_add(1);
        let spread = 1.0 + self.config.jitter * (2.0 * self.rng.unit() - 1.0);
        let plain = self.config.open_for.as_secs_f64() * self.config.growth.powi(steps);
        let capped = plain.min(self.config.open_cap.as_secs_f64());
        let wait = Duration::try_from_secs_f64(capped * spread).unwrap_or(self.config.open_cap);
        self.go(Phase::Open { since: now, until: now.checked_add(wait), cause });
        BreakerEvent::Opened { cause, wait }
    }

    fn close(&mut self, now: Instant) -> BreakerEvent {
        let now = self.seen_at(now);
        let ramp_until = self.config.ramp.and_then(|ramp| now.checked_add(ramp));
        self.go(Phase::Closed { since: now, ramp_until });
        BreakerEvent::Closed
    }

    /// Puts the breaker into a state that only [`Machine::resume`] leaves.
    pub(super) fn set(&mut self, state: BreakerState, reason: Name, now: Instant) -> BreakerEvent {
        let since = self.seen_at(now);
        self.go(Phase::Manual { state, reason: reason.clone(), since });
        self.would_open = false;
        BreakerEvent::SetByHand { state, reason }
    }

    /// Back to work, closed, with an empty window.
    pub(super) fn resume(&mut self, now: Instant) -> BreakerEvent {
        self.openings = 0;
        let now = self.seen_at(now);
        self.go(Phase::Closed { since: now, ramp_until: None });
        BreakerEvent::Closed
    }

    /// Takes over another configuration; calls in flight still report to the present generation.
    pub(super) fn reconfigure(&mut self, config: BreakerConfig, now: Instant) {
        if config.window != self.config.window {
            self.seen = Seen::new(&config, now);
        }
        self.config = config;
    }

    /// The failure and slow rates, once they mean something.
    pub(super) fn rates(&mut self, now: Instant) -> Option<(f64, f64, u32)> {
        let Calls { total, failed, slow } = self.seen.total(self.latest.max(now));
        (total >= self.config.min_calls && total > 0).then(|| {
            let share = |part: u32| f64::from(part) / f64::from(total);
            (share(failed), share(slow), total)
        })
    }

    /// Why it is as it is, in one sentence.
    pub(super) fn explain(&mut self, now: Instant) -> String {
        let now = self.latest.max(now);
        let ago = |since: Instant| perf_core::duration::format(rounded(now.saturating_duration_since(since)));
        match &self.phase {
            Phase::Open { since, until, cause } => {
                let left = until.map_or_else(
                    || "never".to_owned(),
                    |until| {
                        format!(
                            "in {}",
                            perf_core::duration::format(rounded(until.saturating_duration_since(now)))
                        )
                    },
                );
                format!("open for {} because {cause}; the next probe goes through {left}", ago(*since))
            }
            Phase::HalfOpen { leases, succeeded, failed, .. } => format!(
                "half-open: of {} probes {succeeded} succeeded, {failed} failed and {} are out; {} must succeed",
                self.config.probes,
                leases.len(),
                self.config.needed_successes(),
            ),
            Phase::Manual { state, reason, since } => {
                format!("{state} by hand for {}: {reason}", ago(*since))
            }
            Phase::Closed { since, .. } => {
                let since = ago(*since);
                match self.rates(now) {
                    Some((failed, slow, calls)) => format!(
                        "closed for {since}: {:.1} % of the last {calls} calls failed and {:.1} % were slow, limits {:.0} % and {:.0} %",
                        failed * 100.0,
                        slow * 100.0,
                        self.config.failure_rate * 100.0,
                        self.config.slow_rate * 100.0,
                    ),
                    None => format!("closed for {since}: fewer than {} calls seen", self.config.min_calls),
                }
            }
        }
    }

    /// Every transition starts a new generation with an empty window.
    fn go(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = (self.generation + 1) & word::GENERATIONS;
        self.seen.clear();
        self.in_a_row = 0;
    }

    /// A moment before the latest one counts as the latest one.
    fn seen_at(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }
}

fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

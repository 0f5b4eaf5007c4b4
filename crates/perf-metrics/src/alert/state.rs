//! The state machine of one alert: plain data, `now` passed in.

use perf_core::time::{Duration, Instant};
use std::collections::VecDeque;

/// What an evaluation said about the condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The condition holds, at this value.
    Holds(f64),
    /// It does not, at this value.
    Clear(f64),
    /// There is no value.
    NoData,
    /// There is too little of it to say: history is still short, or traffic too low.
    Insufficient(&'static str),
}

/// Where an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum AlertState {
    /// The condition does not hold.
    #[default]
    Inactive,
    /// It holds, but not for long enough.
    Pending,
    /// It has held for long enough.
    Firing,
}

/// The timing of a rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) hold: Duration,
    pub(crate) keep_firing: Duration,
    pub(crate) resolve_without_data: bool,
    pub(crate) flaps: usize,
    pub(crate) flap_window: Duration,
}

/// One alert's state. Transitions are those of Prometheus' `rules/alerting.go`, plus a memory for flapping.
#[derive(Clone, Debug)]
pub struct AlertMachine {
    timing: Timing,
    state: AlertState,
    active_since: Option<Instant>,
    keep_since: Option<Instant>,
    no_data_since: Option<Instant>,
    changes: VecDeque<Instant>,
    flapping: bool,
}

impl AlertMachine {
    /// A machine that fires once a condition has held for `hold`, and goes on firing for `keep_firing` after it ceased.
    /// Without data it behaves as if the condition had ceased, as Prometheus does.
    #[must_use]
    pub fn new(hold: Duration, keep_firing: Duration) -> Self {
        let flap_window = Duration::ZERO;
        Self::timed(Timing { hold, keep_firing, resolve_without_data: true, flaps: usize::MAX, flap_window })
    }

    pub(crate) fn timed(timing: Timing) -> Self {
        Self {
            timing,
            state: AlertState::Inactive,
            active_since: None,
            keep_since: None,
            no_data_since: None,
            changes: VecDeque::new(),
            flapping: false,
        }
    }

    /// Goes on where it was. As in Prometheus, the time during which nobody evaluated it does not count.
    pub(crate) fn restore(&mut self, state: AlertState, active_for: Duration, now: Instant) {
        self.state = state;
        self.active_since =
            (state != AlertState::Inactive).then(|| now.checked_sub(active_for).unwrap_or(now));
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> AlertState {
        self.state
    }

    /// Since when it has been pending or firing.
    #[must_use]
    pub const fn active_since(&self) -> Option<Instant> {
        self.active_since
    }

    /// Since when there has been no data.
    #[must_use]
    pub const fn no_data_since(&self) -> Option<Instant> {
        self.no_data_since
    }

    /// Whether it fired too often within its flap window to be believed.
    #[must_use]
    pub const fn is_flapping(&self) -> bool {
        self.flapping
    }

    /// Takes in one evaluation and says where it came from when it moved between firing and not firing.
    pub fn step(&mut self, verdict: Verdict, now: Instant) -> Option<AlertState> {
        let before = self.state;
        let holds = match verdict {
            Verdict::Holds(_) => true,
            Verdict::Clear(_) => false,
            // What fires does not resolve because nobody can see it any more, unless the rule says so.
            Verdict::NoData | Verdict::Insufficient(_) => {
                self.state == AlertState::Firing && !self.timing.resolve_without_data
            }
        };
        self.no_data_since = match verdict {
            Verdict::NoData => self.no_data_since.or(Some(now)),
            _ => None,
        };
        if holds {
            self.holding(now);
        } else {
            self.ceased(now);
        }
        let fired = (before == AlertState::Firing) != (self.state == AlertState::Firing);
        self.watch_flapping(fired && self.state == AlertState::Firing, now);
        fired.then_some(before)
    }

    fn holding(&mut self, now: Instant) {
        self.keep_since = None;
        let since = *self.active_since.get_or_insert(now);
        if self.state == AlertState::Inactive {
            self.state = AlertState::Pending;
        }
        if now.saturating_duration_since(since) >= self.timing.hold {
            self.state = AlertState::Firing;
        }
    }

    fn ceased(&mut self, now: Instant) {
        if self.state == AlertState::Firing && self.timing.keep_firing > Duration::ZERO {
            let since = *self.keep_since.get_or_insert(now);
            if now.saturating_duration_since(since) < self.timing.keep_firing {
                return;
            }
        }
        self.state = AlertState::Inactive;
        (self.active_since, self.keep_since) = (None, None);
    }

    fn watch_flapping(&mut self, fired: bool, now: Instant) {
        if fired {
            self.changes.push_back(now);
        }
        let window = self.timing.flap_window;
        while self.changes.front().is_some_and(|at| now.saturating_duration_since(*at) > window) {
            self.changes.pop_front();
        }
        self.flapping = self.changes.len() >= self.timing.flaps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::time;

    const MINUTE: Duration = Duration::from_secs(60);

    /// One letter per tick of a minute: P pending, F firing, a dot for inactive.
    fn run(mut machine: AlertMachine, verdicts: &[Verdict]) -> String {
        let start = time::now();
        let letter = |(tick, verdict): (u32, &Verdict)| {
            machine.step(*verdict, start + MINUTE * tick);
            match machine.state() {
                AlertState::Inactive => '.',
                AlertState::Pending => 'P',
                AlertState::Firing => 'F',
            }
        };
        (0..).zip(verdicts).map(letter).collect()
    }

    fn verdicts(text: &str) -> Vec<Verdict> {
        let verdict = |c| match c {
            '1' => Verdict::Holds(1.0),
            '0' => Verdict::Clear(0.0),
            _ => Verdict::NoData,
        };
        text.chars().map(verdict).collect()
    }

    #[test]
    fn a_step_fires_after_its_hold_and_a_spike_does_not() {
        let machine = AlertMachine::new(MINUTE * 2, Duration::ZERO);
        assert_eq!(run(machine.clone(), &verdicts("0111110")), ".PPFFF.");
        assert_eq!(run(machine, &verdicts("0110110")), ".PP.PP.");
        assert_eq!(run(AlertMachine::new(Duration::ZERO, Duration::ZERO), &verdicts("010")), ".F.");
    }

    #[test]
    fn it_goes_on_firing_for_as_long_as_asked() {
        let machine = AlertMachine::new(Duration::ZERO, MINUTE * 2);
        assert_eq!(run(machine, &verdicts("1000100000")), "FFF.FFF...");
    }

    #[test]
    fn missing_data_resolves_only_what_may_be_resolved() {
        let machine = AlertMachine::new(MINUTE, Duration::ZERO);
        assert_eq!(run(machine, &verdicts("11-0")), "PF..");
        let timing = Timing {
            hold: MINUTE,
            keep_firing: Duration::ZERO,
            resolve_without_data: false,
            flaps: 3,
            flap_window: MINUTE * 10,
        };
        assert_eq!(run(AlertMachine::timed(timing), &verdicts("1-11--0")), "P.PFFF.");
        let mut machine = AlertMachine::timed(timing);
        let start = time::now();
        machine.step(Verdict::NoData, start);
        machine.step(Verdict::NoData, start + MINUTE);
        assert_eq!(machine.no_data_since(), Some(start));
        machine.step(Verdict::Clear(0.0), start + MINUTE * 2);
        assert_eq!(machine.no_data_since(), None);
    }

    #[test]
    fn an_alert_that_fires_three_times_in_ten_minutes_flaps_until_it_is_quiet() {
        let timing = Timing {
            hold: Duration::ZERO,
            keep_firing: Duration::ZERO,
            resolve_without_data: true,
            flaps: 3,
            flap_window: MINUTE * 10,
        };
        let mut machine = AlertMachine::timed(timing);
        let start = time::now();
        for (tick, verdict) in (0..).zip(verdicts("10101")) {
            machine.step(verdict, start + MINUTE * tick);
            assert_eq!(machine.is_flapping(), tick == 4);
        }
        machine.step(Verdict::Clear(0.0), start + MINUTE * 20);
        assert!(!machine.is_flapping());
    }

    #[test]
    fn a_clock_that_jumps_fires_nothing_early() {
        let mut machine = AlertMachine::new(MINUTE * 5, Duration::ZERO);
        let start = time::now() + MINUTE * 10;
        machine.step(Verdict::Holds(1.0), start);
        machine.step(Verdict::Holds(1.0), start - MINUTE * 9);
        assert_eq!(machine.state(), AlertState::Pending);
    }
}

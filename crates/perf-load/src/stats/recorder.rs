use super::latencies::Latencies;
use super::timeline::Timeline;
use crate::failure::ErrorKind;
use perf_core::Name;
use perf_core::time::Duration;
use std::collections::BTreeMap;

/// How many names of steps are told apart; requests with further names count under `other`.
pub const MAX_STEPS: usize = 64;

/// A sample of an error is cut to this many characters.
const MAX_DETAIL: usize = 200;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Ok,
    Failed(ErrorKind),
}

/// One finished request. Times are offsets from the start of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) step: &'a Name,
    pub(crate) planned: Duration,
    /// How late the generator itself was.
    pub(crate) lag: Duration,
    /// When the first byte was written.
    pub(crate) started: Option<Duration>,
    pub(crate) done: Duration,
    pub(crate) class: Class,
    /// 0 without an answer.
    pub(crate) status: u16,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) connects: u32,
    pub(crate) raced: bool,
    /// Whether it belongs to the warm-up, which is counted apart.
    pub(crate) warmup: bool,
    pub(crate) detail: &'a str,
}

impl Sample<'_> {
    pub(crate) fn response(&self) -> Duration {
        self.done.saturating_sub(self.planned)
    }
}

/// What is known of one kind of error.
#[derive(Clone, Debug)]
pub(crate) struct ErrorSeen {
    pub(crate) count: u64,
    pub(crate) first: Duration,
    pub(crate) last: Duration,
    pub(crate) detail: String,
}

/// The numbers of one step.
#[derive(Clone, Debug)]
pub(crate) struct StepStats {
    pub(crate) name: Name,
    pub(crate) requests: u64,
    pub(crate) ok: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// From the planned instant, requests that succeeded.
    pub(crate) response: Latencies,
    /// From the first byte written, requests that succeeded.
    pub(crate) service: Latencies,
    pub(crate) lag: Latencies,
    /// Response times that are only known to be longer.
    pub(crate) censored: Latencies,
    /// From the planned instant, requests that failed and are not censored.
    pub(crate) failed: Latencies,
    pub(crate) statuses: BTreeMap<u16, u64>,
}

impl StepStats {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            name,
            requests: 0,
            ok: 0,
            sent: 0,
            received: 0,
            response: Latencies::new(),
            service: Latencies::new(),
            lag: Latencies::new(),
            censored: Latencies::new(),
            failed: Latencies::with_digits(2),
            statuses: BTreeMap::new(),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.ok += other.ok;
        self.sent += other.sent;
        self.received += other.received;
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.lag.merge(&other.lag);
        self.censored.merge(&other.censored);
        self.failed.merge(&other.failed);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
    }

    fn record(&mut self, sample: &Sample<'_>) {
        self.requests += 1;
        self.sent += sample.sent;
        self.received += sample.received;
        self.lag.record(sample.lag);
        if sample.status != 0 {
            *self.statuses.entry(sample.status).or_default() += 1;
        }
        match sample.class {
            Class::Ok => {
                self.ok += 1;
                self.response.record(sample.response());
                let started = sample.started.unwrap_or(sample.planned);
                self.service.record(sample.done.saturating_sub(started));
                // Response = lag + queue + service holds by construction; a negative part would be a wrong clock.
                debug_assert!(sample.planned + sample.lag <= started && started <= sample.done);
            }
            Class::Failed(kind) if kind.is_censored() => self.censored.record(sample.response()),
            Class::Failed(_) => self.failed.record(sample.response()),
        }
    }
}

/// All numbers of one shard.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) steps: Vec<StepStats>,
    pub(crate) errors: BTreeMap<ErrorKind, ErrorSeen>,
    pub(crate) timeline: Timeline,
    pub(crate) warmup_requests: u64,
    pub(crate) warmup_errors: u64,
    pub(crate) connects: u64,
    pub(crate) races: u64,
    /// How often the generator had to wait because the most requests allowed were in flight.
    pub(crate) saturated: u64,
    /// How late a timer of the shard fired, measured all the time.
    pub(crate) canary: Latencies,
    /// Share of one core the shard's thread used, when it has a thread of its own.
    pub(crate) cpu: Vec<f64>,
    /// Requests planned in the measured part of the run, sent or not.
    pub(crate) planned: u64,
    /// Requests of the measured part whose first byte was written.
    pub(crate) started: u64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            steps: Vec::new(),
            errors: BTreeMap::new(),
            timeline: Timeline::new(),
            warmup_requests: 0,
            warmup_errors: 0,
            connects: 0,
            races: 0,
            saturated: 0,
            canary: Latencies::new(),
            cpu: Vec::new(),
            planned: 0,
            started: 0,
        }
    }

    pub(crate) fn record(&mut self, sample: &Sample<'_>) {
        let ok = sample.class == Class::Ok;
        self.connects += u64::from(sample.connects);
        self.races += u64::from(sample.raced);
        self.timeline.plan(sample.planned, 1);
        self.timeline.end(sample.done, ok.then(|| sample.response()), sample.sent, sample.received);
        if sample.warmup {
            self.warmup_requests += 1;
            self.warmup_errors += u64::from(!ok);
            return;
        }
        self.planned += 1;
        self.started += u64::from(sample.started.is_some());
        if let Class::Failed(kind) = sample.class {
            self.error(kind, sample.done, sample.detail);
        }
        let step = self.step(sample.step);
        self.steps[step].record(sample);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for step in &other.steps {
            let index = self.step(&step.name);
            self.steps[index].merge(step);
        }
        for (kind, seen) in other.errors {
            let entry = self.errors.entry(kind).or_insert_with(|| ErrorSeen { count: 0, ..seen.clone() });
            if seen.first < entry.first {
                entry.first = seen.first;
                entry.detail = seen.detail;
            }
            entry.count += seen.count;
            entry.last = entry.last.max(seen.last);
        }
        self.timeline.merge(other.timeline);
        self.warmup_requests += other.warmup_requests;
        self.warmup_errors += other.warmup_errors;
        self.connects += other.connects;
        self.races += other.races;
        self.saturated += other.saturated;
        self.canary.merge(&other.canary);
        self.cpu.extend(other.cpu);
        self.planned += other.planned;
        self.started += other.started;
    }

    /// All steps together.
    pub(crate) fn total(&self) -> StepStats {
        let mut total = StepStats::new(Name::from_static("total"));
        self.steps.iter().for_each(|step| total.merge(step));
        total
    }

    fn error(&mut self, kind: ErrorKind, at: Duration, detail: &str) {
        let seen = self.errors.entry(kind).or_insert_with(|| ErrorSeen {
            count: 0,
            first: at,
            last: at,
            detail: detail.chars().take(MAX_DETAIL).collect(),
        });
        seen.count += 1;
        seen.last = at;
    }

    /// The place of a step, which is made when the name is new.
    fn step(&mut self, name: &Name) -> usize {
        if let Some(index) = self.steps.iter().position(|step| step.name == *name) {
            return index;
        }
        let other = Name::from_static("other");
        if self.steps.len() >= MAX_STEPS && *name != other {
            return self.step(&other);
        }
        self.steps.push(StepStats::new(name.clone()));
        self.steps.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(step: &Name, class: Class) -> Sample<'_> {
        Sample {
            step,
            planned: Duration::from_millis(100),
            lag: Duration::from_millis(1),
            started: Some(Duration::from_millis(103)),
            done: Duration::from_millis(110),
            class,
            status: 200,
            sent: 10,
            received: 20,
            connects: 1,
            raced: false,
            warmup: false,
            detail: "why",
        }
    }

    #[test]
    fn response_counts_from_the_plan_and_service_from_the_first_byte() {
        let mut recorder = Recorder::new();
        let name = Name::from("a");
        recorder.record(&sample(&name, Class::Ok));
        let step = &recorder.steps[0];
        assert_eq!(step.response.max(), Duration::from_millis(10));
        assert_eq!(step.service.max(), Duration::from_millis(7));
        assert_eq!(step.lag.max(), Duration::from_millis(1));
    }

    #[test]
    fn failures_never_touch_the_latency_of_success() {
        let mut recorder = Recorder::new();
        let name = Name::from("a");
        recorder.record(&sample(&name, Class::Failed(ErrorKind::ConnectRefused)));
        recorder.record(&sample(&name, Class::Failed(ErrorKind::TimeoutTotal)));
        let step = &recorder.steps[0];
        assert_eq!((step.response.count(), step.failed.count(), step.censored.count()), (0, 1, 1));
        assert_eq!((step.requests, step.ok, recorder.errors.len()), (2, 0, 2));
        assert_eq!(recorder.errors[&ErrorKind::ConnectRefused].detail, "why");
    }

    #[test]
    fn warm_up_is_counted_apart() {
        let mut recorder = Recorder::new();
        let name = Name::from("a");
        recorder.record(&Sample { warmup: true, ..sample(&name, Class::Ok) });
        assert_eq!((recorder.warmup_requests, recorder.planned, recorder.steps.len()), (1, 0, 0));
    }

    #[test]
    fn names_of_steps_are_bounded() {
        let mut recorder = Recorder::new();
        for index in 0..10 * MAX_STEPS {
            recorder.record(&sample(&Name::from(format!("step {index}")), Class::Ok));
        }
        assert_eq!(recorder.steps.len(), MAX_STEPS + 1);
        assert_eq!(recorder.total().requests, 10 * MAX_STEPS as u64);
        assert_eq!(recorder.steps[MAX_STEPS].name, "other");
    }
}

//! What a run found, as plain data.

mod build;
mod expect;
mod health;
mod latency;
#[cfg(test)]
pub(crate) mod tests;
mod text;

pub use expect::{Checked, Expectations};
pub use health::{GeneratorHealth, Verdict};
pub use latency::{Bucket, LatencyReport};
pub(crate) use text::bytes;

use crate::failure::ErrorKind;
use crate::plan::Arrivals;
use crate::stats::Latencies;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the report's JSON form; it changes when a field changes its meaning or goes away.
pub const REPORT_FORMAT: u32 = 1;

/// What a run found. Plain data: written as JSON, read back, compared. Times are in milliseconds unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunReport {
    /// [`REPORT_FORMAT`].
    pub format: u32,
    /// What was driven.
    pub target: String,
    /// How it was driven.
    pub load: LoadReport,
    /// The measured part in seconds, from the end of the warm-up to the last instant at which requests were sent.
    pub duration_s: f64,
    /// Whether the run was stopped before the plan's end.
    pub interrupted: bool,
    /// All steps together.
    pub total: StepReport,
    /// Each step, in the order they first appeared.
    pub steps: Vec<StepReport>,
    /// The kinds of errors, the most frequent first.
    pub errors: Vec<ErrorReport>,
    /// Second by second, warm-up included.
    pub timeline: Timeline,
    /// Connections opened, warm-up included.
    pub connections: u64,
    /// Requests sent a second time because the server had closed an idle connection.
    pub keep_alive_races: u64,
    /// Requests of the warm-up, which count nowhere else but in the timeline.
    pub warmup_requests: u64,
    /// How far the generator itself can be trusted.
    pub health: GeneratorHealth,
    /// What was expected, and whether it was kept; see [`RunReport::expect`].
    #[serde(default)]
    pub expectations: Vec<Checked>,
    /// The full distributions, at three digits, for the formats that need them. Not part of the JSON form.
    #[serde(skip)]
    pub(crate) recorded: Recorded,
}

/// What [`RunReport`] keeps beside its plain data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) response: Option<Latencies>,
    /// The response times of each interval in microseconds, with their counts.
    pub(crate) intervals: Vec<Vec<(u64, u64)>>,
}

/// Two reports are the same when their data is.
impl PartialEq for Recorded {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl RunReport {
    /// When nothing succeeded and something failed, to the interval of the [`timeline`](Self::timeline).
    #[must_use]
    pub fn outages(&self) -> Vec<Outage> {
        let (timeline, mut outages) = (&self.timeline, Vec::<Outage>::new());
        let width = timeline.interval_s;
        for (index, (ok, errors)) in timeline.ok.iter().zip(&timeline.errors).enumerate() {
            let from_s = index as f64 * width;
            // Seconds without any request neither begin an outage nor end one.
            match (ok, errors, outages.last_mut()) {
                (0, 0, _) => {}
                (0, _, Some(last)) if !last.over => last.to_s = from_s + width,
                (0, _, _) => outages.push(Outage { from_s, to_s: from_s + width, over: false }),
                (_, _, Some(last)) => last.over = true,
                (_, _, None) => {}
            }
        }
        outages
    }

    /// Compares the run with what is expected of it, and keeps the outcome in the report. `true` when all of it was kept.
    pub fn expect(&mut self, expectations: &Expectations) -> bool {
        self.expectations = expectations.check(self);
        self.expectations.iter().all(|outcome| outcome.kept)
    }

    /// The step of this name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&StepReport> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// A time in which nothing succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outage {
    /// Its beginning, in seconds from the start of the run.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
    /// Whether something succeeded after it.
    pub over: bool,
}

/// The plan, as far as the report needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// `open` or `closed`.
    pub model: LoadModel,
    /// How the requests of an open load are spread.
    pub arrivals: Option<Arrivals>,
    /// The highest number of users, or of requests per second.
    pub peak: f64,
    /// The warm-up in seconds.
    pub warmup_s: f64,
    /// The plan's length in seconds, warm-up included.
    pub length_s: f64,
    /// The limit on one request.
    pub timeout_ms: f64,
    /// The most requests in flight.
    pub max_in_flight: u64,
    /// The seed.
    pub seed: u64,
    /// The generator's threads; 0 for the caller's runtime.
    pub threads: u64,
}

/// Who decides when a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LoadModel {
    /// Users who wait for their answers. Latencies do not describe an open population.
    Closed,
    /// A schedule that does not depend on the answers.
    Open,
}

/// The numbers of one step, or of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// The step's name; `total` for all.
    pub name: String,
    /// Requests planned in the measured part, however they ended.
    pub requests: u64,
    /// Those with an accepted answer that passed its check.
    pub ok: u64,
    /// The others.
    pub errors: u64,
    /// `ok` per second of the measured part.
    pub rps: f64,
    /// From the planned instant to the end of the answer: what a user feels. Requests that timed out or were cut off count
    /// as longer than their age.
    pub response: LatencyReport,
    /// From the first byte sent to the end of the answer: what the server shows of itself.
    pub service: LatencyReport,
    /// From the planned instant to the moment the generator took the request up.
    pub lag: LatencyReport,
    /// From the planned instant to the failure, for requests that failed otherwise than by time.
    pub failed: LatencyReport,
    /// Bytes sent, heads included.
    pub bytes_sent: u64,
    /// Bytes received, heads included.
    pub bytes_received: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
}

impl StepReport {
    /// The share of requests that failed; 0 without requests.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }
}

/// One kind of error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// What went wrong.
    pub kind: ErrorKind,
    /// How often.
    pub count: u64,
    /// When first, in seconds from the start of the run.
    pub first_s: f64,
    /// When last.
    pub last_s: f64,
    /// The first one, in words.
    pub sample: String,
}

/// What happened over time. The arrays have one entry per interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Timeline {
    /// The width of an interval: 1 s, doubled whenever a run outgrows two hours of them.
    pub interval_s: f64,
    /// Requests planned in the interval.
    pub planned: Vec<u64>,
    /// Requests that ended well in it.
    pub ok: Vec<u64>,
    /// Requests that ended badly in it.
    pub errors: Vec<u64>,
    /// Bytes sent by the requests that ended in it.
    pub bytes_sent: Vec<u64>,
    /// Bytes received by them.
    pub bytes_received: Vec<u64>,
    /// Median response time of those that ended well; 0 without any. Three significant digits become two here.
    pub p50_ms: Vec<f64>,
    /// Their 99th percentile.
    pub p99_ms: Vec<f64>,
    /// Their maximum.
    pub max_ms: Vec<f64>,
}

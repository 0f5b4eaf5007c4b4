use super::health::Evidence;
use super::latency::millis;
use super::{
    ErrorReport, LatencyReport, LoadModel, LoadReport, REPORT_FORMAT, Recorded, RunReport, StepReport,
    Timeline,
};
use crate::engine::Shared;
use crate::failure::ErrorKind;
use crate::plan::{Load, Model, Threads};
use crate::stats::{ErrorSeen, Interval, Latencies, Recorder, StepStats};
use perf_core::time::Duration;
use std::collections::BTreeMap;

impl RunReport {
    pub(crate) fn build(shared: &Shared, target: String, all: Recorder) -> Self {
        let plan = &shared.plan;
        let measured = shared.end().saturating_sub(plan.warmup).as_secs_f64();
        let total = all.total();
        let none = Latencies::new();
        let response = LatencyReport::new(&total.response, &total.censored);
        let counts: Vec<_> = all.errors.iter().map(|(kind, seen)| (*kind, seen.count)).collect();
        let health = Evidence {
            open: plan.model != Model::Closed,
            lag: LatencyReport::new(&total.lag, &none),
            canary: LatencyReport::new(&all.canary, &none),
            cpu: all.cpu.iter().copied().reduce(f64::max),
            planned: all.planned,
            sent: all.started,
            saturated: all.saturated,
            response_p50_ms: response.p50_ms,
            errors: &counts,
        }
        .judge();
        let (width, intervals) = all.timeline.finish();
        Self {
            format: REPORT_FORMAT,
            target,
            load: load(plan, shared.length),
            duration_s: measured,
            interrupted: shared.was_stopped(),
            total: step(&total, measured),
            steps: all.steps.iter().map(|stats| step(stats, measured)).collect(),
            errors: errors(&all.errors),
            connections: all.connects,
            keep_alive_races: all.races,
            warmup_requests: all.warmup_requests,
            timeline: timeline(width, &intervals),
            health,
            expectations: Vec::new(),
            recorded: Recorded {
                response: Some(total.response),
                intervals: intervals.into_iter().map(|interval| interval.cells).collect(),
            },
        }
    }
}

fn load(plan: &Load, length: Duration) -> LoadReport {
    let (model, arrivals) = match plan.model {
        Model::Closed => (LoadModel::Closed, None),
        Model::Open(arrivals) => (LoadModel::Open, Some(arrivals)),
    };
    LoadReport {
        model,
        arrivals,
        peak: plan.profile().peak(),
        warmup_s: plan.warmup.as_secs_f64(),
        length_s: length.as_secs_f64(),
        timeout_ms: millis(plan.timeout),
        max_in_flight: plan.in_flight() as u64,
        seed: plan.seed,
        threads: match plan.threads {
            Threads::Own(threads) => threads as u64,
            Threads::Caller => 0,
        },
    }
}

fn step(stats: &StepStats, measured_s: f64) -> StepReport {
    let none = Latencies::new();
    StepReport {
        name: stats.name.to_string(),
        requests: stats.requests,
        ok: stats.ok,
        errors: stats.requests - stats.ok,
        rps: if measured_s > 0.0 { stats.ok as f64 / measured_s } else { 0.0 },
        response: LatencyReport::new(&stats.response, &stats.censored),
        service: LatencyReport::new(&stats.service, &none),
        lag: LatencyReport::new(&stats.lag, &none),
        failed: LatencyReport::new(&stats.failed, &none),
        bytes_sent: stats.sent,
        bytes_received: stats.received,
        statuses: stats.statuses.clone(),
    }
}

fn errors(seen: &BTreeMap<ErrorKind, ErrorSeen>) -> Vec<ErrorReport> {
    let mut errors: Vec<ErrorReport> = seen
        .iter()
        .map(|(kind, seen)| ErrorReport {
            kind: *kind,
            count: seen.count,
            first_s: seen.first.as_secs_f64(),
            last_s: seen.last.as_secs_f64(),
            sample: seen.detail.clone(),
        })
        .collect();
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    errors
}

fn timeline(width: Duration, intervals: &[Interval]) -> Timeline {
    let quantile = |q| {
        intervals.iter().map(|i| i.quantile_micros(q).map_or(0.0, |micros| micros as f64 / 1e3)).collect()
    };
    let count = |field: fn(&Interval) -> u64| intervals.iter().map(field).collect();
    Timeline {
        interval_s: width.as_secs_f64(),
        planned: count(|i| i.planned),
        ok: count(|i| i.ok),
        errors: count(|i| i.errors),
        bytes_sent: count(|i| i.sent),
        bytes_received: count(|i| i.received),
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        max_ms: intervals.iter().map(|i| millis(i.max)).collect(),
    }
}

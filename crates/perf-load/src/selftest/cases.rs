use super::SelfCheck;
use super::server::{Fate, KnownServer, Law};
use crate::Error;
use crate::http::Request;
use crate::plan::{Arrivals, Load, Schedule, Stage};
use crate::report::RunReport;
use crate::scenario::User;
use perf_core::Rng;
use perf_core::time::{Duration, Instant};

/// Quantiles may be off by this much, or by 3 %, whichever is more: loopback, two timers and a scheduler lie between.
const TOLERANCE_MS: f64 = 2.0;

/// One known server, the load on it, and what must come out.
pub(super) struct Case {
    name: &'static str,
    law: Law,
    load: Load,
    expected: Vec<Expected>,
}

type Pick = fn(&RunReport) -> f64;
type Expected = (&'static str, Pick, f64, Option<f64>);

impl Case {
    pub(super) async fn run(self) -> Result<Vec<SelfCheck>, Error> {
        let server = KnownServer::start(self.law)?;
        // The preflight's connection is no request, so the law sees the plan's requests only.
        let report = self.load.run(server.target(), |_| get).await?;
        let check = |(quantity, pick, expected, tolerance): Expected| SelfCheck {
            case: self.name.to_owned(),
            quantity: quantity.to_owned(),
            expected,
            measured: pick(&report),
            tolerance: tolerance.unwrap_or_else(|| TOLERANCE_MS.max(expected.abs() * 0.03)),
        };
        Ok(self.expected.into_iter().map(check).collect())
    }
}

fn get(_: &mut User, request: &mut Request) {
    request.get("/");
}

const P50: (&str, Pick) = ("response p50, ms", |report| report.total.response.p50_ms);
const P90: (&str, Pick) = ("response p90, ms", |report| report.total.response.p90_ms);
const P99: (&str, Pick) = ("response p99, ms", |report| report.total.response.p99_ms);
const MEAN: (&str, Pick) = ("response mean, ms", |report| report.total.response.mean_ms);

fn near((quantity, pick): (&'static str, Pick), expected: f64) -> Expected {
    (quantity, pick, expected, None)
}

fn exactly(quantity: &'static str, pick: Pick, expected: f64) -> Expected {
    (quantity, pick, expected, Some(0.0))
}

pub(super) fn all(length: Duration) -> Vec<Case> {
    vec![fixed_delay(length), stall(length), queue(length), refusals(length), silence(length)]
}

fn answered(at: Instant) -> Fate {
    Fate { at: Some(at), status: 200 }
}

fn fixed_delay(length: Duration) -> Case {
    let delay = Duration::from_millis(20);
    Case {
        name: "answers after 20 ms",
        law: Box::new(move |now, _| answered(now + delay)),
        load: Load::open(Arrivals::Poisson).rate(200.0).duration(length),
        expected: vec![near(P50, 20.0), near(P99, 20.0), near(MEAN, 20.0)],
    }
}

/// With even arrivals over T and a stall of S, the quantile q of the response is S − T·(1 − q), whatever the rate.
fn stall(length: Duration) -> Case {
    let rate = 200.0;
    let (begin, stall) = (length.mul_f64(0.4), length.mul_f64(0.2));
    let law = move |now: Instant, since: Duration| {
        let stalled = (begin..begin + stall).contains(&since);
        answered(if stalled { now + (begin + stall - since) } else { now })
    };
    let millis = |q: f64| (stall.as_secs_f64() - length.as_secs_f64() * (1.0 - q)) * 1e3;
    // A quantile falls between two arrivals.
    let (p90, p99) = (millis(0.9), millis(0.99));
    let step = 1e3 / rate;
    let within = |(quantity, pick), expected: f64| {
        (quantity, pick, expected, Some((expected * 0.03).max(step + TOLERANCE_MS)))
    };
    Case {
        name: "stalls for a fifth of the run",
        law: Box::new(law),
        load: Load::open(Arrivals::Constant).rate(rate).duration(length),
        expected: vec![near(P50, 0.0), within(P90, p90), within(P99, p99)],
    }
}

/// 2 ms: at 400 requests a second the server is busy 80 % of the time.
const MEAN_SERVICE_S: f64 = 0.002;

/// A single server with exponential service times. The queue of one seed is far from its theory for minutes, so the
/// numbers expected are those of the very queue: the same arrivals and service times, simulated.
fn queue(length: Duration) -> Case {
    let (rate, seed) = (400.0, 11);
    let service = |rng: &mut Rng| Duration::from_secs_f64(rng.exponential(MEAN_SERVICE_S));
    let (mut services, mut simulated) = (Rng::seeded(seed), Rng::seeded(seed));
    let mut free: Option<Instant> = None;
    let law = move |now: Instant, _: Duration| {
        let done = free.map_or(now, |at| at.max(now)) + service(&mut services);
        free = Some(done);
        answered(done)
    };
    let mut idle_from = Duration::ZERO;
    let mut times: Vec<f64> = Schedule::new(Arrivals::Poisson, &[Stage::hold(rate, length)], seed)
        .map(|planned| {
            idle_from = idle_from.max(planned.at) + service(&mut simulated);
            (idle_from - planned.at).as_secs_f64() * 1e3
        })
        .collect();
    let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| times.get((q * times.len() as f64).ceil() as usize - 1).copied().unwrap_or(0.0);
    Case {
        name: "one queue, M/M/1 at 80 %",
        law: Box::new(law),
        load: Load::open(Arrivals::Poisson).rate(rate).duration(length).seed(seed),
        expected: vec![near(MEAN, mean), near(P50, quantile(0.5)), near(P99, quantile(0.99))],
    }
}

fn refusals(length: Duration) -> Case {
    let mut number = 0_u64;
    let law = move |now: Instant, _: Duration| {
        number += 1;
        Fate { at: Some(now), status: if number.is_multiple_of(4) { 503 } else { 200 } }
    };
    let requests = (length.as_secs_f64() * 100.0).round();
    Case {
        name: "refuses every fourth request",
        law: Box::new(law),
        load: Load::open(Arrivals::Constant).rate(100.0).duration(length),
        expected: vec![
            exactly("requests", |report| report.total.requests as f64, requests),
            exactly("errors", |report| report.total.errors as f64, (requests / 4.0).floor()),
        ],
    }
}

/// A tester that leaves timeouts out would show a p99 of a millisecond here.
fn silence(length: Duration) -> Case {
    let timeout = Duration::from_secs(1);
    let mut number = 0_u64;
    let law = move |now: Instant, _: Duration| {
        number += 1;
        Fate { at: (!number.is_multiple_of(20)).then_some(now), status: 200 }
    };
    let requests = (length.as_secs_f64() * 100.0).round();
    Case {
        name: "never answers every 20th request",
        law: Box::new(law),
        load: Load::open(Arrivals::Constant).rate(100.0).duration(length).timeout(timeout),
        expected: vec![
            near(P50, 0.0),
            ("response p99, at least, ms", |report| report.total.response.p99_ms, 1_000.0, Some(100.0)),
            exactly(
                "p99 is a lower bound",
                |r| f64::from(u8::from(r.total.response.is_lower_bound(0.99))),
                1.0,
            ),
            exactly("censored", |report| report.total.response.censored as f64, (requests / 20.0).floor()),
        ],
    }
}

//! Reports made without a run, for tests of what is done with reports.

use super::RunReport;
use crate::engine::Shared;
use crate::failure::ErrorKind;
use crate::plan::{Arrivals, Load};
use crate::stats::{Class, Recorder, Sample};
use perf_core::Name;
use perf_core::time::{self, Duration};

/// A run of 10 s with a step `shop` whose n-th answer took n milliseconds, and timeouts at 2 s.
pub(crate) fn report(answers: u64, timeouts: u64) -> RunReport {
    let plan = Load::open(Arrivals::Poisson).rate(100.0).duration(Duration::from_secs(10));
    let mut recorder = Recorder::new();
    let step = Name::from("shop");
    let times = (1..=answers).map(|n| (n, Class::Ok));
    let cut = (0..timeouts).map(|_| (2_000, Class::Failed(ErrorKind::TimeoutTotal)));
    for (millis, class) in times.chain(cut) {
        let started = Duration::from_millis(10);
        recorder.record(&Sample {
            step: &step,
            planned: started,
            lag: Duration::ZERO,
            started: Some(started),
            done: started + Duration::from_millis(millis),
            class,
            status: 200,
            sent: 100,
            received: 1_000,
            connects: 0,
            raced: false,
            warmup: false,
            detail: "GET /<shop>",
        });
    }
    RunReport::build(&Shared::new(plan, time::now()), "http://shop.example/?a=1&b=2".to_owned(), recorder)
}

#[test]
fn a_report_is_the_same_after_a_trip_through_json() {
    let report = report(985, 15);
    let json = serde_json::to_string(&report).unwrap();
    assert!(serde_json::from_str::<RunReport>(&json).unwrap() == report);
    assert_eq!((report.total.requests, report.total.ok, report.total.errors), (1_000, 985, 15));
    assert_eq!(report.errors[0].kind, ErrorKind::TimeoutTotal);
    assert_eq!(report.total.bytes_received, 1_000_000);
}

#[test]
fn the_text_says_what_is_known_and_what_is_not() {
    let text = report(985, 15).to_string();
    assert!(text.contains("generator: VALID"), "{text}");
    assert!(text.contains("1000 requests in 10.0 s, 98.5 ok/s, 15 errors (1.500 %)"), "{text}");
    let response = text.lines().find(|line| line.starts_with("response")).unwrap();
    let cells: Vec<&str> = response.split_whitespace().collect();
    assert_eq!(cells[1], "1000");
    assert!(cells[3].starts_with("500") && cells[6].starts_with(">2000"), "{response}");
    assert!(cells[7].starts_with(">~"), "one request in a thousand says nothing: {response}");
    assert!(text.contains("15 timeout_total"), "{text}");
}

#[test]
fn outages_are_the_times_in_which_nothing_succeeds() {
    let mut report = report(985, 15);
    report.timeline.interval_s = 1.0;
    report.timeline.ok = vec![5, 0, 0, 0, 5, 0, 5, 0, 0];
    report.timeline.errors = vec![0, 3, 0, 2, 1, 0, 0, 4, 4];
    let outages: Vec<(f64, f64, bool)> =
        report.outages().iter().map(|outage| (outage.from_s, outage.to_s, outage.over)).collect();
    assert_eq!(outages, [(1.0, 4.0, true), (7.0, 9.0, false)]);
    assert!(report.to_string().contains("outage from 7 s to 9 s, to the end"), "{report}");
}

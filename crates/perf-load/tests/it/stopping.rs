//! Stopping at any moment gives a report of what was measured, and leaves nothing behind.

use crate::server::{Act, Server};
use perf_load::{Arrivals, Error, ErrorKind, Load, Request, Scenario, User, Verdict};
use std::time::Duration;

fn get(_: u64) -> impl Scenario {
    |_: &mut User, request: &mut Request| {
        request.get("/");
    }
}

fn endless() -> Load {
    Load::open(Arrivals::Poisson).rate(500.0).duration(Duration::from_secs(600))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_reports_what_it_measured() {
    let server = Server::start(|_| Act::ok("x")).await;
    for plan in [endless(), Load::closed(4).duration(Duration::from_secs(600)), endless().on_caller_runtime()]
    {
        let run = plan.start(&server.target(), get).await.unwrap();
        let stop = run.stop_handle();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(run.progress().finished > 0 && run.progress().sent >= run.progress().finished);
        stop.stop();
        let report = run.report().await.unwrap();
        assert!(report.interrupted && report.total.errors == 0, "{report}");
        assert!(report.total.ok > 20 && report.duration_s < 5.0, "{report}");
        assert!(report.timeline.planned.len() < 6);
        assert_eq!(stop.progress().in_flight, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stop_cuts_off_what_is_in_flight() {
    let server = Server::start(|_| Act::Silence).await;
    let run = endless().start(&server.target(), get).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    run.stop_handle().stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    run.stop_handle().stop();
    let report = tokio::time::timeout(Duration::from_secs(5), run.report()).await.unwrap().unwrap();
    assert_eq!(report.errors[0].kind, ErrorKind::Cancelled, "{report}");
    assert_eq!(report.total.response.censored, report.total.requests);
    assert!(report.total.response.is_lower_bound(0.5) && report.total.response.p50_ms > 50.0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_run_closes_its_connections() {
    for plan in [endless(), endless().on_caller_runtime(), Load::closed(4).duration(Duration::from_secs(600))]
    {
        let server = Server::start(|_| Act::ok("x")).await;
        let running = tokio::time::timeout(Duration::from_millis(100), plan.run(&server.target(), get)).await;
        assert!(running.is_err(), "the run is dropped at the timeout");
        let stop = {
            let run = plan.start(&server.target(), get).await.unwrap();
            run.stop_handle()
        };
        let gone = async {
            while stop.progress().in_flight > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_there_is_told_before_the_run() {
    let port = Server::start(|_| Act::ok("x")).await.port;
    tokio::task::yield_now().await;
    let target = format!("http://127.0.0.1:{port}").parse().unwrap();
    let error = loop {
        // The listener goes away when its task has been dropped.
        match endless().duration(Duration::from_millis(10)).run(&target, get).await {
            Err(error) => break error,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_unreachable(), "{error}");
    let plan =
        Load::open(Arrivals::Constant).rate(100.0).duration(Duration::from_millis(200)).preflight(false);
    let report = plan.run(&target, get).await.unwrap();
    assert_eq!((report.errors[0].kind, report.errors[0].count), (ErrorKind::ConnectRefused, 20), "{report}");
    assert_ne!(report.health.verdict, Verdict::Invalid, "the target is to blame: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_that_panics_ends_the_run_with_an_error() {
    let server = Server::start(|_| Act::ok("x")).await;
    let scenario = |_| {
        |user: &mut User, _: &mut Request| {
            assert!(user.requests() < 3, "a bug in the scenario");
        }
    };
    let plan = Load::closed(1).duration(Duration::from_millis(300));
    let error = plan.run(&server.target(), scenario).await.unwrap_err();
    assert!(matches!(error, Error::Generator(_)), "{error}");
}

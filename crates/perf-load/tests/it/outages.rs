//! A target that goes away and comes back.

use crate::server::{Act, Server};
use perf_load::{Arrivals, ErrorKind, Load, Request, Scenario, User, Verdict};
use std::time::Duration;

fn get(_: u64) -> impl Scenario {
    |_: &mut User, request: &mut Request| {
        request.get("/");
    }
}

async fn restarted_under(plan: Load) -> (perf_load::RunReport, u64) {
    let server = Server::start(|_| Act::ok("x")).await;
    let (port, target) = (server.port, server.target());
    let run = plan.start(&target, get).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    drop(server);
    tokio::time::sleep(Duration::from_millis(800)).await;
    let again = Server::on_port(port, |_| Act::ok("x")).await;
    let report = run.report().await.unwrap();
    (report, again.connections())
}

// L11: the open schedule goes on through an outage, its errors are the target's, and the run stays valid.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_load_goes_on_through_a_restart() {
    let plan = Load::open(Arrivals::Constant).rate(200.0).duration(Duration::from_secs(3));
    let (report, _) = restarted_under(plan).await;
    assert_eq!(report.total.requests, 600, "no request is missing: {report}");
    let refused = report.errors.iter().find(|error| error.kind == ErrorKind::ConnectRefused).unwrap();
    assert!((100..=320).contains(&refused.count), "{report}");
    assert!(refused.first_s > 0.4 && refused.last_s < 2.5, "{report}");
    assert!(report.total.ok >= 250, "{report}");
    assert_ne!(report.health.verdict, Verdict::Invalid, "{report}");
    assert_eq!(report.total.response.count, report.total.ok, "failures stay out of the response times");
}

// L11: users of a closed load do not storm a target that is down.
#[tokio::test(flavor = "multi_thread")]
async fn closed_users_pause_while_the_target_is_down() {
    let plan = Load::closed(20).duration(Duration::from_secs(3));
    let (report, connections) = restarted_under(plan).await;
    let refused = report.errors.iter().find(|error| error.kind == ErrorKind::ConnectRefused).unwrap();
    assert!(refused.count < 20 * 15, "at most a dozen attempts of each user: {report}");
    assert!(report.total.ok > 1_000 && connections == 20, "{connections} {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_exist_is_an_error_of_the_look_up() {
    let target = "http://no-such-host.invalid/".parse().unwrap();
    let plan = Load::open(Arrivals::Constant).rate(20.0).duration(Duration::from_millis(200));
    let error = plan.run(&target, get).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    let report = plan.preflight(false).run(&target, get).await.unwrap();
    let kind = report.errors[0].kind;
    assert!(matches!(kind, ErrorKind::Dns | ErrorKind::TimeoutConnect), "{report}");
    assert_eq!(report.total.errors, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_is_driven_whichever_of_its_addresses_answers() {
    // `localhost` is often ::1 first, where nothing listens; the next address is tried.
    let server = Server::start(|_| Act::ok("x")).await;
    let target = format!("http://localhost:{}/", server.port).parse().unwrap();
    let plan = Load::closed(2).duration(Duration::from_millis(100));
    let report = plan.run(&target, get).await.unwrap();
    assert!(report.total.ok > 10 && report.total.errors == 0, "{report}");
}

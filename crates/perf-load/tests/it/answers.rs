//! Every kind of answer, and of no answer, ends in the right place of the report.

use crate::server::{Act, Server, answer};
use perf_load::{
    Answer, Arrivals, CheckFailed, ErrorKind, Load, LoadModel, Request, RunReport, Scenario, User,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn get(_: u64) -> impl Scenario {
    |_: &mut User, request: &mut Request| {
        request.get("/");
    }
}

fn short() -> Load {
    // Long enough for answers to requests that left late, because the processor was busy with others.
    Load::open(Arrivals::Constant).rate(200.0).duration(millis(250)).timeout(millis(400)).grace(millis(5000))
}

async fn report_of(act: impl Fn(u64) -> Act + Send + Sync + 'static) -> RunReport {
    let server = Server::start(move |seen| act(seen.number)).await;
    short().run(&server.target(), get).await.unwrap()
}

fn only_error(report: &RunReport) -> (ErrorKind, u64) {
    assert_eq!(report.errors.len(), 1, "{report}");
    (report.errors[0].kind, report.errors[0].count)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_planned_request_is_counted_once() {
    let report = report_of(|_| Act::ok("hello")).await;
    assert_eq!((report.total.requests, report.total.ok, report.total.errors), (50, 50, 0), "{report}");
    assert_eq!(report.total.response.count, 50);
    assert_eq!(report.total.statuses[&200], 50);
    assert_eq!(report.timeline.planned.iter().sum::<u64>(), 50);
    assert_eq!(report.timeline.ok.iter().sum::<u64>(), 50);
    assert_eq!(report.total.bytes_received, 50 * answer(200, "hello").len() as u64);
    assert_eq!(report.load.model, LoadModel::Open);
    assert_eq!(report.health.achieved, 1.0);
    let json = serde_json::to_string(&report).unwrap();
    assert!(serde_json::from_str::<RunReport>(&json).unwrap() == report, "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_users_send_the_same_requests_in_every_run() {
    let paths = |threads| async move {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let server = Server::start(move |request| {
            log.lock().unwrap().push(request.path().to_owned());
            Act::ok("x")
        })
        .await;
        let scenario = |_| {
            |user: &mut User, request: &mut Request| {
                let item = user.rng().below(1_000_000);
                request.get(format_args!("/{}/{}/{item}", user.index(), user.requests()));
            }
        };
        let plan = Load::closed(3).duration(millis(200)).threads(threads);
        let report = plan.run(&server.target(), scenario).await.unwrap();
        assert_eq!(report.total.errors, 0, "{report}");
        let seen = seen.lock().unwrap().clone();
        assert_eq!(report.total.requests, seen.len() as u64);
        seen.into_iter()
            .filter(|path| path.split('/').nth(2).unwrap().len() == 1)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let first = paths(1).await;
    assert_eq!(first.len(), 30, "ten requests of each of three users");
    assert_eq!(first, paths(2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_outside_2xx_and_3xx_are_errors_unless_accepted() {
    let server =
        Server::start(|seen| Act::Send(answer(if seen.path() == "/a" { 404 } else { 503 }, "x"))).await;
    let scenario = |_| {
        |user: &mut User, request: &mut Request| {
            if user.index().is_multiple_of(2) {
                request.get("/a").accept(404).step("accepted");
            } else {
                request.get("/b").step("refused");
            }
        }
    };
    let report = short().run(&server.target(), scenario).await.unwrap();
    assert_eq!(only_error(&report), (ErrorKind::Status(503), 25));
    assert_eq!((report.step("accepted").unwrap().ok, report.step("refused").unwrap().ok), (25, 0));
    assert_eq!(report.step("refused").unwrap().failed.count, 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_sees_status_headers_and_body_and_its_refusal_is_an_error() {
    #[derive(Clone)]
    struct Checking(Arc<AtomicU64>);
    impl Scenario for Checking {
        fn next(&mut self, _: &mut User, request: &mut Request) {
            request.post("/echo").header("x-kind", "test").body(b"ping").keep_body();
        }
        fn check(&mut self, request: &Request, answer: &Answer<'_>) -> Result<(), CheckFailed> {
            assert_eq!(
                (request.path(), answer.status(), answer.header("x-version")),
                ("/echo", 200, Some("7"))
            );
            self.0.fetch_add(1, Ordering::Relaxed);
            if answer.body() == b"0:ping" { Err(CheckFailed::new("the first is wrong")) } else { Ok(()) }
        }
    }
    let server = Server::start(|seen| {
        assert!(seen.head.contains("x-kind: test\r\n"));
        let body = format!("{}:{}", seen.number, String::from_utf8(seen.body).unwrap());
        let head = format!("HTTP/1.1 200 OK\r\nX-Version: 7\r\ncontent-length: {}\r\n\r\n", body.len());
        Act::Send([head, body].concat().into_bytes())
    })
    .await;
    let checked = Arc::new(AtomicU64::new(0));
    let scenario = Checking(Arc::clone(&checked));
    let report = short().run(&server.target(), move |_| scenario.clone()).await.unwrap();
    assert_eq!(only_error(&report), (ErrorKind::CheckFailed, 1));
    assert_eq!(report.errors[0].sample, "POST /echo: the first is wrong");
    assert_eq!(checked.load(Ordering::Relaxed), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_answers_are_put_together_and_the_connection_is_used_again() {
    struct Whole;
    impl Scenario for Whole {
        fn next(&mut self, _: &mut User, request: &mut Request) {
            request.keep_body();
        }
        fn check(&mut self, _: &Request, answer: &Answer<'_>) -> Result<(), CheckFailed> {
            (answer.body() == b"hello world").then_some(()).ok_or_else(|| CheckFailed::new("wrong body"))
        }
    }
    let server = Server::start(|_| {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\nt: 1\r\n\r\n";
        Act::Send(text.into())
    })
    .await;
    let report = Load::closed(1).duration(millis(100)).run(&server.target(), |_| Whole).await.unwrap();
    assert!(report.total.errors == 0 && report.total.ok > 10, "{report}");
    assert_eq!(report.connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_megabyte_is_read_and_a_larger_one_is_refused() {
    let padded = |bytes: usize| {
        let text = format!("HTTP/1.1 200 OK\r\nx-pad: {}\r\ncontent-length: 2\r\n\r\nok", "x".repeat(bytes));
        Act::Send(text.into_bytes())
    };
    let server =
        Server::start(move |seen| padded(if seen.number % 2 == 0 { 1_000_000 } else { 3_000_000 })).await;
    let plan = Load::open(Arrivals::Constant).rate(40.0).duration(millis(250)).timeout(millis(10_000));
    let report = plan.run(&server.target(), get).await.unwrap();
    assert_eq!(only_error(&report), (ErrorKind::Protocol, 5), "{report}");
    assert_eq!(report.total.ok, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_told_from_one_that_never_began() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec();
    let report = report_of(move |_| Act::SendAndClose(cut.clone())).await;
    assert_eq!(only_error(&report), (ErrorKind::ResetMidBody, 50));
    let report = report_of(|_| Act::SendAndClose(Vec::new())).await;
    assert_eq!(only_error(&report), (ErrorKind::ResetBeforeBytes, 50));
    let report = report_of(|_| Act::Send(b"SMTP ready\r\n\r\n".to_vec())).await;
    assert_eq!(only_error(&report), (ErrorKind::Protocol, 50));
}

// L5: a request without an answer is not missing from the percentiles; it is longer than its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_never_answered_counts_as_longer_than_its_timeout() {
    let report = report_of(|number| if number % 5 == 4 { Act::Silence } else { Act::ok("x") }).await;
    assert_eq!(only_error(&report), (ErrorKind::TimeoutFirstByte, 10));
    let response = &report.total.response;
    assert_eq!((response.count, response.censored), (40, 10));
    assert!(response.p99_ms >= 400.0 && response.is_lower_bound(0.99), "{report}");
    assert!(response.p50_ms < 300.0 && !response.is_lower_bound(0.5));
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec();
    let report = report_of(move |_| Act::Send(begun.clone())).await;
    assert_eq!(only_error(&report), (ErrorKind::TimeoutTotal, 50));
}

// L10: the idle keep-alive race is retried once for requests that may be repeated, and counted apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_while_idle_is_replaced_without_an_error() {
    let act = |seen: crate::server::Seen| {
        if seen.on_connection == 2 { Act::SendAndClose(Vec::new()) } else { Act::ok("x") }
    };
    let server = Server::start(act).await;
    let plan = Load::closed(1).duration(millis(150));
    let report = plan.run(&server.target(), get).await.unwrap();
    assert_eq!(report.total.errors, 0, "{report}");
    assert!(report.keep_alive_races > 3 && report.connections == report.keep_alive_races + 1, "{report}");
    let post = |_| {
        |_: &mut User, request: &mut Request| {
            request.post("/").body(b"x");
        }
    };
    let report = plan.run(&server.target(), post).await.unwrap();
    assert_eq!((only_error(&report).0, report.keep_alive_races), (ErrorKind::ResetBeforeBytes, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keep_alive_every_request_has_a_connection_of_its_own() {
    let server = Server::start(|seen| {
        assert!(seen.head.contains("connection: close\r\n"));
        Act::ok("x")
    })
    .await;
    let report = short().keep_alive(false).run(&server.target(), get).await.unwrap();
    assert_eq!((report.total.ok, report.connections), (50, 50), "{report}");
    assert_eq!(server.connections(), 51, "one more for the preflight");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_sent_is_the_generators_fault() {
    let server = Server::start(|_| Act::ok("x")).await;
    let scenario = |_| {
        |_: &mut User, request: &mut Request| {
            request.get("/a b");
        }
    };
    let report = short().run(&server.target(), scenario).await.unwrap();
    assert_eq!(only_error(&report), (ErrorKind::GeneratorRequest, 50));
    assert_eq!(report.health.verdict, perf_load::Verdict::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_up_requests_are_sent_and_not_counted() {
    let server = Server::start(|_| Act::ok("x")).await;
    let report = short().warmup(millis(100)).run(&server.target(), get).await.unwrap();
    assert_eq!((report.warmup_requests, report.total.requests), (20, 50), "{report}");
    assert_eq!(report.timeline.planned.iter().sum::<u64>(), 70);
    assert!((report.duration_s - 0.25).abs() < 1e-9);
}

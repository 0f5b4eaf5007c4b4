//! Health: §3 "Health semantics" of the http page.

use perf_core::{Health, Status};
use perf_metrics::{
    Check, Criticality, HealthCheck, HealthChecks, InvalidCheck, LIVENESS, Metrics, READINESS,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_hanging_check_is_down_and_never_piles_up() {
    let (started, alive) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let (s, a) = (Arc::clone(&started), Arc::clone(&alive));
    let check = Check::new("db", move || {
        s.fetch_add(1, Ordering::SeqCst);
        assert_eq!(a.fetch_add(1, Ordering::SeqCst), 0, "two runs at once");
        let alive = Alive(Arc::clone(&a));
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            Health::up()
        }
    });
    let health = HealthChecks::builder().check(check.interval(SECOND).timeout(SECOND)).start().unwrap();
    assert_eq!(health.check("db").unwrap().status, Status::Unknown);
    tokio::time::sleep(SECOND * 20).await;
    let report = health.check("db").unwrap();
    assert_eq!((report.status, report.reason.as_str()), (Status::Down, "timeout"));
    assert!(started.load(Ordering::SeqCst) >= 8);
    drop(health);
    tokio::time::sleep(SECOND).await;
    assert_eq!(alive.load(Ordering::SeqCst), 0, "dropping the checks stops them");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_is_down_with_its_message() {
    async fn broken() -> Health {
        panic!("no route to host")
    }
    let health = HealthChecks::builder().check(Check::new("db", broken)).start().unwrap();
    health.settled().await;
    let report = health.check("db").unwrap();
    assert_eq!((report.status, report.reason.as_str()), (Status::Down, "panicked: no route to host"));
}

#[tokio::test(start_paused = true)]
async fn one_failure_of_three_changes_nothing() {
    let calls = AtomicUsize::new(0);
    let check = Check::new("db", move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move { if call == 0 || call == 3 { Health::up() } else { Health::down("refused") } }
    });
    let health = HealthChecks::builder().check(check.interval(SECOND)).start().unwrap();
    let status = async |seconds| {
        tokio::time::sleep(SECOND * seconds).await;
        health.check("db").unwrap().status
    };
    assert_eq!(status(0).await, Status::Unknown);
    // Calls: up, down, down, up, down, down, down.
    assert_eq!(status(2).await, Status::Up);
    assert_eq!(status(3).await, Status::Up);
    assert_eq!(status(3).await, Status::Down);
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_fatal_checks_and_the_life_cycle() {
    let health = HealthChecks::builder()
        .check(Check::new("db", || async { Health::up() }).criticality(Criticality::Fatal))
        .check(Check::new("mail", || async { Health::down("refused") }))
        .start()
        .unwrap();
    assert!(!health.startup().is_ok() && !health.readiness().is_ok() && health.liveness().is_ok());
    health.ready();
    assert_eq!(health.readiness().status, Status::Unknown, "a fatal check without a result is not up");
    health.settled().await;
    let readiness = health.readiness();
    assert_eq!((readiness.status, readiness.reason.as_str()), (Status::Degraded, "mail: refused"));
    assert!(readiness.is_ok() && health.startup().is_ok());
    health.drain();
    health.ready();
    assert_eq!((health.readiness().status, health.liveness().status), (Status::Down, Status::Up));
    health.stop();
    assert_eq!(health.liveness().reason, "the host has stopped");
}

struct Local;

#[async_trait::async_trait]
impl HealthCheck for Local {
    async fn check(&self) -> Health {
        Health::down("deadlocked")
    }

    fn touches_network(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn liveness_takes_local_checks_only() {
    let network =
        HealthChecks::builder().check(Check::new("db", || async { Health::up() })).group(LIVENESS, ["db"]);
    assert_eq!(network.start().unwrap_err(), InvalidCheck::NetworkInLiveness("db".into()));
    let local = HealthChecks::builder()
        .check(Check::new("worker", Local).criticality(Criticality::Fatal))
        .group(LIVENESS, ["worker"]);
    let health = local.start().unwrap();
    health.settled().await;
    assert_eq!(health.liveness().reason, "worker: deadlocked");
}

#[tokio::test(start_paused = true)]
async fn a_group_with_an_unknown_check_does_not_start() {
    let error = HealthChecks::builder().group(READINESS, ["db"]).start().unwrap_err();
    assert_eq!(error.to_string(), "the health group `readiness` names the check `db`, which does not exist");
    let twice = HealthChecks::builder().check(Check::new("a", Local)).check(Check::new("a", Local));
    assert_eq!(twice.start().unwrap_err(), InvalidCheck::Duplicate("a".into()));
    let error = HealthChecks::builder().check(Check::new("a", Local).failures(0)).start().unwrap_err();
    assert_eq!(error.to_string(), "invalid configuration: a.failures = 0, allowed: at least 1");
}

#[tokio::test(start_paused = true)]
async fn a_check_stuck_in_its_own_thread_goes_stale_only_after_it_ended() {
    // A run that is told to stop ends at its next await; until then it counts as hanging and no other is started.
    let started = Arc::new(AtomicUsize::new(0));
    let s = Arc::clone(&started);
    let check = Check::new("slow", move || {
        s.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(SECOND * 3).await;
            Health::up()
        }
    });
    let health =
        HealthChecks::builder().check(check.interval(SECOND * 10).timeout(SECOND * 2)).start().unwrap();
    health.settled().await;
    assert_eq!(
        (health.check("slow").unwrap().reason.as_str(), started.load(Ordering::SeqCst)),
        ("timeout", 1)
    );
}

#[tokio::test(start_paused = true)]
async fn checks_have_numbers() {
    let metrics = Metrics::builder().process(false).build().unwrap();
    let health = HealthChecks::builder().check(Check::new("worker", Local)).start().unwrap();
    metrics.register(health.component()).unwrap().keep();
    health.settled().await;
    let text = metrics.text();
    for line in [
        r#"perf_metrics_health_status{check="worker",name="checks"} 0"#,
        r#"perf_metrics_health_checks_total{check="worker",name="checks"} 1"#,
        r#"perf_metrics_health_failures_total{check="worker",name="checks"} 1"#,
        r#"perf_metrics_health_check_seconds_count{check="worker",name="checks"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

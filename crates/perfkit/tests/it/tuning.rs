//! Self-tuning of pools and the number of replicas, by configuration.

use perf_core::time::{self, Duration};
use perf_metrics::TuningOutcome;
use perfkit::pool::Cause;
use perfkit::pool::sizing::{ReplicaSample, ScaleTarget};
use perfkit::{Config, Stack};
use std::sync::atomic::{AtomicUsize, Ordering};

async fn stack(more: &str) -> Stack {
    let database = |mode| {
        format!(
            "[databases.{mode}]\nurl = 'sqlite::memory:'\npool = {{ max = 2, sizing = {{ mode = '{mode}', max = 16 }} }}\n"
        )
    };
    let text = ["act", "advise", "shadow"].map(database).concat() + more;
    Stack::new(Config::from_toml(&text).unwrap()).await.unwrap()
}

/// Twelve callers on two connections, until the pool's controller has advised more of them.
async fn crowd(stack: &Stack, database: &str) {
    let pool = stack.sqlite(database).unwrap().pool().clone();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let pool = pool.clone();
        callers.spawn(async move {
            while let Ok(lease) = pool.acquire().await {
                time::sleep(Duration::from_millis(20)).await;
                drop(lease);
            }
        });
    }
    while pool.advised().is_none_or(|advised| advised <= 2) {
        time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_pool_acts_on_advice_is_proposed_it_in_rounds_or_only_shows_it() {
    let (proposing, acting) =
        tokio::join!(stack("[tuning]\ninterval = '1d'"), stack("[tuning]\nenabled = true\ninterval = '1d'"));
    tokio::join!(
        crowd(&proposing, "act"),
        crowd(&proposing, "advise"),
        crowd(&proposing, "shadow"),
        crowd(&acting, "advise"),
    );
    for (stack, outcome) in [(&proposing, TuningOutcome::OnlyProposed), (&acting, TuningOutcome::Applied)] {
        let cycle = stack.tuning().unwrap();
        assert!(cycle.run(time::now()).judged > 0);
        let records = cycle.records();
        assert_eq!(records.len(), 1, "nothing for those that act or only show: {records:?}");
        let proposal = &records[0].proposal;
        assert_eq!((proposal.what.as_str(), proposal.from.as_str()), ("pool.advise.max", "2"));
        let max = stack.sqlite("advise").unwrap().pool().stats().max;
        let wanted = if outcome == TuningOutcome::Applied { proposal.to.as_str() } else { "2" };
        assert_eq!(
            (&records[0].outcome, max.to_string().as_str()),
            (&outcome, wanted),
            "{}",
            proposal.reason
        );
        assert!(proposal.reason.contains("callers had to wait"), "{}", proposal.reason);
    }
    let max = |database| proposing.sqlite(database).unwrap().pool().stats().max;
    assert!(max("act") > 2 && max("shadow") == 2);
    let page = proposing.metrics().text();
    assert!(!page.contains(r#"perf_pool_advised_connections{name="shadow"} 2"#), "{page}");
    assert!(stack("").await.tuning().is_none(), "none without a section");
}

struct Cluster(AtomicUsize);

#[async_trait::async_trait]
impl ScaleTarget for Cluster {
    async fn replicas(&self) -> Result<usize, Cause> {
        Ok(self.0.load(Ordering::SeqCst))
    }

    async fn scale(&self, replicas: usize) -> Result<(), Cause> {
        self.0.store(replicas, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn callers_that_wait_for_the_databases_scale_the_service() {
    let scaling = "[scaling]\nmode = 'act'\ninterval = '1s'\nreplicas = { max = 8, queue_goal = 2.0 }";
    let stack = stack(scaling).await;
    let pool = stack.sqlite("advise").unwrap().pool().clone();
    let held = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let pool = pool.clone();
        waiting.spawn(async move { drop(pool.acquire().await) });
    }
    while stack.waiting() < 5 {
        tokio::task::yield_now().await;
    }
    let cluster = Cluster(AtomicUsize::new(2));
    let measure = |replicas| ReplicaSample { replicas, ready: 2, ..ReplicaSample::default() };
    let scaling = stack.autoscale(&cluster, measure, |_| {});
    assert!(time::timeout(Duration::from_millis(1_500), scaling).await.is_err(), "until it is dropped");
    assert_eq!(
        cluster.0.load(Ordering::SeqCst),
        4,
        "doubled at most, though ten callers wait and two for each would do"
    );
    drop(held);
    while waiting.join_next().await.is_some() {}
    assert!(stack.close().await.is_clean());
}

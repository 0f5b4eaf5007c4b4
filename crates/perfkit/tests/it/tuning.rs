//! Self-tuning of pools and the number of replicas, by configuration.

use perf_core::time::{self, Duration};
use perf_metrics::TuningOutcome;
use perfkit::pool::Cause;
use perfkit::pool::sizing::{ReplicaSample, ScaleTarget};
use perfkit::{Config, Stack};
use std::sync::atomic::{AtomicUsize, Ordering};

async fn stack(more: &str) -> Stack {
    let text = format!(
        "[databases.orders]\nurl = 'sqlite::memory:'\npool = {{ max = 2, sizing = {{ mode = 'advise', min = 1, max = 16 }} }}\n{more}"
    );
    Stack::new(Config::from_toml(&text).unwrap()).await.unwrap()
}

/// Twelve callers on two connections, until the pool's controller has advised more of them.
async fn crowd(stack: &Stack) -> usize {
    let pool = stack.sqlite("orders").unwrap().pool().clone();
    let callers = (0..12).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            while let Ok(lease) = pool.acquire().await {
                time::sleep(Duration::from_millis(20)).await;
                drop(lease);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    while pool.advised().is_none_or(|advised| advised <= 2) {
        time::sleep(Duration::from_millis(10)).await;
    }
    callers.iter().for_each(tokio::task::JoinHandle::abort);
    pool.advised().unwrap()
}

#[tokio::test]
async fn a_pool_that_is_only_advised_is_proposed_a_size_and_given_it_where_that_is_enabled() {
    let (proposing, acting) =
        tokio::join!(stack("[tuning]\ninterval = '1d'"), stack("[tuning]\nenabled = true\ninterval = '1d'"));
    tokio::join!(crowd(&proposing), crowd(&acting));
    for (stack, outcome) in [(&proposing, TuningOutcome::OnlyProposed), (&acting, TuningOutcome::Applied)] {
        let cycle = stack.tuning().unwrap();
        assert!(cycle.run(time::now()).judged > 0);
        let record = cycle.records().pop().unwrap();
        let proposal = &record.proposal;
        assert_eq!((proposal.what.as_str(), proposal.from.as_str()), ("pool.orders.max", "2"));
        let max = stack.sqlite("orders").unwrap().pool().stats().max;
        let wanted = if outcome == TuningOutcome::Applied { proposal.to.clone() } else { "2".to_owned() };
        assert_eq!((record.outcome, max.to_string()), (outcome, wanted), "{}", proposal.reason);
        assert!(proposal.reason.contains("callers had to wait"), "{}", proposal.reason);
    }
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
    let pool = stack.sqlite("orders").unwrap().pool().clone();
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

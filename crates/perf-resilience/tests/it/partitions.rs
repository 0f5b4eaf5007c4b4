//! A limit divided among kinds of callers. The cases are those of Netflix, AbstractPartitionedLimiterTest.

use perf_core::time::{self, Duration};
use perf_core::{CallError, Outcome, Reason};
use perf_resilience::adaptive::{
    Adaptive, AdaptiveBuilder, Aimd, Algorithm, Bounds, Method, Partition, Partitioned, UNKNOWN,
};
use perf_resilience::{Gate, Leaving, Now, Pass, Pipeline, Token};
use proptest::prelude::*;

fn fixed(limit: u32) -> AdaptiveBuilder {
    Adaptive::builder("l").method(Method::Fixed).min(1).max(1000).initial(limit)
}

fn divided(limit: u32) -> (Partitioned, Partition, Partition) {
    let whole = fixed(limit).partitions([("batch", 0.3), ("live", 0.7)]).unwrap();
    let (batch, live) = (whole.partition("batch"), whole.partition("live"));
    (whole, batch, live)
}

/// Lets calls in until one is refused.
fn fill(partition: &Partition) -> Vec<Pass<&Partition>> {
    std::iter::from_fn(|| Pass::enter(partition).ok()).collect()
}

#[test]
fn the_limit_is_allocated_to_the_partitions_rounded_up() {
    let (_, batch, live) = divided(10);
    assert_eq!((batch.limit(), live.limit()), (3, 7));
    let (_, batch, live) = divided(11);
    assert_eq!((batch.limit(), live.limit()), (4, 8), "never less than the share");
    let whole = fixed(2).partitions([("small", 0.0), ("rest", 1.0)]).unwrap();
    assert_eq!((whole.partition("small").limit(), whole.partition(UNKNOWN).limit()), (1, 0));
}

#[test]
fn a_partition_borrows_up_to_the_limit() {
    let (whole, batch, _) = divided(10);
    let inside = fill(&batch);
    assert_eq!((inside.len(), batch.in_flight(), whole.limit().in_flight()), (10, 10, 10));
    let stats = batch.stats();
    assert_eq!((stats.admitted, stats.borrowed, stats.refused), (10, 7, 1));
}

#[test]
fn a_share_is_safe_from_what_others_have_borrowed() {
    let (whole, batch, live) = divided(10);
    let borrowed = fill(&batch);
    let own = fill(&live);
    assert_eq!((borrowed.len(), own.len(), whole.limit().in_flight()), (10, 7, 17));
    assert_eq!(live.stats().borrowed, 0);
    // And whoever borrowed gets nothing more before it is back within its share and the limit.
    drop(borrowed);
    assert_eq!(batch.in_flight(), 0);
    assert_eq!(fill(&batch).len(), 3);
}

#[test]
fn all_is_refused_once_all_shares_are_taken() {
    let (whole, batch, live) = divided(10);
    let of_batch: Vec<_> = (0..3).map(|_| Pass::enter(&batch).unwrap()).collect();
    let of_live: Vec<_> = (0..7).map(|_| Pass::enter(&live).unwrap()).collect();
    assert_eq!((batch.in_flight(), live.in_flight(), whole.limit().in_flight()), (3, 7, 10));
    let refused = Pass::enter(&batch).unwrap_err();
    assert!(Pass::enter(&live).is_err());
    assert_eq!(refused.reason(), Reason::Full);
    assert_eq!(
        refused.to_string(),
        "`l/batch` refused the call: it is full (calls of its share in flight 3, limit 3)"
    );
    drop((of_batch, of_live));
    assert_eq!((batch.in_flight(), live.in_flight(), whole.limit().in_flight()), (0, 0, 0));
}

#[test]
fn a_place_that_is_given_back_can_be_taken_again() {
    let (whole, batch, _) = divided(10);
    let mut inside = fill(&batch);
    inside.remove(0).leave(Outcome::Success);
    assert_eq!((batch.in_flight(), whole.limit().in_flight()), (9, 9));
    inside.push(Pass::enter(&batch).unwrap());
    assert!(Pass::enter(&batch).is_err());
    assert_eq!((batch.in_flight(), whole.limit().in_flight()), (10, 10));
}

#[test]
fn shares_follow_the_limit_while_calls_are_in_flight() {
    // Netflix sets the limit by hand; here it learns.
    let bounds = Bounds { initial: 10.0, min: 1.0, max: 20.0 };
    let aimd = Algorithm::Aimd(Aimd::new(bounds, 0.5, Duration::from_secs(5)));
    let whole = Adaptive::builder("l").algorithm(aimd).partitions([("batch", 0.3), ("live", 0.7)]).unwrap();
    let (batch, live) = (whole.partition("batch"), whole.partition("live"));
    let held = Pass::enter(&batch).unwrap();
    let mut now = time::now();
    while whole.limit().limit() < 20 {
        let entered: Vec<Token> = (0..12).filter_map(|_| live.enter(&Now::at(now)).ok()).collect();
        let start = now;
        now += Duration::from_millis(100);
        for token in entered {
            let at = Now::at(now);
            live.leave(token, &Leaving { outcome: Outcome::Success, started: Some(start), now: &at });
        }
    }
    assert_eq!((batch.limit(), live.limit()), (6, 14));
    assert_eq!((batch.in_flight(), whole.limit().in_flight()), (1, 1));
    drop(held);
    assert_eq!(whole.limit().in_flight(), 0);
}

#[test]
fn callers_of_no_partition_live_on_what_is_left() {
    let (whole, batch, live) = divided(10);
    let nobody = whole.partition("somebody else");
    assert_eq!((nobody.name().as_str(), nobody.limit()), (UNKNOWN, 0));
    let guests = fill(&nobody);
    assert_eq!(guests.len(), 10, "while there is room");
    assert_eq!((fill(&batch).len(), fill(&live).len()), (3, 7));
    drop(guests);
    let _full = (fill(&batch), fill(&live));
    assert!(Pass::enter(&nobody).is_err(), "and nothing is theirs");
}

#[test]
fn partitions_are_found_by_name_and_by_number() {
    let (whole, ..) = divided(10);
    let names = |index| whole.at(index).name().as_str().to_owned();
    assert_eq!([names(0), names(1), names(2), names(99)], ["batch", "live", UNKNOWN, UNKNOWN]);
}

#[test]
fn a_fixed_limit_never_moves() {
    let (whole, batch, _) = divided(10);
    let mut now = time::now();
    for _ in 0..1000 {
        let token = batch.enter(&Now::at(now)).unwrap();
        let start = now;
        now += Duration::from_millis(30);
        let at = Now::at(now);
        batch.leave(token, &Leaving { outcome: Outcome::Overload, started: Some(start), now: &at });
    }
    assert!(whole.limit().stats().updates > 50);
    assert_eq!(whole.limit().limit(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_a_gate_of_a_pipeline() {
    let whole = fixed(2).partitions([("live", 0.5), ("batch", 0.5)]).unwrap();
    let guard =
        |name: &'static str| Pipeline::builder(name).gate(whole.partition(name)).unbounded().build().unwrap();
    let (live, batch) = (guard("live"), guard("batch"));
    let forever = |_| std::future::pending::<Result<(), CallError<()>>>();
    let (first, second) = (batch.clone(), batch.clone());
    let tasks = [
        tokio::spawn(async move { first.run(forever).await }),
        tokio::spawn(async move { second.run(forever).await }),
    ];
    tokio::task::yield_now().await;
    let refused = batch.run(forever).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().policy().as_str(), "l/batch");
    assert_eq!(live.run(|_| async { Ok::<_, CallError<()>>(7) }).await, Ok(7));
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    for task in tasks {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!(whole.limit().in_flight(), 0);
}

#[test]
fn shares_that_cannot_be_are_named() {
    let error = |shares: &[(&'static str, f64)]| {
        fixed(10).partitions(shares.iter().copied()).unwrap_err().to_string()
    };
    assert!(error(&[("a", f64::NAN)]).contains("a = NaN"));
    assert!(error(&[("a", 1.5)]).contains("a = 1.5"));
    assert!(error(&[("a", 0.6), ("b", 0.6)]).contains("1.2"));
    assert!(error(&[("a", 0.1), ("a", 0.1)]).contains("name of its own"));
    assert!(error(&[(UNKNOWN, 0.1)]).contains("name of its own"));
    assert!(error(&[]).contains("1 to 100"));
    let sixths = (0..6).map(|n| (format!("p{n}"), 1.0 / 6.0));
    assert!(fixed(10).partitions(sixths).is_ok(), "rounding is forgiven");
    assert_eq!(fixed(0).partitions([("a", 1.0)]).unwrap_err().field(), "initial");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever the order: a call is let in exactly if the limit or its own share has room, and books balance.
    #[test]
    fn a_call_is_let_in_exactly_if_the_limit_or_its_share_has_room(
        limit in 1..30_u32,
        share in 0..=100_u32,
        steps in prop::collection::vec((0..4_usize, any::<bool>()), 1..200),
    ) {
        let shares = [("a", f64::from(share) / 100.0), ("b", f64::from(100 - share) / 100.0)];
        let whole = fixed(limit).partitions(shares).unwrap();
        let parts: Vec<Partition> = (0..3).map(|index| whole.at(index)).collect();
        let mut inside: Vec<Vec<Pass<&Partition>>> = vec![vec![], vec![], vec![]];
        for (which, enters) in steps {
            let which = which % 3;
            let (total, mine) = (inside.iter().map(Vec::len).sum::<usize>(), inside[which].len());
            if enters {
                let room = total < limit as usize || mine < parts[which].limit() as usize;
                let pass = Pass::enter(&parts[which]);
                prop_assert_eq!(pass.is_ok(), room);
                inside[which].extend(pass);
            } else {
                inside[which].pop();
            }
            let total: usize = inside.iter().map(Vec::len).sum();
            prop_assert_eq!(whole.limit().in_flight() as usize, total);
            prop_assert_eq!(parts[which].in_flight() as usize, inside[which].len());
        }
    }
}

#[test]
fn no_share_is_lost_or_exceeded_between_threads() {
    let (whole, batch, live) = divided(4);
    std::thread::scope(|scope| {
        for partition in [&batch, &batch, &live, &live] {
            scope.spawn(move || {
                for _ in 0..20_000 {
                    let pass = Pass::enter(partition);
                    // Two threads of one call each: within their share of two or three, never refused.
                    assert!(pass.is_ok());
                }
            });
        }
    });
    assert_eq!((batch.in_flight(), live.in_flight(), whole.limit().in_flight()), (0, 0, 0));
    assert_eq!(batch.stats().admitted + live.stats().admitted, 80_000);
}

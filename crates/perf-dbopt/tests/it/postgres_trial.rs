//! Indexes on trial: measured, kept or taken back (B5.8, B5.9).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use crate::orders::{advice, applier, indexes, measure, policy, run, shop, yes};
use perf_dbopt::advise::Advice;
use perf_dbopt::postgres::{
    IndexApplier, IndexOutcome, JsonLines, Refusal, StatementsSnapshot, Trial, TrialOutcome, TrialPolicy,
    Verdict, VerifyPolicy, judge,
};
use sqlx::PgConnection;
use std::time::Duration;

#[tokio::test]
async fn b5_8_an_improvement_is_kept_and_a_planted_regression_is_taken_back() {
    let (server, mut conn) = shop().await;
    let before = measure(&mut conn, 40, 17).await;
    let advice = advice(&mut conn, "select sum(total) from orders where customer = $1 and status = $2").await;
    let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
    let after = measure(&mut conn, 40, 17).await;
    let scans: u64 = server
        .sql(&format!(
            "select coalesce(sum(idx_scan), 0) from pg_stat_user_indexes where indexrelname = '{}'",
            advice.create[0].name
        ))
        .await
        .unwrap()
        .parse()
        .unwrap();
    let verdict = judge(&before.baselines(), &after.baselines(), scans.max(1), VerifyPolicy::default());
    assert!(matches!(&verdict, Verdict::Improved(changes) if changes[0].ratio < 0.3), "{verdict:?}");

    // Now nearly all rows belong to one customer, but the planner does not know it yet and keeps the index.
    run(&mut conn, "update orders set customer = 17; set enable_seqscan = off; set enable_bitmapscan = off")
        .await;
    let skewed = measure(&mut conn, 40, 17).await;
    let verdict = judge(&before.baselines(), &skewed.baselines(), 40, VerifyPolicy::default());
    assert!(matches!(verdict, Verdict::Regressed(_)), "{verdict:?}");
    assert!(verdict.calls_for_revert());
    assert_eq!(applier().revert(&mut conn, &applied, &yes()).await.unwrap().len(), 1);
    assert_eq!(indexes(&server).await, "");
}

/// Calls of the shop's page, seen by the statistics at once.
async fn work(conn: &mut PgConnection, calls: usize) {
    for _ in 0..calls {
        run(conn, "select sum(total) from orders where customer = 17 and status = 'done'").await;
    }
    run(conn, "select pg_stat_force_next_flush()").await;
}

fn soon() -> TrialPolicy {
    let mut policy = TrialPolicy::default();
    policy.min_time = Duration::ZERO;
    policy.interval = Duration::from_millis(5);
    policy
}

/// The index of the shop's page on trial, after it was created and before anything was measured.
async fn on_trial(conn: &mut PgConnection, applier: &IndexApplier) -> (Advice, Trial) {
    let start = StatementsSnapshot::take(conn).await.unwrap();
    work(conn, 40).await;
    let before = StatementsSnapshot::take(conn).await.unwrap().since(&start);
    let advice = advice(conn, "select sum(total) from orders where customer = $1 and status = $2").await;
    let (applied, trial) = applier.begin(conn, &advice, &before, &yes()).await.unwrap();
    assert_eq!(trial.pending().collect::<Vec<_>>(), applied.created().collect::<Vec<_>>());
    assert_eq!(applied.created().count(), 1);
    (advice, trial)
}

#[tokio::test]
async fn b5_8_an_index_that_helps_ends_its_trial_and_stays() {
    let (server, mut conn) = shop().await;
    let applier = applier();
    let (advice, mut trial) = on_trial(&mut conn, &applier).await;
    let verdicts = applier.verify(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!(
        (verdicts[0].outcome, trial.is_over()),
        (None, false),
        "nothing was measured yet: {verdicts:?}"
    );
    work(&mut conn, 40).await;
    // The process was restarted: the trial goes on from what was kept of it.
    #[cfg(feature = "serde")]
    let mut trial: Trial = serde_json::from_str(&serde_json::to_string(&trial).unwrap()).unwrap();
    let verdicts = applier.watch(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!(verdicts[0].outcome, Some(TrialOutcome::Kept), "{verdicts:?}");
    assert!(matches!(verdicts[0].verdict, Verdict::Improved(_)));
    assert!(indexes(&server).await.starts_with(&advice.create[0].name));
}

#[tokio::test]
async fn b5_8_and_b5_9_a_planted_regression_is_found_reverted_and_not_built_again() {
    let (server, mut conn) = shop().await;
    let trail = std::env::temp_dir().join(format!("perf-dbopt-trial-{}", std::process::id()));
    let applier = applier().audit(JsonLines::new(&trail));
    let (advice, mut trial) = on_trial(&mut conn, &applier).await;
    // Nearly all rows now belong to one customer, and the planner's statistics are from before.
    run(&mut conn, "update orders set customer = 17; set enable_seqscan = off; set enable_bitmapscan = off")
        .await;
    work(&mut conn, 40).await;
    let verdicts = applier.watch(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!(verdicts[0].outcome, Some(TrialOutcome::Reverted), "{verdicts:?}");
    assert!(matches!(verdicts[0].verdict, Verdict::Regressed(_)));
    assert_eq!(indexes(&server).await, "");
    // B5.9: neither this process nor the next builds it again, until the time is over.
    let next = self::applier().audit(JsonLines::new(&trail));
    for applier in [&applier, &next] {
        let again = applier.apply(&mut conn, &advice, &yes()).await.unwrap();
        assert!(
            matches!(
                again.outcomes[0],
                IndexOutcome::Refused { refusal: Refusal::Suppressed { hours: 720 }, .. }
            ),
            "{again:?}"
        );
    }
    let mut forgetful = policy();
    forgetful.suppress = Duration::ZERO;
    let forgetful = IndexApplier::new(forgetful).unwrap().audit(JsonLines::new(&trail));
    assert_eq!(forgetful.apply(&mut conn, &advice, &yes()).await.unwrap().created().count(), 1);
    std::fs::remove_file(&trail).unwrap();
}

#[tokio::test]
async fn b5_8_a_reset_of_the_statistics_begins_the_measuring_anew() {
    let (_server, mut conn) = shop().await;
    let applier = applier();
    let (_, mut trial) = on_trial(&mut conn, &applier).await;
    work(&mut conn, 40).await;
    run(&mut conn, "select pg_stat_statements_reset()").await;
    work(&mut conn, 10).await;
    applier.verify(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert!(!trial.is_over(), "ten calls since the reset are no measurement");
    work(&mut conn, 40).await;
    assert_eq!(applier.watch(&mut conn, &mut trial, &soon(), &yes()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn b5_8_another_index_on_the_table_begins_the_measuring_anew() {
    let (_server, mut conn) = shop().await;
    let applier = applier();
    let (_, mut trial) = on_trial(&mut conn, &applier).await;
    work(&mut conn, 40).await;
    run(&mut conn, "create index by_status on orders (status)").await;
    let verdicts = applier.verify(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!(verdicts[0].verdict, Verdict::Undecided, "those calls had other plans to choose from");
    let mut senseless = soon();
    senseless.verify.min_calls = 0;
    let refused = applier.verify(&mut conn, &mut trial, &senseless, &yes()).await.unwrap_err();
    assert!(refused.to_string().contains("verify.min_calls = 0"), "{refused}");
    work(&mut conn, 40).await;
    assert_eq!(applier.watch(&mut conn, &mut trial, &soon(), &yes()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn b5_8_an_index_somebody_else_dropped_is_gone() {
    let (_server, mut conn) = shop().await;
    let applier = applier();
    let (advice, mut trial) = on_trial(&mut conn, &applier).await;
    run(&mut conn, &format!("drop index {}", advice.create[0].name)).await;
    let verdicts = applier.verify(&mut conn, &mut trial, &soon(), &yes()).await.unwrap();
    assert_eq!((verdicts[0].outcome, trial.is_over()), (Some(TrialOutcome::Gone), true));
}

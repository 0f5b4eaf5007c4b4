mod simulation;

use simulation::{Outcome, VARIANTS, run};

async fn outcome(variant: usize) -> Outcome {
    run(VARIANTS[variant], 42, 36).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_outage_ends_a_few_seconds_after_the_fault() {
    let found = outcome(0).await;
    assert!(
        found.in_fault < 0.25 && found.recovery.is_some_and(|seconds| (2..=10).contains(&seconds)),
        "{}: {found:?}",
        VARIANTS[0].name
    );
}

#[tokio::test(start_paused = true)]
async fn three_attempts_without_a_budget_make_the_outage_permanent() {
    let found = outcome(1).await;
    assert!(
        found.recovery.is_none() && found.after < 0.05 && found.amplification > 2.5,
        "{}: {found:?}",
        VARIANTS[1].name
    );
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_a_tenth_ends_it() {
    let found = outcome(2).await;
    assert!(
        found.recovery.is_some_and(|seconds| seconds <= 16) && found.amplification < 1.35,
        "{}: {found:?}",
        VARIANTS[2].name
    );
}

#[tokio::test(start_paused = true)]
async fn with_a_bound_and_the_newest_first_there_is_hardly_an_outage() {
    let found = outcome(3).await;
    assert!(
        found.in_fault >= 0.35 && found.recovery.is_some_and(|seconds| seconds <= 1),
        "{}: {found:?}",
        VARIANTS[3].name
    );
}

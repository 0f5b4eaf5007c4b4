mod simulation;

use simulation::{Outcome, VARIANTS, Variant, run};

async fn outcome(name: &str, seconds: usize) -> Outcome {
    let variant: Variant = *VARIANTS.iter().find(|variant| variant.name == name).unwrap();
    run(variant, 42, seconds.min(variant.seconds)).await.unwrap()
}

/// Bands of the table: goodput in the fault, seconds to recovery (`None` for never), and the largest amplification.
fn check(name: &str, found: Outcome, in_fault: (f64, f64), recovery: Option<(u32, u32)>, amplification: f64) {
    assert!((in_fault.0..=in_fault.1).contains(&found.in_fault), "{name}: {found:?}");
    let recovered = match (recovery, found.recovery) {
        (None, None) => true,
        (Some((from, to)), Some(seconds)) => (from..=to).contains(&seconds) && found.after > 0.2,
        _ => false,
    };
    assert!(recovered, "{name}: {found:?}");
    assert!(found.amplification <= amplification, "{name}: {found:?}");
}

macro_rules! row {
    ($test:ident, $name:literal, $seconds:literal, $in_fault:expr, $recovery:expr, $amplification:expr) => {
        #[tokio::test(start_paused = true)]
        async fn $test() {
            check($name, outcome($name, $seconds).await, $in_fault, $recovery, $amplification);
        }
    };
}

const STUCK: (f64, f64) = (0.0, 0.1);
const GOOD: (f64, f64) = (0.35, 0.5);

row!(
    without_retries_the_outage_ends_a_few_seconds_after_the_fault,
    "no retry",
    26,
    STUCK,
    Some((2, 8)),
    1.05
);
row!(three_attempts_without_a_budget_make_the_outage_permanent, "3 attempts", 26, STUCK, None, 3.2);
row!(a_budget_as_large_as_the_spare_capacity_hardly_ends_it, "+ budget 20 %", 30, STUCK, None, 1.4);
row!(a_budget_of_a_tenth_ends_it, "+ budget 10 %", 32, STUCK, Some((6, 16)), 1.3);
row!(a_server_that_knows_the_deadline_alone_does_not, "+ server knows deadline", 26, STUCK, None, 3.2);
row!(with_a_budget_it_does_at_once, "+ deadline, budget 10 %", 18, (0.02, 0.15), Some((0, 1)), 1.3);
row!(
    a_throttle_over_ten_seconds_takes_that_and_more,
    "+ throttle 10 s, unbounded",
    34,
    STUCK,
    Some((8, 18)),
    3.2
);
row!(and_capped_as_well, "+ throttle 10 s, <= 0.9", 34, STUCK, Some((8, 18)), 3.2);
row!(over_two_seconds_it_takes_few, "+ throttle 2 s, <= 0.9", 22, STUCK, Some((1, 6)), 3.0);
row!(a_breaker_ends_it_within_its_wait, "+ breaker", 20, STUCK, Some((1, 3)), 1.05);
row!(a_ramp_takes_its_time_on_top, "+ breaker, ramp 2 s", 22, STUCK, Some((3, 5)), 1.05);
row!(the_newest_first_keep_what_can_be_kept, "+ newest first", 18, GOOD, Some((0, 1)), 2.8);
row!(a_long_bound_ends_it_with_the_fault, "+ limit 60", 18, STUCK, Some((0, 1)), 3.2);
row!(a_short_bound_keeps_what_can_be_kept, "+ limit 20", 18, GOOD, Some((0, 1)), 3.0);
row!(
    by_default_a_third_gets_through_and_a_second_later_all_is_well,
    "default: limit 60, newest first, budget 10 %",
    18,
    GOOD,
    Some((0, 1)),
    1.3
);

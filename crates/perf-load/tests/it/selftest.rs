//! The self-test against the known servers, on whatever machine runs the tests.

use perf_load::SelfTest;
use std::time::Duration;

// L13. A machine that is busy with other tests delays answers; nothing makes them faster than the servers are.
#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_and_no_latency_is_flattered() {
    let result = SelfTest::run(Duration::from_secs(1)).await.unwrap();
    assert_eq!(result.checks.len(), 15, "{result}");
    for check in &result.checks {
        if check.tolerance == 0.0 {
            assert!(check.passed(), "{check:?}");
        } else {
            assert!(check.measured >= check.expected - check.tolerance, "{check:?}");
        }
    }
}

#[test]
fn a_wrong_number_fails_the_self_test() {
    let json = r#"{"checks":[{"case":"a","quantity":"p99","expected":20.0,"measured":6.0,"tolerance":2.0}]}"#;
    let result: SelfTest = serde_json::from_str(json).unwrap();
    assert!(!result.passed());
    assert!(result.to_string().contains("WRONG"));
}

//! Every interleaving of the breaker's state word and of the budget. Run with `RUSTFLAGS="--cfg perf_loom"`.

#![cfg(perf_loom)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use loom::thread;
use perf_core::{Outcome, time};
use perf_resilience::adaptive::{Adaptive, Method};
use perf_resilience::retry::{Cause, Tokens};
use perf_resilience::{Breaker, Budget, Gate, Leaving, Now};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[test]
fn b16_two_calls_racing_for_the_only_probe_make_one_transition() {
    loom::model(|| {
        let transitions = Arc::new(AtomicU32::new(0));
        let seen = transitions.clone();
        let breaker = Breaker::builder("b")
            .consecutive(1)
            .open_for(Duration::from_secs(1))
            .probes(1)
            .seed(1)
            .on_event(move |event| {
                let half_opened = matches!(event, perf_resilience::BreakerEvent::HalfOpened);
                seen.fetch_add(u32::from(half_opened), Ordering::Relaxed);
            })
            .build()
            .unwrap();
        let start = time::now();
        let now = Now::at(start);
        let token = Gate::enter(&breaker, &now).unwrap();
        breaker.leave(token, &Leaving::new(Outcome::Failure, &now));
        let later = start + Duration::from_secs(5);
        let other = breaker.clone();
        let racer = thread::spawn(move || Gate::enter(&other, &Now::at(later)).is_ok());
        let here = Gate::enter(&breaker, &Now::at(later)).is_ok();
        let there = racer.join().unwrap();
        assert!(here != there, "exactly one goes through");
        assert_eq!(transitions.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn b12_a_late_success_racing_with_the_opening_changes_nothing_after_it() {
    loom::model(|| {
        let breaker = Breaker::builder("b").consecutive(1).seed(1).build().unwrap();
        let now = Now::at(time::now());
        let bad = Gate::enter(&breaker, &now).unwrap();
        let good = Gate::enter(&breaker, &now).unwrap();
        let other = breaker.clone();
        let at = now.get();
        let racer = thread::spawn(move || other.leave(good, &Leaving::new(Outcome::Success, &Now::at(at))));
        breaker.leave(bad, &Leaving::new(Outcome::Failure, &now));
        racer.join().unwrap();
        assert_eq!(breaker.state(), perf_resilience::BreakerState::Open);
    });
}

#[test]
fn r05_withdrawals_never_exceed_deposits() {
    loom::model(|| {
        let budget = Budget::builder("b").ratio(0.5).min_per_sec(0).build().unwrap();
        budget.deposit();
        let now = time::now();
        let other = budget.clone();
        let racer = thread::spawn(move || {
            other.deposit();
            u32::from(other.withdraw(now))
        });
        budget.deposit();
        let paid = u32::from(budget.withdraw(now)) + racer.join().unwrap();
        // Three halves paid for one call at most, and the rest is still there.
        assert!(paid <= 1);
        assert!((f64::from(paid) + budget.balance() - 1.5).abs() < 1e-9);
    });
}

#[test]
fn r05_two_calls_racing_for_the_only_place_of_an_extra_one_leave_nothing_behind() {
    loom::model(|| {
        let budget = Budget::builder("b").in_flight(0.5, 0).build().unwrap();
        let now = time::now();
        let mut here = budget.open();
        let mut there = budget.open();
        let there_paid = {
            let other = budget.clone();
            // A third call comes and goes meanwhile; two of three and two of two both allow one.
            let racer = thread::spawn(move || drop(other.open()));
            let paid = here.withdraw(Cause::Failure, now);
            assert!(paid, "half of two or three is one");
            let there_paid = there.withdraw(Cause::Hedge, now);
            racer.join().unwrap();
            there_paid
        };
        assert!(!there_paid, "and never two");
        here.release();
        assert!(there.withdraw(Cause::Failure, now));
        drop((here, there));
        let _two = (budget.open(), budget.open());
        assert!((budget.balance() - 1.0).abs() < 1e-9);
    });
}

#[test]
fn r05_of_two_threads_that_want_the_only_place_one_gets_it() {
    loom::model(|| {
        let budget = Budget::builder("b").in_flight(0.0, 1).build().unwrap();
        let now = time::now();
        let other = budget.clone();
        let racer = thread::spawn(move || {
            let mut call = other.open();
            let paid = call.withdraw(Cause::Failure, now);
            // Held for ever, so that the other thread finds it taken.
            if paid {
                std::mem::forget(call);
            }
            paid
        });
        let mut call = budget.open();
        let here = call.withdraw(Cause::Hedge, now);
        if here {
            std::mem::forget(call);
        }
        assert!(here != racer.join().unwrap(), "exactly one");
        assert!(budget.balance().abs() < 1e-9);
    });
}

#[test]
fn r05_tokens_taken_drained_and_refunded_at_once_add_up() {
    loom::model(|| {
        let budget = Budget::builder("b").tokens(Tokens::grpc()).build().unwrap();
        let other = budget.clone();
        let racer = thread::spawn(move || other.open().failed(Outcome::Failure));
        let mut call = budget.open();
        call.failed(Outcome::Failure);
        call.succeeded();
        racer.join().unwrap();
        assert!((budget.balance() - 8.1).abs() < 1e-9, "ten, less two, and a tenth: {}", budget.balance());
    });
}

#[test]
fn l08_a_share_is_safe_while_others_borrow() {
    loom::model(|| {
        let limit = Adaptive::builder("l").method(Method::Fixed).min(1).initial(2);
        let whole = limit.partitions([("a", 0.5), ("b", 0.5)]).unwrap();
        let (a, b) = (whole.partition("a"), whole.partition("b"));
        let racer = thread::spawn(move || {
            let now = Now::at(time::now());
            // Its own place, and one that is borrowed if there is room.
            let own = a.enter(&now).unwrap();
            if let Ok(borrowed) = a.enter(&now) {
                a.leave(borrowed, &Leaving::new(Outcome::Cancelled, &now));
            }
            a.leave(own, &Leaving::new(Outcome::Cancelled, &now));
        });
        let now = Now::at(time::now());
        let own = b.enter(&now).unwrap();
        assert_eq!(b.in_flight(), 1);
        b.leave(own, &Leaving::new(Outcome::Cancelled, &now));
        racer.join().unwrap();
        assert_eq!((whole.limit().in_flight(), b.in_flight(), whole.partition("a").in_flight()), (0, 0, 0));
    });
}

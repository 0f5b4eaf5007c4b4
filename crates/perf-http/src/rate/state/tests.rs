use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

const SECOND: Duration = Duration::from_secs(1);

fn limit(quota: Quota) -> RateLimit {
    RateLimit::builder("test").quota(quota).max_keys(1000).build().unwrap()
}

fn client(n: u8) -> RateKey {
    RateKey::address(IpAddr::from([192, 0, 2, n]))
}

#[test]
fn the_burst_is_exact_and_comes_back_unit_by_unit() {
    let limit = limit(Quota::per_second(10).burst(3));
    let start = time::now();
    for left in [2, 1, 0] {
        let decision = limit.check(client(1), 1, start);
        assert_eq!((decision.is_allowed(), decision.remaining()), (true, left));
    }
    let early = start + Duration::from_millis(100) - Duration::from_nanos(1);
    let refused = limit.check(client(1), 1, early);
    assert_eq!((refused.is_allowed(), refused.wait()), (false, Duration::from_nanos(1)));
    assert!(limit.check(client(1), 1, start + Duration::from_millis(100)).is_allowed());
    assert!(!limit.check(client(1), 1, start + Duration::from_millis(100)).is_allowed());
}

#[test]
fn clients_do_not_share_a_bucket() {
    let limit = limit(Quota::per_minute(1));
    let now = time::now();
    assert!(limit.check(client(1), 1, now).is_allowed() && limit.check(client(2), 1, now).is_allowed());
    assert!(!limit.check(client(1), 1, now).is_allowed());
}

#[test]
fn a_refusal_costs_nothing_in_any_quota() {
    let quotas =
        RateLimit::builder("two").quota(Quota::per_second(100)).quota(Quota::per_hour(2).named("hour"));
    let limit = quotas.build().unwrap();
    let now = time::now();
    assert!(limit.check(client(1), 2, now).is_allowed());
    for _ in 0..500 {
        assert!(!limit.check(client(1), 1, now).is_allowed());
    }
    let refused = limit.check(client(1), 1, now);
    assert_eq!(limit.quota(&refused).name, "hour");
    assert_eq!(refused.wait(), Duration::from_secs(1800));
    let arrivals = limit.0.table.with(client(1).0, 1, |arrivals| arrivals.to_vec()).0;
    assert!(arrivals[0] < 1_000_000_000, "98 of 100 units are left: {arrivals:?}");
}

#[test]
fn a_cost_beyond_the_burst_never_passes_and_one_of_nothing_always_does() {
    let limit = limit(Quota::per_second(5));
    let now = time::now();
    assert!(!limit.check(client(1), 6, now + SECOND * 60).is_allowed());
    assert!(limit.check(client(1), 5, now + SECOND * 60).is_allowed());
    assert!(limit.check(client(1), 0, now + SECOND * 60).is_allowed());
    assert!(!limit.check(client(1), u32::MAX, now).is_allowed());
}

#[test]
fn eight_threads_get_exactly_the_burst() {
    let limit = limit(Quota::per_hour(1000));
    let now = time::now();
    let admitted = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    admitted
                        .fetch_add(u32::from(limit.check(client(1), 1, now).is_allowed()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 1000);
    assert_eq!((limit.stats().allowed, limit.stats().refused), (1000, 7000));
}

#[test]
fn a_hundred_thousand_strangers_do_not_free_a_limited_client() {
    let limit = limit(Quota::per_minute(2));
    let now = time::now();
    assert!(limit.check(client(1), 2, now).is_allowed());
    for n in 0..100_000_u32 {
        // Each stranger uses one of two units: nearer to a full bucket than the limited client.
        let stranger = RateKey::address(IpAddr::from(std::net::Ipv4Addr::from_bits(0x0A00_0000 + n)));
        assert!(limit.check(stranger, 1, now).is_allowed());
    }
    assert!(!limit.check(client(1), 1, now).is_allowed());
    assert!(limit.stats().evicted > 0);
}

#[test]
fn an_ipv6_network_is_one_client() {
    let key = |text: &str| RateKey::address(text.parse().unwrap());
    assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::9"));
    assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    assert_eq!(key("::ffff:192.0.2.1"), client(1));
}

#[test]
fn settings_out_of_range_are_named() {
    let field = |builder: RateLimitBuilder| builder.build().unwrap_err().field().to_owned();
    let builder = || RateLimit::builder("test");
    assert_eq!(field(builder()), "quotas");
    assert_eq!(field(builder().quota(Quota::per_second(0))), "quotas.default.count");
    assert_eq!(field(builder().quota(Quota::per_second(1).burst(0))), "quotas.default.burst");
    assert_eq!(field(builder().quota(Quota::per_second(1).named("a\"b"))), "quotas.a\"b.name");
    assert_eq!(field(builder().quota(Quota::new(1, Duration::ZERO))), "quotas.default.per");
    assert_eq!(field(builder().quota(Quota::per_second(1)).max_keys(0)), "max_keys");
    assert_eq!(field((0..5).fold(builder(), |b, _| b.quota(Quota::per_second(1)))), "quotas");
}

/// The oracle: a bucket of nano-units that fills continuously.
struct Bucket {
    nanos: u64,
    at: u64,
}

proptest! {
    #[test]
    fn decisions_are_those_of_a_leaky_bucket(
        count in 1..50_u32,
        burst in 1..20_u32,
        steps in prop::collection::vec((0..400_000_000_u64, 0..4_u32), 1..200),
    ) {
        let quota = Quota::per_second(count).burst(burst);
        let (per_unit, to_fill) = (quota.nanos_per_unit(), quota.nanos_to_fill());
        let limit = limit(quota);
        let start = limit.0.epoch;
        let mut bucket = Bucket { nanos: to_fill, at: 0 };
        let mut at = 0;
        for (gap, cost) in steps {
            at += gap;
            bucket.nanos = (bucket.nanos + (at - bucket.at)).min(to_fill);
            bucket.at = at;
            let needed = per_unit * u64::from(cost);
            let decision = limit.check(client(7), cost, start + Duration::from_nanos(at));
            prop_assert_eq!(decision.is_allowed(), needed <= bucket.nanos);
            if decision.is_allowed() {
                bucket.nanos -= needed;
            } else {
                prop_assert_eq!(decision.wait(), Duration::from_nanos(needed - bucket.nanos));
            }
            prop_assert_eq!(u64::from(decision.remaining()), bucket.nanos / per_unit);
        }
    }
}

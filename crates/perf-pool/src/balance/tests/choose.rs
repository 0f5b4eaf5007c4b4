use super::{call, chosen, eject, id_of, name, names, state, take_out};
use crate::balance::choose::Wish;
use crate::balance::health::Hysteresis;
use crate::balance::state::State;
use crate::balance::*;
use perf_core::Rng;
use perf_core::time::Duration;
use std::collections::BTreeSet;

#[test]
fn s3_traffic_spills_over_to_the_next_group_as_in_envoys_table() {
    let shares = |groups: &[(usize, usize)]| -> Vec<i64> {
        spill(groups).iter().map(|share| (share * 100.0).round() as i64).collect()
    };
    assert_eq!(shares(&[(100, 100), (100, 100)]), [100, 0]);
    assert_eq!(shares(&[(72, 100), (100, 100)]), [100, 0]);
    assert_eq!(shares(&[(71, 100), (100, 100)]), [99, 1]);
    assert_eq!(shares(&[(50, 100), (100, 100)]), [70, 30]);
    assert_eq!(shares(&[(25, 100), (100, 100)]), [35, 65]);
    assert_eq!(shares(&[(0, 100), (100, 100)]), [0, 100]);
    assert_eq!(shares(&[(25, 100), (25, 100)]), [50, 50], "together less than all: in proportion");
    assert_eq!(shares(&[(5, 100), (20, 100)]), [20, 80]);
    assert_eq!(shares(&[(0, 100), (0, 100)]), Vec::<i64>::new());
}

#[test]
fn s3_probes_need_several_in_a_row_to_change_anything() {
    let mut health = Hysteresis::new(2, 3);
    for good in [false, false, true, false, false] {
        assert!(!health.probed(good) && health.is_up());
    }
    assert!(health.probed(false) && !health.is_up(), "the third in a row");
    assert!(!health.probed(true) && !health.probed(false) && !health.probed(true));
    assert!(health.probed(true) && health.is_up());
}

#[test]
fn s3_a_higher_group_is_used_only_as_the_lower_one_fails() {
    let endpoints = vec![Endpoint::new("near"), Endpoint::new("far").priority(1)];
    let (mut state, now) = state(endpoints, BalanceConfig::default());
    assert_eq!(chosen(&mut state, Wish::default(), now), names(["near"]));
    take_out(&mut state, "near", now);
    assert_eq!(chosen(&mut state, Wish::default(), now), names(["far"]));
    take_out(&mut state, "far", now);
    assert_eq!(chosen(&mut state, Wish::default(), now), names(["near"]), "all are down: the first group");
    assert!(state.panicked >= 10);
}

#[test]
fn s3_writes_go_to_writers_and_reads_to_readers_while_there_are_any() {
    let endpoints = vec![
        Endpoint::new("w").role(Role::Writer),
        Endpoint::new("r1").role(Role::Reader),
        Endpoint::new("r2").role(Role::Reader),
    ];
    let (mut state, now) = state(endpoints, BalanceConfig::default());
    let (write, read) = (
        Wish { role: Some(Role::Writer), ..Wish::default() },
        Wish { role: Some(Role::Reader), ..Wish::default() },
    );
    assert_eq!(chosen(&mut state, write, now), names(["w"]));
    assert_eq!(chosen(&mut state, read, now), names(["r1", "r2"]));
    take_out(&mut state, "r1", now);
    assert_eq!(chosen(&mut state, read, now), names(["r2"]));
    take_out(&mut state, "r2", now);
    assert_eq!(chosen(&mut state, read, now), names(["w"]), "better a writer than nobody");
    // The writer was demoted and a replica promoted.
    let id = state.known[0].id;
    assert!(state.demote(id) && !state.demote(id), "told once");
    assert!(chosen(&mut state, write, now).is_empty(), "nobody is known to take writes");
    let id = state.known[1].id;
    assert_eq!(state.probed(id, Some(Some(Role::Writer)), now).role, Some(Role::Writer));
    assert_eq!(chosen(&mut state, write, now), names(["r1"]));
}

#[test]
fn s3_when_too_few_are_well_ejection_means_nothing_and_when_all_are_out_they_are_forgiven() {
    let mut config = BalanceConfig::default();
    config.ejector.most = 1.0;
    let (mut state, now) = state((0..4).map(|n| Endpoint::new(n.to_string())).collect(), config);
    let twenty = |state: &mut State| -> BTreeSet<String> {
        (0..2).flat_map(|_| chosen(state, Wish::default(), now)).collect()
    };
    assert!(eject(&mut state, "0", now) && eject(&mut state, "1", now));
    assert_eq!(twenty(&mut state), names(["2", "3"]), "half are out, which is not more than half");
    assert_eq!(state.panicked, 0);
    assert!(eject(&mut state, "2", now));
    assert_eq!(twenty(&mut state), names(["0", "1", "2", "3"]), "three of four are out: all are used again");
    assert_eq!(state.panicked, 20);
    assert!((0..3).all(|index| state.ejector.is_out(index)), "that did well meanwhile, but not as a probe");
    assert!(eject(&mut state, "3", now));
    chosen(&mut state, Wish::default(), now);
    assert!((0..4).all(|index| !state.ejector.is_out(index)), "all were out: the list was cleared");
}

#[test]
fn s3_the_list_may_change_and_what_is_known_stays() {
    let endpoints = |names: &[&str]| names.iter().map(|name| Endpoint::new(*name)).collect::<Vec<_>>();
    let (mut state, now) = state(endpoints(&["a", "b", "c"]), BalanceConfig::default());
    assert!(eject(&mut state, "b", now));
    let change = state.set(endpoints(&["c", "d", "b", "b"]), now + Duration::from_secs(60));
    assert_eq!((change.joined.len(), change.left.len(), state.known.len()), (1, 1, 3));
    assert!(state.ejector.is_out(2) && !state.ejector.is_out(0), "b is out wherever it stands");
    let views = state.views(now + Duration::from_secs(60));
    assert_eq!(
        (views[0].weight, views[1].weight),
        (1.0, 0.1),
        "the newcomer starts slowly, those there do not"
    );
    let views = state.views(now + Duration::from_secs(75));
    assert_eq!(views[1].weight, 0.5);
}

#[test]
fn s3_an_instance_uses_its_subset() {
    let all: Vec<Endpoint> = (0..50).map(|n| Endpoint::new(n.to_string())).collect();
    let config = BalanceConfig { subset: Some(8), ..BalanceConfig::default() };
    let (mut state, now) = state(all.clone(), config);
    assert_eq!(state.known.len(), 8);
    let gone = state.known[3].endpoint.name().to_owned();
    let change = state.set(all.into_iter().filter(|endpoint| endpoint.name() != gone).collect(), now);
    assert_eq!((change.joined.len(), change.left.len()), (1, 1), "one for the one that left");
}

#[test]
fn s3_equal_keys_meet_the_same_endpoint_and_its_absence_moves_only_its_own() {
    let (mut state, now) =
        state((0..5).map(|n| Endpoint::new(n.to_string())).collect(), BalanceConfig::default());
    let owner = |state: &mut State, key: u64| {
        let wish = Wish { key: Some(rank("key", key)), ..Wish::default() };
        chosen(state, wish, now)
    };
    let before: Vec<_> = (0..200).map(|key| owner(&mut state, key)).collect();
    assert!(before.iter().all(|owners| owners.len() == 1));
    take_out(&mut state, "2", now);
    let two = names(["2"]);
    for (key, before) in before.iter().enumerate() {
        let after = owner(&mut state, key as u64);
        assert!(if *before == two { after != two } else { after == *before }, "key {key}");
    }
}

#[test]
fn bad_balance_configuration_is_named() {
    let bad = |change: fn(&mut BalanceConfig)| {
        let mut config = BalanceConfig::default();
        change(&mut config);
        config.validate().unwrap_err().field().to_owned()
    };
    assert_eq!(bad(|config| config.subset = Some(0)), "subset");
    assert_eq!(bad(|config| config.tries = 0), "tries");
    assert_eq!(bad(|config| config.fall = 0), "fall");
    assert_eq!(bad(|config| config.slow_start_least = 2.0), "slow_start_least");
    assert_eq!(bad(|config| config.probe_timeout = Duration::ZERO), "probe_timeout");
    assert_eq!(bad(|config| config.ejector.most = 7.0), "ejector.most");
    assert_eq!(bad(|config| config.ejector.consecutive = 0), "ejector.consecutive");
}

#[test]
fn s3_recovery_by_probes_is_followed_by_a_slow_start() {
    let list = ["a", "b"].map(Endpoint::new).to_vec();
    let (mut state, now) = state(list, BalanceConfig::default());
    let b = id_of(&state, "b");
    let weight = |state: &State, after| state.views(now + Duration::from_secs(after))[1].weight;
    assert_eq!(weight(&state, 0), 1.0, "there from the start");
    take_out(&mut state, "b", now);
    let up = now + Duration::from_secs(60);
    assert!((0..2).any(|_| state.probed(b, Some(None), up).health == Some(true)));
    assert_eq!([60, 75, 90].map(|after| weight(&state, after)), [0.1, 0.5, 1.0]);
}

#[test]
fn s3_recovery_by_a_call_is_followed_by_a_slow_start() {
    let list = ["a", "b"].map(Endpoint::new).to_vec();
    let (mut state, now) = state(list, BalanceConfig::default());
    assert!(eject(&mut state, "b", now));
    let back = now + Duration::from_secs(40);
    let probe = state.choose(Wish::default(), &RandomPick, back).unwrap();
    assert_eq!((name(&state, probe), probe.probe), ("b".to_owned(), true));
    let other = state.choose(Wish::default(), &RandomPick, back).unwrap();
    assert_eq!(
        (name(&state, other), other.probe),
        ("a".to_owned(), false),
        "one call finds out, not all of them"
    );
    state.finish(probe, Duration::from_millis(1), Some(true), back);
    let weight = |after| state.views(now + Duration::from_secs(after))[1].weight;
    assert_eq!([40, 55, 70].map(weight), [0.1, 0.5, 1.0]);
}

#[test]
fn s3_only_the_probe_itself_decides_on_a_return() {
    let list = ["a", "b"].map(Endpoint::new).to_vec();
    let (mut state, now) = state(list, BalanceConfig::default());
    let early = call(id_of(&state, "b"));
    assert!(eject(&mut state, "b", now));
    let back = now + Duration::from_secs(30);
    let probe = state.choose(Wish::default(), &RandomPick, back).unwrap();
    assert!(probe.probe);
    // Calls that began before the ejection end while the probe is under way: well, badly, and without a word.
    for outcome in [Some(true), Some(false), None] {
        state.finish(early, Duration::from_secs(30), outcome, back);
        assert!(state.ejector.is_out(1), "{outcome:?}");
        assert!(!state.choose(Wish::default(), &RandomPick, back).unwrap().probe, "{outcome:?}");
    }
    state.finish(probe, Duration::from_millis(1), None, back);
    let next = state.choose(Wish::default(), &RandomPick, back).unwrap();
    assert!(next.probe, "the caller of the first one went away without an answer");
    state.finish(next, Duration::from_millis(1), Some(true), back);
    assert!(!state.ejector.is_out(1));
}

#[test]
fn s3_one_whose_place_another_group_has_taken_comes_back() {
    let list = vec![Endpoint::new("near"), Endpoint::new("far").priority(1)];
    let (mut state, now) = state(list, BalanceConfig::default());
    assert!(eject(&mut state, "near", now));
    assert_eq!(chosen(&mut state, Wish::default(), now), names(["far"]));
    let back = now + Duration::from_secs(30);
    assert_eq!(chosen(&mut state, Wish::default(), back), names(["near"]), "by its probe, and then for good");
    assert!(eject(&mut state, "far", back));
    let later = back + Duration::from_secs(30);
    assert_eq!(
        chosen(&mut state, Wish::default(), later),
        names(["near"]),
        "a lower group is not tried meanwhile"
    );
}

#[test]
fn s3_a_reader_whose_place_the_writer_has_taken_comes_back() {
    let list = vec![Endpoint::new("w").role(Role::Writer), Endpoint::new("r").role(Role::Reader)];
    let (mut state, now) = state(list, BalanceConfig::default());
    let read = Wish { role: Some(Role::Reader), ..Wish::default() };
    assert!(eject(&mut state, "r", now));
    assert_eq!(chosen(&mut state, read, now), names(["w"]));
    let back = now + Duration::from_secs(30);
    let write = Wish { role: Some(Role::Writer), ..Wish::default() };
    assert_eq!(chosen(&mut state, write, back), names(["w"]), "a write finds out nothing about a reader");
    assert_eq!(chosen(&mut state, read, back), names(["r"]));
}

#[test]
fn s3_a_key_does_not_probe_what_it_does_not_belong_to() {
    let (mut state, now) = state(["a", "b", "c"].map(Endpoint::new).to_vec(), BalanceConfig::default());
    let of = |state: &mut State, key: u64, now| {
        chosen(state, Wish { key: Some(rank("key", key)), ..Wish::default() }, now)
    };
    let key_of = |state: &mut State, owner| (0..).find(|key| of(state, *key, now) == names([owner])).unwrap();
    let (a, b) = (key_of(&mut state, "a"), key_of(&mut state, "b"));
    assert!(eject(&mut state, "a", now));
    let back = now + Duration::from_secs(30);
    assert_eq!(of(&mut state, b, back), names(["b"]));
    assert_eq!(of(&mut state, a, back), names(["a"]));
}

/// Finagle's "balance evenly between nonhealthy services": 4,000 picks among four that are all down, each a chance of one in
/// four, so that three standard deviations are 3 × √(4,000 × 0.25 × 0.75) = 82.
#[test]
fn s3_when_all_are_down_the_load_is_spread_evenly_over_them() {
    let balances: [Box<dyn Balance>; 4] = [
        Box::new(P2c::default()),
        Box::new(LeastLoaded::default()),
        Box::new(RandomPick),
        Box::new(RoundRobin::default()),
    ];
    for (which, balance) in balances.iter().enumerate() {
        let (mut state, now) =
            state((0..4).map(|n| Endpoint::new(n.to_string())).collect(), BalanceConfig::default());
        (0..4).for_each(|n| take_out(&mut state, &n.to_string(), now));
        let mut counts = [0_i32; 4];
        for _ in 0..4_000 {
            let call = state.choose(Wish::default(), &**balance, now).unwrap();
            counts[name(&state, call).parse::<usize>().unwrap()] += 1;
            state.finish(call, Duration::from_millis(1), Some(true), now);
        }
        assert!(counts.iter().all(|count| (count - 1_000).abs() <= 82), "{which}: {counts:?}");
        assert_eq!(state.panicked, 4_000);
    }
}

/// A call that ends after an interval is over belongs to the next one, whether or not somebody has been choosing meanwhile.
#[test]
fn s3_sweeps_keep_their_time_without_callers() {
    let mut config = BalanceConfig::default();
    config.ejector.consecutive = 1_000;
    let (mut state, now) = state(["a", "b"].map(Endpoint::new).to_vec(), config);
    let a = call(id_of(&state, "a"));
    let fail = |state: &mut State, calls: usize, at: u64| {
        let at = now + Duration::from_secs(at);
        let swept = state.sweep(at);
        (0..calls).for_each(|_| assert!(!state.finish(a, Duration::ZERO, Some(false), at)));
        swept
    };
    assert_eq!(fail(&mut state, 49, 9), [0; 0]);
    assert_eq!(fail(&mut state, 49, 19), [0; 0], "forty-nine of the first interval are too few");
    assert_eq!(fail(&mut state, 50, 29), [0; 0], "and as many of the second");
    assert_eq!(fail(&mut state, 0, 39), [a.id], "fifty are not");
    assert_eq!(state.ejections, 1);
}

#[test]
fn s3_any_seed_gives_instances_different_subsets() {
    let all: Vec<Endpoint> = (0..50).map(|n| Endpoint::new(n.to_string())).collect();
    let config = BalanceConfig { subset: Some(8), ..BalanceConfig::default() };
    let own = |seed| {
        let now = perf_core::time::now();
        let mut state = State::new(config.clone(), Rng::seeded(seed), now);
        state.set(all.clone(), now);
        state.known.iter().map(|known| known.endpoint.name().to_owned()).collect::<BTreeSet<_>>()
    };
    let distinct: BTreeSet<_> = (0..20).map(own).collect();
    assert_eq!(distinct.len(), 20);
    let used: BTreeSet<_> = distinct.iter().flatten().collect();
    assert!(used.len() > 40, "together they use nearly all: {}", used.len());
}

/// What a caller asks for who has tried these.
fn tried(tried: &[u64]) -> Wish<'_> {
    Wish { tried, ..Wish::default() }
}

#[test]
fn who_has_tried_an_endpoint_gets_another_and_forgives_nobody() {
    let (mut state, now) = state(["a", "b", "c"].map(Endpoint::new).to_vec(), BalanceConfig::default());
    let (a, b, c) = (id_of(&state, "a"), id_of(&state, "b"), id_of(&state, "c"));
    assert!(eject(&mut state, "c", now));
    assert_eq!(chosen(&mut state, tried(&[a]), now), names(["b"]));
    let available = state.choose_available(tried(&[a, b]), &RandomPick, now);
    assert_eq!(available, None, "c is out: no place for one who has a place to wait");
    let last = state.choose(tried(&[a, b]), &RandomPick, now).unwrap();
    assert_eq!((last.id, last.available), (c, false), "but better than none");
    assert!(state.ejector.is_out(2), "one caller's bad luck is no reason to forgive");
    assert_eq!(state.choose(tried(&[a, b, c]), &RandomPick, now), None);
    let writer = Wish { role: Some(Role::Writer), tried: &[a, b, c], ..Wish::default() };
    assert_eq!(state.choose(writer, &RandomPick, now), None);
}

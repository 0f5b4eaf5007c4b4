use super::*;
use crate::entry::{Draft, Lives};
use proptest::prelude::*;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Duration;

fn entry(key: u64, value: u64, life: Duration) -> Arc<Entry<u64, u64>> {
    let draft = Draft {
        hash: hash(key),
        key,
        value: Some(value),
        tags: Box::default(),
        weight: 1,
        etag: None,
        priority: crate::Priority::Normal,
        as_of: 0,
    };
    let lives = Lives { fresh: life, refresh: life, stale: Duration::ZERO, error: Duration::ZERO };
    Arc::new(Entry::new(draft, lives, tick()))
}

/// Few different hashes, so that keys collide in the table and in the probes.
fn hash(key: u64) -> u64 {
    foldhash::quality::FixedState::default().hash_one(key % 97)
}

fn get(engine: &Adaptive<u64, u64>, key: u64) -> Option<Held<u64, u64>> {
    crate::engine::with_lane(|lane| engine.get(lane, hash(key), &key))
}

fn value(engine: &Adaptive<u64, u64>, key: u64) -> Option<u64> {
    get(engine, key).and_then(|held| held.value)
}

proptest! {
    /// The oracle is a map; with room for everything the engine is one too, whatever collides.
    #[test]
    fn with_room_for_all_it_is_a_map(ops in prop::collection::vec((0..300_u64, 0..4_u8, any::<u64>()), 1..600)) {
        let engine = Adaptive::new(1000, 1, None);
        let mut map = HashMap::new();
        for (key, op, new) in ops {
            match op {
                0 => {
                    let removed = value(&engine, key);
                    drop(engine.remove(hash(key), &key));
                    prop_assert_eq!(removed, map.remove(&key));
                    prop_assert_eq!(value(&engine, key), None);
                }
                1 => prop_assert_eq!(value(&engine, key), map.get(&key).copied()),
                _ => {
                    drop(engine.insert(entry(key, new, Duration::MAX)));
                    map.insert(key, new);
                }
            }
            prop_assert_eq!(engine.len(), map.len() as u64);
        }
        for key in 0..300 {
            prop_assert_eq!(value(&engine, key), map.get(&key).copied());
        }
        drop(engine.clear());
        prop_assert_eq!((engine.len(), engine.weight()), (0, 0));
    }
}

#[test]
fn readers_see_what_is_there_while_writers_move_it() {
    let engine = Adaptive::new(4096, 1, None);
    // Keys below 64 stay; the others come and go, which moves entries and grows the table.
    (0..64).for_each(|key| drop(engine.insert(entry(key, key, Duration::MAX))));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    (0..64).for_each(|key| assert_eq!(value(&engine, key), Some(key)));
                }
            });
        }
        for round in 0..60_u64 {
            (64..400).for_each(|key| drop(engine.insert(entry(key, round, Duration::MAX))));
            (64..400).for_each(|key| drop(engine.remove(hash(key), &key)));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[tokio::test(start_paused = true)]
async fn dead_entries_are_dropped_by_later_insertions() {
    let engine = Adaptive::new(1000, 1, None);
    (0..20).for_each(|key| drop(engine.insert(entry(key, key, Duration::from_secs(5)))));
    tokio::time::sleep(Duration::from_secs(10)).await;
    (100..104).for_each(|key| drop(engine.insert(entry(key, key, Duration::MAX))));
    assert_eq!((engine.len(), engine.expired()), (4, 20));
}

#[test]
fn more_than_fits_is_evicted_and_counted() {
    let engine = Adaptive::new(100, 1, None);
    (0..500).for_each(|key| drop(engine.insert(entry(key, key, Duration::MAX))));
    assert_eq!((engine.len(), engine.weight(), engine.evicted()), (100, 100, 400));
}

#[test]
fn every_value_is_dropped_once_the_engine_and_its_readers_are_gone() {
    let engine = Adaptive::new(1000, 4, None);
    let entries: Vec<_> = (0..300).map(|key| entry(key, key, Duration::MAX)).collect();
    entries.iter().for_each(|entry| drop(engine.insert(Arc::clone(entry))));
    let held: Vec<_> = (0..300).filter_map(|key| get(&engine, key)).collect();
    assert_eq!(held.len(), 300);
    drop(engine);
    drop(held);
    crate::engine::held::sweep_abandoned();
    assert!(entries.iter().all(|entry| Arc::strong_count(entry) == 1));
}

#[tokio::test(start_paused = true)]
async fn a_listener_is_told_of_each_entry_that_goes_once_and_why() {
    let told = Arc::new(Mutex::new(HashMap::new()));
    let counts = Arc::clone(&told);
    let listener = move |_: &u64, value: Option<&u64>, cause: Cause| {
        assert!(value.is_some());
        *counts.lock().unwrap().entry(cause).or_insert(0) += 1;
    };
    let engine = Adaptive::new(100, 1, Some(Arc::new(listener)));
    (0..300).for_each(|key| drop(engine.insert(entry(key, key, Duration::from_secs(5)))));
    let held = (0..300).find(|&key| value(&engine, key).is_some()).unwrap();
    drop(engine.insert(entry(held, 1, Duration::from_secs(5))));
    drop(engine.remove(hash(held), &held));
    tokio::time::sleep(Duration::from_secs(100)).await;
    // Each insertion drops a few of what has ended, and the hundred fit beside each other.
    (1000..1090).for_each(|key| drop(engine.insert(entry(key, key, Duration::MAX))));
    drop(engine.clear());
    let of = |cause| told.lock().unwrap().get(&cause).copied().unwrap_or(0);
    assert_eq!((of(Cause::Room), of(Cause::Replaced), of(Cause::Expired)), (200, 1, 99));
    assert_eq!(of(Cause::Invalidated), 1 + 90);
}

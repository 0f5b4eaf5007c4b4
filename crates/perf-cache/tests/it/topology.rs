//! Journeys with more than one Redis: Sentinel fails over, a Cluster moves slots and loses a master.

use perf_cache::{Cache, CacheSpace, Entries, Postcard, RedisConfig};
use perf_core::time;
use perf_testkit::{RedisCluster, RedisReply, RedisSentinel};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn node(config: &RedisConfig) -> (CacheSpace, Cache<u64, String>) {
    let space = CacheSpace::builder("shop")
        .redis(config.clone())
        // A busy machine and three servers: whether it works is asked here, not how fast.
        .store_timeout(Duration::from_secs(1))
        .build()
        .await
        .unwrap();
    assert!(space.coherent(Duration::from_secs(20)).await);
    let cache = space.cache("a").capacity(Entries(10_000)).codec(Postcard);
    let cache = cache.lease(Duration::from_secs(5)).fresh(Duration::from_secs(600)).build().unwrap();
    (space, cache)
}

async fn load(cache: &Cache<u64, String>, key: u64, value: &str) -> String {
    let value = value.to_owned();
    (*cache.get_or_load(&key, move || async move { Ok::<_, Infallible>(value) }).await.unwrap()).clone()
}

/// Waits until `holds` is true, twenty seconds at most.
async fn eventually(holds: impl AsyncFnMut() -> bool) -> bool {
    within(Duration::from_secs(20), holds).await
}

async fn within(limit: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let begun = time::now();
    while begun.elapsed() < limit {
        if holds().await {
            return true;
        }
        time::sleep(MS(20)).await;
    }
    false
}

#[tokio::test]
async fn s39_sentinel_fails_over_and_both_tiers_and_the_log_follow_the_new_primary() {
    let set = RedisSentinel::start().await.unwrap();
    let config = RedisConfig::sentinel([set.url()], set.service());
    let ((space_a, a), (space_b, b)) = (node(&config).await, node(&config).await);
    assert_eq!(load(&a, 1, "old").await, "old");
    assert!(eventually(async || space_a.stats().written == 1).await);
    assert_eq!(load(&b, 1, "never").await, "old", "through the primary");
    set.primary().kill().await.unwrap();
    for key in 100..120 {
        assert_eq!(load(&a, key, "x").await, "x", "no request fails");
    }
    // Told while there is no primary at all.
    a.invalidate(&1).detach();
    set.promoted().await.unwrap();
    assert!(eventually(async || space_a.is_coherent() && space_b.is_coherent()).await);
    assert!(eventually(async || b.get(&1).is_none() && space_a.stats().waiting == 0).await);
    assert_eq!(load(&b, 1, "new").await, "new", "what the replica had of it is refused");
    assert!(
        eventually(async || {
            a.invalidate(&7).await;
            load(&a, 7, "seven").await;
            time::sleep(MS(100)).await;
            b.fetch(&7).await.is_some()
        })
        .await,
        "the new primary is the second tier now"
    );
}

/// Moves a slot with its keys from one master to another while it is in use, as `redis-cli --cluster reshard` does.
async fn move_slot(cluster: &RedisCluster, slot: u16, from: usize, to: usize) {
    let connect = async |n: usize| {
        let client = redis::Client::open(cluster.nodes()[n].url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    };
    let (mut source, mut target) = (connect(from).await, connect(to).await);
    let id = async |n: usize| {
        let id: String = redis::cmd("CLUSTER").arg("MYID").query_async(&mut connect(n).await).await.unwrap();
        id
    };
    let (source_id, target_id) = (id(from).await, id(to).await);
    let set = async |c: &mut redis::aio::MultiplexedConnection, state: &str, node: &str| {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SETSLOT").arg(slot).arg(state).arg(node);
        command.exec_async(c).await.unwrap();
    };
    set(&mut target, "IMPORTING", &source_id).await;
    set(&mut source, "MIGRATING", &target_id).await;
    loop {
        let mut command = redis::cmd("CLUSTER");
        command.arg("GETKEYSINSLOT").arg(slot).arg(100);
        let keys: Vec<Vec<u8>> = command.query_async(&mut source).await.unwrap();
        if keys.is_empty() {
            break;
        }
        for key in keys {
            let mut command = redis::cmd("MIGRATE");
            command.arg("127.0.0.1").arg(cluster.nodes()[to].port()).arg(key).arg(0).arg(5_000);
            command.exec_async(&mut source).await.unwrap();
        }
    }
    set(&mut target, "NODE", &target_id).await;
    set(&mut source, "NODE", &target_id).await;
}

/// The slot of the stream that is the log of the space.
#[expect(clippy::panic, reason = "a test that cannot be set up has failed")]
async fn slot_of_the_log(cluster: &RedisCluster) -> u16 {
    for node in cluster.nodes() {
        let client = redis::Client::open(node.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<Vec<u8>> =
            redis::cmd("KEYS").arg("*pk:log*").query_async(&mut connection).await.unwrap();
        if let Some(key) = keys.first() {
            let mut command = redis::cmd("CLUSTER");
            command.arg("KEYSLOT").arg(key);
            return command.query_async(&mut connection).await.unwrap();
        }
    }
    panic!("there is no log");
}

fn owner(slot: u16) -> usize {
    (1..3_usize).take_while(|n| usize::from(slot) >= 16_384 * n / 3).count()
}

#[tokio::test]
async fn s38_a_cluster_is_read_across_slots_and_followed_while_slots_move_and_a_master_dies() {
    let cluster = RedisCluster::start().await.unwrap();
    let config = RedisConfig::cluster(cluster.urls());
    let ((space_a, a), (space_b, b)) = (node(&config).await, node(&config).await);

    // A batch goes to all masters at once.
    let keys: Vec<u64> = (0..120).collect();
    let rows = |missing: Vec<u64>| async move {
        Ok::<_, Infallible>(missing.into_iter().map(|key| (key, format!("row {key}"))).collect::<Vec<_>>())
    };
    a.load_many(&keys, rows).await;
    assert!(eventually(async || space_a.stats().written == 120).await);
    assert_eq!(b.fetch_many(&keys).await.iter().flatten().count(), 120, "{:?}", space_b.stats());
    for node in cluster.nodes() {
        let size = node.command(&["DBSIZE"]).await.unwrap().int();
        assert!(size > Some(10), "every master has its share: {size:?}");
    }
    // Leases hold across nodes.
    let loads = Arc::new(AtomicU32::new(0));
    let slow = |loads: &Arc<AtomicU32>| {
        let loads = Arc::clone(loads);
        move || async move {
            loads.fetch_add(1, Ordering::SeqCst);
            time::sleep(MS(100)).await;
            Ok::<_, Infallible>(String::from("slow"))
        }
    };
    let (one, other) = tokio::join!(a.get_or_load(&999, slow(&loads)), b.get_or_load(&999, slow(&loads)));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(loads.load(Ordering::SeqCst), 1);

    // A purge looks through all masters.
    let purged = a.purge_stored(|key| *key >= 60 && *key < 120).await.unwrap();
    assert_eq!(purged.removed, 60);
    assert!(eventually(async || (60..120).all(|key| !b.contains(&key))).await);

    // Slots move under load: that of the log, and some with values.
    let done = Arc::new(AtomicBool::new(false));
    let (reader, stop) = (b.clone(), Arc::clone(&done));
    let reading = tokio::spawn(async move {
        let mut reads = 0_u64;
        // Every key at least once, however slow the machine is.
        while reads < 120 || !stop.load(Ordering::SeqCst) {
            let key = reads % 120;
            assert_eq!(load(&reader, key, &format!("row {key}")).await, format!("row {key}"));
            if reads.is_multiple_of(10) {
                reader.invalidate(&key).detach();
            }
            reads += 1;
            time::sleep(MS(1)).await;
        }
    });
    let slot = slot_of_the_log(&cluster).await;
    move_slot(&cluster, slot, owner(slot), (owner(slot) + 1) % 3).await;
    for slot in [100, 6_000, 12_000] {
        move_slot(&cluster, slot, owner(slot), (owner(slot) + 1) % 3).await;
    }
    assert_eq!(load(&a, 1_000, "old").await, "old");
    assert!(eventually(async || b.fetch(&1_000).await.is_some()).await);
    a.invalidate(&1_000).await;
    assert!(eventually(async || b.get(&1_000).is_none()).await, "the log is followed to its new master");
    assert_eq!(load(&b, 1_000, "new").await, "new");

    // One master dies: what it had is loaded.
    let victim = (owner(slot) + 2) % 3;
    cluster.nodes()[victim].kill().await.unwrap();
    for key in 2_000..2_060 {
        assert_eq!(load(&a, key, "x").await, "x", "no request fails");
    }
    done.store(true, Ordering::SeqCst);
    reading.await.unwrap();
}

/// Kills the master that has the log while nodes use the Cluster, lets `mend` bring the Cluster back, and waits until
/// keys of all masters are shared again. No request fails meanwhile, and what is invalidated meanwhile is invalidated.
async fn a_master_dies(cluster: &RedisCluster, mend: impl AsyncFnOnce()) {
    let config = RedisConfig::cluster(cluster.urls());
    let ((space_a, a), (space_b, b)) = (node(&config).await, node(&config).await);
    for key in 0..30 {
        assert_eq!(load(&a, key, "old").await, "old");
    }
    assert!(eventually(async || space_a.stats().written == 30).await);
    assert_eq!(load(&b, 1, "never").await, "old");
    a.invalidate(&77).await;
    assert_eq!(owner(slot_of_the_log(cluster).await), 0);

    let (requests, done) = (a.clone(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&done);
    let asking = tokio::spawn(async move {
        let mut key = 1_000_000;
        while !stop.load(Ordering::SeqCst) {
            key += 1;
            assert_eq!(load(&requests, key, "x").await, "x", "no request fails");
            time::sleep(MS(5)).await;
        }
        key - 1_000_000
    });
    cluster.nodes()[0].kill().await.unwrap();
    a.invalidate(&1).detach();
    mend().await;
    assert!(eventually(async || space_a.is_coherent() && space_b.is_coherent()).await);
    assert!(eventually(async || b.get(&1).is_none() && space_a.stats().waiting == 0).await);
    assert_eq!(load(&b, 1, "new").await, "new");

    let mut first = 2_000;
    let is_shared = eventually(async || {
        first += 100;
        let keys: Vec<u64> = (first..first + 40).collect();
        for &key in &keys {
            load(&a, key, "again").await;
        }
        time::sleep(MS(50)).await;
        b.fetch_many(&keys).await.iter().flatten().count() == keys.len()
    });
    assert!(is_shared.await, "{:?} {:?}", space_a.stats(), space_b.stats());
    done.store(true, Ordering::SeqCst);
    assert!(asking.await.unwrap() > 100);
}

#[tokio::test]
async fn s38_a_master_that_was_killed_and_comes_back_shares_its_keys_again() {
    let cluster = RedisCluster::start().await.unwrap();
    a_master_dies(&cluster, async || {
        // Long enough for the others to give it up, so that the whole Cluster refuses to work.
        let is_given_up = within(Duration::from_secs(60), async || {
            let info = cluster.nodes()[1].command(&["CLUSTER", "INFO"]).await.unwrap();
            info.text().is_some_and(|info| info.contains("cluster_state:fail"))
        });
        assert!(is_given_up.await);
        cluster.nodes()[0].restart().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn s38_a_replica_that_takes_over_from_its_master_shares_the_keys_of_that_one() {
    let cluster = RedisCluster::start_with_replica_of(0).await.unwrap();
    a_master_dies(&cluster, async || {
        // Redis votes again eight seconds after a vote that fails, as it may where the servers have to wait for the processor.
        let took_over = within(Duration::from_secs(60), async || {
            let role = cluster.replicas()[0].command(&["ROLE"]).await.unwrap();
            role.list().first().and_then(RedisReply::text) == Some("master")
        });
        assert!(took_over.await, "{}", cluster.replicas()[0].log());
    })
    .await;
}

//! The Redis managers against real servers.

use perf_core::time::{self, Duration};
use perf_pool::{Error, Lease, Pool, Redis, RedisShared};
use perf_testkit::RedisServer;

async fn set(lease: &mut Lease<Redis>, key: &str, value: &str) {
    let _: () = ::redis::cmd("SET").arg(key).arg(value).query_async(&mut **lease).await.unwrap();
}

async fn get(lease: &mut Lease<Redis>, key: &str) -> Option<String> {
    ::redis::cmd("GET").arg(key).query_async(&mut **lease).await.unwrap()
}

#[tokio::test]
async fn commands_run_on_the_lease_and_a_restart_is_survived() {
    let server = RedisServer::start().await.unwrap();
    let pool = Pool::builder(Redis::new(&server.url()).unwrap()).max(2).build().unwrap();
    let mut lease = pool.acquire().await.unwrap();
    set(&mut lease, "greeting", "hello").await;
    assert_eq!(get(&mut lease, "greeting").await.as_deref(), Some("hello"));
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let dead: Result<String, _> = ::redis::cmd("PING").query_async(&mut *lease).await;
    assert!(dead.is_err());
    drop(lease);
    assert_eq!(pool.stats().closed_broken, 1, "one that failed is not used again");
    for _ in 0..5 {
        let mut lease = pool.acquire().await.unwrap();
        let pong: String = ::redis::cmd("PING").query_async(&mut *lease).await.unwrap();
        assert_eq!(pong, "PONG");
    }
    assert_eq!(pool.stats().reset, 0, "and nothing is reset without need");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_last_user_left_does_not_trouble_the_next() {
    let server = RedisServer::start().await.unwrap();
    let pool = Pool::builder(Redis::new(&server.url()).unwrap()).max(1).build().unwrap();
    for leave in [&["MULTI"][..], &["WATCH", "key"], &["SELECT", "3"]] {
        let mut lease = pool.acquire().await.unwrap();
        let mut command = ::redis::cmd(leave[0]);
        command.arg(&leave[1..]);
        let _: () = command.query_async(&mut *lease).await.unwrap();
        drop(lease);
        let mut lease = pool.acquire().await.unwrap();
        set(&mut lease, "key", leave[0]).await;
        assert_eq!(get(&mut lease, "key").await.as_deref(), Some(leave[0]));
    }
    assert_eq!(
        server.command(&["GET", "key"]).await.unwrap().text(),
        Some("SELECT"),
        "in the first database"
    );
    let stats = pool.stats();
    assert_eq!((stats.connected, stats.reset), (1, 3));

    // A command that blocks is given up: the server still waits, so the connection is.
    let mut lease = pool.acquire().await.unwrap();
    let mut command = ::redis::cmd("BLPOP");
    command.arg("nothing").arg(0);
    let blocked = command.query_async::<()>(&mut *lease);
    assert!(time::timeout(Duration::from_millis(50), blocked).await.is_err());
    drop(lease);
    let mut lease = pool.acquire().await.unwrap();
    set(&mut lease, "key", "free").await;
    assert_eq!(pool.stats().closed_reset_failed, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_fails_within_one_attempt() {
    let server = RedisServer::builder().require_password("secret").start().await.unwrap();
    let url = format!("redis://:wrong@127.0.0.1:{}/", server.port());
    let pool = Pool::builder(Redis::new(&url).unwrap()).build().unwrap();
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error, Error::Connecting { attempts: 1, .. }), "{error:?}");
    assert!(!format!("{pool:?} {:?} {error:?}", pool.manager()).contains("wrong@"), "no password is printed");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn shared_connections_serve_everybody_at_once_and_are_replaced_when_they_die() {
    let server = RedisServer::start().await.unwrap();
    let pool = Pool::builder(Redis::new(&server.url()).unwrap()).max(2).leak_after(None).build().unwrap();
    let shared = RedisShared::new(pool);
    let count = || {
        let shared = shared.clone();
        async move {
            let mut connection = shared.get().await.unwrap();
            ::redis::cmd("INCR").arg("visits").query_async::<u64>(&mut connection).await
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        tasks.spawn(count());
    }
    let mut seen: Vec<u64> = tasks.join_all().await.into_iter().map(Result::unwrap).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=500).collect::<Vec<_>>(), "everybody got an answer of their own");
    assert!((1..=2).contains(&shared.pool().stats().connected), "{:?}", shared.pool().stats());

    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let mut failed = 0;
    while count().await.is_err() {
        failed += 1;
        assert!(failed <= 2, "each connection fails once at most");
    }
    assert!(count().await.is_ok());
    server.stop().await.unwrap();
}

#[cfg(feature = "redis-sentinel")]
#[tokio::test]
async fn the_primary_is_asked_of_the_sentinel_and_followed_through_a_fail_over() {
    let servers = perf_testkit::RedisSentinel::start().await.unwrap();
    let manager = Redis::sentinel(&[&servers.url()], servers.service(), "redis://_/0").unwrap();
    let pool = Pool::builder(manager).max(2).retry_cap(Duration::from_millis(500)).build().unwrap();
    let mut lease = pool.acquire().await.unwrap();
    set(&mut lease, "greeting", "hello").await;
    drop(lease);
    servers.primary().kill().await.unwrap();
    servers.promoted().await.unwrap();
    let begun = time::now();
    loop {
        let mut lease = pool.acquire().await.unwrap();
        let mut command = ::redis::cmd("SET");
        command.arg("greeting").arg("again");
        match command.query_async::<()>(&mut *lease).await {
            Ok(()) => break,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
    }
    let text = servers.replica().command(&["GET", "greeting"]).await.unwrap();
    assert_eq!(text.text(), Some("again"), "the new primary has it");
    assert!(Redis::sentinel(&[], "x", "redis://_").is_err());
}

#[cfg(feature = "redis-cluster")]
#[tokio::test]
async fn keys_of_a_cluster_find_their_nodes() {
    let cluster = perf_testkit::RedisCluster::start().await.unwrap();
    let manager = perf_pool::RedisCluster::new(cluster.urls()).unwrap();
    let pool = Pool::builder(manager).max(2).build().unwrap();
    for n in 0..50 {
        let mut lease = pool.acquire().await.unwrap();
        let key = format!("key-{n}");
        let _: () = ::redis::cmd("SET").arg(&key).arg(n).query_async(&mut *lease).await.unwrap();
        let read: u32 = ::redis::cmd("GET").arg(&key).query_async(&mut *lease).await.unwrap();
        assert_eq!(read, n);
        let owner = cluster.owner_of(&key).await.unwrap();
        let there = owner.command(&["GET", &key]).await.unwrap();
        assert_eq!(there.text(), Some(n.to_string().as_str()), "on the node that owns it");
    }
    assert_eq!(pool.stats().connected, 1);
}

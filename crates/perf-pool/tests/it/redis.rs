//! The Redis manager against a real server.

use perf_pool::{Pool, Redis};
use perf_testkit::RedisServer;

#[tokio::test]
async fn commands_run_on_the_lease_and_a_restart_is_survived() {
    let server = RedisServer::start().await.unwrap();
    let pool = Pool::builder(Redis::new(&server.url()).unwrap()).max(2).build().unwrap();
    let mut lease = pool.acquire().await.unwrap();
    let _: () = ::redis::cmd("SET").arg("greeting").arg("hello").query_async(&mut *lease).await.unwrap();
    let text: String = ::redis::cmd("GET").arg("greeting").query_async(&mut *lease).await.unwrap();
    assert_eq!(text, "hello");
    drop(lease);
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    pool.suspect_all();
    let mut lease = pool.acquire().await.unwrap();
    let pong: String = ::redis::cmd("PING").query_async(&mut *lease).await.unwrap();
    assert_eq!(pong, "PONG");
    server.stop().await.unwrap();
}

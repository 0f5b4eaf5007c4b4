use crate::{gone, in_time};
use perf_testkit::{RedisCluster, RedisReply, RedisSentinel, RedisServer, ServerError};
use std::time::Duration;

fn text(text: &str) -> RedisReply {
    RedisReply::Text(text.to_owned())
}

#[tokio::test]
async fn a_server_starts_answers_and_goes_when_dropped() {
    let server = RedisServer::start().await.unwrap();
    assert_eq!(server.command(&["SET", "k", "v"]).await.unwrap(), text("OK"));
    assert_eq!(server.command(&["GET", "k"]).await.unwrap(), text("v"));
    let (pid, directory) = (server.process_id().unwrap(), server.directory().to_owned());
    drop(server);
    gone(pid, &directory).await;
}

#[tokio::test]
async fn a_plain_server_comes_back_empty_and_a_persistent_one_with_its_data() {
    let plain = RedisServer::start().await.unwrap();
    let kept = RedisServer::builder().persistent().start().await.unwrap();
    for server in [&plain, &kept] {
        server.command(&["SET", "k", "v"]).await.unwrap();
        server.kill().await.unwrap();
        assert!(server.command(&["GET", "k"]).await.is_err());
        server.restart().await.unwrap();
    }
    assert_eq!(plain.command(&["GET", "k"]).await.unwrap(), RedisReply::Nil);
    assert_eq!(kept.command(&["GET", "k"]).await.unwrap(), text("v"));
}

#[tokio::test]
async fn a_server_that_ended_by_itself_can_be_started_again() {
    let server = RedisServer::start().await.unwrap();
    assert!(
        server.command(&["SHUTDOWN", "NOSAVE"]).await.is_err(),
        "it closes the connection instead of answering"
    );
    server.restart().await.unwrap();
    assert_eq!(server.command(&["PING"]).await.unwrap(), text("PONG"));
}

#[tokio::test]
async fn a_paused_server_answers_only_after_it_is_resumed() {
    let server = RedisServer::start().await.unwrap();
    server.pause().await.unwrap();
    let ping = server.command(&["PING"]);
    tokio::pin!(ping);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut ping).await.is_err());
    server.resume().await.unwrap();
    assert_eq!(in_time(ping).await.unwrap(), text("PONG"));
}

#[tokio::test]
async fn settings_and_password_hold() {
    let builder = RedisServer::builder().setting("maxmemory", "3mb").require_password("opener");
    let server = builder.start().await.unwrap();
    let memory = server.command(&["CONFIG", "GET", "maxmemory"]).await.unwrap();
    assert_eq!(memory.list()[1], text("3145728"));
    assert!(server.url().starts_with("redis://:opener@127.0.0.1:"), "{}", server.url());
    let mut socket = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut answer).await.unwrap();
    assert_eq!(&answer, b"-NOAUTH");
}

#[tokio::test]
async fn an_error_answer_is_an_error() {
    let server = RedisServer::start().await.unwrap();
    let error = server.command(&["NO-SUCH-COMMAND"]).await.unwrap_err();
    assert!(matches!(error, ServerError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_cluster_of_three_masters_serves_every_slot() {
    let cluster = RedisCluster::start().await.unwrap();
    for key in ["a", "b", "c", "{tag}d"] {
        let owner = cluster.owner_of(key).await.unwrap();
        assert_eq!(owner.command(&["SET", key, "v"]).await.unwrap(), text("OK"), "{key}");
    }
    for node in cluster.nodes() {
        let info = node.command(&["CLUSTER", "INFO"]).await.unwrap();
        assert!(info.text().unwrap().contains("cluster_size:3"), "{info:?}");
    }
}

#[tokio::test]
async fn a_key_on_the_wrong_master_is_redirected() {
    let cluster = RedisCluster::start().await.unwrap();
    let owner = cluster.owner_of("k").await.unwrap().port();
    let stranger = cluster.nodes().iter().find(|node| node.port() != owner).unwrap();
    let error = stranger.command(&["GET", "k"]).await.unwrap_err();
    assert!(error.to_string().contains(&format!("MOVED 7629 127.0.0.1:{owner}")), "{error}");
}

#[tokio::test]
async fn the_sentinel_promotes_the_replica_when_the_primary_dies() {
    let set = RedisSentinel::start().await.unwrap();
    assert_eq!(set.current_primary().await.unwrap(), set.primary().port());
    set.primary().command(&["SET", "k", "v"]).await.unwrap();
    // Replication is asynchronous: what the replica has not got yet cannot survive its primary.
    in_time(async {
        while set.replica().command(&["GET", "k"]).await.unwrap() != text("v") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    set.primary().kill().await.unwrap();
    set.promoted().await.unwrap();
    assert_eq!(set.current_primary().await.unwrap(), set.replica().port());
    assert_eq!(set.replica().command(&["GET", "k"]).await.unwrap(), text("v"));
    assert_eq!(set.replica().command(&["SET", "k", "w"]).await.unwrap(), text("OK"));
}

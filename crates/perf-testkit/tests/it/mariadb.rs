use crate::{gone, in_time};
use perf_testkit::MariaDbServer;
use std::time::Duration;

#[tokio::test]
async fn a_server_starts_answers_keeps_its_data_and_goes_when_dropped() {
    let server = MariaDbServer::start().await.unwrap();
    server.sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)").await.unwrap();
    server.stop().await.unwrap();
    assert!(server.sql("SELECT 1").await.is_err());
    server.restart().await.unwrap();
    assert_eq!(server.sql("SELECT id FROM kept").await.unwrap(), "7");
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.sql("SELECT id FROM kept").await.unwrap(), "7");
    let (pid, directory) = (server.process_id().unwrap(), server.directory().to_owned());
    drop(server);
    gone(pid, &directory).await;
}

#[tokio::test]
async fn a_paused_server_answers_only_after_it_is_resumed() {
    let server = MariaDbServer::builder().setting("performance-schema", "ON").start().await.unwrap();
    assert_eq!(server.sql("SELECT @@performance_schema").await.unwrap(), "1");
    server.pause().await.unwrap();
    let query = server.sql("SELECT 'late'");
    tokio::pin!(query);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut query).await.is_err());
    server.resume().await.unwrap();
    assert_eq!(in_time(query).await.unwrap(), "late");
}

#[tokio::test]
async fn databases_of_one_server_are_apart() {
    let server = MariaDbServer::start().await.unwrap();
    assert!(server.create_database("other").await.unwrap().ends_with("/other"));
    server.sql("CREATE TABLE other.t (id int)").await.unwrap();
    assert!(server.sql("SELECT * FROM t").await.is_err());
}

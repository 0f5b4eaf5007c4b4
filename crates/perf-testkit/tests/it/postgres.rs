use crate::{gone, in_time};
use perf_testkit::{PostgresServer, ServerError};
use std::time::Duration;

#[tokio::test]
async fn a_server_starts_answers_and_goes_when_dropped() {
    let server = PostgresServer::start().await.unwrap();
    assert_eq!(server.sql("SELECT 1 + 1").await.unwrap(), "2");
    assert_eq!(server.sql("SHOW fsync").await.unwrap(), "off");
    let (pid, directory) = (server.process_id().unwrap(), server.directory().to_owned());
    drop(server);
    gone(pid, &directory).await;
}

#[tokio::test]
async fn two_servers_live_side_by_side() {
    let (a, b) = tokio::join!(PostgresServer::start(), PostgresServer::start());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a.port(), b.port());
    a.sql("CREATE TABLE only_here (id int)").await.unwrap();
    assert!(b.sql("SELECT * FROM only_here").await.is_err());
}

#[tokio::test]
async fn data_and_port_survive_a_stop_a_kill_and_a_restart() {
    let server = PostgresServer::start().await.unwrap();
    let port = server.port();
    server.sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7); CHECKPOINT").await.unwrap();
    server.stop().await.unwrap();
    assert!(matches!(server.sql("SELECT 1").await, Err(ServerError::Exited { .. })));
    assert!(matches!(server.stop().await, Err(ServerError::NotRunning(_))));
    server.restart().await.unwrap();
    assert_eq!(server.sql("SELECT id FROM kept").await.unwrap(), "7");
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!((server.sql("SELECT id FROM kept").await.unwrap(), server.port()), ("7".to_owned(), port));
}

#[tokio::test]
async fn a_killed_server_leaves_no_shared_memory() {
    let server = PostgresServer::start().await.unwrap();
    let lock_file = std::fs::read_to_string(server.directory().join("data/postmaster.pid")).unwrap();
    let segment = lock_file.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let exists = || {
        let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        table.lines().any(|line| line.split_whitespace().nth(1) == Some(&segment))
    };
    server.kill().await.unwrap();
    assert!(exists(), "a killed server cannot remove it itself");
    drop(server);
    assert!(!exists());
}

#[tokio::test]
async fn a_paused_server_answers_only_after_it_is_resumed() {
    let server = PostgresServer::start().await.unwrap();
    server.pause().await.unwrap();
    let query = server.sql("SELECT 'late'");
    tokio::pin!(query);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut query).await;
    assert!(early.is_err(), "{early:?}");
    server.resume().await.unwrap();
    assert_eq!(in_time(query).await.unwrap(), "late");
}

#[tokio::test]
async fn a_pause_holds_backends_that_are_at_work() {
    let server = PostgresServer::start().await.unwrap();
    let statement = "SELECT count(*) FROM generate_series(1, 3000000)";
    let query = server.sql(statement);
    tokio::pin!(query);
    let begun = tokio::time::timeout(Duration::from_millis(100), &mut query).await;
    assert!(begun.is_err(), "three million rows take longer than 100 ms");
    server.pause().await.unwrap();
    let held = tokio::time::timeout(Duration::from_secs(2), &mut query).await;
    server.resume().await.unwrap();
    assert!(held.is_err(), "the backend went on: {held:?}");
    assert_eq!(in_time(query).await.unwrap(), "3000000");
}

#[tokio::test]
async fn a_paused_server_can_be_stopped_killed_and_dropped() {
    let server = PostgresServer::start().await.unwrap();
    server.pause().await.unwrap();
    in_time(server.stop()).await.unwrap();
    server.restart().await.unwrap();
    server.pause().await.unwrap();
    in_time(server.kill()).await.unwrap();
    server.restart().await.unwrap();
    server.pause().await.unwrap();
    let (pid, directory) = (server.process_id().unwrap(), server.directory().to_owned());
    drop(server);
    gone(pid, &directory).await;
}

#[tokio::test]
async fn libraries_and_settings_are_there_from_the_start() {
    let builder = PostgresServer::builder().preload("pg_stat_statements").setting("work_mem", "7MB");
    let server = builder.start().await.unwrap();
    server.sql("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION hypopg").await.unwrap();
    let calls = server.sql("SELECT count(*) > 0 FROM pg_stat_statements").await.unwrap();
    assert_eq!((calls.as_str(), server.sql("SHOW work_mem").await.unwrap().as_str()), ("t", "7MB"));
}

#[tokio::test]
async fn a_setting_that_does_not_exist_is_reported_in_the_servers_words() {
    let error = PostgresServer::builder().setting("no_such_setting", "1").start().await.unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn a_required_password_is_in_the_url_and_nothing_else_opens() {
    let server = PostgresServer::builder().require_password().start().await.unwrap();
    assert_eq!(server.sql("SELECT 1").await.unwrap(), "1");
    let wrong = server.url().replace("perf-testkit", "wrong");
    let psql = tokio::process::Command::new("psql").args(["-d", &wrong, "-c", "SELECT 1"]).output().await;
    let message = String::from_utf8(psql.unwrap().stderr).unwrap();
    assert!(message.contains("password authentication failed"), "{message}");
}

#[tokio::test]
async fn databases_of_one_server_are_apart() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.create_database("odd \"name").await.unwrap();
    assert!(url.ends_with("/odd \"name"), "{url}");
    server.create_database("other").await.unwrap();
    server.sql_in("other", "CREATE TABLE t (id int)").await.unwrap();
    assert!(server.sql("SELECT * FROM t").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_shorten_the_start() {
    let server = PostgresServer::start().await.unwrap();
    assert_eq!(server.sql("SELECT 1").await.unwrap(), "1");
}

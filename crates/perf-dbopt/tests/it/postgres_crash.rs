//! Killed in the middle, the next run completes or cleans (B5.7).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use crate::orders::{HISTORY, advice, applier, indexes, policy, run, shop, wait_for, yes};
use perf_dbopt::postgres::{IndexApplier, IndexOutcome};
use perf_testkit::PostgresServer;
use sqlx::{Connection, PgConnection};
use std::time::Duration;

/// The process that is killed: it applies the advice for the statement in its environment. As a plain test it does nothing.
#[tokio::test]
async fn child_process_of_the_kill_journey() {
    let Ok(url) = std::env::var("PERF_DBOPT_CHILD_URL") else { return };
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let advice = advice(&mut conn, HISTORY).await;
    let mut patient = policy();
    patient.lock_timeout = Duration::from_secs(2);
    patient.attempts = 1;
    let applier = IndexApplier::new(patient).unwrap();
    let applied = applier.apply(&mut conn, &advice, &yes()).await.unwrap();
    if std::env::var_os("PERF_DBOPT_CHILD_REVERTS").is_some() {
        applier.revert(&mut conn, &applied, &yes()).await.unwrap();
    }
}

/// Starts the process that is killed.
fn child(server: &PostgresServer) -> std::process::Command {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["postgres_crash::child_process_of_the_kill_journey", "--exact"])
        .env("PERF_DBOPT_CHILD_URL", server.url())
        .stdout(std::process::Stdio::null());
    child
}

#[tokio::test]
async fn b5_7_killed_while_it_takes_an_index_back_the_next_run_drops_it() {
    let (server, mut conn) = shop().await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    // The index is built first, so the old snapshot must come between building and dropping.
    let name = advice(&mut conn, HISTORY).await.create[0].name.clone();
    run(
        &mut conn,
        "create or replace function wait() returns event_trigger language plpgsql as \
        $$ begin if tg_tag = 'DROP INDEX' then perform pg_sleep(0.3); end if; end $$; \
        create event trigger slow on ddl_command_start execute function wait()",
    )
    .await;
    let mut process = child(&server).env("PERF_DBOPT_CHILD_REVERTS", "1").spawn().unwrap();
    wait_for(
        &server,
        "select count(*) from pg_stat_activity where query like 'DROP INDEX CONC%' and state = 'active'",
        "1",
    )
    .await;
    run(&mut other, "begin isolation level repeatable read; select count(*) from orders").await;
    let invalid = "select count(*) from pg_index i join pg_class c on c.oid = indexrelid where relname like 'perfidx%' and not indisvalid";
    wait_for(&server, invalid, "1").await;
    process.kill().unwrap();
    process.wait().unwrap();
    drop(other);
    wait_for(
        &server,
        "select count(*) from pg_stat_activity where query like 'DROP INDEX CONC%' and state = 'active'",
        "0",
    )
    .await;
    run(&mut conn, "drop event trigger slow").await;
    let repaired = applier().repair(&mut conn, &yes()).await.unwrap();
    // The orphaned server process may have come to the end by itself.
    assert!(repaired.dropped == [name] || repaired.dropped.is_empty(), "{repaired:?}");
    assert_eq!(indexes(&server).await, "");
}

#[tokio::test]
async fn b5_7_killed_at_any_step_the_next_run_completes_or_cleans() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    let waiting_lock = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'CREATE INDEX CONC%'";
    let invalid = "select count(*) from pg_index i join pg_class c on c.oid = indexrelid where relname like 'perfidx%' and not indisvalid";
    let blockers = [
        // Before anything exists, and while an old snapshot keeps the half-built index invalid.
        ("begin; lock table orders in share row exclusive mode", waiting_lock),
        ("begin isolation level repeatable read; select count(*) from customer", invalid),
    ];
    for (blocker, step) in blockers {
        let mut other = PgConnection::connect(&server.url()).await.unwrap();
        run(&mut other, blocker).await;
        let mut child = child(&server).spawn().unwrap();
        wait_for(&server, step, "1").await;
        child.kill().unwrap();
        child.wait().unwrap();
        drop(other);
        // The server ends the orphaned build by itself: it completes, or runs into its lock timeout.
        wait_for(&server, "select count(*) from pg_stat_activity where query like 'CREATE INDEX CONC%' and state = 'active' and pid <> pg_backend_pid()", "0").await;
        applier().repair(&mut conn, &yes()).await.unwrap();
        let left = indexes(&server).await;
        assert!(
            left.is_empty() || left.ends_with(" found by test on DAY") && left.contains("|t|perfkit: "),
            "{left}"
        );
        let applied = applier().apply(&mut conn, &advice, &yes()).await.unwrap();
        assert!(
            matches!(&applied.outcomes[0], IndexOutcome::Created { .. } | IndexOutcome::Present { .. }),
            "{applied:?}"
        );
        assert_eq!(server.sql(invalid).await.unwrap(), "0");
        run(&mut conn, &format!("drop index {}", advice.create[0].name)).await;
    }
    // After the build, before the comment: adopted.
    run(&mut conn, &advice.create[0].ddl).await;
    let repaired = applier().repair(&mut conn, &yes()).await.unwrap();
    assert_eq!(repaired.adopted, [advice.create[0].name.clone()]);
    // Of other origin: never touched.
    run(
        &mut conn,
        "create index perfidx_0000abcd on orders (total); comment on index perfidx_0000abcd is 'mine'",
    )
    .await;
    run(&mut conn, "update pg_index set indisvalid = false where indexrelid = 'perfidx_0000abcd'::regclass")
        .await;
    assert_eq!(applier().repair(&mut conn, &yes()).await.unwrap(), perf_dbopt::postgres::Repaired::default());
}

#[tokio::test]
async fn a_server_that_restarts_in_the_middle_is_an_error_and_the_next_run_completes() {
    let (server, mut conn) = shop().await;
    let advice = advice(&mut conn, HISTORY).await;
    // A writer that outlives the server: one whose session ends first would let the index become whole.
    server
        .sql("begin; lock table orders in row exclusive mode; prepare transaction 'writing'")
        .await
        .unwrap();
    let mut patient = policy();
    patient.lock_timeout = Duration::from_secs(30);
    let applier = IndexApplier::new(patient).unwrap();
    let running =
        tokio::spawn(async move { applier.apply(&mut conn, &advice, &yes()).await.map(|_| advice) });
    let invalid = "select count(*) from pg_index i join pg_class c on c.oid = indexrelid where relname like 'perfidx%' and not indisvalid";
    wait_for(&server, invalid, "1").await;
    server.restart().await.unwrap();
    assert!(running.await.unwrap().is_err(), "the connection was cut");
    server.sql("rollback prepared 'writing'").await.unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    let repaired = self::applier().repair(&mut conn, &yes()).await.unwrap();
    assert_eq!(repaired.dropped.len(), 1);
    let advice = self::advice(&mut conn, HISTORY).await;
    assert_eq!(self::applier().apply(&mut conn, &advice, &yes()).await.unwrap().created().count(), 1);
}

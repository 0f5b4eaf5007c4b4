//! Backups by configuration.

use perf_core::time::{self, Duration};
use perfkit::resilience::snapshot::Confirm;
use perfkit::{Config, Stack};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor};

async fn open(path: &std::path::Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

async fn rows(path: &std::path::Path) -> i64 {
    let mut connection = open(path).await;
    let rows = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows
}

#[tokio::test]
async fn a_database_is_captured_verified_and_rehearsed_on_its_schedule_and_can_be_brought_back() {
    let at = tempfile::tempdir().unwrap();
    let (file, key, directory) = (at.path().join("orders.db"), at.path().join("key"), at.path().join("kept"));
    std::fs::write(&key, "07".repeat(32) + "\n").unwrap();
    let mut before = open(&file).await;
    before.execute("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (1), (2)").await.unwrap();
    before.close().await.unwrap();
    let text = format!(
        "[databases.orders]\nurl = 'sqlite:{}'\n[snapshots.nightly]\ndatabase = 'orders'\ndirectory = '{}'\n\
         every = '1d'\ncompress = 3\nkey_file = '{}'",
        file.display(),
        directory.display(),
        key.display(),
    );
    let stack = Stack::new(Config::from_toml(&text).unwrap()).await.unwrap();
    let snapshots = stack.snapshots("nightly").unwrap();
    while snapshots.stats().drilled == 0 {
        time::sleep(Duration::from_millis(5)).await;
    }
    let taken = snapshots.list().await.unwrap();
    assert_eq!((taken.len(), taken[0].counts["rows of orders"]), (1, 2));
    let wrapped = taken[0].wrapped.as_ref().unwrap();
    assert!(wrapped.compression.is_some() && wrapped.key.is_some());
    let page = stack.metrics().text();
    let run = r#"perf_resilience_snapshot_runs_total{name="nightly",result="success",work="drill"} 1"#;
    assert!(page.contains(run), "{page}");
    let error = stack.snapshots("orders").unwrap_err();
    assert!(
        error.to_string().contains("`snapshots.orders` in the configuration; there are: nightly"),
        "{error}"
    );

    stack.close().await;
    let mut after = open(&file).await;
    after.execute("DELETE FROM orders").await.unwrap();
    after.close().await.unwrap();
    let plan = snapshots.plan_restore(&taken[0].id).await.unwrap();
    plan.apply(Confirm::Overwrite(file.display().to_string())).await.unwrap();
    assert_eq!(rows(&file).await, 2);

    // The next start finds snapshots that are young enough, and takes no other.
    let stack = Stack::new(Config::from_toml(&text).unwrap()).await.unwrap();
    let there = snapshots.list().await.unwrap().len();
    time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stack.snapshots("nightly").unwrap().list().await.unwrap().len(), there);
    stack.close().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_an_error_that_names_the_file_and_not_the_key() {
    let at = tempfile::tempdir().unwrap();
    let key = at.path().join("key");
    let text = format!(
        "[databases.orders]\nurl = 'sqlite:orders.db'\n[snapshots.orders]\ndirectory = '{}'\nkey_file = '{}'",
        at.path().display(),
        key.display()
    );
    let failed = async || Stack::new(Config::from_toml(&text).unwrap()).await.unwrap_err().to_string();
    assert!(failed().await.contains(&format!("cannot read the key of snapshots in {}", key.display())));
    std::fs::write(&key, "hunter2").unwrap();
    let said = failed().await;
    assert!(said.contains("snapshots.orders.key_file") && !said.contains("hunter2"), "{said}");
}

//! Whether a SQLite database is well, and keeping it so (B9).
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use perf_dbopt::sqlite::{check_integrity, inspect, maintain};
use perf_dbopt::{Apply, Dialect, FindingKind, MaintenancePolicy, ObserverConfig, QueryStats, Severity};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};
use std::path::PathBuf;
use std::time::Duration;

/// A database file that is removed in the end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("perf-dbopt-{name}-{}.sqlite", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(&self.0).create_if_missing(true).connect().await.unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            let _ = std::fs::remove_file(path);
        }
    }
}

const ROWS: &str = "create table t (id integer primary key, a integer, pad text); create index t_a on t (a); \
    insert into t (a, pad) with recursive n(i) as (values(1) union all select i + 1 from n where i < 20000) select i % 900, hex(zeroblob(150)) from n;";

#[tokio::test]
async fn b9_settings_free_pages_and_missing_statistics_are_found_and_mended() {
    let file = File::new("health");
    let mut conn = file.connect().await;
    conn.execute("pragma auto_vacuum = incremental; pragma journal_mode = delete; vacuum;").await.unwrap();
    conn.execute(ROWS).await.unwrap();
    conn.execute("delete from t where id % 5 <> 0; pragma busy_timeout = 0; select * from t where a = 5;")
        .await
        .unwrap();
    let findings = inspect(&mut conn).await.unwrap();
    let kinds: Vec<_> = findings.iter().map(|f| (f.kind, f.object.as_str())).collect();
    for wanted in [(FindingKind::Setting, "journal_mode"), (FindingKind::Setting, "busy_timeout")] {
        assert!(kinds.contains(&wanted), "{kinds:?}");
    }
    assert!(kinds.iter().any(|(kind, _)| *kind == FindingKind::FreePages), "{kinds:?}");
    assert!(findings.windows(2).all(|pair| pair[0].severity >= pair[1].severity));
    let consent = Apply::confirmed_by("test");
    let maintained = maintain(&mut conn, &findings, &MaintenancePolicy::default(), &consent).await.unwrap();
    assert!(maintained.failed.is_empty(), "{maintained:?}");
    assert!(maintained.done.contains(&"PRAGMA incremental_vacuum".to_owned()), "{maintained:?}");
    let again = inspect(&mut conn).await.unwrap();
    assert!(
        !again.iter().any(|f| matches!(f.kind, FindingKind::FreePages | FindingKind::NeedsAnalyze)),
        "{again:?}"
    );
}

#[tokio::test]
async fn b9_a_log_that_is_not_written_back_is_found_and_truncated() {
    let file = File::new("log");
    let mut conn = file.connect().await;
    conn.execute("pragma journal_mode = wal; create table t (a int); insert into t values (1)")
        .await
        .unwrap();
    let kinds = async |conn: &mut SqliteConnection| {
        inspect(conn).await.unwrap().into_iter().map(|f| f.kind).collect::<Vec<_>>()
    };
    assert!(!kinds(&mut conn).await.contains(&FindingKind::Checkpoint));
    let log = std::fs::OpenOptions::new().write(true).open(format!("{}-wal", file.0.display())).unwrap();
    // What follows the last frame is not read.
    log.set_len(80 << 20).unwrap();
    let findings = inspect(&mut conn).await.unwrap();
    let large = findings.iter().find(|finding| finding.kind == FindingKind::Checkpoint).unwrap();
    assert!(large.message.contains("80 MB"), "{large}");
    let consent = Apply::confirmed_by("test");
    let maintained = maintain(&mut conn, &findings, &MaintenancePolicy::default(), &consent).await.unwrap();
    assert!(maintained.done.contains(&"PRAGMA wal_checkpoint(TRUNCATE)".to_owned()), "{maintained:?}");
    assert!(!kinds(&mut conn).await.contains(&FindingKind::Checkpoint));
    let rows: i64 = sqlx::query_scalar("select count(*) from t").fetch_one(&mut conn).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn b9_missing_statistics_of_values_are_named_unless_they_are_compiled_in() {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let sql = "select count(*) from pragma_compile_options where compile_options = 'ENABLE_STAT4'";
    let compiled: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
    let named = inspect(&mut conn).await.unwrap().iter().any(|finding| finding.object == "ENABLE_STAT4");
    assert_eq!(named, compiled == 0);
}

#[tokio::test]
async fn b9_a_damaged_file_and_orphaned_rows_are_named() {
    let file = File::new("damage");
    let mut conn = file.connect().await;
    conn.execute("pragma journal_mode = delete; pragma foreign_keys = off; pragma page_size = 4096")
        .await
        .unwrap();
    conn.execute(ROWS).await.unwrap();
    conn.execute("create table child (t integer references t); insert into child values (999999)")
        .await
        .unwrap();
    let sound = check_integrity(&mut conn).await.unwrap();
    assert_eq!(sound.len(), 1, "{sound:?}");
    assert_eq!((sound[0].object.as_str(), sound[0].severity), ("child", Severity::Warning));
    drop(conn);
    let mut bytes = std::fs::read(&file.0).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&file.0, bytes).unwrap();
    let mut conn = file.connect().await;
    let findings = check_integrity(&mut conn).await.unwrap();
    assert!(
        findings.iter().any(|f| f.kind == FindingKind::Corruption && f.severity == Severity::Critical),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_slow_query_of_sqlite_is_explained_too() {
    let file = File::new("plans");
    let mut conn = file.connect().await;
    conn.execute(ROWS).await.unwrap();
    let mut config = ObserverConfig::default();
    config.slow = Duration::from_nanos(1);
    let stats = QueryStats::builder("main", Dialect::Sqlite).config(config).build().unwrap();
    let (requests, mut plans) = stats.plans::<sqlx::Sqlite>();
    for _ in 0..2 {
        let query = sqlx::query("select pad from t where a = ? and id > 777").bind(5);
        query.fetch_all(stats.observe_with_plans(&mut conn, &requests)).await.unwrap();
    }
    let mut other = file.connect().await;
    assert!(plans.explain_next(&mut other).await.unwrap());
    let slow = stats.slow_queries();
    let plan = slow.iter().find_map(|slow| slow.plan.as_ref()).unwrap();
    assert!(plan.contains("t_a (a=?") && !plan.contains("777"), "{plan}");
}

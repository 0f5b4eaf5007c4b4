//! Journeys on real databases. Time is not paused here: the databases have clocks of their own.

#[cfg(feature = "postgres")]
mod commands;
mod faults;
mod restores;

use async_trait::async_trait;
use perf_core::{Component as _, Status};
use perf_resilience::snapshot::{
    Captured, Confirm, Depth, Description, Retention, Schedule, SnapshotError, SnapshotTarget, Snapshots,
    Wrapping,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn directory(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("perf-snapshot-{name}-")).tempdir().unwrap()
}

/// A "database" of one file.
struct FileTarget(PathBuf);

#[async_trait]
impl SnapshotTarget for FileTarget {
    fn describe(&self) -> Description {
        Description { kind: "file", name: "file".to_owned() }
    }

    async fn capture(&self, directory: &Path) -> Result<Captured, SnapshotError> {
        for name in ["a", "b"] {
            let text = tokio::fs::read(&self.0).await.map_err(|source| SnapshotError::Io {
                what: "read",
                path: self.0.clone(),
                source,
            })?;
            let path = directory.join(name);
            let written = tokio::fs::write(&path, text).await;
            written.map_err(|source| SnapshotError::Io { what: "write", path, source })?;
        }
        let counts = BTreeMap::from([("files".to_owned(), 2)]);
        Ok(Captured { files: vec!["a".to_owned(), "b".to_owned()], counts, versions: BTreeMap::new() })
    }

    async fn verify(&self, directory: &Path, _: Depth) -> Result<BTreeMap<String, u64>, SnapshotError> {
        let there = ["a", "b"].iter().filter(|name| directory.join(name).exists()).count();
        Ok(BTreeMap::from([("files".to_owned(), there as u64)]))
    }

    async fn restore(&self, directory: &Path, _: bool) -> Result<(), SnapshotError> {
        let text = std::fs::read(directory.join("a")).unwrap();
        std::fs::write(&self.0, &text[..text.len() / 2]).unwrap();
        tokio::task::yield_now().await;
        std::fs::write(&self.0, text).unwrap();
        Ok(())
    }
}

fn file_snapshots(at: &Path) -> Snapshots {
    let source = at.join("source");
    std::fs::write(&source, "some data").unwrap();
    Snapshots::new("s", Arc::new(FileTarget(source)), at.join("snapshots"), Retention::default())
}

fn left_behind(at: &Path) -> Vec<String> {
    let Ok(reader) = std::fs::read_dir(at.join("snapshots")) else { return Vec::new() };
    reader
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect()
}

#[tokio::test]
async fn dropped_at_any_await_a_capture_leaves_the_snapshot_before_it_valid_and_nothing_else() {
    let at = directory("cancel");
    let snapshots = file_snapshots(at.path());
    let first = snapshots.capture().await.unwrap();
    let awaits = perf_testkit::cancel_at_every_await(
        || {
            let snapshots = snapshots.clone();
            (
                (),
                perf_testkit::step_by_step(
                    async move { snapshots.capture().await.map(|manifest| manifest.id) },
                ),
            )
        },
        async |(), _| {
            // Dropped in its very last step, a capture is complete already.
            let there = snapshots.list().await.unwrap();
            assert_eq!(there[0].id, first.id);
            for manifest in there {
                snapshots.verify(&manifest.id).await.unwrap();
            }
            assert_eq!(left_behind(at.path()), Vec::<String>::new());
        },
    )
    .await;
    assert!(awaits >= 10, "{awaits}");
}

#[tokio::test]
async fn every_tampering_is_found_and_has_an_error_of_its_own() {
    let at = directory("tamper");
    let snapshots = file_snapshots(at.path());
    let path = |id: &str, name: &str| at.path().join("snapshots").join(id).join(name);
    let broken = async |tamper: &dyn Fn(&str)| {
        let id = snapshots.capture().await.unwrap().id;
        snapshots.verify(&id).await.unwrap();
        tamper(&id);
        snapshots.verify(&id).await.unwrap_err()
    };
    let flipped = broken(&|id| std::fs::write(path(id, "b"), "some dat4").unwrap()).await;
    assert!(matches!(flipped, SnapshotError::FileContent(name) if name == "b"));
    let cut = broken(&|id| std::fs::write(path(id, "a"), "some").unwrap()).await;
    assert!(matches!(cut, SnapshotError::FileLength { expected: 9, found: 4, .. }));
    let gone = broken(&|id| std::fs::remove_file(path(id, "a")).unwrap()).await;
    assert!(matches!(gone, SnapshotError::FileMissing(name) if name == "a"));
    let other = snapshots.capture().await.unwrap().id;
    let swapped = broken(&|id| {
        assert!(std::fs::copy(path(&other, "manifest.json"), path(id, "manifest.json")).is_ok());
    })
    .await;
    assert!(matches!(&swapped, SnapshotError::Manifest { why, .. } if why.contains(&other)), "{swapped}");
    let edited = broken(&|id| {
        let text = std::fs::read_to_string(path(id, "manifest.json")).unwrap();
        std::fs::write(path(id, "manifest.json"), text.replace("\"files\": 2", "\"files\": 3")).unwrap();
    })
    .await;
    assert!(matches!(&edited, SnapshotError::Manifest { why, .. } if why.contains("seal")), "{edited}");
    let nameless = broken(&|id| std::fs::remove_file(path(id, "manifest.json")).unwrap()).await;
    assert!(matches!(nameless, SnapshotError::Missing(_)));
    assert_eq!(snapshots.stats().verify_failed, 6);
}

#[tokio::test]
async fn a_source_or_a_directory_that_fails_is_a_typed_error_and_leaves_nothing() {
    let at = directory("fail");
    let snapshots = file_snapshots(at.path());
    let good = snapshots.capture().await.unwrap();
    std::fs::remove_file(at.path().join("source")).unwrap();
    assert!(matches!(snapshots.capture().await.unwrap_err(), SnapshotError::Io { what: "read", .. }));
    assert_eq!(left_behind(at.path()), Vec::<String>::new());
    snapshots.verify(&good.id).await.unwrap();
    let blocked = at.path().join("blocked");
    std::fs::write(&blocked, "a file where the directory should be").unwrap();
    let nowhere =
        Snapshots::new("s", Arc::new(FileTarget(at.path().join("source"))), blocked, Retention::default());
    assert!(matches!(nowhere.capture().await.unwrap_err(), SnapshotError::Io { what: "make", .. }));
}

#[tokio::test]
async fn one_capture_runs_at_a_time_and_the_lock_of_the_dead_is_taken_over() {
    let at = directory("lock");
    let snapshots = file_snapshots(at.path());
    let path = at.path().join("snapshots").join(".lock");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Also one with the number of a process that lives: in a container every process has the same.
    let lock = std::fs::File::create(&path).unwrap();
    std::fs::write(&path, std::process::id().to_string()).unwrap();
    lock.lock().unwrap();
    let busy = snapshots.capture().await.unwrap_err();
    assert!(matches!(busy, SnapshotError::Busy(owner) if owner == std::process::id()), "{busy}");
    drop(lock);
    snapshots.capture().await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn partial_snapshots_of_the_dead_are_removed_by_the_next_capture_and_those_of_the_living_stay() {
    let at = directory("partial");
    let snapshots = file_snapshots(at.path());
    let root = at.path().join("snapshots");
    let partials = [".0000000000001-aa.partial", ".9999999999999-bb.partial", ".0000000000002-cc.partial"];
    for name in partials {
        std::fs::create_dir_all(root.join(name).join("deep")).unwrap();
    }
    let living = std::fs::File::open(root.join(partials[2])).unwrap();
    living.lock().unwrap();
    snapshots.capture().await.unwrap();
    assert_eq!(left_behind(at.path()), [partials[2]]);
    drop(living);
    snapshots.prune().await.unwrap();
    assert_eq!(left_behind(at.path()), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_schedule_waits_for_the_newest_snapshot_to_age_and_then_captures_verifies_drills_and_prunes() {
    use perf_core::time::{Duration, timeout};
    let at = directory("schedule");
    let snapshots = file_snapshots(at.path());
    snapshots.capture().await.unwrap();
    let mut schedule = Schedule::every(Duration::from_secs(3600));
    schedule.drill_every = Some(Duration::from_secs(3600));
    let runs = async |minutes: u64| {
        timeout(Duration::from_secs(60 * minutes), snapshots.run(schedule)).await.unwrap_err();
        let stats = snapshots.stats();
        (stats.captured, stats.verified, stats.drilled)
    };
    assert_eq!(runs(59).await, (1, 0, 0), "one that is young enough is there");
    let (captured, verified, drilled) = runs(600).await;
    assert!((9..=11).contains(&captured) && verified == captured - 1, "{captured}, {verified}");
    assert_eq!(drilled, 1, "by the date of the last one, which does not move here");
    assert!(snapshots.list().await.unwrap().len() <= 6, "the last three, and those of another day");
    std::fs::remove_dir_all(at.path().join("snapshots")).unwrap();
    assert_eq!(runs(1).await.0, captured + 1, "without any, at once");
}

#[tokio::test]
async fn without_a_verified_snapshot_health_is_unknown_and_a_failed_drill_shows() {
    let at = directory("health");
    let snapshots = file_snapshots(at.path());
    assert_eq!(snapshots.health().status(), Status::Unknown);
    assert!(matches!(snapshots.drill().await.unwrap_err(), SnapshotError::Missing(_)));
    assert_eq!(snapshots.health().status(), Status::Degraded);
    let id = snapshots.capture().await.unwrap().id;
    snapshots.verify(&id).await.unwrap();
    let drill = snapshots.drill().await.unwrap();
    assert_eq!(snapshots.health().status(), Status::Up);
    assert_eq!(snapshots.list().await.unwrap()[0].drill, Some(drill));
    snapshots.verify(&id).await.unwrap();
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    use perf_resilience::snapshot::SqliteTarget;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
    use sqlx::{ConnectOptions, Connection, Executor};

    pub(super) async fn open(path: &Path, mode: SqliteJournalMode) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).journal_mode(mode);
        options.connect().await.unwrap()
    }

    pub(super) async fn rows(path: &Path) -> i64 {
        let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let rows = sqlx::query_scalar("SELECT count(*) FROM \"odd \"\"name\"\"\"")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        rows
    }

    #[tokio::test]
    async fn a_sqlite_database_is_captured_while_in_use_rehearsed_and_restored() {
        let at = directory("sqlite");
        let path = at.path().join("live.db");
        let mut live = open(&path, SqliteJournalMode::Wal).await;
        live.execute("CREATE TABLE \"odd \"\"name\"\"\" (id INTEGER PRIMARY KEY); INSERT INTO \"odd \"\"name\"\"\" VALUES (1), (2), (3)").await.unwrap();
        let target = Arc::new(SqliteTarget::new(&path));
        let snapshots =
            Snapshots::new("s", target.clone(), at.path().join("snapshots"), Retention::default());
        let taken = snapshots.capture().await.unwrap();
        assert_eq!(taken.counts, BTreeMap::from([("rows of odd \"name\"".to_owned(), 3)]));
        assert!(snapshots.drill().await.unwrap().age_ms < 60_000);
        live.execute("DELETE FROM \"odd \"\"name\"\"\"").await.unwrap();

        let plan = async || snapshots.plan_restore(&taken.id).await.unwrap();
        let named = || Confirm::Overwrite(target.describe().name);
        let refused = plan().await.apply(Confirm::IntoEmpty).await.unwrap_err();
        assert!(matches!(refused, SnapshotError::Refused(_)), "{refused}");
        let misnamed = plan().await.apply(Confirm::Overwrite("other".to_owned())).await.unwrap_err();
        assert!(matches!(misnamed, SnapshotError::Refused(_)), "{misnamed}");
        let in_use = plan().await.apply(named()).await.unwrap_err();
        assert!(matches!(&in_use, SnapshotError::Refused(why) if why.contains("in use")), "{in_use}");
        assert_eq!(rows(&path).await, 0, "nothing was touched");

        live.close().await.unwrap();
        let safety = plan().await.apply(named()).await.unwrap().unwrap();
        assert_eq!(safety.counts, BTreeMap::from([("rows of odd \"name\"".to_owned(), 0)]));
        assert_eq!(rows(&path).await, 3);
        assert!(!at.path().join("live.db.restoring").exists());
    }

    #[tokio::test]
    async fn damage_inside_the_database_is_found_even_when_the_seal_is_right() {
        let at = directory("orphans");
        let path = at.path().join("live.db");
        let mut live = open(&path, SqliteJournalMode::Delete).await;
        live.execute("PRAGMA foreign_keys = OFF; CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (a REFERENCES a(id)); INSERT INTO b VALUES (9)").await.unwrap();
        live.close().await.unwrap();
        let snapshots = Snapshots::new(
            "s",
            Arc::new(SqliteTarget::new(&path)),
            at.path().join("snapshots"),
            Retention::default(),
        );
        let error = snapshots.capture().await.unwrap_err();
        assert!(matches!(&error, SnapshotError::Damaged(why) if why.contains("`b`")), "{error}");
        assert_eq!(snapshots.list().await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_missing_database_is_an_error_and_not_an_empty_snapshot() {
        let at = directory("missing");
        let target = Arc::new(SqliteTarget::new(at.path().join("none.db")));
        let snapshots = Snapshots::new("s", target, at.path().join("snapshots"), Retention::default());
        assert!(matches!(snapshots.capture().await.unwrap_err(), SnapshotError::Tool { .. }));
        assert!(!at.path().join("none.db").exists());
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_postgres_database_is_captured_rehearsed_and_restored() {
    use perf_resilience::snapshot::PostgresTarget;
    let server = perf_testkit::PostgresServer::start().await.unwrap();
    server.create_database("shop").await.unwrap();
    server
        .sql_in(
            "shop",
            "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 500)",
        )
        .await
        .unwrap();
    let url = server.url();
    let user = url.split("://").nth(1).unwrap().split(['@', ':']).next().unwrap().to_owned();
    let at = directory("postgres");
    let target = Arc::new(PostgresTarget::new("127.0.0.1", server.port(), user, "shop"));
    let snapshots = Snapshots::new("s", target, at.path().join("snapshots"), Retention::default());
    let taken = snapshots.capture().await.unwrap();
    assert!(taken.versions["postgres"].starts_with("15"));
    snapshots.drill().await.unwrap();
    let left = server.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'perf_drill%'").await.unwrap();
    assert_eq!(left.trim(), "0");

    server.sql_in("shop", "DELETE FROM orders; INSERT INTO orders VALUES (-1)").await.unwrap();
    let refused =
        snapshots.plan_restore(&taken.id).await.unwrap().apply(Confirm::IntoEmpty).await.unwrap_err();
    assert!(matches!(refused, SnapshotError::Refused(_)), "{refused}");
    let plan = snapshots.plan_restore(&taken.id).await.unwrap();
    plan.apply(Confirm::Overwrite("shop".to_owned())).await.unwrap();
    assert_eq!(server.sql_in("shop", "SELECT count(*), min(id) FROM orders").await.unwrap().trim(), "500|1");

    let dump = at.path().join("snapshots").join(&taken.id).join("database.dump");
    let mut bytes = std::fs::read(&dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    std::fs::write(&dump, bytes).unwrap();
    assert!(matches!(snapshots.verify(&taken.id).await.unwrap_err(), SnapshotError::FileContent(_)));
    server.stop().await.unwrap();
    assert!(matches!(snapshots.capture().await.unwrap_err(), SnapshotError::Tool { .. }));
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_redis_database_is_captured_rehearsed_and_restored() {
    use perf_resilience::snapshot::RedisTarget;
    let server = perf_testkit::RedisServer::start().await.unwrap();
    let client =
        |database: u8| redis::Client::open(format!("redis://{}/{database}", server.address())).unwrap();
    let mut connection = client(0).get_multiplexed_async_connection().await.unwrap();
    let mut fill = redis::pipe();
    for n in 0..1200 {
        fill.cmd("SET").arg(format!("key:{n}")).arg(n).ignore();
    }
    fill.cmd("SET").arg("short").arg("lived").arg("PX").arg(3_600_000).ignore();
    fill.cmd("RPUSH").arg("list").arg("a").arg("b").ignore();
    fill.query_async::<()>(&mut connection).await.unwrap();
    let at = directory("redis");
    let target = Arc::new(RedisTarget::new(client(0), "cache").scratch(client(9)));
    let snapshots = Snapshots::new("s", target, at.path().join("snapshots"), Retention::default());
    let taken = snapshots.capture().await.unwrap();
    assert_eq!(taken.counts["keys"], 1202);
    snapshots.drill().await.unwrap();

    redis::cmd("FLUSHDB").query_async::<()>(&mut connection).await.unwrap();
    let plan = async || snapshots.plan_restore(&taken.id).await.unwrap();
    assert_eq!(plan().await.apply(Confirm::IntoEmpty).await.unwrap(), None);
    let refused = plan().await.apply(Confirm::IntoEmpty).await.unwrap_err();
    assert!(matches!(refused, SnapshotError::Refused(_)), "{refused}");
    let mut look = redis::pipe();
    look.cmd("DBSIZE").cmd("GET").arg("key:7").cmd("PTTL").arg("short").cmd("LLEN").arg("list");
    let (size, seven, ttl, list): (u64, u64, i64, u64) = look.query_async(&mut connection).await.unwrap();
    assert_eq!((size, seven, list), (1202, 7, 2));
    assert!(ttl > 3_000_000 && ttl <= 3_600_000, "{ttl}");

    let file = at.path().join("snapshots").join(&taken.id).join("keys.dump");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 20]).unwrap();
    assert!(matches!(snapshots.verify(&taken.id).await.unwrap_err(), SnapshotError::FileLength { .. }));
    server.stop().await.unwrap();
    assert!(matches!(snapshots.capture().await.unwrap_err(), SnapshotError::Tool { .. }));
    assert_eq!(left_behind(at.path()), Vec::<String>::new());
}

#[cfg(all(feature = "zstd", feature = "encryption"))]
mod wrapped {
    use super::*;
    use perf_resilience::snapshot::{DEFAULT_LEVEL, SnapshotKey};

    pub(super) fn with(at: &Path, wrapping: Wrapping) -> Snapshots {
        let source = at.join("source");
        if !source.exists() {
            std::fs::write(&source, "some data, and the same again; ".repeat(10_000)).unwrap();
        }
        let target = Arc::new(FileTarget(source));
        Snapshots::wrapped("s", target, at.join("snapshots"), Retention::default(), wrapping)
    }

    pub(super) fn keyed(byte: u8) -> Wrapping {
        Wrapping::none().compress(DEFAULT_LEVEL).encrypt(SnapshotKey::new([byte; 32]))
    }

    #[tokio::test]
    async fn wrapped_snapshots_are_smaller_unreadable_and_come_back_whole() {
        let at = directory("wrapped");
        let snapshots = with(at.path(), keyed(1));
        let taken = snapshots.capture().await.unwrap();
        let wrapped = taken.wrapped.clone().unwrap();
        assert_eq!(wrapped.compression.as_deref(), Some("zstd"));
        assert_eq!(wrapped.key.as_deref(), Some(SnapshotKey::new([1; 32]).id()));
        assert!(taken.files[0].bytes < 10_000, "{:?}", taken.files);
        let stored = std::fs::read(at.path().join("snapshots").join(&taken.id).join("a")).unwrap();
        assert!(!stored.windows(9).any(|part| part == b"some data"));
        snapshots.verify(&taken.id).await.unwrap();
        snapshots.drill().await.unwrap();
        std::fs::write(at.path().join("source"), "lost").unwrap();
        let plan = snapshots.plan_restore(&taken.id).await.unwrap();
        plan.apply(perf_resilience::snapshot::Confirm::Overwrite("file".to_owned())).await.unwrap();
        assert!(std::fs::read_to_string(at.path().join("source")).unwrap().starts_with("some data"));
        assert!(left_behind(at.path()).iter().all(|name| !name.contains("partial")));
    }

    #[tokio::test]
    async fn without_the_key_damage_is_found_and_the_content_is_not() {
        let at = directory("locked");
        let taken = with(at.path(), keyed(1)).capture().await.unwrap();
        for wrapping in [Wrapping::none(), keyed(2)] {
            let stranger = with(at.path(), wrapping);
            stranger.verify(&taken.id).await.unwrap();
            let refused = stranger.drill().await.unwrap_err();
            assert!(refused.to_string().contains("needs the key"), "{refused}");
        }
        let file = at.path().join("snapshots").join(&taken.id).join("a");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let found = with(at.path(), Wrapping::none()).verify(&taken.id).await.unwrap_err();
        assert!(matches!(found, SnapshotError::FileContent(_)), "{found}");
    }

    #[tokio::test]
    async fn a_capture_dropped_while_it_wraps_leaves_nothing() {
        let at = directory("dropped");
        let snapshots = with(at.path(), keyed(1));
        for micros in (0..3000).step_by(150) {
            let _ =
                perf_core::time::timeout(perf_core::time::Duration::from_micros(micros), snapshots.capture())
                    .await;
        }
        let good = snapshots.capture().await.unwrap();
        snapshots.verify(&good.id).await.unwrap();
        for manifest in snapshots.list().await.unwrap() {
            snapshots.verify(&manifest.id).await.unwrap();
        }
    }
}

//! Snapshots under faults: killed at every step, a disk that is full or read-only, every kind of tampering.

use super::*;
use perf_testkit::step_by_step;
use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::process::Command;
use std::task::Poll;

/// Kills the work at each of its awaits in turn, as the end of its process would: no guard tidies up after it. `look` judges
/// what that leaves on the disk. Returns how often it was killed.
pub(super) async fn killed_at_every_await<F: Future>(
    mut make: impl FnMut() -> F,
    mut look: impl AsyncFnMut(),
) -> usize {
    let mut kills = 0;
    loop {
        let mut left = kills + 1;
        // Never dropped, so that what it holds is never given back.
        let mut work = ManuallyDrop::new(Box::pin(step_by_step(make())));
        let ended = poll_fn(|context| {
            left -= 1;
            match work.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending if left == 0 => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        look().await;
        if ended {
            return kills;
        }
        kills += 1;
    }
}

/// The lock of a process that was killed is held by nobody any more, unlike that of a future that is never dropped.
pub(super) fn bury_the_owner_of_the_lock(at: &Path) {
    let lock = at.join("snapshots").join(".lock");
    if lock.exists() {
        std::fs::remove_file(&lock).unwrap();
    }
}

/// Kills captures and then drills at every await; whatever is listed is whole, and the first snapshot always is.
async fn survives_being_killed(snapshots: &Snapshots, at: &Path, tidy: impl AsyncFn()) {
    let first = snapshots.capture().await.unwrap();
    let seals = Arc::new(Seals(first.counts.clone()));
    let seals = Snapshots::new("seals", seals, at.join("snapshots"), Retention::default());
    let look = async || {
        let there = snapshots.list().await.unwrap();
        assert_eq!(there[0].id, first.id);
        seals.verify(&first.id).await.unwrap();
        // One that was complete when its capture was killed is good, and makes the next rounds no longer.
        for manifest in &there[1..] {
            snapshots.verify(&manifest.id).await.unwrap();
            std::fs::remove_dir_all(at.join("snapshots").join(&manifest.id)).unwrap();
        }
        bury_the_owner_of_the_lock(at);
        tidy().await;
    };
    let capture = || {
        let snapshots = snapshots.clone();
        async move { snapshots.capture().await.map(drop).unwrap() }
    };
    let kills = killed_at_every_await(capture, look).await;
    assert!(kills >= 10, "{kills} kills of a capture");
    let drill = || {
        let snapshots = snapshots.clone();
        async move { snapshots.drill().await.map(drop).unwrap() }
    };
    let kills = killed_at_every_await(drill, look).await;
    assert!(kills >= 10, "{kills} kills of a drill");
    snapshots.verify(&first.id).await.unwrap();
}

/// Looks at no content: a snapshot whose bytes are those that were written is as good as it was.
pub(super) struct Seals(pub(super) BTreeMap<String, u64>);

#[async_trait]
impl SnapshotTarget for Seals {
    fn describe(&self) -> Description {
        Description { kind: "seals", name: "seals".to_owned() }
    }

    async fn capture(&self, _: &Path) -> Result<Captured, SnapshotError> {
        Err(SnapshotError::Refused("it only looks".to_owned()))
    }

    async fn verify(&self, _: &Path, _: Depth) -> Result<BTreeMap<String, u64>, SnapshotError> {
        Ok(self.0.clone())
    }

    async fn restore(&self, _: &Path, _: bool) -> Result<(), SnapshotError> {
        Err(SnapshotError::Refused("it only looks".to_owned()))
    }
}

#[tokio::test]
async fn killed_at_every_await_captures_and_drills_leave_the_snapshot_before_them_valid() {
    let at = directory("killed");
    survives_being_killed(&file_snapshots(at.path()), at.path(), async || {}).await;
}

#[cfg(all(feature = "zstd", feature = "encryption"))]
#[tokio::test]
async fn killed_while_compressing_and_encrypting_they_do_as_well() {
    let at = directory("killed-wrapped");
    let snapshots = wrapped::with(at.path(), wrapped::keyed(1));
    survives_being_killed(&snapshots, at.path(), async || {}).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn killed_at_every_await_of_a_redis_journey_the_snapshot_before_is_valid() {
    let (_server, target, scratch) = redis_with_keys().await;
    let at = directory("killed-redis");
    let snapshots = Snapshots::new("s", Arc::new(target), at.path().join("snapshots"), Retention::default());
    survives_being_killed(&snapshots, at.path(), async || {
        // What a killed rehearsal leaves in the scratch database is refused until somebody has looked at it.
        let mut connection = scratch.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("FLUSHDB").query_async::<()>(&mut connection).await.unwrap();
    })
    .await;
}

/// SQLite's own locks end with the process only, so here the process is killed, at moments that sweep over the journey.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_process_killed_anywhere_in_a_sqlite_journey_leaves_snapshots_and_database_whole() {
    use perf_resilience::snapshot::SqliteTarget;
    use sqlx::{Connection, Executor};
    const CHILD: &str = "PERF_SNAPSHOT_CHILD";
    let snapshots = |at: &Path| {
        let target = Arc::new(SqliteTarget::new(at.join("live.db")));
        Snapshots::new("s", target, at.join("snapshots"), Retention::default())
    };
    if let Some(at) = std::env::var_os(CHILD).map(PathBuf::from) {
        let snapshots = snapshots(&at);
        let first = snapshots.list().await.unwrap()[0].id.clone();
        std::fs::write(at.join("started"), "").unwrap();
        loop {
            snapshots.capture().await.unwrap();
            snapshots.drill().await.unwrap();
            let plan = snapshots.plan_restore(&first).await.unwrap();
            plan.apply(Confirm::Overwrite(at.join("live.db").display().to_string())).await.unwrap();
        }
    }
    let at = directory("killed-sqlite");
    let live = at.path().join("live.db");
    let mut connection = sqlite::open(&live, sqlx::sqlite::SqliteJournalMode::Delete).await;
    connection.execute("CREATE TABLE \"odd \"\"name\"\"\" (id INTEGER PRIMARY KEY); INSERT INTO \"odd \"\"name\"\"\" VALUES (1), (2), (3)").await.unwrap();
    let first = snapshots(at.path()).capture().await.unwrap();
    connection.execute("DELETE FROM \"odd \"\"name\"\"\" WHERE id = 3").await.unwrap();
    connection.close().await.unwrap();
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "snapshot::faults::a_process_killed_anywhere_in_a_sqlite_journey_leaves_snapshots_and_database_whole"])
            .env(CHILD, at.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !at.path().join("started").exists() {
            assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        tokio::time::sleep(std::time::Duration::from_micros(1700 * round)).await;
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        std::fs::remove_file(at.path().join("started")).unwrap();
        let there = snapshots(at.path()).list().await.unwrap();
        assert_eq!(there[0].id, first.id);
        for manifest in there {
            snapshots(at.path()).verify(&manifest.id).await.unwrap();
        }
        assert!([2, 3].contains(&sqlite::rows(&live).await), "the database is the old or the new one");
    }
}

/// A small file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    /// Needs the right to mount. Where it is missing that is said; the script that runs all tests has tried before and, if
    /// it could mount, does not let this one off.
    #[expect(clippy::print_stderr, reason = "what is skipped is said aloud")]
    fn small() -> Option<Self> {
        let at = directory("disk");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(at.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            other => {
                assert!(std::env::var_os("PERF_TEST_MOUNTS").is_none(), "mounting worked before: {other:?}");
                eprintln!("SKIPPED: a disk of its own needs the right to mount: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.path()).status();
        assert!(done.unwrap().success());
    }

    /// Leaves so many pages of room.
    fn leave(&self, pages: u64) {
        use std::io::Write;
        let filler = self.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write(&[1; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(pages * 4096)).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Fills the disk a page less each time, until a capture fits; then takes away the right to write.
async fn survives_a_bad_disk(target: Arc<dyn SnapshotTarget>, wrapping: Wrapping) {
    let Some(disk) = Disk::small() else { return };
    let at = disk.path();
    let snapshots =
        Snapshots::wrapped("s", target, at.join("snapshots"), Retention::default(), wrapping.clone());
    let first = snapshots.capture().await.unwrap();
    let plain = first.wrapped.is_none();
    let mut pages = 0;
    loop {
        disk.leave(pages);
        let Err(error) = snapshots.capture().await else { break };
        // pg_dump may say that all went well; then what it wrote is found to be damaged.
        let said = matches!(
            error,
            SnapshotError::Io { .. } | SnapshotError::Tool { .. } | SnapshotError::Damaged(_)
        );
        assert!(said, "{error:?}");
        assert_eq!(left_behind(at), Vec::<String>::new(), "with {pages} pages");
        assert_eq!(snapshots.list().await.unwrap().len(), 1);
        let verified = snapshots.verify(&first.id).await;
        // What is wrapped has to be unwrapped somewhere to be looked at.
        assert!(verified.is_ok() || !plain, "{verified:?}");
        pages += 1;
    }
    assert!(pages > 1, "it was full {pages} times");
    std::fs::remove_file(at.join("filler")).unwrap();
    disk.remount("ro");
    let error = snapshots.capture().await.unwrap_err();
    assert!(
        matches!(&error, SnapshotError::Io { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem),
        "{error:?}"
    );
    let verified = snapshots.verify(&first.id).await;
    assert!(verified.is_ok() || !plain, "{verified:?}");
    if let Err(error) = verified {
        assert!(matches!(error, SnapshotError::Io { what: "make", .. }), "{error:?}");
    }
    disk.remount("rw");
    snapshots.verify(&first.id).await.unwrap();
    snapshots.drill().await.unwrap();
}

#[tokio::test]
async fn a_full_or_read_only_disk_is_a_typed_error_and_harms_nothing() {
    let at = directory("source");
    std::fs::write(at.path().join("source"), "some data".repeat(1000)).unwrap();
    let target = || Arc::new(FileTarget(at.path().join("source")));
    survives_a_bad_disk(target(), Wrapping::none()).await;
    #[cfg(all(feature = "zstd", feature = "encryption"))]
    survives_a_bad_disk(target(), wrapped::keyed(1)).await;
}

#[tokio::test]
async fn from_a_read_only_disk_can_be_restored() {
    let Some(disk) = Disk::small() else { return };
    let snapshots = file_snapshots(disk.path());
    let taken = snapshots.capture().await.unwrap();
    let at = directory("restored");
    let target = Arc::new(FileTarget(at.path().join("source")));
    disk.remount("ro");
    let snapshots = Snapshots::new("s", target, disk.path().join("snapshots"), Retention::default());
    let plan = snapshots.plan_restore(&taken.id).await.unwrap();
    assert_eq!(plan.apply(Confirm::IntoEmpty).await.unwrap(), None);
    assert_eq!(std::fs::read_to_string(at.path().join("source")).unwrap(), "some data");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn sqlite_on_a_full_or_read_only_disk_is_a_typed_error_and_harms_nothing() {
    use sqlx::{Connection, Executor};
    let at = directory("bad-disk-sqlite");
    let path = at.path().join("live.db");
    let mut live = sqlite::open(&path, sqlx::sqlite::SqliteJournalMode::Delete).await;
    live.execute("CREATE TABLE a (b)").await.unwrap();
    live.close().await.unwrap();
    let target = Arc::new(perf_resilience::snapshot::SqliteTarget::new(path));
    survives_a_bad_disk(target, Wrapping::none()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_on_a_full_or_read_only_disk_is_a_typed_error_and_harms_nothing() {
    let (_server, target) = postgres_shop().await;
    survives_a_bad_disk(Arc::new(target), Wrapping::none()).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_on_a_full_or_read_only_disk_is_a_typed_error_and_harms_nothing() {
    let (_server, target, _) = redis_with_keys().await;
    survives_a_bad_disk(Arc::new(target), Wrapping::none()).await;
}

/// Flips every so many bytes of every file, cuts each file off there, and puts a file beside them.
async fn finds_every_tampering(snapshots: &Snapshots, at: &Path, every: usize) {
    let id = snapshots.capture().await.unwrap().id;
    let taken = at.join("snapshots").join(&id);
    for entry in std::fs::read_dir(&taken).unwrap() {
        let path = entry.unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(every) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for damaged in [&flipped[..], &whole[..at]] {
                std::fs::write(&path, damaged).unwrap();
                let found = snapshots.verify(&id).await;
                assert!(found.is_err(), "byte {at} of {}, {} bytes", path.display(), damaged.len());
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    std::fs::write(taken.join("more"), "of it").unwrap();
    let found = snapshots.verify(&id).await.unwrap_err();
    assert!(matches!(&found, SnapshotError::FileUnexpected(name) if name == "more"), "{found}");
    std::fs::remove_file(taken.join("more")).unwrap();
    snapshots.verify(&id).await.unwrap();
}

#[tokio::test]
async fn a_flipped_or_missing_byte_anywhere_in_a_snapshot_is_found() {
    let at = directory("bytes");
    finds_every_tampering(&file_snapshots(at.path()), at.path(), 1).await;
}

#[cfg(all(feature = "zstd", feature = "encryption"))]
#[tokio::test]
async fn a_flipped_or_missing_byte_anywhere_in_an_encrypted_snapshot_is_found() {
    let at = directory("bytes-wrapped");
    finds_every_tampering(&wrapped::with(at.path(), wrapped::keyed(1)), at.path(), 3).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn damaged_bytes_of_a_sqlite_snapshot_are_found() {
    use sqlx::{Connection, Executor};
    let at = directory("bytes-sqlite");
    let path = at.path().join("live.db");
    let mut live = sqlite::open(&path, sqlx::sqlite::SqliteJournalMode::Delete).await;
    live.execute("CREATE TABLE a (b); INSERT INTO a VALUES (1)").await.unwrap();
    live.close().await.unwrap();
    let target = Arc::new(perf_resilience::snapshot::SqliteTarget::new(path));
    let snapshots = Snapshots::new("s", target, at.path().join("snapshots"), Retention::default());
    finds_every_tampering(&snapshots, at.path(), 61).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn damaged_bytes_of_a_postgres_snapshot_are_found() {
    let (_server, target) = postgres_shop().await;
    let at = directory("bytes-postgres");
    let snapshots = Snapshots::new("s", Arc::new(target), at.path().join("snapshots"), Retention::default());
    finds_every_tampering(&snapshots, at.path(), 31).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn damaged_bytes_of_a_redis_snapshot_are_found() {
    let (_server, target, _) = redis_with_keys().await;
    let at = directory("bytes-redis");
    let snapshots = Snapshots::new("s", Arc::new(target), at.path().join("snapshots"), Retention::default());
    finds_every_tampering(&snapshots, at.path(), 3).await;
}

#[tokio::test]
async fn a_forged_manifest_leads_to_no_file_outside_of_the_snapshot() {
    let at = directory("forged");
    let snapshots = file_snapshots(at.path());
    let id = snapshots.capture().await.unwrap().id;
    let path = at.path().join("snapshots").join(&id).join("manifest.json");
    let mut manifest: perf_resilience::snapshot::Manifest =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest.files[0].name = "../../source".to_owned();
    manifest.seal.clear();
    manifest.seal = sha256(&serde_json::to_vec(&manifest).unwrap());
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    let found = snapshots.verify(&id).await.unwrap_err();
    assert!(found.to_string().contains("`../../source` is not the name of a file in it"), "{found}");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn verifications_and_drills_at_the_same_time_do_not_harm_the_manifest() {
    let at = directory("together");
    let snapshots = file_snapshots(at.path());
    let id = snapshots.capture().await.unwrap().id;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (snapshots, id) = (snapshots.clone(), id.clone());
        all.spawn(async move {
            if n % 2 == 0 { snapshots.verify(&id).await.map(drop) } else { snapshots.drill().await.map(drop) }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap().unwrap();
    }
    snapshots.verify(&id).await.unwrap();
}

#[cfg(feature = "postgres")]
pub(super) async fn postgres_shop()
-> (perf_testkit::PostgresServer, perf_resilience::snapshot::PostgresTarget) {
    let server = perf_testkit::PostgresServer::start().await.unwrap();
    server.create_database("shop").await.unwrap();
    let rows = "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 50)";
    server.sql_in("shop", rows).await.unwrap();
    let user = server.url().split("://").nth(1).unwrap().split(['@', ':']).next().unwrap().to_owned();
    let target = perf_resilience::snapshot::PostgresTarget::new("127.0.0.1", server.port(), user, "shop");
    (server, target)
}

/// With five keys, and a client of the scratch database.
#[cfg(feature = "redis")]
pub(super) async fn redis_with_keys()
-> (perf_testkit::RedisServer, perf_resilience::snapshot::RedisTarget, redis::Client) {
    let server = perf_testkit::RedisServer::start().await.unwrap();
    let client =
        |database: u8| redis::Client::open(format!("redis://{}/{database}", server.address())).unwrap();
    let mut connection = client(0).get_multiplexed_async_connection().await.unwrap();
    for n in 0..5 {
        redis::cmd("SET").arg(n).arg(n).query_async::<()>(&mut connection).await.unwrap();
    }
    let scratch = client(9);
    let target = perf_resilience::snapshot::RedisTarget::new(client(0), "cache").scratch(scratch.clone());
    (server, target, scratch)
}

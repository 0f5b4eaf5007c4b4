//! Restores that do not end well: given up at every await, killed with their process, and what is found afterwards.

use super::faults::{bury_the_owner_of_the_lock, killed_at_every_await};
use super::*;

/// Restores over what is there.
async fn restore(snapshots: &Snapshots, id: &str, name: &str) -> Result<(), SnapshotError> {
    let plan = snapshots.plan_restore(id).await?;
    plan.apply(Confirm::Overwrite(name.to_owned())).await.map(drop)
}

/// So that looking at all snapshots does not take longer from round to round.
async fn forget_others(snapshots: &Snapshots, at: &Path, first: &str) {
    for manifest in snapshots.list().await.unwrap() {
        if manifest.id != first {
            std::fs::remove_dir_all(at.join("snapshots").join(manifest.id)).unwrap();
        }
    }
}

/// Whatever is remembered leads back to `before`: nothing is captured over a target that may be half restored, and the
/// safety snapshot is what was there.
async fn is_mended(snapshots: &Snapshots, first: &str, name: &str) {
    snapshots.verify(first).await.unwrap();
    let Some(unfinished) = snapshots.unfinished_restore().unwrap() else { return };
    assert_eq!(unfinished.snapshot, first);
    assert_eq!(snapshots.health().status(), Status::Degraded);
    let refused = snapshots.capture().await.unwrap_err();
    let safety = unfinished.safety.unwrap();
    assert!(
        matches!(&refused, SnapshotError::Unfinished { way_out, .. } if way_out.contains(&safety)),
        "{refused}"
    );
    assert!(!snapshots.plan_prune().await.unwrap().contains(&safety));
    restore(snapshots, &safety, name).await.unwrap();
    assert_eq!(snapshots.unfinished_restore().unwrap(), None);
}

#[tokio::test]
async fn a_restore_dropped_or_killed_at_any_await_is_remembered_until_it_is_mended() {
    let at = directory("restore");
    let snapshots = file_snapshots(at.path());
    let (source, first) = (at.path().join("source"), snapshots.capture().await.unwrap().id);
    let look = async || {
        bury_the_owner_of_the_lock(at.path());
        let half_done = snapshots.unfinished_restore().unwrap().is_some();
        is_mended(&snapshots, &first, "file").await;
        let text = std::fs::read_to_string(&source).unwrap();
        assert!(text == "other data" || (text == "some data" && !half_done), "{text}");
        std::fs::write(&source, "other data").unwrap();
        snapshots.capture().await.unwrap();
        forget_others(&snapshots, at.path(), &first).await;
    };
    std::fs::write(&source, "other data").unwrap();
    let make = || async { restore(&snapshots, &first, "file").await.unwrap() };
    let work = || ((), perf_testkit::step_by_step(make()));
    let dropped = perf_testkit::cancel_at_every_await(work, async |(), _| look().await).await;
    assert!(dropped >= 10, "{dropped}");
    assert_eq!(left_behind(at.path()), Vec::<String>::new());
    let killed = killed_at_every_await(make, look).await;
    assert!(killed >= 10, "{killed}");
}

/// Does not restore, for one reason or the other.
struct Fails(FileTarget, fn() -> SnapshotError);

#[async_trait]
impl SnapshotTarget for Fails {
    fn describe(&self) -> Description {
        self.0.describe()
    }

    async fn capture(&self, directory: &Path) -> Result<Captured, SnapshotError> {
        self.0.capture(directory).await
    }

    async fn verify(&self, directory: &Path, depth: Depth) -> Result<BTreeMap<String, u64>, SnapshotError> {
        self.0.verify(directory, depth).await
    }

    async fn restore(&self, _: &Path, _: bool) -> Result<(), SnapshotError> {
        Err((self.1)())
    }
}

#[tokio::test]
async fn a_restore_that_fails_is_remembered_and_one_that_was_refused_is_not() {
    let at = directory("failed-restore");
    let snapshots = file_snapshots(at.path());
    let id = snapshots.capture().await.unwrap().id;
    let with = |error: fn() -> SnapshotError| {
        let target = Fails(FileTarget(at.path().join("source")), error);
        Snapshots::new("s", Arc::new(target), at.path().join("snapshots"), Retention::default())
    };
    let refusing = with(|| SnapshotError::Refused("in use".to_owned()));
    restore(&refusing, &id, "file").await.unwrap_err();
    assert_eq!(refusing.unfinished_restore().unwrap(), None);
    let failing = with(|| SnapshotError::Tool { what: "RESTORE", why: "the connection broke".to_owned() });
    restore(&failing, &id, "file").await.unwrap_err();
    let first = failing.unfinished_restore().unwrap().unwrap();
    // Trying again does not forget what was there before the first attempt, nor does a refusal.
    restore(&failing, &id, "file").await.unwrap_err();
    restore(&refusing, &id, "file").await.unwrap_err();
    assert_eq!(failing.unfinished_restore().unwrap().unwrap().safety, first.safety);
    assert_eq!(failing.health().status(), Status::Degraded);
    failing.settle_restore().unwrap();
    failing.capture().await.unwrap();
}

#[tokio::test]
async fn nothing_is_captured_while_a_restore_is_under_way() {
    let at = directory("restoring");
    let snapshots = file_snapshots(at.path());
    let id = snapshots.capture().await.unwrap().id;
    let stops = StopsAt {
        target: Arc::new(FileTarget(at.path().join("source"))),
        step: "restore",
        at: at.path().into(),
    };
    let stopped = Snapshots::new("s", Arc::new(stops), at.path().join("snapshots"), Retention::default());
    let restoring = tokio::spawn(async move { restore(&stopped, &id, "file").await });
    while !at.path().join("reached").exists() {
        tokio::task::yield_now().await;
    }
    let busy = snapshots.capture().await.unwrap_err();
    assert!(matches!(busy, SnapshotError::Busy(owner) if owner == std::process::id()), "{busy}");
    assert!(matches!(snapshots.settle_restore().unwrap_err(), SnapshotError::Busy(_)));
    restoring.abort();
    restoring.await.unwrap_err();
    assert!(matches!(snapshots.capture().await.unwrap_err(), SnapshotError::Unfinished { .. }));
}

/// Hangs for ever at one step, so that the process can be killed there.
struct StopsAt {
    target: Arc<dyn SnapshotTarget>,
    step: &'static str,
    at: PathBuf,
}

impl StopsAt {
    async fn reach(&self, step: &str) {
        if self.step == step {
            std::fs::write(self.at.join("reached"), step).unwrap();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl SnapshotTarget for StopsAt {
    fn describe(&self) -> Description {
        self.target.describe()
    }

    async fn capture(&self, directory: &Path) -> Result<Captured, SnapshotError> {
        self.reach("capture").await;
        let captured = self.target.capture(directory).await?;
        self.reach("captured").await;
        Ok(captured)
    }

    async fn verify(&self, directory: &Path, depth: Depth) -> Result<BTreeMap<String, u64>, SnapshotError> {
        self.target.verify(directory, depth).await
    }

    async fn restore(&self, directory: &Path, overwrite: bool) -> Result<(), SnapshotError> {
        self.reach("restore").await;
        self.target.restore(directory, overwrite).await?;
        self.reach("restored").await;
        Ok(())
    }

    fn restores_at_once(&self) -> bool {
        self.target.restores_at_once()
    }
}

/// Processes that are killed in the middle of a restore.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) mod child {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// The steps there are, and one that is never reached: then something else holds the process up.
    pub(super) const STEPS: [&str; 5] = ["capture", "captured", "restore", "restored", "none"];

    /// What a process that is to be killed has to know.
    const CHILD: &str = "PERF_SNAPSHOT_RESTORE";

    /// Starts this test again in a process of its own, which stops at `step` of a restore of the oldest snapshot; it finds
    /// everything else in `about`.
    pub(super) fn start(test: &str, at: &Path, step: &str, about: &str) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", &format!("snapshot::restores::{test}")])
            .env(CHILD, format!("{step} {about}"));
        command.env("PERF_SNAPSHOT_AT", at).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// In the process that is to be killed: restores the oldest snapshot and stops on the way.
    pub(super) async fn run_child(target: impl FnOnce(&str) -> Arc<dyn SnapshotTarget>) -> bool {
        let Ok(order) = std::env::var(CHILD) else { return false };
        let at = PathBuf::from(std::env::var_os("PERF_SNAPSHOT_AT").unwrap());
        let (step, about) = order.split_once(' ').unwrap();
        let step = STEPS.into_iter().find(|known| *known == step).unwrap();
        let target = target(about);
        let name = target.describe().name;
        let stops = StopsAt { target, step, at: at.clone() };
        let snapshots = Snapshots::new("s", Arc::new(stops), at.join("snapshots"), Retention::default());
        let first = snapshots.list().await.unwrap()[0].id.clone();
        restore(&snapshots, &first, &name).await.unwrap();
        true
    }

    /// Waits until `reached`, and kills the process as nothing else would.
    pub(in super::super) async fn kill_once(mut child: Child, mut reached: impl AsyncFnMut() -> bool) {
        while !reached().await {
            assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }

    pub(in super::super) async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let start = perf_core::time::now();
        while !holds().await {
            assert!(start.elapsed().as_secs() < 10, "{what}");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

#[cfg(feature = "postgres")]
pub(super) mod postgres {
    use super::super::faults::postgres_shop;
    use super::child::{STEPS, kill_once, run_child, soon, start};
    use super::*;
    use perf_resilience::snapshot::PostgresTarget;
    use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

    const BEFORE: &str = "DELETE FROM orders; INSERT INTO orders VALUES (-1)";

    async fn orders(shop: &mut PgConnection) -> (i64, i32) {
        sqlx::query_as("SELECT count(*), min(id) FROM orders").fetch_one(shop).await.unwrap()
    }

    /// The programs that were started for this server.
    pub(in super::super) fn programs(port: u16) -> Vec<String> {
        let wanted = format!("PGPORT={port}");
        let of = |id: std::ffi::OsString| {
            let at = Path::new("/proc").join(id);
            let environment = std::fs::read(at.join("environ")).ok()?;
            let started = environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes());
            started.then(|| std::fs::read_to_string(at.join("comm")).unwrap_or_default())
        };
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.unwrap().file_name())).collect()
    }

    /// Waits until no program runs any more, and no session of one, which would hold its locks.
    async fn nothing_runs(port: u16, shop: &mut PgConnection) {
        soon("something runs on", async || programs(port).is_empty()).await;
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('pg_dump', 'pg_restore', 'psql')";
        soon("a session is left", async || {
            sqlx::query_scalar::<_, i64>(sessions).fetch_one(&mut *shop).await.unwrap() == 0
        })
        .await;
    }

    #[tokio::test]
    async fn a_postgres_restore_dropped_at_any_await_is_done_or_not_and_nothing_runs_on() {
        let (server, target) = postgres_shop().await;
        let mut shop = PgConnection::connect(&server.url_of("shop")).await.unwrap();
        let at = directory("restore-postgres");
        target.capture(at.path()).await.unwrap();
        shop.execute(BEFORE).await.unwrap();
        let mut done = 0;
        let awaits = perf_testkit::cancel_at_every_await(
            || ((), async { target.restore(at.path(), true).await.unwrap() }),
            async |(), _| {
                nothing_runs(server.port(), &mut shop).await;
                let found = orders(&mut shop).await;
                assert!([(1, -1), (50, 1)].contains(&found), "half of it: {found:?}");
                if found.0 == 50 {
                    done += 1;
                    shop.execute(BEFORE).await.unwrap();
                }
            },
        )
        .await;
        // One await at least for psql, which looks, and one for pg_restore; whether their output and their end are seen in
        // one is a matter of luck.
        assert!(awaits >= 2 && done >= 1 && done < awaits, "{done} of {awaits}");
        target.verify(at.path(), Depth::Read).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_killed_at_any_step_of_a_postgres_restore_leaves_the_old_or_the_new_database_and_nothing_else()
     {
        const TEST: &str = "postgres::a_process_killed_at_any_step_of_a_postgres_restore_leaves_the_old_or_the_new_database_and_nothing_else";
        let of = |port: u16, user: &str| PostgresTarget::new("127.0.0.1", port, user, "shop");
        let child = |about: &str| -> Arc<dyn SnapshotTarget> {
            let (port, user) = about.split_once(' ').unwrap();
            Arc::new(of(port.parse().unwrap(), user))
        };
        if run_child(child).await {
            return;
        }
        let (server, target) = postgres_shop().await;
        let (port, url) = (server.port(), server.url_of("shop"));
        let mut shop = PgConnection::connect(&url).await.unwrap();
        let user: String =
            sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut shop).await.unwrap();
        let at = directory("killed-restore-postgres");
        let snapshots =
            Snapshots::new("s", Arc::new(target), at.path().join("snapshots"), Retention::default());
        let first = snapshots.capture().await.unwrap().id;
        shop.execute(BEFORE).await.unwrap();
        // A lock of ours holds up pg_dump, one that it can live with only pg_restore.
        for (step, lock) in STEPS
            .into_iter()
            .map(|step| (step, None))
            .take(4)
            .chain([("none", Some("ACCESS EXCLUSIVE")), ("none", Some("ACCESS SHARE"))])
        {
            if let Some(mode) = lock {
                shop.execute(AssertSqlSafe(format!("BEGIN; LOCK TABLE orders IN {mode} MODE")))
                    .await
                    .unwrap();
            }
            // Not `pg_stat_activity`, which does not change within a transaction.
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            let reached = at.path().join("reached");
            let child = start(TEST, at.path(), step, &format!("{port} {user}"));
            kill_once(child, async || match lock {
                Some(_) => sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut shop).await.unwrap() > 0,
                None => reached.exists(),
            })
            .await;
            // While it still waits for our lock: it does not go on once that is gone.
            soon("something runs on", async || programs(port).is_empty()).await;
            if lock.is_some() {
                shop.execute("COMMIT").await.unwrap();
            } else {
                std::fs::remove_file(&reached).unwrap();
            }
            nothing_runs(port, &mut shop).await;
            let found = orders(&mut shop).await;
            assert_eq!(
                found,
                if step == "restored" { (50, 1) } else { (1, -1) },
                "killed at {step}, {lock:?}"
            );
            // The next capture cleans up; that the first one is whole the next process finds before it restores.
            snapshots.capture().await.unwrap();
            assert_eq!(left_behind(at.path()), Vec::<String>::new(), "killed at {step}, {lock:?}");
            shop.execute(BEFORE).await.unwrap();
        }
        snapshots.verify(&first).await.unwrap();
        snapshots.drill().await.unwrap();
    }

    #[tokio::test]
    async fn a_password_file_of_a_dead_process_is_removed() {
        let left = std::env::temp_dir().join("perf-pass-0-0123456789abcdef");
        std::fs::write(&left, "*:*:*:*:secret").unwrap();
        let target = PostgresTarget::new("127.0.0.1", 1, "nobody", "none");
        let target = target.password(perf_core::Secret::new("secret".to_owned()));
        let at = directory("password");
        assert!(matches!(target.capture(at.path()).await.unwrap_err(), SnapshotError::Tool { .. }));
        assert!(!left.exists());
    }
}

#[cfg(feature = "redis")]
mod redis_restores {
    use super::super::faults::redis_with_keys;
    use super::child::{STEPS, kill_once, run_child, start};
    use super::*;
    use perf_resilience::snapshot::RedisTarget;
    use redis::aio::MultiplexedConnection;

    /// What was there when the snapshot was taken, and what was there before it was restored.
    const SNAPSHOT: [(&str, &str); 5] = [("0", "0"), ("1", "1"), ("2", "2"), ("3", "3"), ("4", "4")];
    const BEFORE: [(&str, &str); 3] = [("1", "changed"), ("2", "2"), ("new", "one")];

    async fn keys(connection: &mut MultiplexedConnection) -> BTreeMap<String, String> {
        let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(connection).await.unwrap();
        if names.is_empty() {
            return BTreeMap::new();
        }
        let values: Vec<String> = redis::cmd("MGET").arg(&names).query_async(connection).await.unwrap();
        names.into_iter().zip(values).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    async fn set_before(connection: &mut MultiplexedConnection) {
        let mut all = redis::pipe();
        all.cmd("FLUSHDB").ignore();
        for (key, value) in BEFORE {
            all.cmd("SET").arg(key).arg(value).ignore();
        }
        all.query_async::<()>(connection).await.unwrap();
    }

    #[tokio::test]
    async fn a_redis_restore_dropped_or_killed_at_any_await_is_recognised_and_the_safety_snapshot_brings_back_what_was_there()
     {
        let (server, target, _) = redis_with_keys().await;
        let client = redis::Client::open(format!("redis://{}/0", server.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let at = directory("restore-redis");
        let snapshots =
            Snapshots::new("s", Arc::new(target), at.path().join("snapshots"), Retention::default());
        let first = snapshots.capture().await.unwrap().id;
        let (mut old, mut new, mut half) = (0, 0, 0);
        let mut look = async || {
            bury_the_owner_of_the_lock(at.path());
            let unfinished = snapshots.unfinished_restore().unwrap().is_some();
            let found = keys(&mut connection).await;
            if found == map(&BEFORE) {
                old += 1;
            } else if found == map(&SNAPSHOT) {
                new += 1;
            } else {
                half += 1;
                assert!(unfinished, "nothing is known of half a restore: {found:?}");
            }
            is_mended(&snapshots, &first, "cache").await;
            let expected = if unfinished { map(&BEFORE) } else { found };
            assert_eq!(keys(&mut connection).await, expected);
            set_before(&mut connection).await;
            forget_others(&snapshots, at.path(), &first).await;
        };
        set_before(&mut client.get_multiplexed_async_connection().await.unwrap()).await;
        let make = || async { restore(&snapshots, &first, "cache").await.unwrap() };
        let work = || ((), perf_testkit::step_by_step(make()));
        let dropped = perf_testkit::cancel_at_every_await(work, async |(), _| look().await).await;
        assert_eq!(left_behind(at.path()), Vec::<String>::new());
        let killed = killed_at_every_await(make, look).await;
        assert!(dropped >= 20 && killed >= 20, "{dropped} and {killed}");
        // At which key each one stopped depends on how quickly the server answers, but most of the way is before them.
        assert!(old >= 20 && new >= 2 && half >= 1, "{old} old, {new} new, {half} half done");
    }

    #[tokio::test]
    async fn a_process_killed_at_any_step_of_a_redis_restore_leaves_what_the_next_one_needs_to_mend_it() {
        const TEST: &str = "redis_restores::a_process_killed_at_any_step_of_a_redis_restore_leaves_what_the_next_one_needs_to_mend_it";
        let client = |address: &str| redis::Client::open(format!("redis://{address}/0")).unwrap();
        if run_child(|address| Arc::new(RedisTarget::new(client(address), "cache"))).await {
            return;
        }
        let (server, target, _) = redis_with_keys().await;
        let address = server.address().to_string();
        let mut connection = client(&address).get_multiplexed_async_connection().await.unwrap();
        let at = directory("killed-restore-redis");
        let snapshots =
            Snapshots::new("s", Arc::new(target), at.path().join("snapshots"), Retention::default());
        let first = snapshots.capture().await.unwrap().id;
        let reached = at.path().join("reached");
        for step in &STEPS[..4] {
            set_before(&mut connection).await;
            kill_once(start(TEST, at.path(), step, &address), async || reached.exists()).await;
            std::fs::remove_file(&reached).unwrap();
            let begun = step.starts_with("restore");
            assert_eq!(snapshots.unfinished_restore().unwrap().is_some(), begun, "killed at {step}");
            is_mended(&snapshots, &first, "cache").await;
            assert_eq!(keys(&mut connection).await, map(&BEFORE), "killed at {step}");
            snapshots.capture().await.unwrap();
            assert_eq!(left_behind(at.path()), Vec::<String>::new(), "killed at {step}");
        }
        // In the middle of the keys: the server lets no more of them in.
        set_before(&mut connection).await;
        let mut pause = redis::cmd("CLIENT");
        pause.arg("PAUSE").arg(60_000).arg("WRITE").query_async::<()>(&mut connection).await.unwrap();
        let waiting = async || {
            let list: String =
                redis::cmd("CLIENT").arg("LIST").query_async(&mut connection.clone()).await.unwrap();
            list.contains("cmd=restore")
        };
        kill_once(start(TEST, at.path(), "none", &address), waiting).await;
        redis::cmd("CLIENT").arg("UNPAUSE").query_async::<()>(&mut connection).await.unwrap();
        assert!(snapshots.unfinished_restore().unwrap().is_some());
        is_mended(&snapshots, &first, "cache").await;
        assert_eq!(keys(&mut connection).await, map(&BEFORE));
        snapshots.capture().await.unwrap();
        assert_eq!(left_behind(at.path()), Vec::<String>::new());
    }
}

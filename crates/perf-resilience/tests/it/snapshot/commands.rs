//! A process that is killed before and after each command of a capture and of a drill on PostgreSQL.

use super::faults::{Seals, postgres_shop};
use super::restores::child::{kill_once, soon};
use super::restores::postgres::programs;
use super::*;
use perf_resilience::snapshot::PostgresTarget;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

/// Stands in for each of PostgreSQL's programs: notes that it was started, does what it is for, and holds the process up
/// before or after that if this is the command at which it is to be killed.
const PROGRAM: &str = r#"#!/bin/sh
at=$(dirname "$0")
name=$(basename "$0")
echo "$name" >>"$at/log"
turn="$(wc -l <"$at/log") $PERF_SNAPSHOT_HOLD"
hold() {
    if [ "$turn" = "$PERF_SNAPSHOT_TURN $1" ]; then
        : >"$at/held"
        while :; do sleep 0.02; done
    fi
}
hold before
"$name" "$@"
status=$?
hold after
exit $status
"#;

const TEST: &str = "snapshot::commands::a_process_killed_before_or_after_any_command_of_a_postgres_capture_or_drill_leaves_the_snapshot_before_valid";
/// What the process that is to be killed has to know: the work, port and user.
const ORDER: &str = "PERF_SNAPSHOT_ORDER";
const AT: &str = "PERF_SNAPSHOT_AT";

fn snapshots(at: &Path, target: PostgresTarget) -> Snapshots {
    Snapshots::new("s", Arc::new(target), at.join("snapshots"), Retention::default())
}

/// In the process that is to be killed.
async fn run_child() -> bool {
    let Ok(order) = std::env::var(ORDER) else { return false };
    let at = PathBuf::from(std::env::var_os(AT).unwrap());
    let [work, port, user] = order.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let target = PostgresTarget::new("127.0.0.1", port.parse().unwrap(), user, "shop");
    let snapshots = snapshots(&at, target.programs(at.join("programs")));
    match work {
        "capture" => drop(snapshots.capture().await.unwrap()),
        _ => drop(snapshots.drill().await.unwrap()),
    }
    true
}

fn start(at: &Path, order: &str, turn: usize, when: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST]).env(ORDER, order).env(AT, at);
    command.env("PERF_SNAPSHOT_TURN", turn.to_string()).env("PERF_SNAPSHOT_HOLD", when);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn a_process_killed_before_or_after_any_command_of_a_postgres_capture_or_drill_leaves_the_snapshot_before_valid()
 {
    if run_child().await {
        return;
    }
    let (server, target) = postgres_shop().await;
    let (port, user) = (server.port(), server.sql("SELECT current_user").await.unwrap());
    let at = directory("killed-postgres");
    let root = at.path().join("programs");
    std::fs::create_dir(&root).unwrap();
    for name in ["psql", "pg_dump", "pg_restore"] {
        std::fs::write(root.join(name), PROGRAM).unwrap();
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let real = snapshots(at.path(), target);
    let first = real.capture().await.unwrap();
    let seals = Arc::new(Seals(first.counts.clone()));
    let seals = Snapshots::new("seals", seals, at.path().join("snapshots"), Retention::default());
    // What a rehearsal that was killed long ago has left, the next one removes.
    server.create_database("perf_drill_0000000001000_0123abcd").await.unwrap();
    real.drill().await.unwrap();
    let left = server.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'perf_drill%'").await.unwrap();
    assert_eq!(left.trim(), "0");
    for (work, commands) in [
        ("capture", "pg_dump pg_restore pg_restore psql pg_dump"),
        // Two that look at the dump, the search for old databases, a new one, the restore into it, and its end.
        ("drill", "pg_restore pg_restore psql psql pg_restore psql"),
    ] {
        let commands: Vec<_> = commands.split(' ').collect();
        // What is after one command is before the next.
        let before = (1..=commands.len()).map(|turn| (turn, "before"));
        for (turn, when) in before.chain([(commands.len(), "after")]) {
            let (log, held) = (root.join("log"), root.join("held"));
            let child = start(at.path(), &format!("{work} {port} {}", user.trim()), turn, when);
            kill_once(child, async || held.exists()).await;
            let done = std::fs::read_to_string(&log).unwrap();
            assert_eq!(done.lines().collect::<Vec<_>>(), commands[..turn], "{work}, killed {when} {turn}");
            soon("something runs on", async || programs(port).is_empty()).await;
            assert_eq!(real.list().await.unwrap().len(), 1, "{work}, killed {when} {turn}");
            seals.verify(&first.id).await.unwrap();
            std::fs::remove_file(&log).unwrap();
            std::fs::remove_file(&held).unwrap();
        }
        // Held up nowhere, it makes no other commands than these.
        let mut child = start(at.path(), &format!("{work} {port} {}", user.trim()), 0, "never");
        assert!(child.wait().unwrap().success(), "{work}");
        let done = std::fs::read_to_string(root.join("log")).unwrap();
        assert_eq!(done.lines().collect::<Vec<_>>(), commands, "{work}");
        std::fs::remove_file(root.join("log")).unwrap();
        for other in &real.list().await.unwrap()[1..] {
            real.verify(&other.id).await.unwrap();
            std::fs::remove_dir_all(at.path().join("snapshots").join(&other.id)).unwrap();
        }
        assert_eq!(left_behind(at.path()), Vec::<String>::new(), "{work}");
    }
    real.verify(&first.id).await.unwrap();
    assert_eq!(server.sql_in("shop", "SELECT count(*) FROM orders").await.unwrap().trim(), "50");
}

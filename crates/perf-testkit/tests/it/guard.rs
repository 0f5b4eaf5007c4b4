//! What happens to servers when the test goes wrong.

use crate::{gone, in_time};
use perf_testkit::{PostgresServer, RedisServer};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Set in the copies of this test program that play a part in a test.
const VICTIM: &str = "PERF_TESTKIT_VICTIM";

#[tokio::test]
async fn a_server_goes_when_its_test_panics() {
    let (send, receive) = std::sync::mpsc::channel();
    let test = tokio::spawn(async move {
        let server = RedisServer::start().await.unwrap();
        send.send((server.process_id().unwrap(), server.directory().to_owned())).unwrap();
        panic!("the test fails");
    });
    assert!(test.await.unwrap_err().is_panic());
    let (pid, directory) = receive.recv().unwrap();
    gone(pid, &directory).await;
}

/// Run by the next test in a process of its own: starts two servers, pauses one, says where they are, and waits to be
/// killed. By itself it has nothing to do.
#[tokio::test]
async fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let postgres = PostgresServer::start().await.unwrap();
    let redis = RedisServer::start().await.unwrap();
    postgres.pause().await.unwrap();
    println!("\nserver {} {}", postgres.process_id().unwrap(), postgres.directory().display());
    println!("server {} {}", redis.process_id().unwrap(), redis.directory().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_go_when_their_test_process_is_killed_even_while_paused() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "guard::victim", "--nocapture"]).env(VICTIM, "1");
    let mut victim = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut servers = Vec::new();
    while servers.len() < 2 {
        let line = in_time(lines.next_line()).await.unwrap().expect("the victim says where its servers are");
        if let Some((pid, directory)) = line.strip_prefix("server ").and_then(|rest| rest.split_once(' ')) {
            servers.push((pid.parse::<u32>().unwrap(), std::path::PathBuf::from(directory)));
        }
    }
    assert!(servers.iter().all(|(_, directory)| directory.exists()));
    victim.kill().await.unwrap();
    for (pid, directory) in servers {
        gone(pid, &directory).await;
    }
}

/// Run by the next test in a process of its own, with a temporary directory of its own: drops a start and waits until its
/// server has come up and gone again. By itself it has nothing to do.
#[tokio::test]
async fn dropped_start() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let files = || std::fs::read_dir(std::env::temp_dir()).unwrap().count();
    let start = PostgresServer::start();
    assert!(tokio::time::timeout(Duration::from_millis(1), start).await.is_err());
    for expected in [true, false] {
        in_time(async {
            while (files() > 0) != expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    println!("\nclean");
}

#[tokio::test]
async fn a_start_that_is_dropped_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // The server's account has to get through.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "guard::dropped_start", "--nocapture"]).env(VICTIM, "1");
    let output = in_time(command.env("TMPDIR", directory.path()).kill_on_drop(true).output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("\nclean"), "{text}");
}

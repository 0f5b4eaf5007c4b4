//! The command line: exit codes, files, signals.

use crate::server::{Act, Server, answer};
use perf_load::RunReport;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perf-load"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(arguments: &[&str]) -> Output {
    let output = command(arguments).output();
    tokio::time::timeout(Duration::from_secs(60), output).await.unwrap().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// L15: 0 passed, 1 an expectation was not kept, 2 usage, 3 invalid, 4 unreachable, 5 failed, 130 interrupted.
#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_what_happened() {
    let server = Server::start(|seen| {
        assert!(seen.path().starts_with("/item/") && seen.head.contains("x-tenant: a\r\n"));
        Act::ok("x")
    })
    .await;
    let url = format!("http://127.0.0.1:{}/item/{{1..9}}", server.port);
    let short = ["--for", "300ms", "--quiet", "-H", "x-tenant: a"];
    let http = |more: &[&'static str]| [&["http", url.as_str()], &short[..], more].concat();
    let passed = run(&http(&["--rate", "100", "--expect", "p99<5s, errors<1%"])).await;
    assert_eq!(code(&passed), 0, "{}", text(&passed.stderr));
    assert!(text(&passed.stdout).contains("kept p99<5s"), "{}", text(&passed.stdout));
    let missed = run(&http(&["--users", "2", "--expect", "rps>1000000"])).await;
    assert_eq!(code(&missed), 1, "{}", text(&missed.stderr));
    assert!(text(&missed.stdout).contains("NOT KEPT rps>1000000"));
    let overflow = ["--rate", "400", "--max-in-flight", "1", "--drop", "--no-keep-alive"];
    let slow = Server::start(|_| Act::Silence).await;
    let slow_url = format!("http://127.0.0.1:{}/", slow.port);
    let invalid =
        run(&[&["http", slow_url.as_str(), "--timeout", "1s"], &short[..], &overflow].concat()).await;
    assert_eq!(code(&invalid), 3, "{}", text(&invalid.stdout));
    for usage in [
        &["http", "ftp://x", "--rate", "5"][..],
        &["http", "https://x", "--rate", "5"],
        &["http", url.as_str()],
        &["http", url.as_str(), "--rate", "5", "--expect", "p99<fast"],
        &["http", url.as_str(), "--rate", "5", "--for", "0"],
        &["http", url.as_str(), "--users", "0"],
        &["compare", "one.json"],
        &[],
    ] {
        let output = run(usage).await;
        assert_eq!(code(&output), 2, "{usage:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{usage:?} is explained");
    }
    let gone = {
        let server = Server::start(|_| Act::ok("x")).await;
        format!("http://127.0.0.1:{}/", server.port)
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let unreachable = run(&["http", &gone, "--rate", "5"]).await;
    assert_eq!(code(&unreachable), 4, "{}", text(&unreachable.stderr));
    assert!(text(&unreachable.stderr).contains("cannot reach the target"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_written_and_a_stored_run_is_compared() {
    let server = Server::start(|seen| {
        assert!(seen.head.starts_with("POST / ") && seen.body == b"hello");
        Act::Send(answer(200, "x"))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let url = format!("http://127.0.0.1:{}/", server.port);
    let files = [path("r.json"), path("r.html"), path("r.hgrm"), path("r.hlog"), path("r.xml")];
    let output = run(&[
        "http",
        &url,
        "--rate",
        "200",
        "--for",
        "500ms",
        "--ramp",
        "200ms",
        "--warmup",
        "100ms",
        "--body",
        "hello",
        "--expect",
        "errors<1%",
        "--quiet",
        "--json",
        &files[0],
        "--html",
        &files[1],
        "--hgrm",
        &files[2],
        "--hlog",
        &files[3],
        "--junit",
        &files[4],
    ])
    .await;
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    let report = RunReport::read(&files[0]).unwrap();
    assert!((80..=120).contains(&report.total.requests), "{report}");
    assert!((report.load.warmup_s - 0.3).abs() < 1e-9 && report.warmup_requests > 10, "{report}");
    for (file, start) in
        files[1..].iter().zip(["<!doctype html>", "       Value", "#[Histogram log", "<?xml"])
    {
        assert!(std::fs::read_to_string(file).unwrap().starts_with(start), "{file}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
    let compared = run(&["compare", &files[0], &files[0]]).await;
    assert_eq!(code(&compared), 0, "{}", text(&compared.stderr));
    assert!(text(&compared.stdout).contains("throughput"));
    let broken = run(&["compare", &files[0], &files[1]]).await;
    assert_eq!(code(&broken), 2, "an HTML page is not a stored run: {}", text(&broken.stderr));
    let missing = run(&["compare", &files[0], &path("none.json")]).await;
    assert_eq!(code(&missing), 5, "{}", text(&missing.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_is_told_before_the_run() {
    let server = Server::start(|_| Act::ok("x")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("missing").join("run.json").display().to_string();
    let output = run(&["http", &url, "--rate", "5", "--for", "1h", "--json", &inside]).await;
    assert_eq!(code(&output), 5);
    assert!(text(&output.stderr).contains(&inside), "{}", text(&output.stderr));
    assert_eq!(server.connections(), 0, "nothing was sent");
}

async fn signal(child: &tokio::process::Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
}

// L9: the first signal gives a partial report, the second does not wait for answers.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_still_writes_its_report() {
    let server = Server::start(|seen| if seen.number > 20 { Act::Silence } else { Act::ok("x") }).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("run.json").display().to_string();
    let arguments = ["http", &url, "--rate", "100", "--for", "1h", "--quiet", "--json", &json];
    for second in ["-INT", "-TERM"] {
        let child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        signal(&child, "-INT").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        signal(&child, second).await;
        let output =
            tokio::time::timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(code(&output), 130, "{}", text(&output.stderr));
        let report = RunReport::read(&json).unwrap();
        assert!(report.interrupted && report.total.response.censored > 0, "{report}");
        std::fs::remove_file(&json).unwrap();
    }
}

// The generator's own limits taint a run instead of being charged to the target.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_files_makes_the_run_invalid() {
    let server = Server::start(|_| Act::ok("x")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let limited = "ulimit -n 24; exec \"$0\" http \"$1\" --users 60 --for 500ms --quiet";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_perf-load"), &url])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.unwrap().unwrap();
    assert_eq!(code(&output), 3, "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("generator_fd"), "{}", text(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_does_not_fail_the_run() {
    let server = Server::start(|_| Act::ok("x")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let mut child = command(&["http", &url, "--rate", "50", "--for", "200ms", "--quiet"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

//! The storefront as a user runs it: its result, its refusals, and what it leaves behind.

#![expect(clippy::expect_used, reason = "a test that cannot read its input says so by panicking")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Builds the storefront once and returns the program.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "-p",
                "perfkit-examples",
                "--example",
                "storefront",
                "--message-format=json",
            ])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .expect("cargo starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let artifacts = String::from_utf8(output.stdout).expect("cargo prints text");
        let executable = artifacts
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "storefront")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from));
        executable.expect("cargo says where the storefront is")
    })
}

/// A small run: seconds, not minutes.
fn small(directory: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .args([
            "--once",
            "--scale",
            "0.01",
            "--users",
            "20",
            "--seconds",
            "2",
            "--warm-up",
            "1",
            "--rate",
            "20",
        ])
        .env("TMPDIR", directory)
        .stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What is left in a directory, by name.
fn leftovers(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_run_on_sqlite_gives_the_table_the_json_and_the_page_with_no_wrong_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let (json, html) = (directory.path().join("out.json"), directory.path().join("out.html"));
    let output = small(directory.path())
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("requests/s"), "{}", said(&output));

    let result: Value =
        serde_json::from_slice(&std::fs::read(&json).expect("the JSON is there")).expect("it is JSON");
    let fields = [
        "mean_ms",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "max_ms",
        "rps",
        "requests",
        "errors",
        "db_queries",
        "db_ms_total",
        "bytes_sent",
        "peak_rss_mb",
    ];
    for side in ["before", "after"] {
        for field in fields {
            assert!(result[side][field].is_number(), "{side}.{field} in {result}");
        }
        assert_eq!(result[side]["errors"], 0, "{result}");
    }
    assert!(
        result["after"]["hit_ratio"].as_f64().is_some_and(|ratio| (0.0..=1.0).contains(&ratio)),
        "{result}"
    );
    assert_eq!((&result["wrong"], &result["stale"]), (&0.into(), &0.into()), "{result}");
    assert!(result["checked"].as_u64().is_some_and(|checked| checked > 0), "{result}");
    let page = std::fs::read_to_string(&html).expect("the page is there");
    assert!(page.starts_with("<!doctype html>") && !page.contains("http://") && !page.contains("<script"));
    assert_eq!(leftovers(directory.path()).len(), 2, "{:?}", leftovers(directory.path()));
}

#[test]
fn chaos_shows_failed_requests_but_never_a_stale_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("out.json");
    let output = small(directory.path()).arg("--chaos").arg("--json").arg(&json).output().expect("it starts");
    assert!(output.status.success(), "{}", said(&output));
    let result: Value =
        serde_json::from_slice(&std::fs::read(&json).expect("the JSON is there")).expect("it is JSON");
    let chaos = &result["chaos"];
    let failed = |side: &str| {
        let number = |field: &str| chaos[side][field].as_f64().expect("a number");
        assert!(number("requests") > 0.0, "{side}: {result}");
        number("errors") / number("requests")
    };
    assert!(failed("before") > failed("after"), "the same faults fail more without policies: {result}");
    for count in ["breaker_opened", "breaker_refused", "limited", "retries", "stale_if_error"] {
        assert!(chaos["effect"][count].is_u64(), "{count}: {result}");
    }
    assert!(chaos["effect"]["breaker_refused"].as_u64() > Some(0), "an outage opens the breaker: {result}");
    assert_eq!((&result["wrong"], &result["stale"]), (&0.into(), &0.into()), "{result}");
}

#[tokio::test]
async fn postgresql_and_redis_serve_it_as_well() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = perf_testkit::PostgresServer::start().await.expect("PostgreSQL starts");
    let redis = perf_testkit::RedisServer::start().await.expect("Redis starts");
    let json = directory.path().join("out.json");
    let mut command = small(directory.path());
    command.arg("--database").arg(database.url()).arg("--redis").arg(redis.url()).arg("--json").arg(&json);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("it is waited for")
        .expect("it starts");
    assert!(output.status.success(), "{}", said(&output));
    let result: Value =
        serde_json::from_slice(&std::fs::read(&json).expect("the JSON is there")).expect("it is JSON");
    assert_eq!(result["database"], "PostgreSQL");
    assert_eq!((&result["wrong"], &result["stale"]), (&0.into(), &0.into()), "{result}");
    assert_eq!((&result["before"]["errors"], &result["after"]["errors"]), (&0.into(), &0.into()), "{result}");
    assert!(result["after"]["requests"].as_u64().is_some_and(|requests| requests > 0), "{result}");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_generated() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("nowhere/out.json");
    let missing = missing.to_str().expect("a path");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = listener.local_addr().expect("its address").port().to_string();
    for (arguments, code, words) in [
        (vec!["--database", "mysql://root:secret@localhost/shop"], 1, "not a PostgreSQL URL"),
        (vec!["--json", missing], 1, "cannot write"),
        (vec!["--page-port", &taken], 1, "cannot listen on 127.0.0.1:"),
        (vec!["--users", "0"], 2, "0 is not in 1..=20000"),
        (vec!["--scale=-1"], 2, "is not between"),
        (vec!["--colour"], 2, "--colour"),
    ] {
        let mut command = Command::new(program());
        let output = command
            .arg("--once")
            .args(&arguments)
            .env("TMPDIR", directory.path())
            .output()
            .expect("it starts");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains("secret"), "{}", said(&output));
        assert_eq!(leftovers(directory.path()), Vec::<String>::new(), "{arguments:?}");
    }
}

#[test]
fn without_once_the_live_page_is_served_until_an_interrupt_which_is_then_no_failure() {
    use std::io::{BufRead, BufReader};
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(program())
        .args(["--scale", "0.01", "--users", "5", "--seconds", "1", "--warm-up", "0", "--rate", "10"])
        .env("TMPDIR", directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let lines =
        BufReader::new(child.stdout.take().expect("its output")).lines().map(|line| line.expect("text"));
    let login = lines
        .inspect(|line| assert!(!line.contains("Ctrl-C"), "the page is named before"))
        .find_map(|line| line.strip_prefix("live page: ").map(str::to_owned))
        .expect("the page is named");
    let (address, path) = login.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let mut stream = std::net::TcpStream::connect(address).expect("the page is served");
    std::io::Write::write_all(
        &mut stream,
        format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )
    .expect("the request is sent");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).expect("the answer is text");
    assert!(answer.starts_with("HTTP/1.1 303") && answer.to_lowercase().contains("set-cookie"), "{answer}");

    let interrupted =
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    assert!(interrupted.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(leftovers(directory.path()), Vec::<String>::new());
}

#[test]
fn a_database_that_is_in_the_way_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("before.db");
    std::fs::write(&file, "mine").expect("the file is written");
    let output = small(directory.path()).arg("--dir").arg(directory.path()).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("is in the way"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(&file).expect("it is still there"), "mine");
}

#[test]
fn an_interrupt_at_any_moment_ends_it_and_leaves_nothing() {
    for after in [50, 700, 2000, 4000] {
        let directory = tempfile::tempdir().expect("a directory");
        let json = directory.path().join("out.json");
        let mut child = small(directory.path())
            .arg("--json")
            .arg(&json)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        // The moment is what this test varies; nothing is waited for.
        std::thread::park_timeout(Duration::from_millis(after));
        let interrupted =
            Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
        assert!(interrupted.success());
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(130), "after {after} ms");
        assert_eq!(leftovers(directory.path()), Vec::<String>::new(), "after {after} ms");
    }
}

//! Behaviour of the testkit itself, against the real servers.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod guard;
#[cfg(feature = "tower")]
mod layer;
mod mariadb;
mod postgres;
mod proxy;
mod redis;
mod script;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

/// Fails when `work` takes longer than the slowest server may.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("done within a minute")
}

/// Whether a process exists and is more than an entry waiting to be reaped.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

/// Waits until neither the process nor the directory exists.
async fn gone(pid: u32, directory: &Path) {
    in_time(async {
        while lives(pid) || directory.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

//! A process and all its descendants, read from `/proc`.
//!
//! A process group is not enough: every PostgreSQL backend leads a session of its own.

use super::real_time::poll_until;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// How long killed processes may take to disappear.
const DEATH: Duration = Duration::from_secs(10);

/// What `/proc/<pid>/stat` says about a process. The start time tells it from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    pid: i32,
    parent: i32,
    started: u64,
    dead: bool,
}

impl Entry {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The fields after the name, which is in parentheses and may itself contain some.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let dead = matches!(*fields.first()?, "Z" | "X");
        Some(Self { pid, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()?, dead })
    }

    fn lives(self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started && !now.dead)
    }
}

/// Every process of the machine that can be seen.
fn all() -> Vec<Entry> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Entry::read).collect()
}

/// `root` and its living descendants, parents before children.
fn members(root: i32) -> Vec<Entry> {
    let all = all();
    let mut found: Vec<Entry> = all.iter().copied().filter(|e| e.pid == root && !e.dead).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|e| e.pid) {
        found.extend(all.iter().filter(|e| e.parent == parent && !e.dead));
        next += 1;
    }
    found
}

/// Sends `signal`; a process that has ended meanwhile needs none.
pub(crate) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ended = kill_process(pid, signal);
    }
}

/// Stops `root` and every descendant. A stopped parent cannot fork, so the search ends when it finds nobody new.
fn freeze(root: i32) -> BTreeSet<Entry> {
    let mut stopped = BTreeSet::new();
    loop {
        let new: Vec<Entry> = members(root).into_iter().filter(|e| !stopped.contains(e)).collect();
        if new.is_empty() {
            return stopped;
        }
        for entry in new {
            send(entry.pid, Signal::STOP);
            stopped.insert(entry);
        }
    }
}

/// Stops `root` and every descendant until [`resume`].
pub(crate) fn pause(root: i32) {
    freeze(root);
}

/// Lets `root` and every descendant go on.
pub(crate) fn resume(root: i32) {
    for entry in members(root) {
        send(entry.pid, Signal::CONT);
    }
}

/// Kills `root` and every descendant at once, and waits until the descendants are gone. The caller reaps `root`.
pub(crate) fn kill(root: i32) {
    let tree = freeze(root);
    for entry in &tree {
        send(entry.pid, Signal::KILL);
    }
    poll_until(DEATH, || !tree.iter().any(|entry| entry.lives()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A shell with a child and a grandchild in a session of its own.
    fn family() -> Child {
        let script = "setsid sh -c 'sleep 60 & wait' & wait";
        Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap()
    }

    fn with_all_of(child: &Child) -> Vec<Entry> {
        let root = child.id() as i32;
        assert!(poll_until(DEATH, || members(root).len() == 3), "{:?}", members(root));
        members(root)
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_fields() {
        let stat = "7 (a) S (b) R 4 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 991 0 0";
        let entry = Entry::parse(7, stat).unwrap();
        assert_eq!(entry, Entry { pid: 7, parent: 4, started: 991, dead: false });
        assert!(Entry::parse(7, "7 (cut").is_none());
    }

    #[test]
    fn a_kill_reaches_grandchildren_in_sessions_of_their_own() {
        let mut child = family();
        let tree = with_all_of(&child);
        kill(child.id() as i32);
        child.wait().unwrap();
        assert!(tree.iter().all(|entry| !entry.lives()));
    }

    #[test]
    fn a_paused_family_stands_still_until_resumed() {
        let mut child = family();
        let tree = with_all_of(&child);
        let states = || -> String {
            let state = |e: &Entry| {
                let stat = fs::read_to_string(format!("/proc/{}/stat", e.pid)).unwrap();
                stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
            };
            tree.iter().map(state).collect()
        };
        pause(child.id() as i32);
        assert!(poll_until(DEATH, || states() == "TTT"), "{}", states());
        resume(child.id() as i32);
        assert!(poll_until(DEATH, || states() == "SSS"), "{}", states());
        kill(child.id() as i32);
        child.wait().unwrap();
    }
}

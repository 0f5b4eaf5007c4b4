//! The files of `/proc` as plain data.

use std::fs::{self, File};
use std::io::Read;

/// What the kernel counts in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units {
    pub(super) ticks_per_second: f64,
    pub(super) page_bytes: f64,
    /// When the machine was started, in seconds since the Unix epoch.
    pub(super) booted: Option<f64>,
}

/// Keys of the auxiliary vector, the kernel's way of telling a process its units without a system call.
const AT_PAGESZ: u64 = 6;
const AT_CLKTCK: u64 = 17;

pub(super) fn units() -> Units {
    let vector = fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    let entry = |key| vector.chunks_exact(16).find(|e| word(&e[..8]) == key).map(|e| word(&e[8..]) as f64);
    let booted = fs::read_to_string("/proc/stat").ok();
    let booted = booted.as_deref().and_then(|stat| stat.lines().find_map(|line| line.strip_prefix("btime ")));
    Units {
        // Linux reports in hundredths of a second on every architecture tokio runs on.
        ticks_per_second: entry(AT_CLKTCK).filter(|ticks| *ticks > 0.0).unwrap_or(100.0),
        page_bytes: entry(AT_PAGESZ).filter(|bytes| *bytes > 0.0).unwrap_or(4096.0),
        booted: booted.and_then(|seconds| seconds.trim().parse().ok()),
    }
}

/// The text of a file, in `buffer`.
pub(super) fn read<'a>(path: &str, buffer: &'a mut Vec<u8>) -> Option<&'a str> {
    buffer.clear();
    File::open(path).and_then(|mut file| file.read_to_end(buffer)).ok()?;
    std::str::from_utf8(buffer).ok()
}

/// `/proc/self/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) cpu_ticks: u64,
    pub(super) threads: u64,
    pub(super) start_ticks: u64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_pages: u64,
}

impl Stat {
    pub(super) fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name, which may contain spaces and parentheses.
        let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
        // Fields are numbered from 1 in proc(5); the next one here is number 3.
        let mut field = 3;
        let mut number = |wanted: usize| {
            let found = fields.nth(wanted - field)?.parse::<u64>().ok();
            field = wanted + 1;
            found
        };
        Some(Self {
            cpu_ticks: number(14)? + number(15)?,
            threads: number(20)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

/// `/proc/self/limits`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    pub(super) descriptors: Option<f64>,
    pub(super) virtual_bytes: Option<f64>,
}

impl Limits {
    pub(super) fn parse(text: &str) -> Self {
        let soft = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            match line.split_ascii_whitespace().next()? {
                "unlimited" => Some(f64::INFINITY),
                number => number.parse().ok(),
            }
        };
        Self { descriptors: soft("Max open files"), virtual_bytes: soft("Max address space") }
    }
}

/// How many descriptors are open. Since Linux 6.2 the size of the directory says so; before, its entries are counted.
pub(super) fn open_descriptors() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        // The directory that is being listed is itself open.
        0 => fs::read_dir(DIRECTORY).ok().map(|entries| (entries.count() as u64).saturating_sub(1)),
        size => Some(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_is_no_obstacle() {
        let text = "12 (a) b (c)) S 1 12 12 0 -1 4194304 105 0 0 0 7 5 0 0 20 0 9 0 100 4096000 300 18446744073709551615";
        let stat = Stat {
            cpu_ticks: 12,
            threads: 9,
            start_ticks: 100,
            virtual_bytes: 4_096_000,
            resident_pages: 300,
        };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse("12 (cut"), None);
        assert_eq!(Stat::parse("12 (cut) S 1"), None);
    }

    #[test]
    fn limits_may_be_numbers_or_unlimited() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 4096                 files\n\
                    Max address space         unlimited            unlimited            bytes\n";
        let limits = Limits { descriptors: Some(1024.0), virtual_bytes: Some(f64::INFINITY) };
        assert_eq!(Limits::parse(text), limits);
        assert_eq!(Limits::parse(""), Limits { descriptors: None, virtual_bytes: None });
    }
}

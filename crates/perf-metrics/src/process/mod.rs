//! The standard `process_*` metrics, read from `/proc`. What cannot be read is left out, never faked.

mod proc;

use crate::page::{Page, Value};
use perf_core::{Desc, Unit};
use proc::Stat;
use std::sync::{Mutex, PoisonError};

const CPU: Desc = Desc::counter(
    "process_cpu_seconds_total",
    "Total user and system CPU time spent in seconds.",
    Unit::Seconds,
);
const OPEN_FDS: Desc = Desc::gauge("process_open_fds", "Number of open file descriptors.", Unit::Count);
const MAX_FDS: Desc = Desc::gauge("process_max_fds", "Maximum number of open file descriptors.", Unit::Count);
const VIRTUAL: Desc =
    Desc::gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", Unit::Bytes);
const MAX_VIRTUAL: Desc = Desc::gauge(
    "process_virtual_memory_max_bytes",
    "Maximum amount of virtual memory available in bytes.",
    Unit::Bytes,
);
const RESIDENT: Desc =
    Desc::gauge("process_resident_memory_bytes", "Resident memory size in bytes.", Unit::Bytes);
const STARTED: Desc = Desc::gauge(
    "process_start_time_seconds",
    "Start time of the process since unix epoch in seconds.",
    Unit::Seconds,
);
const THREADS: Desc = Desc::gauge("process_threads", "Number of OS threads in the process.", Unit::Count);

/// The resident memory of the process; `None` where there is no `/proc`.
#[cfg(feature = "mimalloc")]
pub(crate) fn resident_bytes() -> Option<u64> {
    let stat = proc::read("/proc/self/stat", &mut Vec::new()).and_then(Stat::parse)?;
    Some((stat.resident_pages as f64 * proc::units().page_bytes) as u64)
}

/// Reads the process.
#[derive(Debug)]
pub(crate) struct Process {
    units: proc::Units,
    /// Files are read into the same buffer every time.
    buffer: Mutex<Vec<u8>>,
}

impl Process {
    pub(crate) fn new() -> Self {
        Self { units: proc::units(), buffer: Mutex::default() }
    }

    pub(crate) fn read(&self, page: &mut Page) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut level = |desc: &Desc, value: Option<f64>| {
            if let Some(value) = value {
                page.push(desc.into(), &[], Value::Number(value));
            }
        };
        let stat = proc::read("/proc/self/stat", &mut buffer).and_then(Stat::parse);
        let ticks = self.units.ticks_per_second;
        level(&CPU, stat.map(|stat| stat.cpu_ticks as f64 / ticks));
        level(&VIRTUAL, stat.map(|stat| stat.virtual_bytes as f64));
        level(&RESIDENT, stat.map(|stat| stat.resident_pages as f64 * self.units.page_bytes));
        level(&THREADS, stat.map(|stat| stat.threads as f64));
        let booted = self.units.booted;
        level(&STARTED, stat.zip(booted).map(|(stat, booted)| booted + stat.start_ticks as f64 / ticks));
        level(&OPEN_FDS, proc::open_descriptors().map(|open| open as f64));
        let limits = proc::read("/proc/self/limits", &mut buffer).map(proc::Limits::parse);
        level(&MAX_FDS, limits.and_then(|limits| limits.descriptors));
        level(&MAX_VIRTUAL, limits.and_then(|limits| limits.virtual_bytes));
    }
}

use perf_core::time::Duration;

/// Processor time used so far by the calling thread; `None` where the system does not tell.
pub(crate) fn thread_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).ok()?;
        Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_uses_processor_time() {
        let before = thread_time().unwrap();
        let sum: u64 = std::hint::black_box((0..2_000_000_u64).map(std::hint::black_box).sum());
        assert!(sum > 0 && thread_time().unwrap() > before);
    }
}

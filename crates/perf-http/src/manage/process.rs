//! How full the process is: CPU and memory, from the numbers that perf-metrics reads.

use super::reading::Reading;
use perf_core::time::Instant;
use perf_metrics::{Metrics, ValueView};

#[derive(Debug, Default)]
pub(super) struct Process {
    cpu: Option<(Instant, f64)>,
    cpu_ratio: Option<f64>,
    pub(super) memory: Option<f64>,
    descriptors: Option<f64>,
}

impl Process {
    /// Reads the process' numbers, where they are collected at all.
    pub(super) fn read(&mut self, metrics: &Metrics, now: Instant) {
        let view = metrics.view();
        let value = |name: &str| {
            let family = view.families.iter().find(|family| family.name == name)?;
            match family.series.first()?.value {
                ValueView::Count(count) => Some(count as f64),
                ValueView::Number(number) => Some(number),
                ValueView::Distribution(_) => None,
            }
        };
        let cpu = value("process_cpu_seconds_total");
        if let (Some(used), Some((at, before))) = (cpu, self.cpu) {
            let wall = now.saturating_duration_since(at).as_secs_f64();
            let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
            self.cpu_ratio = (wall > 0.0).then(|| ((used - before) / wall / cores).clamp(0.0, 1.0));
        }
        self.cpu = cpu.map(|used| (now, used));
        self.memory = value("process_resident_memory_bytes");
        let (open, most) = (value("process_open_fds"), value("process_max_fds"));
        self.descriptors = open.zip(most).and_then(|(open, most)| (most > 0.0).then_some(open / most));
    }

    /// Offers what it knows as the fullest part.
    pub(super) fn offer(&self, reading: &mut Reading) {
        if let Some(ratio) = self.cpu_ratio {
            reading.offer(|| "CPU".to_owned(), ratio);
        }
        if let Some(ratio) = self.descriptors {
            reading.offer(|| "file descriptors".to_owned(), ratio);
        }
    }
}

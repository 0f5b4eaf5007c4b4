use perf_core::{Component, ComponentId, Desc, Sink, Unit};
use std::path::{Path, PathBuf};

const PRESSURE: Desc = Desc::gauge(
    "perf_metrics_pressure_ratio",
    "Share of the last ten seconds in which some task waited for the resource",
    Unit::Ratio,
);
const MEMORY: Desc = Desc::gauge("perf_metrics_cgroup_memory_bytes", "Memory of the cgroup", Unit::Bytes);
const MEMORY_LIMIT: Desc =
    Desc::gauge("perf_metrics_cgroup_memory_limit_bytes", "Memory the cgroup may have", Unit::Bytes);

/// Pressure stall information and the cgroup's memory (Linux, cgroup v2). What a machine does not have is left out.
#[derive(Debug)]
pub struct SystemMetrics {
    root: PathBuf,
    cgroup: Option<PathBuf>,
}

impl SystemMetrics {
    /// The machine and the cgroup of this process.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Path::new("/"))
    }

    /// The same below another root.
    fn at(root: &Path) -> Self {
        // Version 2 has one line, `0::/path`.
        let own = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let cgroup = path.map(|path| root.join("sys/fs/cgroup").join(path));
        Self { root: root.to_owned(), cgroup }
    }

    /// Bytes the cgroup may have: the limit a leak runs into. `None` without one.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        self.cgroup_number("memory.max")
    }

    fn cgroup_number(&self, file: &str) -> Option<u64> {
        std::fs::read_to_string(self.cgroup.as_ref()?.join(file)).ok()?.trim().parse().ok()
    }

    /// `some avg10=1.23 …` as a share.
    fn pressure(&self, resource: &str) -> Option<f64> {
        let text = std::fs::read_to_string(self.root.join("proc/pressure").join(resource)).ok()?;
        let some = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
        some.split(' ').next()?.parse::<f64>().ok().map(|percent| percent / 100.0)
    }
}

impl Default for SystemMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Component for SystemMetrics {
    fn id(&self) -> ComponentId {
        ComponentId::new("system", "host")
    }

    fn collect(&self, sink: &mut dyn Sink) {
        for resource in ["cpu", "io", "memory"] {
            if let Some(share) = self.pressure(resource) {
                sink.gauge(&PRESSURE, &[("resource", resource)], share);
            }
        }
        if let Some(bytes) = self.cgroup_number("memory.current") {
            sink.gauge(&MEMORY, &[], bytes as f64);
        }
        if let Some(bytes) = self.memory_limit() {
            sink.gauge(&MEMORY_LIMIT, &[], bytes as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_and_cgroup_are_read_where_they_are() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", "0::/shop\n");
        write("sys/fs/cgroup/shop/memory.max", "1048576\n");
        write("sys/fs/cgroup/shop/memory.current", "4096\n");
        write("proc/pressure/cpu", "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00\n");
        let system = SystemMetrics::at(root.path());
        assert_eq!((system.memory_limit(), system.pressure("cpu")), (Some(1_048_576), Some(0.125)));
        assert_eq!((system.pressure("io"), system.cgroup_number("memory.current")), (None, Some(4096)));
        write("sys/fs/cgroup/shop/memory.max", "max\n");
        assert_eq!(system.memory_limit(), None);
    }
}

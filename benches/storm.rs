//! A retry storm in virtual time: `crates/perf-resilience/benches/storm.rs`.

fn main() -> Result<(), String> {
    perfkit_benches::run_elsewhere("perf-resilience", "storm")
}

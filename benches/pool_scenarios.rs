//! What callers of four pools see: `crates/perf-pool/benches/pool_scenarios.rs`.

fn main() -> Result<(), String> {
    perfkit_benches::run_elsewhere("perf-pool", "pool_scenarios")
}

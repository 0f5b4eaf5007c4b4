//! The retry storm of the design, in virtual time, with the real policies: which of them end an outage, and how soon?

#[path = "../tests/it/storm/simulation.rs"]
mod simulation;

use simulation::{Outcome, VARIANTS, run};

/// Runs the variants whose names contain the words of the command line, or all.
#[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "{:<45} {:>14} {:>12} {:>15} {:>14}",
        "variant", "in fault %", "recovery s", "after %", "amplification"
    );
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for variant in VARIANTS {
        if !words.iter().all(|word| variant.name.contains(word.as_str())) {
            continue;
        }
        for seed in [42, 43, 44] {
            // Real waiting is skipped: the runtime's clock is moved on whenever everybody waits.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
            let found: Outcome = runtime.block_on(run(variant, seed, variant.seconds))?;
            let recovery = found.recovery.map_or_else(|| "never".to_owned(), |seconds| seconds.to_string());
            println!(
                "{:<45} {:>14.1} {recovery:>12} {:>15.1} {:>14.2}",
                variant.name,
                found.in_fault * 100.0,
                found.after * 100.0,
                found.amplification,
            );
        }
    }
    Ok(())
}

use std::process::Command;

/// Runs a benchmark that lives with its crate, because it pauses the clock: that would make every clock reading of the other
/// benchmarks dearer. Whoever asks for it here, as for any other, gets it, with the arguments that were given.
///
/// # Errors
/// It cannot be built or started, or it fails.
pub fn run_elsewhere(package: &str, bench: &str) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["bench", "--locked", "--all-features", "-p", package, "--bench", bench, "--"])
        .args(std::env::args_os().skip(1).filter(|argument| argument != "--bench"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .map_err(|error| format!("{bench} of {package} cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{bench} of {package}: {status}")) }
}

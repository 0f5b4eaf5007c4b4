//! The load tester's command line.

mod args;
mod drive;
mod exit;
mod limits;
mod template;

use args::{Args, Command};
use clap::Parser;
use exit::Exit;
use perf_load::{Comparison, RunReport, SelfTest};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    limits::raise_open_files();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start a runtime: {error}"), Exit::Failed),
    };
    match runtime.block_on(run(args.command)) {
        Ok(exit) => exit.into(),
        Err(error) => complain(&error.to_string(), Exit::of(&error)),
    }
}

async fn run(command: Command) -> Result<Exit, perf_load::Error> {
    match command {
        Command::Http(args) => drive::http(*args).await,
        Command::Selftest { length } => {
            let result = SelfTest::run(length).await?;
            say(&result.to_string());
            Ok(if result.passed() { Exit::Passed } else { Exit::Invalid })
        }
        Command::Compare { before, after, min_effect, json } => {
            let (before, after) = (RunReport::read(before)?, RunReport::read(after)?);
            let comparison = Comparison::of(&before, &after, min_effect / 100.0);
            say(&if json { comparison.to_json()? } else { comparison.to_string() });
            Ok(if comparison.is_worse() { Exit::Missed } else { Exit::Passed })
        }
    }
}

/// Writes results. A reader that has gone, as `head` does, is no failure of the run.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn complain(text: &str, exit: Exit) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "perf-load: {text}");
    exit.into()
}

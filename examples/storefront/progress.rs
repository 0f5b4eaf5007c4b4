//! A progress bar on a terminal, and silence elsewhere.

use std::io::{IsTerminal, Write};

/// The characters of a full bar.
const WIDTH: u64 = 40;

/// Progress of one piece of work.
pub struct Progress {
    label: String,
    total: u64,
    done: u64,
    shown: u64,
    terminal: bool,
}

impl Progress {
    pub fn new(label: &str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        if !terminal {
            eprintln!("{label} ...");
        }
        Self { label: label.to_owned(), total: total.max(1), done: 0, shown: u64::MAX, terminal }
    }

    pub fn advance(&mut self, by: u64) {
        self.done += by;
        self.show((self.done * WIDTH / self.total).min(WIDTH));
    }

    pub fn finish(mut self) {
        self.show(WIDTH);
        if self.terminal {
            eprintln!();
        }
    }

    fn show(&mut self, filled: u64) {
        if !self.terminal || filled == self.shown {
            return;
        }
        self.shown = filled;
        let bar = "#".repeat(filled as usize) + &"-".repeat((WIDTH - filled) as usize);
        eprint!("\r{} [{bar}] {}", self.label, self.done);
        // A terminal that went away is no reason to stop.
        let _ = std::io::stderr().flush();
    }
}

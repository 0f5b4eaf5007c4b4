//! The main job of perfkit, shown on real data: one shop over a TPC-H database, driven twice by the same users.
//!
//! ```text
//! cargo run --release --example storefront            # table, then the live page until Ctrl-C
//! cargo run --release --example storefront -- --once --json out.json
//! ```
//!
//! **Before** is what a competent developer writes first: sqlx's pool with its defaults and no cache. **After** is the same
//! handlers and the same pages through perfkit: pool, cache that orders invalidate or bring up to date, indexes that
//! perf-dbopt recommended from the statements of the first run, resilience, compression; and orders that wait are written
//! together. Sampled answers of both runs are compared with the database.
//!
//! | file | what it is |
//! |---|---|
//! | `shop.rs`, `queries.rs`, `service.rs` | the shop: pages, SQL, handlers; the same in both runs |
//! | `before.rs`, `after.rs` | the two ways to serve it; `advise.rs` makes the indexes of the second |
//! | `writer.rs`, `group.rs`, `follow.rs` | the second way's writer: orders in groups, and what they do to pages in memory |
//! | `apart.rs` | the second way's thread for statements |
//! | `schema.rs`, `generate.rs` | the data |
//! | `serve.rs`, `child.rs` | the process that serves, and how it is spoken to |
//! | `traffic.rs`, `check.rs` | the users, and the comparison of their answers with the database |
//! | `drive.rs`, `report.rs`, `html.rs` | the phases and what they found |

// This is a program: it speaks to people on the terminal.
#![expect(clippy::print_stderr, reason = "a program for people")]
#![expect(unreachable_pub, reason = "the modules of a program have no outside")]

mod advise;
mod after;
mod apart;
mod args;
mod before;
mod chaos;
mod check;
mod child;
mod drive;
mod follow;
mod generate;
mod group;
mod html;
mod place;
mod progress;
mod queries;
mod report;
mod schema;
mod serve;
mod service;
mod shop;
mod traffic;
mod writer;

use args::{Args, Role};
use clap::Parser;
use std::process::ExitCode;

/// The user stopped it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    if let Some(Role::Serve(serve)) = &args.role {
        return runtime
            .block_on(serve::run(serve))
            .map_or_else(|error| failed(&*error), |()| ExitCode::SUCCESS);
    }
    runtime.block_on(async {
        let ended = tokio::select! {
            ended = drive::run(&args) => ended,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("\ninterrupted: the databases and partial results are removed");
                return ExitCode::from(INTERRUPTED);
            }
        };
        let clean = match ended {
            Ok(ended) => ended.linger().await,
            Err(error) => Err(error),
        };
        match clean {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => failed(&*error),
        }
    })
}

/// Says what went wrong, and why, down to the first cause.
fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprint!("storefront: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::FAILURE
}

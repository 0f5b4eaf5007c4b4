//! The command line of the storefront.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// One shop over a TPC-H database, driven twice: as a competent developer writes it first, and through perfkit.
#[derive(Clone, Debug, Parser)]
#[command(name = "storefront", version, about)]
pub struct Args {
    /// Concurrent users of the closed phase.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub users: u32,

    /// Length of the closed and of the open phase, each, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,

    /// Warm-up before each closed phase, in seconds; it is not measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub warm_up: u64,

    /// Requests per second of the open phase, the same before and after.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,

    /// Seed of the data access pattern.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// TPC-H scale factor: 0.1 is 20,000 products, 150,000 orders and 600,000 order lines.
    #[arg(long, default_value_t = 0.1, value_parser = scale)]
    pub scale: f64,

    /// Exit after the table instead of serving the live page.
    #[arg(long)]
    pub once: bool,

    /// Write the result as JSON.
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    /// Write the result as a self-contained HTML report.
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,

    /// Keep the databases in this directory instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Use this PostgreSQL database instead of SQLite (schemas `perfkit_before` and `perfkit_after` are replaced).
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,

    /// Share cached answers through this Redis server in the second run.
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,

    /// Stall and then kill the database for some seconds of the second run, and report what users saw.
    #[arg(long)]
    pub chaos: bool,

    /// Port of the live page; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub page_port: u16,

    #[command(subcommand)]
    pub role: Option<Role>,
}

/// What a child process of the storefront does; users never type this.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// Serves the shop until standard input closes.
    #[command(hide = true)]
    Serve(Serve),
}

/// How the shop is served.
#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Through perfkit, instead of the plain way.
    #[arg(long)]
    pub perfkit: bool,

    /// The database.
    #[arg(long)]
    pub url: String,

    /// The Redis server of the second cache tier.
    #[arg(long)]
    pub shared: Option<String>,

    /// The statements of the first run, from which indexes are advised.
    #[arg(long)]
    pub workload: Option<PathBuf>,

    /// Port of the live page; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub page: u16,
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.001..=10.0).contains(&scale) {
        Ok(scale)
    } else {
        Err(format!("{scale} is not between 0.001 and 10"))
    }
}

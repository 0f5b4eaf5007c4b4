//! The process that serves the shop until its standard input closes.

use crate::after::Tuned;
use crate::args::Serve;
use crate::before::Plain;
use crate::chaos::Valve;
use crate::child::{Ask, Numbers, Ready};
use crate::queries::{Postgres, Sqlite};
use crate::service;
use perfkit::dbopt::QueryStats;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

type Failure = Box<dyn Error + Send + Sync>;

/// What the parent can ask about, whichever way the shop is served.
pub struct Control {
    pub stats: Vec<QueryStats>,
    pub valve: Arc<Valve>,
    /// Adds what only one of the two ways has numbers of.
    pub more: Box<dyn Fn(&mut Numbers) + Send + Sync>,
}

/// Serves the shop as the command line says.
pub async fn run(serve: &Serve) -> Result<(), Failure> {
    let postgres = serve.url.starts_with("postgres");
    match (serve.perfkit, postgres) {
        (false, false) => plain::<Sqlite>(serve).await,
        (false, true) => plain::<Postgres>(serve).await,
        (true, false) => Box::pin(Tuned::sqlite(serve)).await,
        (true, true) => Box::pin(Tuned::postgres(serve)).await,
    }
}

async fn plain<B: crate::queries::Backend>(serve: &Serve) -> Result<(), Failure> {
    let stats = QueryStats::new("shop", B::DIALECT);
    let valve = Arc::new(Valve::new());
    let shop = Plain::<B>::connect(&serve.url, stats.clone(), Arc::clone(&valve)).await?;
    let router = service::routes(Arc::new(shop));
    let control = Control { stats: vec![stats], valve, more: Box::new(|_| {}) };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let ready = Ready { shop: listener.local_addr()?, page: None, indexes: Vec::new() };
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    converse(&ready, &control).await?;
    server.abort();
    Ok(())
}

/// Says that the service is ready, then answers the parent until it closes standard input or Ctrl-C is pressed.
pub async fn converse(ready: &Ready, control: &Control) -> Result<(), Failure> {
    tell(ready)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(line) = line else { return Ok(()) };
        match serde_json::from_str(&line)? {
            Ask::Numbers => tell(&numbers(control))?,
            Ask::Workload(path) => {
                write_workload(&control.stats, &path)?;
                tell(&())?;
            }
            Ask::Valve(position) => {
                control.valve.turn(position);
                tell(&())?;
            }
        }
    }
}

/// Answers the parent with a line; without a parent there is nothing left to do.
fn tell(answer: &impl serde::Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(std::io::stdout().write_all(&line)?)
}

fn numbers(control: &Control) -> Numbers {
    let totals = || control.stats.iter().map(QueryStats::stats);
    let mut numbers = Numbers {
        db_queries: totals().map(|total| total.queries).sum(),
        db_nanos: (totals().map(|total| total.seconds).sum::<f64>() * 1e9) as u64,
        peak_rss_kb: peak_rss_kb(),
        ..Numbers::default()
    };
    (control.more)(&mut numbers);
    numbers
}

fn write_workload(stats: &[QueryStats], path: &Path) -> Result<(), Failure> {
    let statements: Vec<(String, u64)> = stats.iter().flat_map(crate::advise::statements).collect();
    std::fs::write(path, serde_json::to_vec(&statements)?)?;
    Ok(())
}

/// The peak of this process's memory as the kernel counts it; 0 where there is no /proc.
fn peak_rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

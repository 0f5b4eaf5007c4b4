//! What the load generator itself costs: throughput at saturation, processor time and lag at fixed rates, and memory.
//!
//! The server is a minimal responder on a thread of its own; on two cores it and the generator disturb each other, so each
//! figure stands beside the generator's own verdict. `wrk` and `oha` run the same load when they are installed; neither
//! counts latency from a plan, so only throughput is compared.

use perf_load::{Arrivals, Load, Request, RunReport, Target, User};
use std::error::Error;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long each measurement lasts.
const LENGTH: Duration = Duration::from_secs(3);

/// Connections at saturation, as in the published comparisons of wrk and oha.
const CONNECTIONS: usize = 64;

/// Rounds at saturation; the median is reported.
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let target = serve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&target))
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
async fn measure(target: &Target) -> Result<(), Box<dyn Error>> {
    let mut throughput = Vec::new();
    for _ in 0..ROUNDS {
        let plan = Load::closed(CONNECTIONS).warmup(Duration::from_millis(500)).duration(LENGTH);
        let report = plan.run(target, |_| get).await?;
        throughput.push(report.total.rps);
    }
    throughput.sort_by(f64::total_cmp);
    let ours = throughput[ROUNDS / 2];
    println!(
        "value load_saturation_req_per_s ours={ours:.0} ({CONNECTIONS} connections, median of {ROUNDS})"
    );
    compare("wrk", ours, rival_wrk(target));
    compare("oha", ours, rival_oha(target));
    for rate in [1_000.0, 10_000.0, 20_000.0] {
        let plan =
            Load::open(Arrivals::Poisson).rate(rate).warmup(Duration::from_millis(500)).duration(LENGTH);
        show(rate, &plan.run(target, |_| get).await?);
    }
    println!("value load_peak_rss_mb ours={:.1}", peak_rss_mb().unwrap_or(f64::NAN));
    Ok(())
}

fn get(_: &mut User, request: &mut Request) {
    request.get("/");
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn show(rate: f64, report: &RunReport) {
    let lag = &report.health.lag;
    let cpu = report.health.cpu.map_or(f64::NAN, |share| share * 1e6 / report.total.rps.max(1.0));
    println!(
        "value load_at_{rate:.0}_per_s achieved={:.0} cpu_us_per_request={cpu:.1} lag_p50_us={:.0} lag_p99_us={:.0} lag_max_us={:.0} response_p99_us={:.0} {}",
        report.total.rps,
        lag.p50_ms * 1e3,
        lag.p99_ms * 1e3,
        lag.max_ms * 1e3,
        report.total.response.p99_ms * 1e3,
        report.health.verdict
    );
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn compare(name: &str, ours: f64, rival: Option<f64>) {
    match rival {
        Some(rival) => println!(
            "ratio load_saturation_vs_{name} ours={ours:.0} rival={rival:.0} ours/rival={:.2}",
            ours / rival
        ),
        None => println!("absent {name}: install it to compare throughput with it"),
    }
}

fn rival_wrk(target: &Target) -> Option<f64> {
    let (connections, seconds) = (format!("-c{CONNECTIONS}"), format!("-d{}s", LENGTH.as_secs()));
    let output =
        Command::new("wrk").args(["-t1", &connections, &seconds, &target.to_string()]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"))?.trim().parse().ok()
}

fn rival_oha(target: &Target) -> Option<f64> {
    let (connections, seconds) = (CONNECTIONS.to_string(), format!("{}s", LENGTH.as_secs()));
    let arguments = ["--no-tui", "-c", &connections, "-z", &seconds, &target.to_string()];
    let output = Command::new("oha").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"))?.trim().parse().ok()
}

/// The most memory the process, server and all, ever held.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1024.0)
}

/// Starts the responder: 13 bytes to whatever ends with an empty line.
fn serve() -> Result<Target, Box<dyn Error>> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let target = format!("http://{}/", listener.local_addr()?).parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(accept(listener)));
    Ok(target)
}

async fn accept(listener: std::net::TcpListener) -> std::io::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, World!";
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut input = Vec::with_capacity(4_096);
            while stream.read_buf(&mut input).await? > 0 {
                if input.ends_with(b"\r\n\r\n") {
                    input.clear();
                    stream.write_all(ANSWER).await?;
                }
            }
            std::io::Result::Ok(())
        });
    }
}

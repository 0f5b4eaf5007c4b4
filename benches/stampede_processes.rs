//! The same stampede in two processes that share a Redis: with a lease one of them loads, and both get the value.

use perf_cache::{Cache, CacheSpace, Postcard, RedisConfig};
use perf_core::time;
use perf_testkit::RedisServer;
use std::convert::Infallible;
use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

const ROUNDS: u64 = 20;
const CALLERS: u64 = 1_000;
const NODES: usize = 2;
/// Set for the processes that this one starts.
const NODE: &str = "PERF_STAMPEDE_NODE";

/// The Redis of a process that was started as a node.
pub(crate) fn is_node() -> Option<String> {
    std::env::var(NODE).ok()
}

/// Starts a Redis and two nodes, and lets both run the same rounds at the same time.
pub(crate) fn run(runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let server = runtime.block_on(RedisServer::start())?;
    let mut nodes = (0..NODES).map(|_| Node::start(&server.url())).collect::<Result<Vec<_>, _>>()?;
    for node in &mut nodes {
        node.hear()?;
    }
    let (mut loads, mut most, mut answered, mut slowest) = (0, 0, 0, 0.0_f64);
    for round in 0..ROUNDS {
        for node in &mut nodes {
            node.tell(round)?;
        }
        let mut this_round = 0;
        for node in &mut nodes {
            let heard = node.hear()?;
            let mut words = heard.split_whitespace();
            let mut next = || words.next().ok_or("a node said too little");
            this_round += next()?.parse::<u32>()?;
            answered += next()?.parse::<u64>()?;
            slowest = slowest.max(next()?.parse()?);
        }
        loads += this_round;
        most = most.max(this_round);
    }
    println!(
        "stampede_2_processes_lease rounds={ROUNDS} callers={CALLERS}x{NODES} answered={answered} \
         loads_per_round={:.2} most_loads_in_a_round={most} loader_ms=10 worst_p99_ms={slowest:.2}",
        f64::from(loads) / ROUNDS as f64
    );
    Ok(())
}

struct Node {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(url: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(NODE, url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().ok_or("a node without an output")?;
        Ok(Self { process, lines: BufReader::new(stdout).lines() })
    }

    fn tell(&mut self, round: u64) -> Result<(), Box<dyn Error>> {
        let stdin = self.process.stdin.as_mut().ok_or("a node without an input")?;
        writeln!(stdin, "{round}")?;
        Ok(())
    }

    fn hear(&mut self) -> Result<String, Box<dyn Error>> {
        Ok(self.lines.next().ok_or("a node has ended")??)
    }
}

impl Drop for Node {
    /// Ends the process with its input, and with force if that is not enough.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _already_ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// What a node does: a round for each line, and one line back for each.
pub(crate) fn node(url: &str) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let space = runtime.block_on(async {
        let space = CacheSpace::builder("stampede")
            .redis(RedisConfig::url(url))
            .store_timeout(Duration::from_secs(1))
            .build()
            .await?;
        space.coherent(Duration::from_secs(10)).await;
        Ok::<_, Box<dyn Error>>(space)
    })?;
    let cache: Cache<u64, u32> = space.cache("one").codec(Postcard).lease(Duration::from_secs(2)).build()?;
    println!("ready");
    for round in std::io::stdin().lines() {
        let (loads, waits) = runtime.block_on(stampede(&cache, round?.parse()?));
        let p99 = waits.get(waits.len() * 99 / 100).map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
        println!("{loads} {} {p99:.3}", waits.len());
    }
    Ok(())
}

/// Loads, and the waits of those who were answered, shortest first.
async fn stampede(cache: &Cache<u64, u32>, round: u64) -> (u32, Vec<Duration>) {
    let loads = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let begun = time::now();
                let loader = move || async move {
                    loads.fetch_add(1, Ordering::Relaxed);
                    time::sleep(super::LOADER).await;
                    Ok::<_, Infallible>(1)
                };
                let answered = cache.get_or_load(&round, loader).await.is_ok();
                answered.then(|| begun.elapsed())
            })
        })
        .collect();
    let mut waits = Vec::new();
    for caller in callers {
        waits.extend(caller.await.ok().flatten());
    }
    waits.sort_unstable();
    (loads.load(Ordering::Relaxed), waits)
}

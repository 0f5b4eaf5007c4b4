//! What callers see when it matters: a spike, callers without patience, many workers on few connections, a manager that
//! panics, a check that is cancelled, connections that idle. The same fake server behind each pool; one line for each
//! scenario, with the figure that ours must reach, which is asserted.
//!
//! The spike and the fairness row are about times that the order of service decides, to the millisecond. They run in virtual
//! time, in which every timer is exact: in real time each sleep lasts up to a millisecond longer than it was told, and the
//! tenth in line is late by ten of them, whatever the pool. The other rows are about what becomes of connections; they run
//! in real time, as some of the pools look at a clock that nobody can stop.
//!
//! sqlx's pool makes SQLite connections in memory; its hooks around connecting and acquiring do what the fake server does.
//! Its connections are threads, which know nothing of virtual time: they get some real time in each virtual millisecond.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark prints and may fail"
)]

use perf_core::time::{self, Duration};
use std::future::Future;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The fake server: connecting takes a while, may panic, and is counted; a sick one checks slowly and fails.
#[derive(Clone, Debug)]
struct Slow(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    connect: Duration,
    connects: AtomicU32,
    panics: AtomicBool,
    sick: AtomicBool,
}

impl Slow {
    fn new(connect: Duration) -> Self {
        Self(Arc::new(Facts {
            connect,
            connects: AtomicU32::new(0),
            panics: AtomicBool::new(false),
            sick: AtomicBool::new(false),
        }))
    }

    async fn make(&self) -> Result<u64, Error> {
        self.0.connects.fetch_add(1, Ordering::SeqCst);
        time::sleep(self.0.connect).await;
        if self.0.panics.load(Ordering::SeqCst) {
            panic!("the manager was told to panic");
        }
        Ok(7)
    }

    async fn test(&self) -> Result<(), Error> {
        if self.0.sick.load(Ordering::SeqCst) {
            time::sleep(ms(100)).await;
            return Err(Error::from(ErrorKind::BrokenPipe));
        }
        Ok(())
    }

    fn connects(&self) -> u32 {
        self.0.connects.load(Ordering::SeqCst)
    }
}

impl perf_pool::Manager for Slow {
    type Connection = u64;
    type Error = Error;

    async fn connect(&self) -> Result<u64, Error> {
        self.make().await
    }

    async fn check(&self, _: &mut u64) -> Result<(), Error> {
        self.test().await
    }
}

impl deadpool::managed::Manager for Slow {
    type Type = u64;
    type Error = Error;

    async fn create(&self) -> Result<u64, Error> {
        self.make().await
    }

    async fn recycle(
        &self,
        _: &mut u64,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Error> {
        Ok(self.test().await?)
    }
}

impl bb8::ManageConnection for Slow {
    type Connection = u64;
    type Error = Error;

    async fn connect(&self) -> Result<u64, Error> {
        self.make().await
    }

    async fn is_valid(&self, _: &mut u64) -> Result<(), Error> {
        self.test().await
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

/// What a scenario asks of a pool.
#[derive(Clone, Copy, Debug)]
struct Plan {
    max: u32,
    min_idle: u32,
    /// Whether each connection is checked before it is used.
    validate: bool,
    idle_timeout: Option<Duration>,
    patience: Duration,
}

impl Plan {
    const fn of(max: u32, min_idle: u32) -> Self {
        Self { max, min_idle, validate: false, idle_timeout: None, patience: Duration::from_secs(30) }
    }
}

/// A pool, reduced to what the scenarios need: hold a connection for a while, and tell how many idle ones it trusts.
trait Contestant: Clone + Send + Sync + 'static {
    /// What is needed in real time, for each virtual millisecond, by threads of its own.
    const SETTLING: Duration = Duration::ZERO;

    fn build(server: Slow, plan: Plan) -> impl Future<Output = Self> + Send;

    fn hold(&self, time: Duration) -> impl Future<Output = Result<(), Error>> + Send;

    fn idle(&self) -> usize;
}

impl Contestant for perf_pool::Pool<Slow> {
    async fn build(server: Slow, plan: Plan) -> Self {
        let mut builder = Self::builder(server)
            .max(plan.max as usize)
            .min_idle(plan.min_idle as usize)
            .acquire_timeout(plan.patience);
        if plan.validate {
            builder = builder.check_after(Duration::ZERO);
        }
        if let Some(limit) = plan.idle_timeout {
            builder = builder.idle_timeout(limit).maintenance_interval(ms(50));
        }
        let pool = builder.build().expect("a pool");
        pool.warm_up().await.expect("connections");
        pool
    }

    async fn hold(&self, time: Duration) -> Result<(), Error> {
        let _lease = self.acquire().await.map_err(Error::other)?;
        time::sleep(time).await;
        Ok(())
    }

    fn idle(&self) -> usize {
        self.stats().idle
    }
}

impl Contestant for deadpool::managed::Pool<Slow> {
    async fn build(server: Slow, plan: Plan) -> Self {
        let pool = Self::builder(server)
            .max_size(plan.max as usize)
            .wait_timeout(Some(plan.patience))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a pool");
        let mut warm = Vec::new();
        for _ in 0..plan.min_idle {
            warm.push(pool.get().await.expect("a connection"));
        }
        pool
    }

    async fn hold(&self, time: Duration) -> Result<(), Error> {
        let _object = self.get().await.map_err(Error::other)?;
        time::sleep(time).await;
        Ok(())
    }

    fn idle(&self) -> usize {
        self.status().available
    }
}

impl Contestant for bb8::Pool<Slow> {
    async fn build(server: Slow, plan: Plan) -> Self {
        let mut builder = Self::builder()
            .max_size(plan.max)
            .min_idle(plan.min_idle)
            .connection_timeout(plan.patience)
            .test_on_check_out(plan.validate);
        if plan.idle_timeout.is_some() {
            builder = builder.idle_timeout(plan.idle_timeout).reaper_rate(ms(50));
        }
        builder.build(server).await.expect("a pool")
    }

    async fn hold(&self, time: Duration) -> Result<(), Error> {
        let _connection = self.get().await.map_err(|error| Error::new(ErrorKind::TimedOut, error))?;
        time::sleep(time).await;
        Ok(())
    }

    fn idle(&self) -> usize {
        self.state().idle_connections as usize
    }
}

impl Contestant for sqlx::SqlitePool {
    const SETTLING: Duration = Duration::from_micros(500);

    async fn build(server: Slow, plan: Plan) -> Self {
        let checks = server.clone();
        let mut options = sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(plan.max)
            .min_connections(plan.min_idle)
            .acquire_timeout(plan.patience)
            .test_before_acquire(false)
            .after_connect(move |_, _| {
                let server = server.clone();
                Box::pin(async move { server.make().await.map(drop).map_err(sqlx::Error::Io) })
            });
        if plan.validate {
            options = options.before_acquire(move |_, _| {
                let server = checks.clone();
                Box::pin(async move { server.test().await.map(|()| true).map_err(sqlx::Error::Io) })
            });
        }
        if let Some(limit) = plan.idle_timeout {
            options = options.idle_timeout(limit);
        }
        let pool = options.connect_lazy("sqlite::memory:").expect("a pool in memory");
        let mut warm = Vec::new();
        for _ in 0..plan.min_idle {
            warm.push(pool.acquire().await.expect("a connection"));
        }
        drop(warm);
        // Its connections are given back by tasks.
        time::sleep(ms(20)).await;
        pool
    }

    async fn hold(&self, time: Duration) -> Result<(), Error> {
        let _connection = self.acquire().await.map_err(Error::other)?;
        time::sleep(time).await;
        Ok(())
    }

    fn idle(&self) -> usize {
        self.num_idle()
    }
}

/// Connecting takes 150 ms, a query 2 ms; 50 callers at once find 5 idle connections of at most 50.
async fn spike<C: Contestant>() -> String {
    let server = Slow::new(ms(150));
    let pool = C::build(server.clone(), Plan::of(50, 5)).await;
    let start = time::now();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.hold(ms(2)).await })
        })
        .collect();
    for caller in callers {
        caller.await.expect("a caller").expect("a connection");
    }
    let taken = start.elapsed();
    time::sleep(ms(500)).await;
    format!("{}ms/{}conns", taken.as_millis(), server.connects())
}

/// Connecting takes 300 ms, and callers give up after 200 ms, ten times.
async fn impatient<C: Contestant>() -> String {
    let server = Slow::new(ms(300));
    let pool = C::build(server.clone(), Plan::of(4, 0)).await;
    let mut served = 0;
    for _ in 0..10 {
        let call = time::timeout(ms(200), pool.hold(Duration::ZERO));
        served += u32::from(matches!(call.await, Ok(Ok(()))));
    }
    format!("{served}of10/{}connects", server.connects())
}

/// A hundred workers on ten connections, each held for 200 ms, for a minute.
async fn fairness<C: Contestant>() -> String {
    let pool = C::build(Slow::new(ms(1)), Plan::of(10, 10)).await;
    let end = time::now() + Duration::from_secs(60);
    let workers: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let (mut turns, mut worst) = (0, Duration::ZERO);
                while time::now() < end {
                    let asked = time::now();
                    turns += u32::from(pool.hold(ms(200)).await.is_ok());
                    worst = worst.max(asked.elapsed().saturating_sub(ms(200)));
                }
                (turns, worst)
            })
        })
        .collect();
    let mut seen = Vec::new();
    for worker in workers {
        seen.push(worker.await.expect("a worker"));
    }
    let turns = || seen.iter().map(|(turns, _)| *turns);
    let worst = seen.iter().map(|(_, worst)| *worst).max().unwrap_or_default();
    format!("{}ms/turns{}to{}", worst.as_millis(), turns().min().unwrap_or(0), turns().max().unwrap_or(0))
}

/// Two connections at most; connecting panics twice. Then four callers in turn, and two at once.
async fn panicking<C: Contestant>() -> String {
    let server = Slow::new(ms(1));
    let pool = C::build(server.clone(), Plan::of(2, 0)).await;
    server.0.panics.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let pool = pool.clone();
        let call = tokio::spawn(async move { pool.hold(Duration::ZERO).await });
        let _ = time::timeout(ms(1000), call).await;
    }
    server.0.panics.store(false, Ordering::SeqCst);
    let mut served = 0;
    for _ in 0..4 {
        let call = time::timeout(ms(500), pool.hold(Duration::ZERO));
        served += u32::from(matches!(call.await, Ok(Ok(()))));
    }
    let start = time::now();
    let both = time::timeout(ms(500), async { tokio::join!(pool.hold(ms(50)), pool.hold(ms(50))) }).await;
    let capacity = if matches!(both, Ok((Ok(()), Ok(())))) && start.elapsed() < ms(90) { 2 } else { 1 };
    format!("{served}of4/capacity{}", if served == 0 { 0 } else { capacity })
}

/// The one idle connection is dead and its check slow; the caller gives up while it is checked.
async fn cancelled<C: Contestant>() -> String {
    let server = Slow::new(ms(1));
    let pool = C::build(server.clone(), Plan { validate: true, ..Plan::of(1, 0) }).await;
    pool.hold(Duration::ZERO).await.expect("a connection");
    time::sleep(ms(20)).await;
    server.0.sick.store(true, Ordering::SeqCst);
    let call = time::timeout(ms(50), pool.hold(Duration::ZERO)).await;
    assert!(call.is_err(), "the check takes longer");
    time::sleep(ms(200)).await;
    if pool.idle() == 0 { "discarded".to_owned() } else { "trusted".to_owned() }
}

/// Two idle connections that are to be kept, an idle time-out of 0.2 s, and 1.2 s.
async fn idling<C: Contestant>() -> String {
    let server = Slow::new(ms(1));
    let pool = C::build(server.clone(), Plan { idle_timeout: Some(ms(200)), ..Plan::of(4, 2) }).await;
    time::sleep(ms(1200)).await;
    let reopened = server.connects().saturating_sub(2);
    drop(pool);
    format!("{reopened}reopened")
}

/// Runs a scenario in virtual time: a millisecond passes when everybody has done what there is to do.
fn virtually<T>(settling: Duration, scenario: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::select! {
            biased;
            result = scenario => result,
            never = pass(settling) => match never {},
        }
    })
}

/// Lets time pass, millisecond by millisecond.
async fn pass(settling: Duration) -> std::convert::Infallible {
    loop {
        settle().await;
        if !settling.is_zero() {
            let_threads_work(settling);
            settle().await;
        }
        tokio::time::advance(ms(1)).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "virtual time stands still meanwhile, and threads know of no other"
)]
fn let_threads_work(time: Duration) {
    std::thread::sleep(time);
}

/// Lets each of a few hundred tasks do what it can do now, and those it wakes, and those they wake.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

fn really<T>(_: Duration, scenario: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(scenario)
}

macro_rules! run {
    ($scenario:ident, $time:ident, $pool:ty) => {
        $time(<$pool>::SETTLING, $scenario::<$pool>())
    };
}

macro_rules! row {
    ($scenario:ident, $time:ident, $must:literal, $allowed:pat) => {
        let ours = run!($scenario, $time, perf_pool::Pool<Slow>);
        println!(
            "scenario {} time={} ours={} deadpool={} bb8={} sqlx={} | ours must: {}",
            stringify!($scenario),
            stringify!($time),
            ours,
            run!($scenario, $time, deadpool::managed::Pool<Slow>),
            run!($scenario, $time, bb8::Pool<Slow>),
            run!($scenario, $time, sqlx::SqlitePool),
            $must
        );
        assert!(matches!(ours.as_str(), $allowed), "ours must: {}", $must);
    };
}

fn main() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("was told to panic") {
            println!("{text}");
        }
    }));
    row!(spike, virtually, "20 ms, 5 connections", "20ms/5conns");
    row!(impatient, really, "at least 9 of 10, 1 connect", "9of10/1connects" | "10of10/1connects");
    row!(
        fairness,
        virtually,
        "1,800 ms, turns that differ by 1 at most",
        "1800ms/turns30to30" | "1800ms/turns29to30" | "1800ms/turns30to31"
    );
    row!(panicking, really, "capacity restored", "4of4/capacity2");
    row!(cancelled, really, "never trusted", "discarded");
    row!(idling, really, "none closed", "0reopened");
}

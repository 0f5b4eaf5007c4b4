//! What callers see when it matters: a spike, callers without patience, many workers on few connections, a manager that
//! panics. The same fake manager behind each pool, in real time; one line for each scenario and pool.

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

/// Connecting takes a while, may panic, and is counted.
#[derive(Clone, Debug)]
struct Slow(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    connect: Duration,
    connects: AtomicU32,
    panics: AtomicBool,
}

impl Slow {
    fn new(millis: u64) -> Self {
        let connect = Duration::from_millis(millis);
        Self(Arc::new(Facts { connect, connects: AtomicU32::new(0), panics: AtomicBool::new(false) }))
    }

    async fn make(&self) -> Result<u64, Error> {
        self.0.connects.fetch_add(1, Ordering::SeqCst);
        time::sleep(self.0.connect).await;
        if self.0.panics.load(Ordering::SeqCst) {
            panic!("the manager was told to panic");
        }
        Ok(7)
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
        Ok(())
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
        Ok(())
    }
}

impl bb8::ManageConnection for Slow {
    type Connection = u64;
    type Error = Error;

    async fn connect(&self) -> Result<u64, Error> {
        self.make().await
    }

    async fn is_valid(&self, _: &mut u64) -> Result<(), Error> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

/// A pool, reduced to what the scenarios need: hold a connection for a while.
trait Contestant: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    fn build(manager: Slow, max: usize, min_idle: usize) -> impl Future<Output = Self> + Send;

    fn hold(&self, time: Duration) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Contestant for perf_pool::Pool<Slow> {
    const NAME: &'static str = "ours";

    async fn build(manager: Slow, max: usize, min_idle: usize) -> Self {
        let pool = Self::builder(manager).max(max).min_idle(min_idle).build().expect("a pool");
        pool.warm_up().await.expect("connections");
        pool
    }

    async fn hold(&self, time: Duration) -> Result<(), Error> {
        let _lease = self.acquire().await.map_err(Error::other)?;
        time::sleep(time).await;
        Ok(())
    }
}

impl Contestant for deadpool::managed::Pool<Slow> {
    const NAME: &'static str = "deadpool";

    async fn build(manager: Slow, max: usize, min_idle: usize) -> Self {
        let pool = Self::builder(manager).max_size(max).build().expect("a pool");
        let mut warm = Vec::new();
        for _ in 0..min_idle {
            warm.push(pool.get().await.expect("a connection"));
        }
        pool
    }

    async fn hold(&self, time: Duration) -> Result<(), Error> {
        let _object = self.get().await.map_err(Error::other)?;
        time::sleep(time).await;
        Ok(())
    }
}

impl Contestant for bb8::Pool<Slow> {
    const NAME: &'static str = "bb8";

    async fn build(manager: Slow, max: usize, min_idle: usize) -> Self {
        let small = |count: usize| u32::try_from(count).expect("a small number");
        let builder = Self::builder().max_size(small(max)).min_idle(small(min_idle));
        builder.test_on_check_out(false).build(manager).await.expect("a pool")
    }

    async fn hold(&self, time: Duration) -> Result<(), Error> {
        let _connection = self.get().await.map_err(|error| Error::new(ErrorKind::TimedOut, error))?;
        time::sleep(time).await;
        Ok(())
    }
}

async fn spike<C: Contestant>() {
    let manager = Slow::new(150);
    let pool = C::build(manager.clone(), 50, 5).await;
    let start = time::now();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.hold(Duration::from_millis(2)).await })
        })
        .collect();
    for caller in callers {
        caller.await.expect("a caller").expect("a connection");
    }
    let taken = start.elapsed();
    time::sleep(Duration::from_millis(400)).await;
    println!("spike {}: {} ms, {} connections after", C::NAME, taken.as_millis(), manager.connects());
}

async fn impatient<C: Contestant>() {
    let manager = Slow::new(300);
    let pool = C::build(manager.clone(), 4, 0).await;
    let mut served = 0;
    for _ in 0..10 {
        let call = time::timeout(Duration::from_millis(200), pool.hold(Duration::ZERO));
        served += u32::from(matches!(call.await, Ok(Ok(()))));
    }
    println!("impatient {}: {served}/10 served, {} connects", C::NAME, manager.connects());
}

async fn fairness<C: Contestant>() {
    let pool = C::build(Slow::new(1), 10, 10).await;
    let end = time::now() + Duration::from_secs(4);
    let workers: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let (mut turns, mut worst) = (0, Duration::ZERO);
                while time::now() < end {
                    let asked = time::now();
                    if pool.hold(Duration::from_millis(20)).await.is_ok() {
                        turns += 1;
                    }
                    worst = worst.max(asked.elapsed().saturating_sub(Duration::from_millis(20)));
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
    println!(
        "fairness {}: worst wait {} ms, turns {} to {}",
        C::NAME,
        seen.iter().map(|(_, worst)| worst.as_millis()).max().unwrap_or(0),
        turns().min().unwrap_or(0),
        turns().max().unwrap_or(0)
    );
}

async fn panicking<C: Contestant>() {
    let manager = Slow::new(1);
    let pool = C::build(manager.clone(), 2, 0).await;
    manager.0.panics.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let pool = pool.clone();
        let call = tokio::spawn(async move { pool.hold(Duration::ZERO).await });
        let _ = time::timeout(Duration::from_secs(1), call).await;
    }
    manager.0.panics.store(false, Ordering::SeqCst);
    let mut served = 0;
    for _ in 0..4 {
        let call = time::timeout(Duration::from_millis(500), pool.hold(Duration::ZERO));
        served += u32::from(matches!(call.await, Ok(Ok(()))));
    }
    println!("panic {}: {served}/4 served afterwards", C::NAME);
}

async fn all<C: Contestant>() {
    spike::<C>().await;
    impatient::<C>().await;
    fairness::<C>().await;
    panicking::<C>().await;
}

fn main() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("was told to panic") {
            println!("{text}");
        }
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        all::<perf_pool::Pool<Slow>>().await;
        all::<deadpool::managed::Pool<Slow>>().await;
        all::<bb8::Pool<Slow>>().await;
    });
}

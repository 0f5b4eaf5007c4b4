//! A manager whose every answer a test can script.

use perf_core::time::{self, Duration};
use perf_pool::{Builder, Condition, Manager, Pool};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What the next call of a method does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Act {
    #[default]
    Ok,
    Fail,
    /// Fails in a way that the manager calls permanent.
    Refuse,
    Panic,
    /// Answers well, after [`SLOW`].
    Slow,
    Hang,
}

/// How long [`Act::Slow`] takes.
pub(crate) const SLOW: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FakeError {
    #[error("the server cannot be reached")]
    Unreachable,
    #[error("wrong password")]
    WrongPassword,
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) connect: Mutex<Act>,
    pub(crate) setup: Mutex<Act>,
    pub(crate) check: Mutex<Act>,
    pub(crate) reset: Mutex<Act>,
    pub(crate) close: Mutex<Act>,
    /// Milliseconds each method takes.
    pub(crate) connect_ms: AtomicU64,
    pub(crate) check_ms: AtomicU64,
    pub(crate) reset_ms: AtomicU64,
    pub(crate) condition_panics: AtomicBool,
    pub(crate) connects: AtomicU32,
    pub(crate) checks: AtomicU32,
    pub(crate) resets: AtomicU32,
    pub(crate) closes: AtomicU32,
    /// Connections that exist, wherever they are.
    pub(crate) alive: AtomicUsize,
    /// The most that ever existed.
    pub(crate) peak: AtomicUsize,
    /// Connections of this number and below are dead: checks fail.
    pub(crate) dead_up_to: AtomicU32,
    /// The connections that were checked, in order.
    pub(crate) checked: Mutex<Vec<u32>>,
}

/// A connection that knows its number and counts itself.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: u32,
    pub(crate) condition: Condition,
    script: Arc<Script>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.script.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(pub(crate) Arc<Script>);

impl Fake {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Connecting takes this long.
    pub(crate) fn slow(self, connect: Duration) -> Self {
        self.connect_ms.store(connect.as_millis() as u64, Ordering::SeqCst);
        self
    }

    pub(crate) fn set_connect(&self, act: Act) {
        *self.connect.lock().unwrap() = act;
    }

    pub(crate) fn set_setup(&self, act: Act) {
        *self.setup.lock().unwrap() = act;
    }

    pub(crate) fn set_check(&self, act: Act) {
        *self.check.lock().unwrap() = act;
    }

    pub(crate) fn set_reset(&self, act: Act) {
        *self.reset.lock().unwrap() = act;
    }

    pub(crate) fn set_close(&self, act: Act) {
        *self.close.lock().unwrap() = act;
    }

    /// A pool whose hook for fresh connections follows the script too.
    pub(crate) fn pool(&self) -> Builder<Self> {
        let fake = self.clone();
        Pool::builder(self.clone()).setup(move |_| {
            let told = *fake.setup.lock().unwrap();
            Box::pin(act(told, 0))
        })
    }

    pub(crate) fn connects(&self) -> u32 {
        self.connects.load(Ordering::SeqCst)
    }

    pub(crate) fn checks(&self) -> u32 {
        self.checks.load(Ordering::SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// Every connection made so far is dead.
    pub(crate) fn kill_all(&self) {
        self.dead_up_to.store(self.connects(), Ordering::SeqCst);
    }
}

impl std::ops::Deref for Fake {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.0
    }
}

/// Panics that tests ask for by the hundred are not printed; all others are.
pub(crate) fn hush_scripted_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.to_string().contains("was told to panic") {
                print(info);
            }
        }));
    });
}

async fn act(act: Act, millis: u64) -> Result<(), FakeError> {
    if millis > 0 {
        time::sleep(Duration::from_millis(millis)).await;
    }
    match act {
        Act::Ok => Ok(()),
        Act::Fail => Err(FakeError::Unreachable),
        Act::Refuse => Err(FakeError::WrongPassword),
        Act::Panic => panic!("the fake manager was told to panic"),
        Act::Slow => {
            time::sleep(SLOW).await;
            Ok(())
        }
        Act::Hang => std::future::pending().await,
    }
}

impl Manager for Fake {
    type Connection = Conn;
    type Error = FakeError;

    async fn connect(&self) -> Result<Conn, FakeError> {
        let id = self.connects.fetch_add(1, Ordering::SeqCst) + 1;
        let told = *self.connect.lock().unwrap();
        act(told, self.connect_ms.load(Ordering::SeqCst)).await?;
        let alive = self.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(alive, Ordering::SeqCst);
        Ok(Conn { id, condition: Condition::Clean, script: Arc::clone(&self.0) })
    }

    async fn check(&self, connection: &mut Conn) -> Result<(), FakeError> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        self.checked.lock().unwrap().push(connection.id);
        let told = *self.check.lock().unwrap();
        act(told, self.check_ms.load(Ordering::SeqCst)).await?;
        if connection.id <= self.dead_up_to.load(Ordering::SeqCst) {
            return Err(FakeError::Unreachable);
        }
        Ok(())
    }

    fn condition(&self, connection: &mut Conn) -> Condition {
        assert!(!self.condition_panics.load(Ordering::SeqCst), "the fake manager was told to panic");
        connection.condition
    }

    async fn reset(&self, connection: &mut Conn) -> Result<(), FakeError> {
        self.resets.fetch_add(1, Ordering::SeqCst);
        let told = *self.reset.lock().unwrap();
        act(told, self.reset_ms.load(Ordering::SeqCst)).await?;
        connection.condition = Condition::Clean;
        Ok(())
    }

    async fn close(&self, connection: Conn) {
        self.closes.fetch_add(1, Ordering::SeqCst);
        let told = *self.close.lock().unwrap();
        let _ = act(told, 0).await;
        drop(connection);
    }

    fn is_permanent(&self, error: &FakeError) -> bool {
        *error == FakeError::WrongPassword
    }
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets every other task run until nothing is left to do at this instant.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

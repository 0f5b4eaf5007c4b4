//! Makes calls slow, fail, hang or panic on purpose, so that what should protect against it can be seen to.
//!
//! Put it innermost: `guard.run(|attempt| chaos.run(fetch(attempt)))`. The sequence is determined by the seed.

use crate::stats::stats;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use perf_core::time::{self, Duration};
use perf_core::{Component, ComponentId, Desc, InvalidConfig, Name, Reason, Rejected, Rng, Sink, Unit};
use std::sync::Arc;

stats! {
    /// What chaos has done since it was made.
    ChaosStats from Counters {
        /// Calls left alone.
        untouched,
        /// Calls made slow.
        delayed,
        /// Calls made to fail.
        failed,
        /// Calls made to hang.
        hung,
        /// Calls made to panic.
        panicked,
    }
}

/// How likely each disturbance is; the probabilities are looked at in this order and exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ChaosConfig {
    /// Panics in the middle of the call.
    pub panic: f64,
    /// Never answers.
    pub hang: f64,
    /// Fails at once with [`Reason::Closed`].
    pub error: f64,
    /// Answers after [`ChaosConfig::by`].
    pub delay: f64,
    /// How long delayed calls are delayed.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub by: Duration,
    /// Whether it may be built without debug assertions, as in a release build.
    pub allow_in_release: bool,
}

impl ChaosConfig {
    /// Checks the probabilities, and that chaos is wanted in this build.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let shares =
            [("panic", self.panic), ("hang", self.hang), ("error", self.error), ("delay", self.delay)];
        for (field, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(InvalidConfig::new(field, share, "0 to 1"));
            }
        }
        if !cfg!(debug_assertions) && !self.allow_in_release {
            let allowed = "true, in a build without debug assertions";
            return Err(InvalidConfig::new("allow_in_release", false, allowed));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Nothing,
    Delay,
    Fail,
    Hang,
    Panic,
}

/// Disturbs calls. Cheap to clone; clones continue one sequence.
///
/// ```
/// use perf_core::CallError;
/// use perf_resilience::chaos::{Chaos, ChaosConfig};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut config = ChaosConfig::default();
/// config.error = 1.0;
/// config.allow_in_release = true;
/// let chaos = Chaos::new("orders", config, 42)?;
/// let error = chaos.run(async { Ok::<_, CallError<std::io::Error>>(1) }).await.unwrap_err();
/// assert_eq!(error.rejected().unwrap().policy(), "orders");
/// # Ok::<(), perf_core::InvalidConfig>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Chaos(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Name,
    config: ChaosConfig,
    on: AtomicU64,
    rng: Mutex<Rng>,
    counters: Counters,
}

impl Chaos {
    /// Chaos with this sequence, switched on.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn new(name: impl Into<Name>, config: ChaosConfig, seed: u64) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self(Arc::new(Shared {
            name: name.into(),
            config,
            on: AtomicU64::new(1),
            rng: Mutex::new(Rng::seeded(seed)),
            counters: Counters::default(),
        })))
    }

    /// Switches it on or off.
    pub fn switch(&self, on: bool) {
        self.0.on.store(u64::from(on), Ordering::Relaxed);
    }

    /// Runs `call`, or does something worse.
    ///
    /// # Errors
    /// The call's own error, or a refusal in its stead.
    ///
    /// # Panics
    /// With the probability asked for.
    ///
    /// # Cancel safety
    /// As cancel safe as the call.
    pub async fn run<T, E: From<Rejected>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let counters = &self.0.counters;
        match self.draw() {
            Act::Nothing => counters.untouched.increment(),
            Act::Delay => {
                counters.delayed.increment();
                time::sleep(self.0.config.by).await;
            }
            Act::Fail => {
                counters.failed.increment();
                return Err(Rejected::new(Reason::Closed, self.0.name.clone()).retryable(true).into());
            }
            Act::Hang => {
                counters.hung.increment();
                std::future::pending::<()>().await;
            }
            Act::Panic => {
                counters.panicked.increment();
                std::panic::resume_unwind(Box::new("chaos"));
            }
        }
        call.await
    }

    fn draw(&self) -> Act {
        if self.0.on.load(Ordering::Relaxed) == 0 {
            return Act::Nothing;
        }
        let config = &self.0.config;
        let mut left = lock(&self.0.rng).unit();
        for (share, act) in [
            (config.panic, Act::Panic),
            (config.hang, Act::Hang),
            (config.error, Act::Fail),
            (config.delay, Act::Delay),
        ] {
            if left < share {
                return act;
            }
            left -= share;
        }
        Act::Nothing
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> ChaosStats {
        self.0.counters.read()
    }
}

const CALLS: Desc =
    Desc::counter("perf_resilience_chaos_calls_total", "Calls, by what was done to them", Unit::Count);

impl Component for Chaos {
    fn id(&self) -> ComponentId {
        ComponentId::new("chaos", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        for (act, total) in [
            ("untouched", stats.untouched),
            ("delayed", stats.delayed),
            ("failed", stats.failed),
            ("hung", stats.hung),
            ("panicked", stats.panicked),
        ] {
            sink.counter(&CALLS, &[("act", act)], total);
        }
    }
}

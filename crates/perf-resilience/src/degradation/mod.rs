//! Says how much of the service is worth doing right now, as one word other code can read.
//!
//! A recommendation, a second-best answer, a fresher number: when the system is under pressure these are what to leave
//! out first. A [`Degradation`] turns plain numbers (how long calls queue, how many are refused, how many breakers are
//! open) into a [`Level`]: it rises at once, falls one level at a time after the pressure has been low for a while, and
//! changes at most once in that while.

use crate::event::Listener;
use crate::gate::{Gate, Leaving, Now, Token};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use perf_core::time::{Duration, Instant};
use perf_core::{
    Component, ComponentId, Counter, Desc, Evidence, Health, InvalidConfig, Name, Reason, Rejected, Sink,
    Unit,
};
use std::fmt;
use std::sync::Arc;

/// Long enough not to flap, short enough to be back before anybody complains.
pub const DEFAULT_HOLD: Duration = Duration::from_secs(10);
/// A level is left when the pressure is below this share of what entered it.
pub const DEFAULT_RELEASE: f64 = 0.7;

/// How much of the service is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Everything.
    #[default]
    Full,
    /// Without what nobody would miss for a while.
    Reduced,
    /// Only what the service exists for.
    Essential,
}

impl Level {
    /// Every level, the best first.
    pub const ALL: [Self; 3] = [Self::Full, Self::Reduced, Self::Essential];

    /// The label value, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Reduced => "reduced",
            Self::Essential => "essential",
        }
    }

    const fn better(self) -> Self {
        match self {
            Self::Essential => Self::Reduced,
            _ => Self::Full,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A number that is watched, and from where on it matters.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Signal {
    /// What it is: `"queue wait p95"`.
    pub what: Name,
    /// From here on the service is reduced.
    pub reduced: f64,
    /// From here on only the essential is done; at least `reduced`.
    pub essential: f64,
}

impl Signal {
    /// A number called `what`, with the two limits.
    pub fn new(what: impl Into<Name>, reduced: f64, essential: f64) -> Self {
        Self { what: what.into(), reduced, essential }
    }
}

/// The level changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LevelChanged {
    /// What it was.
    pub from: Level,
    /// What it is.
    pub to: Level,
    /// The signal that decided, or nothing when all were low.
    pub because: Option<Name>,
}

/// Turns signals into a level. Cheap to clone; clones are the same controller.
///
/// ```
/// use perf_core::time;
/// use perf_resilience::degradation::{Degradation, Level, Signal};
///
/// let shop = Degradation::builder("shop").signal(Signal::new("queue wait p95", 0.2, 1.0)).build()?;
/// assert_eq!(shop.level(), Level::Full);
/// shop.observe(&[0.3], time::now());
/// assert_eq!(shop.level(), Level::Reduced);
/// if shop.level() <= Level::Full {
///     unreachable!("recommendations are left out now");
/// }
/// # Ok::<(), perf_core::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Degradation(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Name,
    signals: Vec<Signal>,
    hold: Duration,
    release: f64,
    level: AtomicU64,
    machine: Mutex<Machine>,
    changes: Counter,
    shed: Counter,
    listener: Listener<LevelChanged>,
}

#[derive(Debug, Default)]
struct Machine {
    changed: Option<Instant>,
    /// Since when the pressure has been low enough for a better level.
    calm_since: Option<Instant>,
}

impl Degradation {
    /// A controller to be named and configured.
    pub fn builder(name: impl Into<Name>) -> DegradationBuilder {
        DegradationBuilder {
            name: name.into(),
            signals: Vec::new(),
            hold: DEFAULT_HOLD,
            release: DEFAULT_RELEASE,
            listener: Listener::default(),
        }
    }

    /// The level: one load.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::ALL[(self.0.level.load(Ordering::Relaxed) as usize).min(2)]
    }

    /// Takes in the signals, in the order they were declared; one that is missing or not a number counts as zero.
    pub fn observe(&self, values: &[f64], now: Instant) {
        let shared = &*self.0;
        let mut machine = lock(&shared.machine);
        let from = self.level();
        let (wanted, because) = shared.wanted(values, 1.0);
        let (lasting, _) = shared.wanted(values, shared.release);
        if lasting >= from {
            machine.calm_since = None;
        } else if machine.calm_since.is_none() {
            machine.calm_since = Some(now);
        }
        let over =
            |since: Option<Instant>| since.is_none_or(|at| now.saturating_duration_since(at) >= shared.hold);
        let may_change = over(machine.changed);
        let calm = machine.calm_since.is_some() && over(machine.calm_since);
        let to = match () {
            () if wanted > from && may_change => wanted,
            () if calm && may_change => from.better(),
            () => from,
        };
        if to == from {
            return;
        }
        (machine.changed, machine.calm_since) = (Some(now), None);
        shared.level.store(to as u64, Ordering::Relaxed);
        drop(machine);
        shared.changes.increment();
        let because = if to > from { because } else { None };
        shared.listener.tell(&LevelChanged { from, to, because });
    }

    /// A gate that lets calls in only while the level is `worst` or better: sheds load that is not worth it now.
    #[must_use]
    pub fn gate(&self, worst: Level) -> Shed {
        Shed { degradation: self.clone(), worst }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0.name
    }
}

impl Shared {
    /// The level the signals call for, with every limit multiplied by `share`, and the signal that calls loudest.
    fn wanted(&self, values: &[f64], share: f64) -> (Level, Option<Name>) {
        let mut worst = (Level::Full, None);
        for (signal, value) in self.signals.iter().zip(values) {
            let level = if *value >= signal.essential * share {
                Level::Essential
            } else if *value >= signal.reduced * share {
                Level::Reduced
            } else {
                Level::Full
            };
            if level > worst.0 {
                worst = (level, Some(signal.what.clone()));
            }
        }
        worst
    }
}

/// Sheds load by level; made by [`Degradation::gate`].
#[derive(Clone, Debug)]
pub struct Shed {
    degradation: Degradation,
    worst: Level,
}

impl Gate for Shed {
    fn enter(&self, _: &Now) -> Result<Token, Rejected> {
        let level = self.degradation.level();
        if level <= self.worst {
            return Ok(Token(0));
        }
        self.degradation.0.shed.increment();
        let (observed, limit) = (f64::from(level as u8), f64::from(self.worst as u8));
        let evidence = Evidence { what: "degradation level", observed, limit };
        Err(Rejected::new(Reason::Shed, self.degradation.0.name.clone()).evidence(evidence))
    }

    fn leave(&self, _: Token, _: &Leaving<'_>) {}
}

/// Makes a [`Degradation`].
#[must_use = "a builder makes nothing until `build` is called"]
#[derive(Clone, Debug)]
pub struct DegradationBuilder {
    name: Name,
    signals: Vec<Signal>,
    hold: Duration,
    release: f64,
    listener: Listener<LevelChanged>,
}

impl DegradationBuilder {
    /// Watches one more number.
    pub fn signal(mut self, signal: Signal) -> Self {
        self.signals.push(signal);
        self
    }

    /// How long the pressure must be low before the level gets better, and how long a level lasts at least.
    pub const fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Below which share of its limit a signal counts as low, in `(0, 1]`.
    pub const fn release(mut self, share: f64) -> Self {
        self.release = share;
        self
    }

    /// Is told about every change. It must not block.
    pub fn on_event(mut self, listener: impl Fn(&LevelChanged) + Send + Sync + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    /// The controller, at full level.
    ///
    /// # Errors
    /// Limits that are not numbers above zero or are inverted, a release outside `(0, 1]`.
    pub fn build(self) -> Result<Degradation, InvalidConfig> {
        if !(self.release > 0.0 && self.release <= 1.0) {
            return Err(InvalidConfig::new("release", self.release, "above 0, up to 1"));
        }
        for signal in &self.signals {
            if !(signal.reduced.is_finite() && signal.reduced > 0.0) {
                return Err(InvalidConfig::new("reduced", signal.reduced, "a finite number above 0"));
            }
            if !(signal.essential.is_finite() && signal.essential >= signal.reduced) {
                return Err(InvalidConfig::new("essential", signal.essential, "at least `reduced`"));
            }
        }
        Ok(Degradation(Arc::new(Shared {
            name: self.name,
            signals: self.signals,
            hold: self.hold,
            release: self.release,
            level: AtomicU64::new(0),
            machine: Mutex::new(Machine::default()),
            changes: Counter::new(),
            shed: Counter::new(),
            listener: self.listener,
        })))
    }
}

const LEVEL: Desc =
    Desc::gauge("perf_resilience_degradation_level", "1 for the level in force, else 0", Unit::Count);
const CHANGES: Desc =
    Desc::counter("perf_resilience_degradation_changes_total", "How often the level changed", Unit::Count);
const SHED: Desc = Desc::counter("perf_resilience_degradation_shed_total", "Calls shed", Unit::Count);

impl Component for Degradation {
    fn id(&self) -> ComponentId {
        ComponentId::new("degradation", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        for level in Level::ALL {
            sink.gauge(&LEVEL, &[("level", level.as_str())], f64::from(u8::from(level == self.level())));
        }
        sink.counter(&CHANGES, &[], self.0.changes.get());
        sink.counter(&SHED, &[], self.0.shed.get());
    }

    fn health(&self) -> Health {
        match self.level() {
            Level::Full => Health::up(),
            level => Health::degraded(format!("service is at level {level}")),
        }
    }
}

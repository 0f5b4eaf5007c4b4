use super::export_rules;
use super::memory::{AlertMemory, AlertsSnapshot};
use super::rule::{Condition, InvalidRule, Rule};
use super::selection::Selection;
use super::signal::{Measure, Signal, Tracked};
use super::sink::{AlertSink, Outbox};
use super::slo::{Burn, Slo};
use super::state::{AlertMachine, AlertState, Verdict};
use super::view::{AlertEvent, AlertView, Change};
use crate::Metrics;
use crate::page::Page;
use perf_core::time::{self, Duration, Instant};
use perf_core::{Component, ComponentId, Desc, Sink, Unit};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;

/// Time between two evaluations: an outage is seen within a second, at a cost of microseconds.
pub const DEFAULT_TICK: Duration = Duration::from_secs(1);

const FIRING: Desc = Desc::gauge("perf_metrics_alerts_firing", "Alerts that fire", Unit::Count);
const PENDING: Desc = Desc::gauge("perf_metrics_alerts_pending", "Alerts that are pending", Unit::Count);
const DELIVERED: Desc =
    Desc::counter("perf_metrics_alerts_delivered_total", "Alerts delivered to sinks", Unit::Count);
const FAILED: Desc = Desc::counter(
    "perf_metrics_alerts_failed_total",
    "Alerts a sink refused or took too long for",
    Unit::Count,
);
const DROPPED: Desc = Desc::counter(
    "perf_metrics_alerts_dropped_total",
    "Alerts dropped because a sink's queue was full",
    Unit::Count,
);

/// The alerts of a host. Cheap to clone; clones are the same alerts.
///
/// ```
/// use perf_metrics::{AlertState, Alerts, Metrics, Rule, Signal};
///
/// let metrics = Metrics::builder().process(false).build().unwrap();
/// let depth = metrics.gauge("queue_depth", "Orders waiting").get().unwrap();
/// let alerts = Alerts::builder()
///     .rule(Rule::above("QueueFull", Signal::level("queue_depth"), 100.0).clear(50.0))
///     .build(&metrics)
///     .unwrap();
///
/// depth.set(101.0);
/// alerts.tick(perf_core::time::now());
/// assert_eq!(alerts.views()[0].state, AlertState::Firing);
/// ```
#[derive(Clone)]
pub struct Alerts(Arc<Shared>);

struct Shared {
    metrics: Metrics,
    rules: Vec<Rule>,
    inner: Mutex<Inner>,
    outboxes: Vec<Arc<Outbox>>,
}

struct Inner {
    signals: Vec<Tracked>,
    selection: Selection,
    /// The values of this tick, so that many rules on one signal compute it once.
    values: Vec<Option<(f64, u64)>>,
    alerts: Vec<Alert>,
    now: Instant,
}

struct Alert {
    machine: AlertMachine,
    /// Positions in the list of signals: the signal, or bad and total events.
    signals: [usize; 2],
    inhibitor: Option<usize>,
    last: Verdict,
    inhibited: bool,
    /// Somebody was told that it fires, and not yet that it has resolved.
    told: bool,
}

impl Alerts {
    /// Starts without rules.
    pub fn builder() -> AlertsBuilder {
        AlertsBuilder::default()
    }

    /// Reads the page and evaluates every rule at `now`. [`Alerts::spawn`] does this every second.
    pub fn tick(&self, now: Instant) {
        let mut inner = self.inner();
        inner.now = now;
        self.0.metrics.read(|page| inner.read(page, now));
        let mut events = Vec::new();
        for position in 0..self.0.rules.len() {
            events.extend(inner.evaluate(position, &self.0.rules[position], now));
        }
        drop(inner);
        for event in events {
            self.0.outboxes.iter().for_each(|outbox| outbox.put(event.clone()));
        }
    }

    /// Evaluates the rules every `interval` on the present tokio runtime, and delivers to the sinks, until the returned
    /// guard is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(&self, interval: Duration) -> AlertsTask {
        let alerts = self.clone();
        let mut tasks = vec![tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                alerts.tick(time::now());
            }
        })];
        for outbox in &self.0.outboxes {
            let outbox = Arc::clone(outbox);
            tasks.push(tokio::spawn(async move { outbox.run().await }));
        }
        AlertsTask(tasks)
    }

    /// Every alert as it stands.
    #[must_use]
    pub fn views(&self) -> Vec<AlertView> {
        let inner = self.inner();
        inner.alerts.iter().zip(&self.0.rules).map(|(alert, rule)| alert.view(rule, inner.now)).collect()
    }

    /// What the alerts remember as of the last tick, to be kept across a restart.
    #[must_use]
    pub fn snapshot(&self) -> AlertsSnapshot {
        let inner = self.inner();
        let active = inner.alerts.iter().zip(&self.0.rules).filter_map(|(alert, rule)| {
            let since = alert.machine.active_since()?;
            let active_for = inner.now.saturating_duration_since(since);
            let memory = AlertMemory { state: alert.machine.state(), active_for, told: alert.told };
            Some((rule.name.clone(), memory))
        });
        let totals = inner
            .signals
            .iter()
            .filter_map(|tracked| tracked.memory(inner.now).map(|memory| (tracked.signal.promql(), memory)));
        AlertsSnapshot { alerts: active.collect(), totals: totals.collect() }
    }

    /// Goes on where other alerts were `downtime` ago: before the first tick, with the snapshot of the process before.
    /// Alerts and totals that no rule asks for any more are passed over. Nobody is told again of what goes on firing.
    pub fn restore(&self, snapshot: &AlertsSnapshot, downtime: Duration, now: Instant) {
        let mut inner = self.inner();
        for (alert, rule) in inner.alerts.iter_mut().zip(&self.0.rules) {
            if let Some(memory) = snapshot.alerts.get(&rule.name) {
                alert.machine.restore(memory.state, memory.active_for, now);
                alert.told = memory.told;
            }
        }
        for tracked in &mut inner.signals {
            if let Some(memory) = snapshot.totals.get(&tracked.signal.promql()) {
                tracked.restore(memory, downtime, now);
            }
        }
        inner.now = now;
    }

    /// The rules as a Prometheus rule file.
    #[must_use]
    pub fn rules_yaml(&self) -> String {
        export_rules(&self.0.rules)
    }

    /// The alerts' own numbers, to be registered with [`Metrics`].
    #[must_use]
    pub fn component(&self) -> Arc<dyn Component> {
        Arc::new(self.clone())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component for Alerts {
    fn id(&self) -> ComponentId {
        ComponentId::new("alerts", "rules")
    }

    fn collect(&self, sink: &mut dyn Sink) {
        // The page is read while the rules are evaluated; the numbers of that moment are then those of the last tick.
        let counts = self.0.inner.try_lock().map(|inner| {
            let count = |state| inner.alerts.iter().filter(|alert| alert.machine.state() == state).count();
            (count(AlertState::Firing), count(AlertState::Pending))
        });
        if let Ok((firing, pending)) = counts {
            sink.gauge(&FIRING, &[], firing as f64);
            sink.gauge(&PENDING, &[], pending as f64);
        }
        let sum = |read: fn(&Outbox) -> u64| self.0.outboxes.iter().map(|outbox| read(outbox)).sum();
        sink.counter(&DELIVERED, &[], sum(|outbox| outbox.delivered.get()));
        sink.counter(&FAILED, &[], sum(|outbox| outbox.failed.get()));
        sink.counter(&DROPPED, &[], sum(|outbox| outbox.dropped.get()));
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.rules.iter().map(Rule::name)).finish()
    }
}

/// Evaluates and delivers until it is dropped.
#[must_use = "dropping the guard stops the evaluation"]
#[derive(Debug)]
pub struct AlertsTask(Vec<JoinHandle<()>>);

impl Drop for AlertsTask {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Inner {
    fn read(&mut self, page: &Page, now: Instant) {
        self.signals.iter_mut().for_each(Tracked::begin);
        self.selection.show(page, &mut self.signals);
        for (signal, value) in self.signals.iter_mut().zip(&mut self.values) {
            signal.end(now);
            *value = signal.value(now);
        }
    }

    fn evaluate(&mut self, position: usize, rule: &Rule, now: Instant) -> Option<AlertEvent> {
        let verdict = self.verdict(&self.alerts[position], rule, now);
        let inhibitor = self.alerts[position].inhibitor;
        let inhibited = inhibitor.is_some_and(|by| self.alerts[by].machine.state() == AlertState::Firing);
        let alert = &mut self.alerts[position];
        let (flapped, since) = (alert.machine.is_flapping(), alert.machine.active_since());
        alert.machine.step(verdict, now);
        (alert.last, alert.inhibited) = (verdict, inhibited);
        let change = alert.news(flapped)?;
        alert.told = change != Change::Resolved;
        let since = alert.machine.active_since().or(since).unwrap_or(now);
        Some(alert.event(rule, change, now.saturating_duration_since(since)))
    }

    fn verdict(&self, alert: &Alert, rule: &Rule, now: Instant) -> Verdict {
        let firing = alert.machine.state() == AlertState::Firing;
        let threshold = |raise: f64, clear: f64| if firing { clear } else { raise };
        let judged =
            |holds: bool, value: f64| if holds { Verdict::Holds(value) } else { Verdict::Clear(value) };
        match &rule.condition {
            Condition::Burn(burn) => self.burning(alert.signals, burn, now),
            Condition::Above { raise, clear, .. } | Condition::Below { raise, clear, .. } => {
                let Some((value, samples)) = self.values[alert.signals[0]] else { return Verdict::NoData };
                if value.is_nan() {
                    return Verdict::NoData;
                }
                if samples < rule.min_samples {
                    return Verdict::Insufficient("insufficient_traffic");
                }
                let below = matches!(rule.condition, Condition::Below { .. });
                let limit = threshold(*raise, *clear);
                judged(if below { value < limit } else { value > limit }, value)
            }
        }
    }

    fn burning(&self, [bad, total]: [usize; 2], burn: &Burn, now: Instant) -> Verdict {
        let ratio = |window| {
            let (bad, _) = self.signals[bad].increase(window, now)?;
            let (total, _) = self.signals[total].increase(window, now)?;
            Some((bad, if total > 0.0 { bad / total } else { 0.0 }))
        };
        let (Some((events, long)), Some((_, short))) = (ratio(burn.long), ratio(burn.short)) else {
            return Verdict::Insufficient("insufficient_history");
        };
        let budget = 1.0 - burn.objective;
        if events < burn.min_bad as f64 && long / budget > burn.factor {
            return Verdict::Insufficient("insufficient_traffic");
        }
        let (long, short) = (long / budget, short / budget);
        if long > burn.factor && short > burn.factor { Verdict::Holds(long) } else { Verdict::Clear(long) }
    }
}

impl Alert {
    /// What there is to tell. Nobody is told of an alert while another one inhibits it, nor twice, nor that something
    /// resolved of which nobody was told that it fired.
    fn news(&self, flapped: bool) -> Option<Change> {
        let firing = self.machine.state() == AlertState::Firing;
        match self.machine.is_flapping() {
            true if flapped => None,
            true => (!self.inhibited).then_some(Change::Flapping),
            false if firing => (!self.told && !self.inhibited).then_some(Change::Fired),
            false => self.told.then_some(Change::Resolved),
        }
    }

    fn value(&self) -> Option<f64> {
        match self.last {
            Verdict::Holds(value) | Verdict::Clear(value) => Some(value),
            Verdict::NoData | Verdict::Insufficient(_) => None,
        }
    }

    fn event(&self, rule: &Rule, change: Change, active_for: Duration) -> AlertEvent {
        AlertEvent {
            name: rule.name.clone(),
            change,
            value: self.value(),
            active_for,
            severity: rule.severity,
            labels: rule.labels.clone(),
            summary: rule.summary.clone(),
        }
    }

    fn view(&self, rule: &Rule, now: Instant) -> AlertView {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        AlertView {
            name: rule.name.clone(),
            state: self.machine.state(),
            value: self.value(),
            active_for: since(self.machine.active_since()),
            no_data_for: since(self.machine.no_data_since()),
            insufficient: match self.last {
                Verdict::Insufficient(why) => Some(why),
                _ => None,
            },
            flapping: self.machine.is_flapping(),
            inhibited: self.inhibited,
            severity: rule.severity,
            summary: rule.summary.clone(),
        }
    }
}

/// Builds [`Alerts`].
#[derive(Default)]
#[must_use = "no rule is evaluated until the alerts are built"]
pub struct AlertsBuilder {
    rules: Vec<Rule>,
    sinks: Vec<Arc<dyn AlertSink>>,
}

impl AlertsBuilder {
    /// Adds a rule.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds the alerts of an objective.
    pub fn slo(mut self, slo: &Slo) -> Self {
        self.rules.extend(slo.rules());
        self
    }

    /// Adds somebody to tell.
    pub fn sink(mut self, sink: impl AlertSink) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// Builds the alerts over the numbers of `metrics`.
    ///
    /// # Errors
    /// [`InvalidRule`] when a rule's name or thresholds cannot be used, two have one name, or one is inhibited by an
    /// unknown one.
    pub fn build(self, metrics: &Metrics) -> Result<Alerts, InvalidRule> {
        let mut positions = HashMap::new();
        for (position, rule) in self.rules.iter().enumerate() {
            rule.validate()?;
            if positions.insert(rule.name.as_str(), position).is_some() {
                return Err(InvalidRule::Duplicate(rule.name.clone()));
            }
        }
        let mut signals = Signals::default();
        let mut alerts = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let unknown =
                |by: &String| InvalidRule::UnknownInhibitor { rule: rule.name.clone(), by: by.clone() };
            let inhibitor = rule.inhibited_by.as_ref();
            let inhibitor =
                inhibitor.map(|by| positions.get(by.as_str()).copied().ok_or_else(|| unknown(by)));
            alerts.push(Alert {
                machine: AlertMachine::timed(rule.timing()),
                signals: signals.of(&rule.condition),
                inhibitor: inhibitor.transpose()?,
                last: Verdict::NoData,
                inhibited: false,
                told: false,
            });
        }
        let selection = Selection::new(signals.tracked.iter().map(|tracked| &tracked.signal));
        let values = vec![None; signals.tracked.len()];
        let inner = Inner { signals: signals.tracked, selection, values, alerts, now: time::now() };
        Ok(Alerts(Arc::new(Shared {
            metrics: metrics.clone(),
            rules: self.rules,
            inner: Mutex::new(inner),
            outboxes: self.sinks.into_iter().map(|sink| Arc::new(Outbox::new(sink))).collect(),
        })))
    }
}

impl fmt::Debug for AlertsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertsBuilder").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// The distinct signals of all rules.
#[derive(Default)]
struct Signals {
    tracked: Vec<Tracked>,
    known: HashMap<String, usize>,
}

impl Signals {
    fn of(&mut self, condition: &Condition) -> [usize; 2] {
        match condition {
            Condition::Above { signal, .. } | Condition::Below { signal, .. } => {
                let position = self.position(signal);
                [position, position]
            }
            Condition::Burn(burn) => [self.position(&burn.bad), self.position(&burn.total)],
        }
    }

    fn position(&mut self, signal: &Signal) -> usize {
        let position = *self.known.entry(format!("{signal:?}")).or_insert(self.tracked.len());
        if position == self.tracked.len() {
            let span = match signal.measure {
                Measure::Level => Duration::ZERO,
                Measure::Rate(window) | Measure::Quantile(_, window) | Measure::Mean(window) => window,
            };
            self.tracked.push(Tracked::new(signal.clone(), span));
        }
        position
    }
}

//! The one door through which numbers and health leave a component.
//!
//! Numbers are *pulled*: a component keeps counters, gauges and histograms and hands them to a [`Sink`] when asked.
//! Prometheus text, the JSON API, the dashboard, alerts and advice all read through it, so a number exists once.

use crate::{Histogram, Name};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// What a series measures, in Prometheus' base units. It decides the suffix of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// A plain number of things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share in `[0, 1]`.
    Ratio,
}

/// Which kind of series a description stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A monotone total; its name ends in `_total`.
    Counter,
    /// A level that goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// The description of a family of series, made once as a constant: `perf_<crate>_<what>_<unit>`.
///
/// ```
/// use perf_core::{Desc, Unit};
///
/// const HITS: Desc = Desc::counter("perf_cache_hits_total", "Reads answered from memory", Unit::Count);
/// assert_eq!(HITS.name, "perf_cache_hits_total");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desc {
    /// The full name of the family, unit and `_total` included.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// The unit of the values.
    pub unit: Unit,
    /// The kind of series.
    pub kind: Kind,
}

impl Desc {
    /// A monotone total; `name` ends in `_total`.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str, unit: Unit) -> Self {
        Self { name, help, unit, kind: Kind::Counter }
    }

    /// A level.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str, unit: Unit) -> Self {
        Self { name, help, unit, kind: Kind::Gauge }
    }

    /// A distribution.
    #[must_use]
    pub const fn histogram(name: &'static str, help: &'static str, unit: Unit) -> Self {
        Self { name, help, unit, kind: Kind::Histogram }
    }
}

/// A label beside the component's own `name`: at most two per series, each from a closed set.
pub type Label<'a> = (&'static str, &'a str);

/// Receives the numbers of one component after another. What it keeps it copies: nothing is borrowed past the call.
pub trait Sink {
    /// The component whose numbers follow. Its name becomes the label `name` of every series.
    fn begin(&mut self, id: &ComponentId) {
        let _ = id;
    }

    /// A monotone total.
    fn counter(&mut self, desc: &Desc, labels: &[Label<'_>], total: u64);

    /// A level. A value that is not known is left out by the component, never reported as 0 or NaN.
    fn gauge(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64);

    /// A distribution, read from where it is kept.
    fn histogram(&mut self, desc: &Desc, labels: &[Label<'_>], histogram: &Histogram);

    /// A monotone total of time, in seconds.
    fn seconds(&mut self, desc: &Desc, labels: &[Label<'_>], total: Duration);
}

/// Who a component is: what it is, and its name among its kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId {
    kind: &'static str,
    name: Name,
}

impl ComponentId {
    /// The component `name` of the given kind: `("cache", "users")`, `("breaker", "users-db")`.
    pub fn new(kind: &'static str, name: impl Into<Name>) -> Self {
        Self { kind, name: name.into() }
    }

    /// What it is, in one word of the house: `cache`, `pool`, `breaker`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its name among its kind.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.name)
    }
}

impl fmt::Debug for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How well something is, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Status {
    /// It does all it should.
    Up,
    /// It works, but less well than it should.
    Degraded,
    /// Nobody knows: not checked yet, or not for too long. Unknown is not up.
    Unknown,
    /// It does not work.
    Down,
}

impl Status {
    /// The word for it, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Down => "down",
        }
    }
}

/// A status and the reason for it.
///
/// ```
/// use perf_core::{Health, Status};
///
/// let health = Health::degraded("3 of 8 connections failed their check");
/// assert_eq!(health.status(), Status::Degraded);
/// assert_eq!(health.to_string(), "degraded: 3 of 8 connections failed their check");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    status: Status,
    reason: Cow<'static, str>,
}

impl Health {
    /// All is well.
    #[must_use]
    pub const fn up() -> Self {
        Self { status: Status::Up, reason: Cow::Borrowed("") }
    }

    /// It works, but not as it should.
    pub fn degraded(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Degraded, reason: reason.into() }
    }

    /// It does not work.
    pub fn down(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Down, reason: reason.into() }
    }

    /// Nobody knows.
    pub fn unknown(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Unknown, reason: reason.into() }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// The reason; empty when all is well.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The worse of two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.status > self.status { other } else { self }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status.as_str())?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// Something with a name, numbers and health. Every main type of perfkit is one.
///
/// ```
/// use perf_core::{Component, ComponentId, Counter, Desc, Sink, Unit};
///
/// const SEEN: Desc = Desc::counter("perf_example_seen_total", "Things seen", Unit::Count);
///
/// struct Watcher { seen: Counter }
///
/// impl Component for Watcher {
///     fn id(&self) -> ComponentId {
///         ComponentId::new("watcher", "front-door")
///     }
///     fn collect(&self, sink: &mut dyn Sink) {
///         sink.counter(&SEEN, &[], self.seen.get());
///     }
/// }
/// assert_eq!(Watcher { seen: Counter::new() }.id().to_string(), "watcher `front-door`");
/// ```
pub trait Component: Send + Sync {
    /// Who it is. The same for as long as it lives.
    fn id(&self) -> ComponentId;

    /// Hands its numbers to `sink`: every series from the first time on, at zero if nothing has happened. Must not block.
    fn collect(&self, sink: &mut dyn Sink);

    /// How it is, from what it already knows. Must not block.
    fn health(&self) -> Health {
        Health::up()
    }
}

impl<C: Component + ?Sized> Component for Arc<C> {
    fn id(&self) -> ComponentId {
        (**self).id()
    }

    fn collect(&self, sink: &mut dyn Sink) {
        (**self).collect(sink);
    }

    fn health(&self) -> Health {
        (**self).health()
    }
}

/// Two components of one kind have the same name, so their series could not be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is registered already: names are unique among components of one kind")]
pub struct DuplicateComponent(pub ComponentId);

type Components = Mutex<BTreeMap<ComponentId, Arc<dyn Component>>>;

/// The components of a host, in order of kind and name. Cheap to clone; clones share the list.
///
/// ```
/// # use perf_core::{Component, ComponentId, Registry, Sink};
/// # struct Cache;
/// # impl Component for Cache {
/// #     fn id(&self) -> ComponentId { ComponentId::new("cache", "users") }
/// #     fn collect(&self, _: &mut dyn Sink) {}
/// # }
/// use std::sync::Arc;
///
/// let registry = Registry::new();
/// let registration = registry.register(Arc::new(Cache)).unwrap();
/// assert_eq!(registry.components().len(), 1);
/// drop(registration);
/// assert!(registry.components().is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Registry(Arc<Components>);

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component until the returned [`Registration`] is dropped.
    ///
    /// # Errors
    /// [`DuplicateComponent`] when one of this kind and name is there already.
    pub fn register(&self, component: Arc<dyn Component>) -> Result<Registration, DuplicateComponent> {
        let id = component.id();
        let mut components = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if components.contains_key(&id) {
            return Err(DuplicateComponent(id));
        }
        components.insert(id.clone(), component);
        Ok(Registration { id, registry: Arc::downgrade(&self.0) })
    }

    /// The components, in order of kind and name.
    #[must_use]
    pub fn components(&self) -> Vec<Arc<dyn Component>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Hands the numbers of every component to `sink`. The registry is not locked while components are read.
    pub fn collect(&self, sink: &mut dyn Sink) {
        for component in self.components() {
            sink.begin(&component.id());
            component.collect(sink);
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.components().iter().map(|c| c.id())).finish()
    }
}

/// Keeps a component in its [`Registry`]; dropping it takes the component out.
#[must_use = "dropping the registration takes the component out of the registry"]
#[derive(Debug)]
pub struct Registration {
    id: ComponentId,
    registry: Weak<Components>,
}

impl Registration {
    /// Leaves the component in for as long as the registry lives.
    pub fn keep(mut self) {
        self.registry = Weak::new();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(components) = self.registry.upgrade() {
            components.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        }
    }
}

impl fmt::Debug for dyn Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.id(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(&'static str);

    impl Component for Fake {
        fn id(&self) -> ComponentId {
            ComponentId::new("fake", self.0)
        }

        fn collect(&self, sink: &mut dyn Sink) {
            const DESC: Desc = Desc::counter("perf_fake_total", "Fakes", Unit::Count);
            sink.counter(&DESC, &[], 1);
        }
    }

    #[derive(Default)]
    struct Names(Vec<String>);

    impl Sink for Names {
        fn begin(&mut self, id: &ComponentId) {
            self.0.push(id.name().to_string());
        }

        fn counter(&mut self, desc: &Desc, _: &[Label<'_>], _: u64) {
            self.0.push(desc.name.to_owned());
        }

        fn gauge(&mut self, _: &Desc, _: &[Label<'_>], _: f64) {}

        fn histogram(&mut self, _: &Desc, _: &[Label<'_>], _: &Histogram) {}

        fn seconds(&mut self, _: &Desc, _: &[Label<'_>], _: Duration) {}
    }

    #[test]
    fn components_are_read_in_order_of_their_names() {
        let registry = Registry::new();
        let _b = registry.register(Arc::new(Fake("b"))).unwrap();
        registry.register(Arc::new(Fake("a"))).unwrap().keep();
        let mut sink = Names::default();
        registry.collect(&mut sink);
        assert_eq!(sink.0, ["a", "perf_fake_total", "b", "perf_fake_total"]);
    }

    #[test]
    fn a_second_component_of_one_name_is_refused() {
        let registry = Registry::new();
        let first = registry.register(Arc::new(Fake("a"))).unwrap();
        let error = registry.register(Arc::new(Fake("a"))).unwrap_err();
        assert!(error.to_string().starts_with("fake `a` is registered already"));
        drop(first);
        registry.register(Arc::new(Fake("a"))).unwrap().keep();
    }

    #[test]
    fn a_registration_may_outlive_its_registry() {
        let registry = Registry::new();
        let registration = registry.register(Arc::new(Fake("a"))).unwrap();
        drop(registry);
        drop(registration);
    }

    #[test]
    fn the_worst_health_wins() {
        let worst = Health::up().worst(Health::degraded("slow")).worst(Health::unknown("late"));
        assert_eq!(worst.status(), Status::Unknown);
        assert_eq!(Health::down("gone").worst(worst).status(), Status::Down);
    }
}

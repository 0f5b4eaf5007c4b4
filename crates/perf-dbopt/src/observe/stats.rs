use super::config::ObserverConfig;
use super::entry::QueryStat;
use super::event::{NPlusOne, QueryEvent, SlowQuery};
use super::numbers::Totals;
use super::recording::Recording;
use super::routes::{RouteStat, Routes};
use super::scope::{self, Scope};
use super::table::Table;
use crate::{Dialect, Fingerprint, Workload};
use perf_core::time::{Instant, now};
use perf_core::{InvalidConfig, Name, Ticker};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) type EventHook = Box<dyn Fn(&QueryEvent) + Send + Sync>;

/// Statistics of every statement this process sends to one database. Cheap to clone; clones share the numbers.
///
/// Recording a query whose text was seen before takes no lock that excludes others and allocates nothing.
///
/// ```
/// use perf_dbopt::{Dialect, QueryStats};
///
/// let stats = QueryStats::new("orders", Dialect::Postgres);
/// stats.start("select * from t where id = $1").done(1);
/// stats.start("select * from t where id = 7").done(1);
/// let top = stats.top(10);
/// assert_eq!((top.len(), top[0].calls(), top[0].rows), (1, 2, 2));
/// ```
#[derive(Clone)]
pub struct QueryStats(pub(super) Arc<Shared>);

pub(super) struct Shared {
    /// First, so that a query that is not recorded reads this and nothing else.
    pub(super) enabled: AtomicBool,
    pub(super) core: Arc<Core>,
    pub(super) table: Table,
}

/// What a query under way needs beside its statement's numbers. Each statement holds it, so that a recording holds one
/// counted reference rather than two.
pub(super) struct Core {
    pub(super) name: Name,
    pub(super) dialect: Dialect,
    pub(super) config: ObserverConfig,
    pub(super) began: Instant,
    /// Times the queries.
    pub(super) clock: Ticker,
    pub(super) totals: Totals,
    pub(super) errors: Mutex<BTreeMap<String, u64>>,
    slow: Mutex<VecDeque<SlowQuery>>,
    loops: Mutex<VecDeque<NPlusOne>>,
    routes: Routes,
    hook: Option<EventHook>,
}

impl QueryStats {
    /// An observer with the defaults, for the database called `name`. The first one of a process measures how fast the
    /// processor counts, by which queries are timed: up to 200 ms.
    #[must_use]
    pub fn new(name: impl Into<Name>, dialect: Dialect) -> Self {
        Self::from_parts(name.into(), dialect, ObserverConfig::default(), None)
    }

    /// An observer to be configured.
    pub fn builder(name: impl Into<Name>, dialect: Dialect) -> QueryStatsBuilder {
        QueryStatsBuilder { name: name.into(), dialect, config: ObserverConfig::default(), hook: None }
    }

    fn from_parts(name: Name, dialect: Dialect, config: ObserverConfig, hook: Option<EventHook>) -> Self {
        let enabled = AtomicBool::new(config.enabled);
        let core = Arc::new(Core::new(name, dialect, config, hook));
        Self(Arc::new(Shared { enabled, table: Table::new(Arc::clone(&core)), core }))
    }

    /// What the database is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.core.name
    }

    /// Whose SQL it reads.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.0.core.dialect
    }

    /// The configuration in use.
    #[must_use]
    pub fn config(&self) -> &ObserverConfig {
        &self.0.core.config
    }

    /// Whether queries are recorded.
    #[inline]
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.enabled.load(Relaxed)
    }

    /// Switches recording on or off. Queries under way are still recorded.
    pub fn set_enabled(&self, enabled: bool) {
        self.0.enabled.store(enabled, Relaxed);
    }

    /// Begins recording one query by hand, for drivers other than sqlx.
    #[inline(always)]
    #[must_use = "a recording that is dropped at once counts as a cancelled query"]
    pub fn start(&self, sql: &str) -> Recording {
        Recording::start(self, sql)
    }

    /// Records a query that took `elapsed` and returned or changed `rows`, measured elsewhere.
    pub fn record(&self, sql: &str, elapsed: Duration, rows: u64) {
        Recording::start(self, sql).end_after(elapsed, rows);
    }

    /// Runs a request: repetitions inside `work` are found, and its queries count for `route`. The route must come from
    /// a closed set (`GET /products/{id}`, not the path itself).
    ///
    /// # Cancel safety
    /// Exactly as cancel safe as `work`; what it sent until then counts.
    pub async fn in_scope<F: Future>(&self, route: impl Into<Arc<str>>, work: F) -> F::Output {
        if !self.is_enabled() {
            return work.await;
        }
        let scope = Arc::new(Scope::new(self.identity(), route.into()));
        let _closing = Closing { stats: self.clone(), scope: Arc::clone(&scope) };
        scope::within(scope, work).await
    }

    pub(super) fn identity(&self) -> usize {
        self.0.core.identity()
    }

    /// The statements that took the most time in total, at most `limit`.
    #[must_use]
    pub fn top(&self, limit: usize) -> Vec<QueryStat> {
        let mut all = self.statements();
        all.sort_by(|a, b| {
            b.latency.sum().total_cmp(&a.latency.sum()).then(a.fingerprint.cmp(&b.fingerprint))
        });
        all.truncate(limit);
        all
    }

    /// Every statement known, in no order.
    #[must_use]
    pub fn statements(&self) -> Vec<QueryStat> {
        self.0.table.entries().iter().map(|entry| entry.stat()).collect()
    }

    /// The numbers of one statement.
    #[must_use]
    pub fn statement(&self, print: Fingerprint) -> Option<QueryStat> {
        self.0.table.get(print).map(|entry| entry.stat())
    }

    /// What was observed, as input for the advisors.
    #[must_use]
    pub fn workload(&self) -> Workload {
        Workload::from_stats(self.dialect(), &self.top(usize::MAX))
    }

    /// Errors by the database's code (SQLSTATE for PostgreSQL); at most 64 codes, further ones count as `other`.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.0.core.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The slow queries remembered, newest first.
    #[must_use]
    pub fn slow_queries(&self) -> Vec<SlowQuery> {
        self.0.core.slow.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// The repetitions found, newest first; one per route and statement.
    #[must_use]
    pub fn repetitions(&self) -> Vec<NPlusOne> {
        self.0.core.loops.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// The routes seen, by the time their queries took.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteStat> {
        self.0.core.routes.all()
    }

    /// Forgets the statements, so that what follows is seen by itself. Totals go on.
    pub fn forget_statements(&self) {
        self.0.table.clear();
    }

    /// Attaches a plan, with its values masked, to the newest slow query of this statement.
    pub fn attach_plan(&self, print: Fingerprint, plan: String) {
        let mut slow = self.0.core.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(query) = slow.iter_mut().rev().find(|query| query.fingerprint == print) {
            query.plan = Some(plan);
        }
    }

    /// Whether this statement should be explained now: it is slow as a rule (its 95th percentile reaches the limit) and
    /// was not explained lately. Says yes once, and then not until [`ObserverConfig::explain_every`] has passed.
    #[must_use]
    pub fn claim_explain(&self, print: Fingerprint, elapsed: Duration) -> bool {
        let limit = self.0.core.config.slow;
        let Some(entry) = self.0.table.get(print).filter(|_| elapsed >= limit) else { return false };
        let at = nanos(self.0.core.began.elapsed()).max(1);
        let last = entry.explained.load(Relaxed);
        let free = last == 0 || at.saturating_sub(last) >= nanos(self.0.core.config.explain_every);
        let often =
            || entry.latency.snapshot().quantile(0.95).is_some_and(|p95| p95.high >= limit.as_secs_f64());
        free && often() && entry.explained.compare_exchange(last, at, Relaxed, Relaxed).is_ok()
    }

    /// Whether the plan of this statement would be welcome if it turned out slow once more. Cheap for a statement that never
    /// was slow, and looks at the distribution of the others once a second at most.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(super) fn wants_plan(&self, sql: &str) -> bool {
        const LOOK_EVERY: u64 = 1_000_000_000;
        let core = &self.0.core;
        let found = self.0.table.find(sql);
        let entry = Arc::clone(&found.entry);
        super::table::keep(found.hash, found.entry);
        if entry.max_nanos.load(Relaxed) < nanos(core.config.slow) {
            return false;
        }
        let at = nanos(core.began.elapsed()).max(1);
        let last = entry.explained.load(Relaxed);
        if last != 0 && at.saturating_sub(last) < nanos(core.config.explain_every) {
            return false;
        }
        let looked = entry.looked.load(Relaxed);
        if looked != 0 && at.saturating_sub(looked) < LOOK_EVERY {
            return false;
        }
        let limit = core.config.slow.as_secs_f64();
        let often = entry.latency.snapshot().quantile(0.95).is_some_and(|p95| p95.high >= limit);
        if !often {
            entry.looked.store(at, Relaxed);
        }
        often
    }

    fn close_scope(&self, scope: &Scope) {
        let seen = scope.take();
        self.0.core.routes.add(&scope.route, &seen);
        for (print, repeated) in seen {
            if repeated.single >= self.0.core.config.n_plus_one {
                self.report_loop(scope, print, repeated);
            }
        }
    }

    #[cold]
    fn report_loop(&self, scope: &Scope, print: Fingerprint, repeated: scope::Repeated) {
        let Some(entry) = self.0.table.get(print) else { return };
        self.0.core.totals.loops.increment();
        let found = NPlusOne {
            route: Arc::clone(&scope.route),
            fingerprint: print,
            text: Arc::clone(&entry.text),
            calls: repeated.calls,
            time: repeated.time,
            suggestion: super::routes::suggestion(&entry.text, self.dialect()),
        };
        let event = QueryEvent::NPlusOne(found.clone());
        remember(&self.0.core.loops, found, 256, |old, new| {
            old.route == new.route && old.fingerprint == new.fingerprint
        });
        self.0.core.emit(&event);
    }
}

impl Core {
    pub(super) fn new(name: Name, dialect: Dialect, config: ObserverConfig, hook: Option<EventHook>) -> Self {
        Self {
            name,
            dialect,
            began: now(),
            clock: Ticker::new(),
            totals: Totals::new(),
            errors: Mutex::default(),
            // One more than is remembered: the oldest leaves when the newest has come.
            slow: Mutex::new(VecDeque::with_capacity(config.slow_log + 1)),
            loops: Mutex::default(),
            routes: Routes::new(config.max_routes),
            hook,
            config,
        }
    }

    /// Tells this observer from others, by where it is.
    pub(super) fn identity(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    pub(super) fn emit(&self, event: &QueryEvent) {
        if let Some(hook) = &self.hook {
            hook(event);
        }
    }

    /// Remembers a slow query and reports it.
    #[cold]
    pub(super) fn note_slow(&self, slow: SlowQuery) {
        self.totals.slow.increment();
        let event = QueryEvent::Slow(slow.clone());
        remember(&self.slow, slow, self.config.slow_log, |_, _| false);
        self.emit(&event);
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Adds to a bounded list; an older entry that says the same is replaced.
fn remember<T>(list: &Mutex<VecDeque<T>>, item: T, limit: usize, same: impl Fn(&T, &T) -> bool) {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    list.retain(|old| !same(old, &item));
    list.push_back(item);
    while list.len() > limit {
        list.pop_front();
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

/// Closes a scope also when its future is dropped.
struct Closing {
    stats: QueryStats,
    scope: Arc<Scope>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.stats.close_scope(&self.scope);
    }
}

impl std::fmt::Debug for QueryStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryStats")
            .field("name", &self.0.core.name)
            .field("dialect", &self.0.core.dialect)
            .field("statements", &self.0.table.len())
            .finish_non_exhaustive()
    }
}

/// Builds [`QueryStats`].
#[must_use = "a builder does nothing until it is built"]
pub struct QueryStatsBuilder {
    name: Name,
    dialect: Dialect,
    config: ObserverConfig,
    hook: Option<EventHook>,
}

impl QueryStatsBuilder {
    /// Takes over a whole configuration.
    pub fn config(mut self, config: ObserverConfig) -> Self {
        self.config = config;
        self
    }

    /// Whether queries are recorded from the start.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.config.enabled = enabled;
        self
    }

    /// How many statements are kept apart.
    pub fn max_statements(mut self, statements: usize) -> Self {
        self.config.max_statements = statements;
        self
    }

    /// From which time on a query is slow.
    pub fn slow(mut self, limit: Duration) -> Self {
        self.config.slow = limit;
        self
    }

    /// How many slow queries are remembered.
    pub fn slow_log(mut self, queries: usize) -> Self {
        self.config.slow_log = queries;
        self
    }

    /// How many repetitions inside one scope count as N+1.
    pub fn n_plus_one(mut self, repetitions: u32) -> Self {
        self.config.n_plus_one = repetitions;
        self
    }

    /// Calls `hook` for everything rare or slow. It runs on the task that sent the query and must not block.
    pub fn on_event(mut self, hook: impl Fn(&QueryEvent) + Send + Sync + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// The observer.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a value is outside its range.
    pub fn build(self) -> Result<QueryStats, InvalidConfig> {
        self.config.validate()?;
        Ok(QueryStats::from_parts(self.name, self.dialect, self.config, self.hook))
    }
}

impl std::fmt::Debug for QueryStatsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryStatsBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

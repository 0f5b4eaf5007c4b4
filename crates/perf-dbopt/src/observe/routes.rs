use super::scope::Repeated;
use crate::{Dialect, Fingerprint};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Statements told apart per route.
const MAX_PER_ROUTE: usize = 64;

/// What one route asks of the database.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RouteStat {
    /// The route.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::shared"))]
    pub route: Arc<str>,
    /// Requests seen.
    pub requests: u64,
    /// Queries they sent.
    pub queries: u64,
    /// The time those took.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub time: Duration,
    /// By statement, those that took the most time first; at most 64.
    pub statements: Vec<StatementShare>,
}

/// The part of one statement in a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StatementShare {
    /// The statement.
    pub fingerprint: Fingerprint,
    /// How often the route sent it.
    pub calls: u64,
    /// The time that took.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub time: Duration,
}

#[derive(Debug, Default)]
struct Route {
    requests: u64,
    queries: u64,
    time: Duration,
    statements: HashMap<Fingerprint, (u64, Duration)>,
}

/// Totals per route. A lock per request, not per query.
#[derive(Debug)]
pub(super) struct Routes {
    max: usize,
    routes: Mutex<BTreeMap<Arc<str>, Route>>,
}

impl Routes {
    pub(super) fn new(max: usize) -> Self {
        Self { max, routes: Mutex::default() }
    }

    pub(super) fn add(&self, route: &Arc<str>, seen: &HashMap<Fingerprint, Repeated>) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.len() >= self.max && !routes.contains_key(route) {
            return;
        }
        let total = routes.entry(Arc::clone(route)).or_default();
        total.requests += 1;
        for (print, repeated) in seen {
            total.queries += u64::from(repeated.calls);
            total.time += repeated.time;
            if total.statements.len() < MAX_PER_ROUTE || total.statements.contains_key(print) {
                let share = total.statements.entry(*print).or_default();
                share.0 += u64::from(repeated.calls);
                share.1 += repeated.time;
            }
        }
    }

    pub(super) fn all(&self) -> Vec<RouteStat> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = routes.iter().map(|(name, route)| stat(name, route)).collect();
        all.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.route.cmp(&b.route)));
        all
    }
}

fn stat(name: &Arc<str>, route: &Route) -> RouteStat {
    let mut statements: Vec<_> = route
        .statements
        .iter()
        .map(|(&fingerprint, &(calls, time))| StatementShare { fingerprint, calls, time })
        .collect();
    statements.sort_by(|a, b| b.time.cmp(&a.time).then(a.fingerprint.cmp(&b.fingerprint)));
    RouteStat {
        route: Arc::clone(name),
        requests: route.requests,
        queries: route.queries,
        time: route.time,
        statements,
    }
}

/// What to send instead of many single-row queries.
pub(super) fn suggestion(text: &str, dialect: Dialect) -> String {
    let how = match dialect {
        Dialect::Postgres => "`= ANY($1)` with an array of the keys",
        Dialect::Sqlite => "`IN (SELECT value FROM json_each(?))` with a JSON array of the keys",
        Dialect::MySql => "`IN (?, …)` with the keys",
    };
    if text.starts_with("insert") {
        "collect the rows and send one INSERT with many rows, or wrap the loop in perf_dbopt::batch if it is meant".to_owned()
    } else {
        format!(
            "ask once for all of them: replace the `=` on the key by {how}, or join the table in the query before"
        )
    }
}

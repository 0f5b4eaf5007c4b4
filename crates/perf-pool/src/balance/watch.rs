use super::Role;
use super::discovery::{Discovery, Probe};
use super::pool::Inner;
use crate::manager::Manager;
use crate::pool::Pool;
use perf_core::time::{self, Duration};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use tokio::task::JoinSet;

/// What a probe came to: the connection it may be made on next time, and the answer.
type Probed<C> = (u64, Option<C>, Option<Option<Role>>);

/// Asks for the list and probes the endpoints until the pool is gone.
pub(super) async fn watch<M: Manager>(inner: Weak<Inner<M>>, discovery: Box<dyn Discovery>) {
    let mut connections: HashMap<u64, M::Connection> = HashMap::new();
    let mut discover_at = time::now();
    loop {
        let Some(pool) = inner.upgrade() else { return };
        let now = time::now();
        let config = pool.config.clone();
        if now >= discover_at {
            discover_at = now + config.discover_interval;
            discover(&pool, &*discovery, config.probe_timeout).await;
        }
        if let Some(probe) = &pool.probe {
            probe_all(&pool, probe, &mut connections, config.probe_timeout).await;
        }
        let idle = if pool.probe.is_some() { config.probe_interval } else { config.discover_interval };
        drop(pool);
        time::sleep(idle.min(discover_at.saturating_duration_since(time::now()))).await;
    }
}

async fn discover<M: Manager>(pool: &Inner<M>, discovery: &dyn Discovery, limit: Duration) {
    // An empty answer is taken for a mistake of the discovery: the endpoints there are stay.
    let found = time::timeout(limit, discovery.discover()).await;
    let updated = match found {
        Ok(Ok(endpoints)) if !endpoints.is_empty() => pool.update(endpoints, time::now()).is_ok(),
        _ => false,
    };
    if !updated {
        pool.discoveries_failed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn probe_all<M: Manager>(
    inner: &Inner<M>,
    probe: &Arc<dyn Probe<M>>,
    connections: &mut HashMap<u64, M::Connection>,
    limit: Duration,
) {
    let pools: Vec<(u64, Pool<M>)> =
        inner.lock().pools.iter().map(|(id, pool)| (*id, pool.clone())).collect();
    connections.retain(|id, _| pools.iter().any(|(known, _)| known == id));
    let mut probes = JoinSet::new();
    let mut asked: Vec<u64> = Vec::new();
    for (id, pool) in pools {
        asked.push(id);
        let (probe, connection) = (Arc::clone(probe), connections.remove(&id));
        probes.spawn(async move {
            let answered = time::timeout(limit, ask(&pool, &*probe, connection)).await;
            let (connection, answer) = answered.unwrap_or((None, None));
            (id, connection, answer)
        });
    }
    while let Some(probed) = probes.join_next().await {
        // A probe that panicked has no answer: see below.
        let Ok((id, connection, answer)): Result<Probed<M::Connection>, _> = probed else { continue };
        asked.retain(|other| *other != id);
        connections.extend(connection.map(|connection| (id, connection)));
        inner.probed(id, answer, time::now());
    }
    asked.into_iter().for_each(|id| inner.probed(id, None, time::now()));
}

/// Asks over the connection kept for this, or a fresh one: a full pool says nothing about its endpoint.
async fn ask<M: Manager>(
    pool: &Pool<M>,
    probe: &dyn Probe<M>,
    connection: Option<M::Connection>,
) -> (Option<M::Connection>, Option<Option<Role>>) {
    let manager = pool.manager();
    let connected = match connection {
        Some(connection) => Ok(connection),
        None => manager.connect().await,
    };
    let Ok(mut connection) = connected else { return (None, None) };
    match probe.probe(manager, &mut connection).await {
        Ok(role) => (Some(connection), Some(role)),
        Err(_) => (None, None),
    }
}

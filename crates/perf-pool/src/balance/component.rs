use super::Role;
use super::pool::BalancedPool;
use crate::manager::Manager;
use perf_core::{Component, ComponentId, Desc, Health, Sink, Unit};
use std::sync::atomic::Ordering;

const PICKED: Desc =
    Desc::counter("perf_pool_balance_picked_total", "Endpoints chosen for a caller", Unit::Count);
const PANICKED: Desc = Desc::counter(
    "perf_pool_balance_panicked_total",
    "Choices made as if all were well because too few endpoints were",
    Unit::Count,
);
const RETRIED: Desc = Desc::counter(
    "perf_pool_balance_retried_total",
    "Times a caller went on to another endpoint",
    Unit::Count,
);
const EJECTED: Desc = Desc::counter(
    "perf_pool_balance_ejected_total",
    "Endpoints taken out because calls to them failed",
    Unit::Count,
);
const ROLE_CHANGES: Desc = Desc::counter(
    "perf_pool_balance_role_changes_total",
    "Endpoints that began or ceased to take writes",
    Unit::Count,
);
const DISCOVERIES_FAILED: Desc = Desc::counter(
    "perf_pool_balance_discoveries_failed_total",
    "Times the list of endpoints could not be had",
    Unit::Count,
);
const PROBES_FAILED: Desc =
    Desc::counter("perf_pool_balance_probes_failed_total", "Probes without a good answer", Unit::Count);
const ENDPOINTS: Desc = Desc::gauge("perf_pool_balance_endpoints", "Endpoints, by state", Unit::Count);
const WRITERS: Desc = Desc::gauge("perf_pool_balance_writers", "Endpoints known to take writes", Unit::Count);

/// Every series a [`BalancedPool`] hands out. All carry the label `name`.
pub const METRICS: [Desc; 9] =
    [PICKED, PANICKED, RETRIED, EJECTED, ROLE_CHANGES, DISCOVERIES_FAILED, PROBES_FAILED, ENDPOINTS, WRITERS];

/// Endpoints by what may be done with them.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    available: usize,
    ejected: usize,
    down: usize,
    writers: usize,
}

impl<M: Manager> BalancedPool<M> {
    fn levels(&self) -> Levels {
        let state = &self.0.lock().state;
        let mut levels = Levels::default();
        for (index, known) in state.known.iter().enumerate() {
            let level = match (known.health.is_up(), state.ejector.is_out(index)) {
                (false, _) => &mut levels.down,
                (true, true) => &mut levels.ejected,
                (true, false) => &mut levels.available,
            };
            *level += 1;
            levels.writers += usize::from(known.role == Some(Role::Writer));
        }
        levels
    }
}

impl<M: Manager> Component for BalancedPool<M> {
    fn id(&self) -> ComponentId {
        ComponentId::new("balanced_pool", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let (picked, panicked, retried, ejections) = {
            let state = &self.0.lock().state;
            (state.picked, state.panicked, state.retried, state.ejections)
        };
        sink.counter(&PICKED, &[], picked);
        sink.counter(&PANICKED, &[], panicked);
        sink.counter(&RETRIED, &[], retried);
        sink.counter(&EJECTED, &[], ejections);
        sink.counter(&ROLE_CHANGES, &[], self.0.role_changes.load(Ordering::Relaxed));
        sink.counter(&DISCOVERIES_FAILED, &[], self.0.discoveries_failed.load(Ordering::Relaxed));
        sink.counter(&PROBES_FAILED, &[], self.0.probes_failed.load(Ordering::Relaxed));
        let Levels { available, ejected, down, writers } = self.levels();
        for (state, count) in [("available", available), ("ejected", ejected), ("down", down)] {
            sink.gauge(&ENDPOINTS, &[("state", state)], count as f64);
        }
        sink.gauge(&WRITERS, &[], writers as f64);
    }

    fn health(&self) -> Health {
        let Levels { available, ejected, down, .. } = self.levels();
        match (available, ejected + down) {
            (0, 0) => Health::down("there is no endpoint"),
            (0, _) => Health::down("no endpoint is available"),
            (_, 0) => Health::up(),
            (available, out) => Health::degraded(format!("{out} of {} endpoints are out", available + out)),
        }
    }
}

use super::Pool;
use super::stats::{ADVISED, CONNECT, CONNECTIONS, HOLD, MAX, WAIT, WAITING};
use crate::manager::Manager;
use perf_core::{Component, ComponentId, Health, Sink};
use std::sync::atomic::Ordering;

impl<M: Manager> Component for Pool<M> {
    fn id(&self) -> ComponentId {
        ComponentId::new("pool", self.shared.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        for (desc, labels, total) in stats.totals() {
            sink.counter(desc, labels, total);
        }
        let states = [
            ("idle", stats.idle),
            ("leased", stats.leased),
            ("connecting", stats.connecting),
            ("checking", stats.checking),
            ("resetting", stats.resetting),
            ("closing", stats.closing),
        ];
        for (state, count) in states {
            sink.gauge(&CONNECTIONS, &[("state", state)], count as f64);
        }
        sink.gauge(&MAX, &[], stats.max as f64);
        let advised = match self.shared.advised.load(Ordering::Relaxed) {
            0 => stats.max,
            advised => advised,
        };
        sink.gauge(&ADVISED, &[], advised as f64);
        sink.gauge(&WAITING, &[], stats.waiting as f64);
        sink.histogram(&WAIT, &[], &self.shared.waits);
        sink.histogram(&HOLD, &[], &self.shared.holds);
        sink.histogram(&CONNECT, &[], &self.shared.connects);
    }

    fn health(&self) -> Health {
        let core = self.shared.lock();
        if core.closed {
            return Health::down("the pool is closed");
        }
        if core.paused {
            return Health::degraded("the pool is paused");
        }
        let alive = core.idle() + core.counts.leased as usize;
        match &core.attempts.last_error {
            Some(cause) if alive == 0 => Health::down(format!("cannot connect: {cause}")),
            Some(cause) => Health::degraded(format!("cannot connect: {cause}")),
            None if core.counts.leased as usize >= core.config.max && core.waiting() > 0 => {
                Health::degraded(format!(
                    "all {} connections are in use and {} callers wait",
                    core.counts.leased,
                    core.waiting()
                ))
            }
            None => Health::up(),
        }
    }
}

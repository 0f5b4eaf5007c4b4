//! The numbers of a run under way.

use super::run::StopHandle;
use perf_core::{Component, ComponentId, Desc, Health, Sink, Unit};

const SENT: Desc = Desc::counter("perf_load_sent_total", "Requests taken up, warm-up included", Unit::Count);
const FINISHED: Desc =
    Desc::counter("perf_load_finished_total", "Requests that ended, well or not", Unit::Count);
const FAILED: Desc = Desc::counter("perf_load_failed_total", "Requests that ended badly", Unit::Count);
const IN_FLIGHT: Desc = Desc::gauge("perf_load_in_flight", "Requests on their way", Unit::Count);
const ELAPSED: Desc = Desc::gauge(
    "perf_load_progress_ratio",
    "Share of the plan that has passed, 1 when it is over",
    Unit::Ratio,
);

/// Register the handle and the host's exposition shows the run while it lasts.
impl Component for StopHandle {
    fn id(&self) -> ComponentId {
        ComponentId::new("load", self.name())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let id = self.id();
        let labels = [("name", id.name().as_str())];
        let progress = self.progress();
        sink.counter(&SENT, &labels, progress.sent);
        sink.counter(&FINISHED, &labels, progress.finished);
        sink.counter(&FAILED, &labels, progress.failed);
        sink.gauge(&IN_FLIGHT, &labels, progress.in_flight as f64);
        let share = progress.elapsed.as_secs_f64() / progress.length.as_secs_f64().max(f64::MIN_POSITIVE);
        sink.gauge(&ELAPSED, &labels, share.min(1.0));
    }

    fn health(&self) -> Health {
        let progress = self.progress();
        if progress.failed > 0 && progress.failed == progress.finished {
            Health::degraded("no request has succeeded so far")
        } else {
            Health::up()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Shared;
    use crate::plan::Load;
    use perf_core::time::{self, Duration};
    use perf_core::{Histogram, Label};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    #[derive(Default)]
    struct Seen(BTreeSet<(String, String)>);

    impl Sink for Seen {
        fn counter(&mut self, desc: &Desc, labels: &[Label<'_>], _: u64) {
            assert_eq!(labels, [("name", "checkout")]);
            self.0.insert((desc.name.to_owned(), "counter".to_owned()));
        }
        fn gauge(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64) {
            assert!(labels.len() == 1 && value.is_finite());
            self.0.insert((desc.name.to_owned(), "gauge".to_owned()));
        }
        fn histogram(&mut self, _: &Desc, _: &[Label<'_>], _: &Histogram) {}
        fn seconds(&mut self, _: &Desc, _: &[Label<'_>], _: Duration) {}
    }

    #[test]
    fn the_table_in_the_docs_lists_exactly_what_is_collected() {
        let shared = Shared::new(Load::closed(1).name("checkout"), time::now());
        let handle = StopHandle::new(Arc::new(shared));
        let mut seen = Seen::default();
        handle.collect(&mut seen);
        let page = include_str!("../../../../docs/load.md");
        let listed = page
            .lines()
            .filter(|line| line.starts_with("| `perf_load_"))
            .map(|line| {
                line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
            })
            .map(|cells| (cells[1].clone(), cells[2].clone()))
            .collect();
        assert_eq!(seen.0, listed);
        assert_eq!(handle.health(), Health::up());
        assert_eq!(handle.id().to_string(), "load `checkout`");
    }
}

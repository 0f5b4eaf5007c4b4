//! What the live page watches, picked out of everything the components hand over.

use crate::measure::families;
use perf_core::{ComponentId, Desc, Histogram, HistogramSnapshot, Label, Registry, Sink, Unit};
use std::collections::BTreeMap;
use std::time::Duration;

/// Totals and levels at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub(super) in_flight: f64,
    pub(super) streams: f64,
    pub(super) disconnects: u64,
    pub(super) panics: u64,
    pub(super) routes: BTreeMap<(String, String), RouteReading>,
    pub(super) fullest: Option<Fullness>,
    /// The component whose numbers are being handed over, with what it holds and what it may hold.
    component: String,
    held: Vec<(&'static str, f64)>,
    most: Vec<(&'static str, f64)>,
}

/// Totals of one route and method.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteReading {
    pub(super) requests: u64,
    pub(super) client_errors: u64,
    pub(super) server_errors: u64,
    pub(super) duration: HistogramSnapshot,
}

/// The part of the host with the least room left.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fullness {
    pub(super) what: String,
    pub(super) ratio: f64,
}

impl Reading {
    pub(super) fn of(registry: &Registry) -> Self {
        let mut reading = Self::default();
        registry.collect(&mut reading);
        reading.settle();
        reading
    }

    /// Offers what the component before held of what it may hold.
    fn settle(&mut self) {
        let component = std::mem::take(&mut self.component);
        for (what, held) in std::mem::take(&mut self.held) {
            let most =
                self.most.iter().find(|(known, most)| *known == what && *most > 0.0).map(|(_, most)| *most);
            if let Some(most) = most {
                self.offer(|| component.clone(), held / most);
            }
        }
        self.most.clear();
    }

    /// Offers a candidate for the fullest part.
    pub(super) fn offer(&mut self, what: impl FnOnce() -> String, ratio: f64) {
        if ratio.is_finite() && self.fullest.as_ref().is_none_or(|fullest| ratio > fullest.ratio) {
            self.fullest = Some(Fullness { what: what(), ratio });
        }
    }

    fn route(&mut self, labels: &[Label<'_>]) -> &mut RouteReading {
        let label =
            |name| labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value).to_owned();
        self.routes.entry((label("route"), label("method"))).or_default()
    }
}

impl Sink for Reading {
    fn begin(&mut self, id: &ComponentId) {
        self.settle();
        self.component = id.to_string();
    }

    fn counter(&mut self, desc: &Desc, labels: &[Label<'_>], total: u64) {
        if desc.name == families::REQUESTS.name {
            let status = labels.iter().find(|(label, _)| *label == "status").map_or("", |(_, status)| status);
            let class = status.bytes().next();
            let route = self.route(labels);
            route.requests += total;
            match class {
                Some(b'4') => route.client_errors += total,
                Some(b'5') => route.server_errors += total,
                _ => {}
            }
        } else if desc.name == families::DISCONNECTS.name {
            self.disconnects += total;
        } else if desc.name == families::PANICS.name {
            self.panics += total;
        }
    }

    fn gauge(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64) {
        if desc.name == families::IN_FLIGHT.name {
            self.in_flight += value;
        } else if desc.name == families::STREAMS.name {
            self.streams += value;
        } else if desc.unit == Unit::Ratio && says_fullness(desc.name) {
            let component = self.component.clone();
            self.offer(|| component, value);
        } else if let Some(what) = most_of(desc.name) {
            self.most.push((what, value));
        } else if let Some(what) = held_of(desc.name, labels) {
            self.held.push((what, value));
        }
    }

    fn histogram(&mut self, desc: &Desc, labels: &[Label<'_>], histogram: &Histogram) {
        if desc.name == families::DURATION.name {
            self.route(labels).duration.merge(&histogram.snapshot());
        }
    }

    fn seconds(&mut self, _: &Desc, _: &[Label<'_>], _: Duration) {}
}

/// Whether a share says how full something is; a hit ratio does not.
fn says_fullness(name: &str) -> bool {
    ["utilization", "utilisation", "saturation", "usage", "fill"].iter().any(|word| name.contains(word))
}

/// What a level is a level of: calls in flight, connections in use.
fn held_of(name: &'static str, labels: &[Label<'_>]) -> Option<&'static str> {
    let used = || labels.contains(&("state", "leased"));
    name.strip_suffix("_in_flight").or_else(|| name.strip_suffix("_connections").filter(|_| used()))
}

/// What a ceiling is the ceiling of.
fn most_of(name: &'static str) -> Option<&'static str> {
    name.strip_suffix("_limit").or_else(|| name.strip_suffix("_max_connections"))
}

/// What happened between two readings.
#[derive(Clone, Debug, Default)]
pub(super) struct Interval {
    pub(super) seconds: f64,
    pub(super) requests: u64,
    pub(super) client_errors: u64,
    pub(super) server_errors: u64,
    pub(super) disconnects: u64,
    pub(super) panics: u64,
    pub(super) duration: HistogramSnapshot,
    pub(super) routes: BTreeMap<(String, String), RouteReading>,
}

impl Interval {
    pub(super) fn between(earlier: &Reading, later: &Reading, seconds: f64) -> Self {
        let mut interval = Self {
            seconds,
            disconnects: later.disconnects.saturating_sub(earlier.disconnects),
            panics: later.panics.saturating_sub(earlier.panics),
            ..Self::default()
        };
        let nothing = RouteReading::default();
        for (key, route) in &later.routes {
            let before = earlier.routes.get(key).unwrap_or(&nothing);
            let since = RouteReading {
                requests: route.requests.saturating_sub(before.requests),
                client_errors: route.client_errors.saturating_sub(before.client_errors),
                server_errors: route.server_errors.saturating_sub(before.server_errors),
                duration: route.duration.since(&before.duration),
            };
            if since.requests == 0 && since.duration.count() == 0 {
                continue;
            }
            interval.requests += since.requests;
            interval.client_errors += since.client_errors;
            interval.server_errors += since.server_errors;
            interval.duration.merge(&since.duration);
            interval.routes.insert(key.clone(), since);
        }
        interval
    }

    pub(super) fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    /// The share of requests that failed, or `None` without requests: nothing is not zero.
    pub(super) fn error_ratio(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.server_errors as f64 / self.requests as f64)
    }

    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        self.duration.quantile(q).map(|estimate| estimate.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::Component;
    use std::sync::Arc;

    const CONNECTIONS: Desc = Desc::gauge("perf_pool_connections", "Connections, by state", Unit::Count);
    const MOST: Desc = Desc::gauge("perf_pool_max_connections", "Connections there may be", Unit::Count);
    const HITS: Desc = Desc::gauge("perf_cache_hit_ratio", "Reads answered from memory", Unit::Ratio);

    struct Pool(&'static str, f64);

    impl Component for Pool {
        fn id(&self) -> ComponentId {
            ComponentId::new("pool", self.0)
        }

        fn collect(&self, sink: &mut dyn Sink) {
            sink.gauge(&CONNECTIONS, &[("state", "idle")], 8.0);
            sink.gauge(&CONNECTIONS, &[("state", "leased")], self.1);
            sink.gauge(&MOST, &[], 8.0);
            sink.gauge(&HITS, &[], 0.99);
        }
    }

    #[test]
    fn the_fullest_part_is_named_and_a_hit_ratio_is_none() {
        let registry = Registry::new();
        for pool in [Pool("orders", 6.0), Pool("stock", 2.0)] {
            registry.register(Arc::new(pool)).unwrap().keep();
        }
        let fullest = Reading::of(&registry).fullest.unwrap();
        assert_eq!(fullest, Fullness { what: "pool `orders`".into(), ratio: 0.75 });
    }
}

//! Which series of the page each signal looks at.

use super::signal::{Signal, Tracked};
use crate::page::{Page, parse_labels};
use std::collections::HashMap;

/// The signals of one metric: those that take every series, and the others by their first label.
#[derive(Debug, Default)]
struct OfMetric {
    all: Vec<usize>,
    by_label: HashMap<(String, String), Vec<usize>>,
}

/// The signals by what they select, and what they selected on the page as it was last laid out: labels are looked at when
/// series appear or disappear, not at every tick.
#[derive(Debug, Default)]
pub(super) struct Selection {
    metrics: HashMap<String, OfMetric>,
    /// Positions of lines and signals, in the order of the lines.
    chosen: Vec<(usize, usize)>,
    generation: Option<u64>,
}

impl Selection {
    pub(super) fn new<'a>(signals: impl IntoIterator<Item = &'a Signal>) -> Self {
        let mut metrics: HashMap<String, OfMetric> = HashMap::new();
        for (position, signal) in signals.into_iter().enumerate() {
            let of_metric = metrics.entry(signal.metric.clone()).or_default();
            match signal.matchers.first() {
                None => of_metric.all.push(position),
                Some(label) => of_metric.by_label.entry(label.clone()).or_default().push(position),
            }
        }
        Self { metrics, ..Self::default() }
    }

    /// Shows every signal the series it selects.
    pub(super) fn show(&mut self, page: &Page, signals: &mut [Tracked]) {
        if self.generation != Some(page.generation()) {
            self.choose(page, signals);
            self.generation = Some(page.generation());
        }
        let mut chosen = self.chosen.iter().peekable();
        for (position, line) in page.lines().enumerate() {
            while let Some((_, signal)) = chosen.next_if(|(at, _)| *at == position) {
                signals[*signal].see(&line, page);
            }
        }
    }

    fn choose(&mut self, page: &Page, signals: &[Tracked]) {
        self.chosen.clear();
        let mut of_metric = None;
        for (position, line) in page.lines().enumerate() {
            if line.opens_family {
                of_metric = self.metrics.get(line.name);
            }
            let Some(of_metric) = of_metric else { continue };
            self.chosen.extend(of_metric.all.iter().map(|signal| (position, *signal)));
            if of_metric.by_label.is_empty() {
                continue;
            }
            let labels = parse_labels(line.labels);
            let candidates = labels.iter().filter_map(|label| of_metric.by_label.get(label)).flatten();
            let selects = |signal: &&usize| {
                signals[**signal].signal.matchers.iter().all(|wanted| labels.contains(wanted))
            };
            self.chosen.extend(candidates.filter(selects).map(|signal| (position, *signal)));
        }
    }
}

//! The order of the series, and which of them may be shown.

use super::{Series, Span, Value};
use crate::names;
use crate::rejections::{Rejection, Rejections};
use perf_core::{Kind, Unit};

/// The order of a reading, kept for as long as the same series are read in the same order.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The text of the reading the order was made for.
    text: String,
    series: usize,
    order: Vec<u32>,
    changed: bool,
    /// How often the order has changed.
    generation: u64,
}

/// A series in its place on the page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Whether a family starts here.
    pub(crate) opens_family: bool,
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    /// The label set as text, without braces.
    pub(crate) labels: &'a str,
    /// The kind of the component the series belongs to; empty for others.
    pub(crate) component: &'a str,
    pub(crate) unit: Unit,
    pub(crate) kind: Kind,
    pub(crate) value: &'a Value,
}

impl Layout {
    /// Keeps the text of the last reading to compare the next one with.
    pub(super) fn remember(&mut self, text: &str) {
        if self.changed {
            self.text.clear();
            self.text.push_str(text);
            self.changed = false;
        }
    }

    pub(super) fn update(&mut self, text: &str, series: &[Series], rejections: &Rejections) {
        if !self.changed && self.series == series.len() && self.text == text {
            return;
        }
        self.changed = true;
        self.generation += 1;
        self.series = series.len();
        self.order.clear();
        self.order.extend(0..series.len() as u32);
        let key = |at: &u32| {
            let series = &series[*at as usize];
            (series.name.of(text), series.labels.of(text))
        };
        // Equal series keep the order in which they were read, so the first of a family decides what the family is.
        self.order.sort_unstable_by(|a, b| key(a).cmp(&key(b)).then(a.cmp(b)));
        self.turn_away(text, series, rejections);
    }

    /// Drops what a parser would refuse: illegal names, a second kind for one name, a second value for one series.
    fn turn_away(&mut self, text: &str, series: &[Series], rejections: &Rejections) {
        let (mut kept, mut start) = (0, 0);
        while let Some(first) = self.order.get(start) {
            let name = series[*first as usize].name.of(text);
            let same_family = |at: &&u32| series[**at as usize].name.of(text) == name;
            let length = self.order[start..].iter().take_while(same_family).count();
            // The series that was read first decides what the family is.
            let opening = self.order[start..start + length].iter().min().map(|at| series[*at as usize].kind);
            let legal = names::is_metric(name);
            let mut last: Option<Span> = None;
            for position in start..start + length {
                let at = self.order[position];
                let this = &series[at as usize];
                let refused = if !legal {
                    Some(Rejection::Name)
                } else if opening != Some(this.kind) {
                    Some(Rejection::Kind)
                } else if last.is_some_and(|labels| labels.of(text) == this.labels.of(text)) {
                    Some(Rejection::Duplicate)
                } else {
                    None
                };
                if let Some(reason) = refused {
                    rejections.count(reason);
                } else {
                    last = Some(this.labels);
                    self.order[kept] = at;
                    kept += 1;
                }
            }
            start += length;
        }
        self.order.truncate(kept);
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn has_family(&self, name: &str, text: &str, series: &[Series]) -> bool {
        self.order.binary_search_by(|at| series[*at as usize].name.of(text).cmp(name)).is_ok()
    }

    pub(super) fn lines<'a>(&'a self, text: &'a str, series: &'a [Series]) -> impl Iterator<Item = Line<'a>> {
        let mut family = "";
        self.order.iter().filter_map(|at| series.get(*at as usize)).map(move |series| {
            let name = series.name.of(text);
            let opens_family = name != family;
            family = name;
            Line {
                opens_family,
                name,
                help: series.help.of(text),
                labels: series.labels.of(text),
                component: series.component.of(text),
                unit: series.unit,
                kind: series.kind,
                value: &series.value,
            }
        })
    }
}

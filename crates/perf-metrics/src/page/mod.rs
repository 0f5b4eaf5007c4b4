//! One reading of every number, in buffers that are reused: once they have grown, a scrape allocates nothing.
//!
//! Names and label sets are written once into one text, values beside them. Sorting, checking and finding duplicates is
//! the expensive part and depends on the text only: while no series appears or disappears, the layout of the last
//! reading is used again.

mod classic;
mod labels;
mod layout;
mod number;
mod openmetrics;
#[cfg(feature = "otlp")]
mod otlp;
mod protobuf;
mod text;
pub(crate) mod wire;

use crate::rejections::{Rejection, Rejections};
use layout::Layout;
use perf_core::{ComponentId, Desc, Histogram, HistogramSnapshot, Kind, Label, Sink, Unit};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use labels::parse as parse_labels;
pub(crate) use layout::Line;
#[cfg(feature = "otlp")]
pub(crate) use otlp::{Times, attribute};

/// The labels of every series.
pub(crate) type Globals = Arc<[(String, String)]>;

/// The label set of a series that belongs to no component, as text.
pub(crate) fn render_labels(globals: &Globals, own: &[(&str, &str)]) -> Option<String> {
    let mut text = String::new();
    labels::write(&mut text, globals, None, own)?;
    Some(text)
}

/// A piece of the page's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }
}

/// What a family is called and how it reads.
#[derive(Clone, Copy, Debug)]
pub struct Family<'a> {
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) unit: Unit,
    pub(crate) kind: Kind,
}

impl From<&Desc> for Family<'static> {
    fn from(desc: &Desc) -> Self {
        Self { name: desc.name, help: desc.help, unit: desc.unit, kind: desc.kind }
    }
}

/// A series as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    name: Span,
    help: Span,
    labels: Span,
    component: Span,
    pub(crate) unit: Unit,
    pub(crate) kind: Kind,
    pub(crate) value: Value,
}

/// The value of a series.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A total of things.
    Count(u64),
    /// A level, or a total in seconds.
    Number(f64),
    /// A distribution.
    Distribution(Distribution),
}

/// A distribution; its buckets and exemplars are in the page.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    pub(crate) zeros: u64,
    pub(crate) sum: f64,
    pub(crate) schema: i8,
    pub(crate) buckets: Range<usize>,
    notes: Range<usize>,
}

/// An exemplar: a value of the octave `(2^(octave − 1), 2^octave]` and where it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) octave: i32,
    pub(crate) value: f64,
    labels: Span,
}

/// The reading.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    series: Vec<Series>,
    buckets: Vec<(i32, u64)>,
    notes: Vec<Note>,
    /// The label sets of exemplars: apart from the text, which decides the layout.
    note_text: String,
    scratch: HistogramSnapshot,
    /// The label `name` and the kind of the component that is being read.
    name: Option<String>,
    component: Span,
    globals: Globals,
    rejections: Arc<Rejections>,
    /// Values the distributions of this reading refused.
    refused: u64,
    layout: Layout,
}

/// A place in the page to which it can be cut back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

impl Page {
    pub(crate) fn new(globals: Globals, rejections: Arc<Rejections>) -> Self {
        Self { globals, rejections, ..Self::default() }
    }

    /// Starts a reading.
    pub(crate) fn clear(&mut self) {
        self.layout.remember(&self.text);
        self.text.clear();
        self.series.clear();
        self.buckets.clear();
        self.notes.clear();
        self.refused = 0;
        self.note_text.clear();
        self.outside_components();
    }

    /// The series that follow belong to no component.
    pub(crate) fn outside_components(&mut self) {
        self.name = None;
        self.component = Span::default();
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.series.len())
    }

    /// Takes out what came since the mark.
    pub(crate) fn cut_back(&mut self, mark: Mark) {
        self.series.truncate(mark.0);
    }

    /// Ends a reading: sorts, and turns away what would make the page illegal.
    pub(crate) fn finish(&mut self) {
        self.layout.update(&self.text, &self.series, &self.rejections);
    }

    /// The families and series in their order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.layout.lines(&self.text, &self.series)
    }

    /// A number that changes with the families and series there are, or their order.
    pub(crate) fn generation(&self) -> u64 {
        self.layout.generation()
    }

    /// The buckets of a distribution, in rising order.
    pub(crate) fn buckets(&self, buckets: &Range<usize>) -> &[(i32, u64)] {
        self.buckets.get(buckets.clone()).unwrap_or_default()
    }

    /// A distribution of this page as data of its own; empty for other values.
    pub(crate) fn snapshot(&self, value: &Value) -> HistogramSnapshot {
        match value {
            Value::Distribution(d) => {
                HistogramSnapshot::from_parts(d.schema, d.zeros, d.sum, self.buckets(&d.buckets))
            }
            _ => HistogramSnapshot::default(),
        }
    }

    /// Adds a series.
    pub(crate) fn push(&mut self, family: Family<'_>, own: &[(&str, &str)], value: Value) {
        let (name, help) = self.write_family(family);
        let component = self.name.as_deref();
        let Some(labels) = labels::write(&mut self.text, &self.globals, component, own) else {
            self.rejections.count(Rejection::Labels);
            return;
        };
        let (unit, kind) = (family.unit, family.kind);
        self.series.push(Series { name, help, labels, component: self.component, unit, kind, value });
    }

    /// Adds a series whose label set is text already.
    pub(crate) fn push_rendered(&mut self, family: Family<'_>, labels: &str, value: Value) {
        let (name, help) = self.write_family(family);
        let labels = self.write(labels);
        let (unit, kind) = (family.unit, family.kind);
        self.series.push(Series { name, help, labels, component: self.component, unit, kind, value });
    }

    /// Reads a distribution from where it is kept.
    pub(crate) fn distribution(&mut self, histogram: &Histogram) -> Value {
        histogram.read_into(&mut self.scratch);
        self.refused += histogram.refused();
        let start = self.buckets.len();
        self.buckets.extend(self.scratch.buckets());
        let notes = self.notes.len();
        Value::Distribution(Distribution {
            zeros: self.scratch.zeros(),
            sum: self.scratch.sum(),
            schema: self.scratch.schema(),
            buckets: start..self.buckets.len(),
            notes: notes..notes,
        })
    }

    /// Adds an exemplar of the distribution that was read last.
    pub(crate) fn push_note(&mut self, octave: i32, value: f64, labels: &str) {
        let start = self.note_text.len() as u32;
        self.note_text.push_str(labels);
        let labels = Span { start, end: self.note_text.len() as u32 };
        self.notes.push(Note { octave, value, labels });
        if let Some(Series { value: Value::Distribution(distribution), .. }) = self.series.last_mut() {
            distribution.notes.end = self.notes.len();
        }
    }

    /// The exemplars of a distribution, in rising order.
    fn notes(&self, distribution: &Distribution) -> &[Note] {
        self.notes.get(distribution.notes.clone()).unwrap_or_default()
    }

    fn note_labels(&self, note: &Note) -> &str {
        note.labels.of(&self.note_text)
    }

    /// How many values the distributions read so far have refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether there is a family of this name.
    fn has_family(&self, name: &str) -> bool {
        self.layout.has_family(name, &self.text, &self.series)
    }

    /// Series of one family mostly come one after another, so name and help are written once for all of them.
    fn write_family(&mut self, family: Family<'_>) -> (Span, Span) {
        if let Some(last) = self.series.last()
            && last.name.of(&self.text) == family.name
            && last.help.of(&self.text) == family.help
        {
            return (last.name, last.help);
        }
        (self.write(family.name), self.write(family.help))
    }

    fn write(&mut self, text: &str) -> Span {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Span { start, end: self.text.len() as u32 }
    }
}

impl Sink for Page {
    fn begin(&mut self, id: &ComponentId) {
        self.component = self.write(id.kind());
        let name = self.name.get_or_insert_default();
        name.clear();
        name.push_str(id.name());
    }

    fn counter(&mut self, desc: &Desc, labels: &[Label<'_>], total: u64) {
        self.push(desc.into(), labels, Value::Count(total));
    }

    fn gauge(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64) {
        // A level nobody knows is left out; a zero in its place would be a lie.
        if !value.is_nan() {
            self.push(desc.into(), labels, Value::Number(value));
        }
    }

    fn histogram(&mut self, desc: &Desc, labels: &[Label<'_>], histogram: &Histogram) {
        let value = self.distribution(histogram);
        self.push(desc.into(), labels, value);
    }

    fn seconds(&mut self, desc: &Desc, labels: &[Label<'_>], total: Duration) {
        self.push(desc.into(), labels, Value::Number(total.as_secs_f64()));
    }
}

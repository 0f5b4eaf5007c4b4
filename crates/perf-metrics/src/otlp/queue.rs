//! The finished spans that wait to be sent: bounded, and none is lost because a future was dropped.

use super::span::{Finished, Timed, Value};
use crate::page::attribute;
use crate::page::wire::{bytes, double, fixed, message, text, unsigned};
use perf_core::Counter;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Spans that may wait: OpenTelemetry's default.
pub(super) const CAPACITY: usize = 2_048;

/// Spans of one post: OpenTelemetry's default.
const BATCH: usize = 512;

/// Status code of a span that failed.
const ERROR: u64 = 2;

/// The spans that wait.
#[derive(Debug, Default)]
pub(crate) struct SpanQueue {
    waiting: Mutex<VecDeque<Finished>>,
    full: Notify,
    dropped: Counter,
}

impl SpanQueue {
    /// Takes in a span. With too many waiting the new one is dropped, as OpenTelemetry's own queue does, and counted.
    pub(super) fn put(&self, span: Finished) {
        let mut waiting = self.waiting();
        if waiting.len() >= CAPACITY {
            self.dropped.increment();
            return;
        }
        waiting.push_back(span);
        if waiting.len() == BATCH {
            self.full.notify_one();
        }
    }

    /// Waits for a full batch.
    pub(super) async fn full(&self) {
        self.full.notified().await;
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// The oldest spans; `None` when none waits. They go back when the batch is dropped before it was sent.
    pub(super) fn batch(&self) -> Option<Batch<'_>> {
        let mut waiting = self.waiting();
        let count = waiting.len().min(BATCH);
        let spans: Vec<Finished> = waiting.drain(..count).collect();
        drop(waiting);
        // Only a batch with spans is made: one that is dropped locks the queue.
        if spans.is_empty() { None } else { Some(Batch { queue: self, spans }) }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Finished>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Spans on their way.
pub(super) struct Batch<'a> {
    queue: &'a SpanQueue,
    spans: Vec<Finished>,
}

impl Batch<'_> {
    pub(super) fn sent(mut self) {
        self.spans.clear();
    }

    /// The collector will never take them.
    pub(super) fn refused(mut self) {
        self.queue.dropped.add(self.spans.len() as u64);
        self.spans.clear();
    }

    /// Appends the batch as one `ExportTraceServiceRequest`.
    pub(super) fn write(&self, resource: &[(&str, &str)], out: &mut Vec<u8>) {
        message(out, 1, |out| {
            message(out, 1, |out| resource.iter().for_each(|(key, value)| attribute(out, 1, key, value)));
            message(out, 2, |out| {
                message(out, 1, |out| text(out, 1, "perf-metrics"));
                self.spans.iter().for_each(|finished| message(out, 2, |out| span(out, finished)));
            });
        });
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.spans.is_empty() {
            return;
        }
        let mut waiting = self.queue.waiting();
        while let Some(span) = self.spans.pop() {
            if waiting.len() >= CAPACITY {
                self.queue.dropped.add(self.spans.len() as u64 + 1);
                return;
            }
            waiting.push_front(span);
        }
    }
}

fn span(out: &mut Vec<u8>, span: &Finished) {
    bytes(out, 1, &span.context.trace_id().to_be_bytes());
    bytes(out, 2, &span.context.span_id().to_be_bytes());
    if let Some(parent) = span.parent {
        bytes(out, 4, &parent.to_be_bytes());
    }
    text(out, 5, &span.name);
    unsigned(out, 6, span.kind);
    fixed(out, 7, span.started);
    fixed(out, 8, span.ended);
    span.attributes.iter().for_each(|(key, value)| named(out, 9, key, value));
    unsigned(out, 10, u64::from(span.left_out));
    span.events.iter().for_each(|timed| message(out, 11, |out| event(out, timed)));
    if let Some(error) = &span.error {
        message(out, 15, |out| {
            text(out, 2, error);
            unsigned(out, 3, ERROR);
        });
    }
}

fn event(out: &mut Vec<u8>, timed: &Timed) {
    fixed(out, 1, timed.at);
    text(out, 2, &timed.name);
    timed.attributes.iter().for_each(|(key, value)| named(out, 3, key, value));
}

fn named(out: &mut Vec<u8>, field: u32, key: &str, value: &Value) {
    message(out, field, |out| {
        text(out, 1, key);
        message(out, 2, |out| match value {
            Value::Text(value) => text(out, 1, value),
            Value::Flag(value) => unsigned(out, 2, u64::from(*value)),
            // Two's complement, as protobuf's int64 has it.
            Value::Whole(value) => unsigned(out, 3, *value as u64),
            Value::Number(value) => double(out, 4, *value),
        });
    });
}

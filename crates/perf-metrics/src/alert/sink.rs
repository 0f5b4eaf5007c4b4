//! Where alerts go. Delivery never holds up evaluation: a bounded queue in between drops its oldest, and says so.

use super::view::AlertEvent;
#[cfg(feature = "tracing")]
use super::view::Change;
use async_trait::async_trait;
use perf_core::Counter;
use perf_core::time::{self, Duration};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Events that may wait for delivery: more than a storm of every alert of a large host, at a few hundred bytes each.
pub const DEFAULT_QUEUE: usize = 1_024;

/// Time one delivery may take.
pub const DEFAULT_DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// A delivery that failed.
#[derive(Debug, thiserror::Error)]
#[error("an alert could not be delivered: {0}")]
pub struct SinkError(pub String);

/// Receives alerts: a log, a channel, a webhook.
#[async_trait]
pub trait AlertSink: Send + Sync + 'static {
    /// Delivers one event. Dropped when it takes longer than [`DEFAULT_DELIVERY_TIMEOUT`].
    async fn deliver(&self, event: &AlertEvent) -> Result<(), SinkError>;
}

#[async_trait]
impl AlertSink for tokio::sync::mpsc::Sender<AlertEvent> {
    async fn deliver(&self, event: &AlertEvent) -> Result<(), SinkError> {
        self.try_send(event.clone()).map_err(|error| SinkError(error.to_string()))
    }
}

/// Writes alerts to `tracing`: firing as warnings, the rest as information.
#[cfg(feature = "tracing")]
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSink;

#[cfg(feature = "tracing")]
#[async_trait]
impl AlertSink for LogSink {
    async fn deliver(&self, event: &AlertEvent) -> Result<(), SinkError> {
        let (alert, severity, value) = (event.name.as_str(), event.severity.as_str(), event.value);
        match event.change {
            Change::Resolved => tracing::info!(alert, severity, value, "resolved: {}", event.summary),
            Change::Fired => tracing::warn!(alert, severity, value, "fires: {}", event.summary),
            Change::Flapping => tracing::warn!(alert, severity, value, "flaps: {}", event.summary),
        }
        Ok(())
    }
}

/// The events that wait for one sink.
pub(crate) struct Outbox {
    sink: Arc<dyn AlertSink>,
    waiting: Mutex<VecDeque<AlertEvent>>,
    wake: Notify,
    pub(crate) delivered: Counter,
    pub(crate) failed: Counter,
    pub(crate) dropped: Counter,
}

impl Outbox {
    pub(crate) fn new(sink: Arc<dyn AlertSink>) -> Self {
        Self {
            sink,
            waiting: Mutex::default(),
            wake: Notify::new(),
            delivered: Counter::new(),
            failed: Counter::new(),
            dropped: Counter::new(),
        }
    }

    pub(crate) fn put(&self, event: AlertEvent) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= DEFAULT_QUEUE {
            waiting.pop_front();
            self.dropped.increment();
        }
        waiting.push_back(event);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Delivers until it is dropped.
    pub(crate) async fn run(&self) {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(event) = next else {
                self.wake.notified().await;
                continue;
            };
            match time::timeout(DEFAULT_DELIVERY_TIMEOUT, self.sink.deliver(&event)).await {
                Ok(Ok(())) => self.delivered.increment(),
                Ok(Err(_)) | Err(_) => self.failed.increment(),
            }
        }
    }
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

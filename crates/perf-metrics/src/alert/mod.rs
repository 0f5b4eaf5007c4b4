//! Alerts with Prometheus' state machine, evaluated in process, and service level objectives.
//!
//! The same rule is evaluated here and [exported](Alerts::rules_yaml) for Prometheus; a test runs both on the same random
//! series and compares them tick by tick.

mod config;
mod engine;
mod export;
mod grafana;
mod history;
mod memory;
mod rule;
mod selection;
mod signal;
mod sink;
mod slo;
mod state;
mod view;
mod webhook;

pub use config::{AlertConfig, DEFAULT_WINDOW, Measured, ObjectiveConfig, configured_rules};
pub use engine::{Alerts, AlertsBuilder, AlertsTask, DEFAULT_TICK};
pub(crate) use export::export_rules;
pub use grafana::{dashboard, dashboards};
pub use history::Rings;
pub use memory::AlertsSnapshot;
pub use rule::{DEFAULT_FLAP_WINDOW, DEFAULT_FLAPS, InvalidRule, Missing, Rule, Severity};
pub use signal::Signal;
#[cfg(feature = "tracing")]
pub use sink::LogSink;
pub use sink::{AlertSink, DEFAULT_DELIVERY_TIMEOUT, DEFAULT_QUEUE, SinkError};
pub use slo::{DEFAULT_MIN_BAD, Slo};
pub use state::{AlertMachine, AlertState, Verdict};
pub use view::{AlertEvent, AlertView, Change};
pub use webhook::webhook_payload;
#[cfg(feature = "webhook")]
pub use webhook::{Webhook, WebhookConfig};

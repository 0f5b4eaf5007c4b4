use super::StackError;
use crate::config::Config;
use perf_metrics::{AlertEvent, Alerts, AlertsTask, DEFAULT_TICK, Metrics};
use tokio::sync::mpsc;

/// Starts what the sections `alerts` and `objectives` describe, if they describe anything.
pub(super) fn start(
    config: &Config,
    metrics: &Metrics,
    events: Vec<mpsc::Sender<AlertEvent>>,
) -> Result<Option<(Alerts, AlertsTask)>, StackError> {
    let rules = perf_metrics::configured_rules(&config.alerts, &config.objectives)?;
    if rules.is_empty() {
        return Ok(None);
    }
    let mut builder = rules.into_iter().fold(Alerts::builder(), |builder, rule| builder.rule(rule));
    #[cfg(feature = "webhook")]
    if let Some(webhook) = &config.webhook {
        builder = builder.sink(webhook.webhook().map_err(|error| error.within("webhook"))?);
    }
    builder = events.into_iter().fold(builder, |builder, events| builder.sink(events));
    let alerts = builder.build(metrics)?;
    metrics.register(alerts.component())?.keep();
    let task = alerts.spawn(DEFAULT_TICK);
    Ok(Some((alerts, task)))
}

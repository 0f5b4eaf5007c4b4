//! Alertmanager's webhook, version 4: the body for any HTTP client, and a sink that posts it.

use super::sink::quoted;
use super::view::{AlertEvent, Change};
use perf_core::time::Duration;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[cfg(feature = "webhook")]
pub use posting::{Webhook, WebhookConfig};

/// What Alertmanager writes for a time that is not known yet.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The body of an Alertmanager webhook (version 4) for some events, ready to be posted as `application/json`. `now` is
/// the time since 1970, of which this crate knows nothing.
///
/// ```
/// let body = perf_metrics::webhook_payload(&[], std::time::Duration::from_secs(1_700_000_000));
/// assert!(body.starts_with(r#"{"version":"4""#));
/// ```
#[must_use]
pub fn webhook_payload(events: &[AlertEvent], now: Duration) -> String {
    let firing = events.iter().any(|event| event.change != Change::Resolved);
    let status = if firing { "firing" } else { "resolved" };
    let common = |label: &str| {
        let mut values = events.iter().map(|event| labels(event).remove(label));
        let first = values.next().flatten()?;
        values.all(|value| value.as_deref() == Some(&first)).then(|| object([(label, first)]))
    };
    let group = common("alertname").unwrap_or_else(|| "{}".to_owned());
    let mut body = format!(
        r#"{{"version":"4","groupKey":"{{}}:{{}}","truncatedAlerts":0,"status":"{status}","receiver":"webhook","groupLabels":{group},"commonLabels":{group},"commonAnnotations":{{}},"externalURL":"","alerts":["#
    );
    for (position, event) in events.iter().enumerate() {
        if position > 0 {
            body.push(',');
        }
        alert(&mut body, event, now);
    }
    body.push_str("]}");
    body
}

fn alert(body: &mut String, event: &AlertEvent, now: Duration) {
    let resolved = event.change == Change::Resolved;
    let labels = labels(event);
    let mut annotations = vec![("summary", event.summary.clone())];
    annotations
        .extend(event.value.filter(|value| value.is_finite()).map(|value| ("value", value.to_string())));
    if event.change == Change::Flapping {
        annotations.push(("flapping", "true".to_owned()));
    }
    // Writing into a string cannot fail.
    let _ = write!(
        body,
        r#"{{"status":"{}","labels":{},"annotations":{},"startsAt":"{}","endsAt":"{}","generatorURL":"","fingerprint":"{:016x}"}}"#,
        if resolved { "resolved" } else { "firing" },
        object(labels.iter()),
        object(annotations.iter().map(|(key, value)| (key, value))),
        rfc3339(now.saturating_sub(event.active_for)),
        if resolved { rfc3339(now) } else { NEVER.to_owned() },
        fingerprint(&labels),
    );
}

/// The labels as Alertmanager knows them.
fn labels(event: &AlertEvent) -> BTreeMap<String, String> {
    let mut labels = event.labels.clone();
    labels.insert("alertname".to_owned(), event.name.clone());
    labels.entry("severity".to_owned()).or_insert_with(|| event.severity.as_str().to_owned());
    labels
}

/// A JSON object of strings.
fn object<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let pairs =
        pairs.into_iter().map(|(key, value)| format!("{}:{}", quoted(key.as_ref()), quoted(value.as_ref())));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// Alertmanager's own: FNV-1a over the sorted labels, by which receivers tell one alert from another.
fn fingerprint(labels: &BTreeMap<String, String>) -> u64 {
    let text = labels.iter().flat_map(|(key, value)| [key.as_bytes(), &[0xFF], value.as_bytes(), &[0xFF]]);
    text.flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A time since 1970 as `2026-01-31T23:59:59.123Z`.
fn rfc3339(since_1970: Duration) -> String {
    let (days, second) = (since_1970.as_secs() / 86_400, since_1970.as_secs() % 86_400);
    // Howard Hinnant's civil_from_days, for days that are not negative: years begin in March, so leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since_1970.subsec_millis()
    )
}

#[cfg(feature = "webhook")]
mod posting {
    use super::webhook_payload;
    use crate::alert::sink::{AlertSink, SinkError};
    use crate::alert::view::AlertEvent;
    use crate::clock;
    use crate::post::Poster;
    use async_trait::async_trait;
    use bytes::Bytes;
    use perf_core::time::{self, Duration};
    use perf_core::{Backoff, InvalidConfig, Rng, Secret};
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    /// Delays between attempts: a receiver that restarts is back within a second or two.
    const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(250)).cap(Duration::from_secs(2));

    /// Posts alerts in Alertmanager's webhook format (version 4), which pagers, chats and ticket systems understand.
    ///
    /// Posts that a receiver may accept later are repeated until [`DEFAULT_DELIVERY_TIMEOUT`](crate::DEFAULT_DELIVERY_TIMEOUT)
    /// is over. Like every sink it never holds up the evaluation: what it cannot deliver in time is counted in
    /// `perf_metrics_alerts_failed_total`.
    ///
    /// ```
    /// let webhook = perf_metrics::Webhook::new("http://127.0.0.1:9095/alerts").unwrap();
    /// let alerts = perf_metrics::Alerts::builder().sink(webhook);
    /// assert!(perf_metrics::Webhook::new("ftp://pager.example/").is_err());
    /// # drop(alerts);
    /// ```
    #[derive(Debug)]
    pub struct Webhook {
        poster: Poster,
        rng: Mutex<Rng>,
    }

    impl Webhook {
        /// Posts to `url`: `http://host[:port][/path]`, or `https://…` with the feature `tls`, which trusts the authorities
        /// that Mozilla does.
        ///
        /// # Errors
        /// [`InvalidConfig`] when the URL is not of this form.
        pub fn new(url: &str) -> Result<Self, InvalidConfig> {
            Ok(Self { poster: Poster::new("url", url)?, rng: Mutex::new(Rng::from_entropy()) })
        }

        /// A bearer token of every post.
        ///
        /// # Errors
        /// [`InvalidConfig`] when it has characters a header cannot carry.
        pub fn bearer(mut self, token: impl Into<String>) -> Result<Self, InvalidConfig> {
            self.poster.bearer(&Secret::new(token.into()))?;
            Ok(self)
        }

        /// A header of every post.
        ///
        /// # Errors
        /// [`InvalidConfig`] when the name or the value is not legal.
        pub fn header(mut self, name: &str, value: impl Into<String>) -> Result<Self, InvalidConfig> {
            self.poster.header(name, &Secret::new(value.into()))?;
            Ok(self)
        }

        /// Trusts the authorities of a PEM text, and nobody else.
        ///
        /// # Errors
        /// [`InvalidConfig`] when there is no certificate in it, one cannot be used, or the URL is not `https`.
        #[cfg(feature = "tls")]
        pub fn authorities(mut self, pem: impl AsRef<[u8]>) -> Result<Self, InvalidConfig> {
            self.poster.trust_only(pem.as_ref())?;
            Ok(self)
        }

        fn delay(&self, attempt: u32, previous: Duration) -> Duration {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            BACKOFF.delay(attempt, previous, &mut rng)
        }
    }

    /// What a configuration file can say about the webhook.
    ///
    /// | field | default | why |
    /// |---|---|---|
    /// | `url` | – | `http://host[:port][/path]`, or `https://…` with the feature `tls`; never shown, it may hold a token |
    /// | `token` | none | sent as bearer; never shown |
    /// | `headers` | none | of every post; never shown |
    /// | `authorities` | those that Mozilla trusts | feature `tls`: a receiver under an authority of one's own |
    ///
    /// ```
    /// let mut config = perf_metrics::WebhookConfig::default();
    /// config.url = "http://127.0.0.1:9095/alerts".to_owned().into();
    /// assert!(config.webhook().is_ok());
    /// ```
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    #[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
    #[non_exhaustive]
    pub struct WebhookConfig {
        /// Where alerts are posted.
        pub url: Secret<String>,
        /// The bearer token of every post.
        pub token: Option<Secret<String>>,
        /// Headers of every post.
        pub headers: BTreeMap<String, Secret<String>>,
        /// A file of certificates, as PEM: these authorities are trusted, and nobody else. For `https` only.
        #[cfg(feature = "tls")]
        pub authorities: Option<std::path::PathBuf>,
    }

    impl WebhookConfig {
        /// The webhook it describes.
        ///
        /// # Errors
        /// [`InvalidConfig`] names the first field that cannot be used, its value and what is allowed.
        pub fn webhook(&self) -> Result<Webhook, InvalidConfig> {
            let mut webhook = Webhook::new(self.url.expose())?;
            if let Some(token) = &self.token {
                webhook = webhook.bearer(token.expose())?;
            }
            for (name, value) in &self.headers {
                webhook = webhook.header(name, value.expose())?;
            }
            #[cfg(feature = "tls")]
            if let Some(file) = &self.authorities {
                webhook = webhook.authorities(crate::tls::read(file)?)?;
            }
            Ok(webhook)
        }
    }

    #[async_trait]
    impl AlertSink for Webhook {
        async fn deliver(&self, event: &AlertEvent) -> Result<(), SinkError> {
            let body = Bytes::from(webhook_payload(std::slice::from_ref(event), clock::since_1970()));
            let mut previous = Duration::ZERO;
            for attempt in 0.. {
                match self.poster.post("application/json", body.clone()).await {
                    Ok(_) => break,
                    Err(error) if !error.is_retryable() => return Err(SinkError(error.to_string())),
                    Err(_) => {
                        previous = self.delay(attempt, previous);
                        time::sleep(previous).await;
                    }
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), date);
        }
    }

    #[test]
    fn a_fingerprint_depends_on_the_labels_only() {
        let labels = |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned())]);
        assert_eq!(fingerprint(&BTreeMap::new()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(&labels("a")), fingerprint(&labels("a")));
        assert_ne!(fingerprint(&labels("a")), fingerprint(&labels("b")));
    }
}

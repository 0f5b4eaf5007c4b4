use crate::post::Poster;
use perf_core::time::Duration;
use perf_core::{InvalidConfig, Secret, duration};
use std::collections::BTreeMap;

/// Where a collector beside the host listens.
pub const DEFAULT_COLLECTOR: &str = "http://127.0.0.1:4318";

/// Time between two exports of the numbers: OpenTelemetry's default.
pub const DEFAULT_EXPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Time one export may take: OpenTelemetry's default.
pub const DEFAULT_EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a configuration file can say about the exports to OpenTelemetry.
///
/// | field | default | why |
/// |---|---|---|
/// | `collector` | `http://127.0.0.1:4318` | a collector beside the host |
/// | `attributes` | none | the service's name is an attribute anyway |
/// | `headers` | none | tokens; never shown |
/// | `authorities` | those that Mozilla trusts | feature `tls`: a collector under an authority of one's own |
/// | `interval` | `60s` | OpenTelemetry's |
/// | `timeout` | `10s` | OpenTelemetry's |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct OtlpConfig {
    /// The collector's address, without `/v1/…`: `http://host[:port][/path]`, or `https://…` with the feature `tls`.
    pub collector: String,
    /// Resource attributes: `deployment.environment`.
    pub attributes: BTreeMap<String, String>,
    /// Headers of every post.
    pub headers: BTreeMap<String, Secret<String>>,
    /// A file of certificates, as PEM: these authorities are trusted, and nobody else. For `https` only.
    #[cfg(feature = "tls")]
    pub authorities: Option<std::path::PathBuf>,
    /// Time between two exports of the numbers, at least a second.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub interval: Duration,
    /// Time one export may take, at least a millisecond.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub timeout: Duration,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            collector: DEFAULT_COLLECTOR.to_owned(),
            attributes: BTreeMap::new(),
            headers: BTreeMap::new(),
            #[cfg(feature = "tls")]
            authorities: None,
            interval: DEFAULT_EXPORT_INTERVAL,
            timeout: DEFAULT_EXPORT_TIMEOUT,
        }
    }
}

impl OtlpConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that cannot be used, its value and what is allowed.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.posters().map(drop)
    }

    /// What posts numbers and what posts spans.
    pub(super) fn posters(&self) -> Result<[Poster; 2], InvalidConfig> {
        let least = |field: &'static str, value: Duration, least: Duration| {
            let allowed = format!("at least {}", duration::format(least));
            let error = || InvalidConfig::new(field, duration::format(value), allowed);
            (value >= least).then_some(()).ok_or_else(error)
        };
        least("interval", self.interval, Duration::from_secs(1))?;
        least("timeout", self.timeout, Duration::from_millis(1))?;
        #[cfg(feature = "tls")]
        let authorities = self.authorities.as_deref().map(crate::tls::read).transpose()?;
        let poster = |path: &str| {
            let url = format!("{}/v1/{path}", self.collector.trim_end_matches('/'));
            let mut poster = Poster::new("collector", &url)?;
            self.headers.iter().try_for_each(|(name, value)| poster.header(name, value))?;
            #[cfg(feature = "tls")]
            authorities.iter().try_for_each(|pem| poster.trust_only(pem))?;
            Ok(poster)
        };
        Ok([poster("metrics")?, poster("traces")?])
    }
}

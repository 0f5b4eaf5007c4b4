use crate::names;
use perf_core::InvalidConfig;
use std::collections::BTreeMap;

/// Series a family may have before its overflow series takes over: OpenTelemetry's limit, more than any page can show.
pub const DEFAULT_SERIES_LIMIT: usize = 2_000;

/// Labels a series may carry, global ones and `name` included. Enough for every convention in use; a bound keeps label
/// sets on the stack while they are written.
pub const MAX_LABELS: usize = 16;

/// What a configuration file can say about metrics.
///
/// | field | default | why |
/// |---|---|---|
/// | `namespace` | none | the host's own names are prefixed only when it asks |
/// | `labels` | none | Prometheus adds `job` and `instance` itself |
/// | `series_limit` | 2,000 | see [`DEFAULT_SERIES_LIMIT`] |
/// | `process` | `true` | CPU, memory and descriptors are wanted on every page |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct MetricsConfig {
    /// Prefix of the host's own metric names: `shop` makes `orders` into `shop_orders_total`.
    pub namespace: Option<String>,
    /// Labels of every series.
    pub labels: BTreeMap<String, String>,
    /// Series per family, 1 to 1,000,000; beyond it samples go to the family's overflow series.
    pub series_limit: usize,
    /// Whether the `process_*` metrics are on the page.
    pub process: bool,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { namespace: None, labels: BTreeMap::new(), series_limit: DEFAULT_SERIES_LIMIT, process: true }
    }
}

impl MetricsConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field out of range, its value and what is allowed.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if let Some(namespace) = &self.namespace
            && !names::is_metric(namespace)
        {
            return Err(InvalidConfig::new(
                "namespace",
                namespace,
                "letters, digits, `_` and `:`, not starting with a digit",
            ));
        }
        // Room is left for `name`, `le` and at least six labels of the series itself.
        if self.labels.len() > MAX_LABELS / 2 {
            return Err(InvalidConfig::new("labels", self.labels.len(), "at most 8 labels"));
        }
        if let Some(label) = self.labels.keys().find(|label| !names::is_label(label)) {
            return Err(InvalidConfig::new(
                "labels",
                label,
                "letters, digits and `_`, not `le`, `quantile` or `__…`",
            ));
        }
        if !(1..=1_000_000).contains(&self.series_limit) {
            return Err(InvalidConfig::new("series_limit", self.series_limit, "1 to 1000000"));
        }
        Ok(())
    }
}

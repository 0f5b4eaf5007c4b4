use super::{Stack, StackError};
use crate::config::Config;
use perf_core::InvalidConfig;
use perf_resilience::rate::SharedRate;
use std::collections::BTreeMap;

/// The shared rates that `config` describes. Nothing is connected yet.
pub(super) fn open(config: &Config) -> Result<BTreeMap<String, SharedRate>, InvalidConfig> {
    let open = |(name, section): (&String, &crate::SharedRateSection)| {
        let url = section.place(config.cache.redis.as_ref()).unwrap_or_default();
        let rate = SharedRate::open(name.clone(), url, section.rate.clone());
        Ok((name.clone(), rate.map_err(|error| error.within(name).within("shared_rates"))?))
    };
    config.shared_rates.iter().map(open).collect()
}

impl Stack {
    /// The rate that the section `shared_rates.NAME` describes: a limit for each key, which all instances of the service
    /// share. It connects when it is first asked.
    ///
    /// # Errors
    /// [`StackError::NoSharedRate`] when there is no such section.
    pub fn shared_rate(&self, name: &str) -> Result<SharedRate, StackError> {
        self.shared_rates.get(name).cloned().ok_or_else(|| StackError::NoSharedRate {
            rate: name.to_owned(),
            known: self.shared_rates.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

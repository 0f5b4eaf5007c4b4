//! A cache section may start from a preset: what it does not say is the preset's.

use perf_cache::{CacheConfig, Preset};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Reads `[caches.NAME]` sections.
pub(super) fn with_presets<'de, D>(deserializer: D) -> Result<BTreeMap<String, CacheConfig>, D::Error>
where
    D: Deserializer<'de>,
{
    let sections = BTreeMap::<String, Table>::deserialize(deserializer)?;
    let read = |(name, section)| match over_preset(section) {
        Ok(config) => Ok((name, config)),
        Err(error) => Err(D::Error::custom(format!("caches.{name}: {}", error.message()))),
    };
    sections.into_iter().map(read).collect()
}

fn over_preset(mut section: Table) -> Result<CacheConfig, toml::de::Error> {
    let preset = section.remove("preset").map(Value::try_into::<Preset>).transpose()?;
    let Some(preset) = preset else { return Value::Table(section).try_into() };
    let mut merged = Table::try_from(CacheConfig::from(preset)).map_err(toml::de::Error::custom)?;
    merged.extend(section);
    Value::Table(merged).try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_cache::{CancelPolicy, PrefetchConfig, WhenFull};
    use std::time::Duration;

    fn read(text: &str) -> Result<CacheConfig, toml::de::Error> {
        over_preset(text.parse().unwrap())
    }

    #[test]
    fn what_a_section_says_wins_over_its_preset() {
        let config = read("preset = 'aggressive'\nfresh = '7s'").unwrap();
        assert_eq!(config, CacheConfig { fresh: Duration::from_secs(7), ..CacheConfig::aggressive() });
    }

    #[test]
    fn without_a_preset_the_defaults_hold() {
        assert_eq!(read("").unwrap(), CacheConfig::default());
    }

    #[test]
    fn a_section_says_all_that_needs_no_code() {
        let config = read(
            "sampling = 0.1\nwhen_full = 'shed'\ncancel = 'abort'\nsliding = '10s'\nmax_age = '1h'\nerrors = '1s'\n\
             negative_share = 0.2\nallow_invalidated_base = true\n[prefetch]\nmemory = 65536\nmax_loads = 2",
        )
        .unwrap();
        assert!(config.validate().is_ok());
        assert_eq!((config.when_full, config.cancel), (WhenFull::Shed, CancelPolicy::Abort));
        assert_eq!((config.sliding, config.errors), (Some(Duration::from_secs(10)), Duration::from_secs(1)));
        let prefetch = PrefetchConfig { memory: 65_536, max_loads: 2, ..PrefetchConfig::default() };
        assert_eq!((config.prefetch, config.negative_share, config.sampling), (prefetch, 0.2, 0.1));
        let refused = read("preset = 'balanced'\nsliding = '10s'").unwrap().validate().unwrap_err();
        assert_eq!(refused.field(), "sliding");
    }

    #[test]
    fn unknown_presets_and_fields_are_named() {
        assert!(read("preset = 'reckless'").unwrap_err().to_string().contains("reckless"));
        assert!(read("preset = 'balanced'\nttl = '1s'").unwrap_err().to_string().contains("ttl"));
    }
}

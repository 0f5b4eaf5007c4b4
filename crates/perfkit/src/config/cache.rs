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
    fn unknown_presets_and_fields_are_named() {
        assert!(read("preset = 'reckless'").unwrap_err().to_string().contains("reckless"));
        assert!(read("preset = 'balanced'\nttl = '1s'").unwrap_err().to_string().contains("ttl"));
    }
}

//! The environment variables that SQLAlchemy services know.

use super::PoolConfig;
use crate::sizing::{SizingConfig, SizingMode};
use perf_core::time::Duration;
use perf_core::{InvalidConfig, duration};

impl PoolConfig {
    /// Reads the four variables SQLAlchemy services are configured with, and ours beside them. With the prefix `DB_POOL`:
    ///
    /// | variable | field | meaning |
    /// |---|---|---|
    /// | `DB_POOL_SIZE` | `keep` | connections kept; 0: no limit |
    /// | `DB_POOL_MAX_OVERFLOW` or `DB_MAX_OVERFLOW` | `max` − `keep` | further ones for peaks; −1: no limit |
    /// | `DB_POOL_TIMEOUT` | `acquire_timeout` | seconds, or a duration such as `250ms` |
    /// | `DB_POOL_RECYCLE` | `max_lifetime` | seconds or a duration; −1: no limit |
    /// | `DB_POOL_MIN_IDLE` | `min_idle` | connections always open |
    /// | `DB_POOL_SIZING` | `sizing` | `act`, `advise`, `shadow` or `off`, up to `max` |
    /// | `DB_POOL_OVERFLOW_LINGER` | `overflow_linger` | seconds or a duration; 0 is SQLAlchemy's own behaviour |
    ///
    /// What is not set keeps its default.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the variable, for a value that cannot be read, and what [`PoolConfig::validate`] says.
    pub fn from_env_prefix(prefix: &str) -> Result<Self, InvalidConfig> {
        Self::from_variables(prefix, |name| std::env::var(name).ok())
    }

    /// The same from any source of named texts.
    ///
    /// ```
    /// use perf_pool::PoolConfig;
    ///
    /// let variables = |name: &str| match name {
    ///     "DB_POOL_SIZE" => Some("20".to_owned()),
    ///     "DB_MAX_OVERFLOW" => Some("10".to_owned()),
    ///     _ => None,
    /// };
    /// let config = PoolConfig::from_variables("DB_POOL", variables).unwrap();
    /// assert_eq!((config.keep, config.max), (Some(20), 30));
    /// ```
    ///
    /// # Errors
    /// As [`PoolConfig::from_env_prefix`].
    pub fn from_variables(
        prefix: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidConfig> {
        let find = |suffix: &str| {
            let name = format!("{prefix}_{suffix}");
            let short = prefix.strip_suffix("_POOL").map(|stem| format!("{stem}_{suffix}"));
            let found = |name: String| lookup(&name).map(|value| (name, value));
            found(name).or_else(|| short.filter(|_| suffix == "MAX_OVERFLOW").and_then(found))
        };
        let mut config = Self::default();
        let size = find("SIZE").map(|(name, text)| count(&name, &text)).transpose()?;
        let overflow = find("MAX_OVERFLOW").map(|(name, text)| limit(&name, &text)).transpose()?;
        if size.is_some() || overflow.is_some() {
            let keep = size.unwrap_or(SQLALCHEMY_SIZE);
            let overflow = overflow.unwrap_or(Some(SQLALCHEMY_OVERFLOW));
            let unlimited = keep == 0 || overflow.is_none();
            let max = keep.saturating_add(overflow.unwrap_or(0));
            config.max = if unlimited { Self::LARGEST_MAX } else { max };
            config.keep = (keep > 0).then_some(keep);
        }
        if let Some((name, text)) = find("TIMEOUT") {
            config.acquire_timeout = seconds(&name, &text)?;
        }
        if let Some((name, text)) = find("RECYCLE") {
            config.max_lifetime = if text.trim() == "-1" { None } else { Some(seconds(&name, &text)?) };
        }
        if let Some((name, text)) = find("MIN_IDLE") {
            config.min_idle = count(&name, &text)?;
        }
        if let Some((name, text)) = find("OVERFLOW_LINGER") {
            config.overflow_linger = seconds(&name, &text)?;
        }
        if let Some((name, text)) = find("SIZING") {
            let mode = sizing_mode(&name, &text)?;
            config.sizing =
                mode.map(|mode| SizingConfig { mode, max: config.max, ..SizingConfig::default() });
        }
        config.validate()?;
        Ok(config)
    }
}

fn sizing_mode(name: &str, text: &str) -> Result<Option<SizingMode>, InvalidConfig> {
    match text.trim() {
        "off" => Ok(None),
        "act" => Ok(Some(SizingMode::Act)),
        "advise" => Ok(Some(SizingMode::Advise)),
        "shadow" => Ok(Some(SizingMode::Shadow)),
        _ => Err(InvalidConfig::new(name, text, "act, advise, shadow or off")),
    }
}

/// What SQLAlchemy assumes when only the other number is given.
const SQLALCHEMY_SIZE: usize = 5;
const SQLALCHEMY_OVERFLOW: usize = 10;

fn count(name: &str, text: &str) -> Result<usize, InvalidConfig> {
    text.trim().parse().map_err(|_| InvalidConfig::new(name, text, "a whole number of at least 0"))
}

/// A number, or none for the −1 that means no limit.
fn limit(name: &str, text: &str) -> Result<Option<usize>, InvalidConfig> {
    if text.trim() == "-1" { Ok(None) } else { count(name, text).map(Some) }
}

/// Bare numbers are seconds.
fn seconds(name: &str, text: &str) -> Result<Duration, InvalidConfig> {
    let refused = || InvalidConfig::new(name, text, "seconds, or a duration such as 250ms");
    match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| refused()),
        Err(_) => duration::parse(text).map_err(|_| refused()),
    }
}

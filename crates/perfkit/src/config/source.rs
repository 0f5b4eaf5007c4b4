//! Where configuration comes from: a TOML text, and the environment on top of it.

use crate::config::ConfigError;
use toml::{Table, Value};

/// Two underscores in a variable's name stand for the dot between a section and what is in it.
const NESTING: &str = "__";

/// Reads a TOML text into a table.
pub(super) fn table(text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| ConfigError::Syntax(error.to_string()))
}

/// Lays the variables that start with `prefix` and an underscore over the table: `SHOP_DATABASE__POOL__MAX=16` sets
/// `database.pool.max`. A value that reads as a TOML number, boolean or array is one; everything else is text.
pub(super) fn overlay<I>(table: &mut Table, prefix: &str, variables: I) -> Result<(), ConfigError>
where
    I: IntoIterator<Item = (String, String)>,
{
    let start = format!("{prefix}_");
    for (name, text) in variables {
        let Some(path) = name.strip_prefix(&start) else { continue };
        let path = path.to_ascii_lowercase();
        let keys: Vec<&str> = path.split(NESTING).collect();
        let blocked = insert(table, &keys, value(&text)).is_none();
        if blocked || keys.iter().any(|key| key.is_empty()) {
            return Err(ConfigError::Variable { name });
        }
    }
    Ok(())
}

fn insert(table: &mut Table, keys: &[&str], value: Value) -> Option<()> {
    let (first, rest) = keys.split_first()?;
    if rest.is_empty() {
        table.insert((*first).to_owned(), value);
        return Some(());
    }
    let section = table.entry(*first).or_insert_with(|| Value::Table(Table::new()));
    insert(section.as_table_mut()?, rest, value)
}

fn value(text: &str) -> Value {
    let document = format!("value = {text}");
    let parsed = document.parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    parsed
        .filter(|value| !value.is_table() && !value.is_datetime())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn variables_win_over_the_text_and_keep_what_they_do_not_name() {
        let mut table = table("[database.pool]\nmax = 4\nmin_idle = 1").unwrap();
        overlay(&mut table, "SHOP", variables(&[("SHOP_DATABASE__POOL__MAX", "16"), ("OTHER_MAX", "1")]))
            .unwrap();
        assert_eq!(table["database"]["pool"]["max"].as_integer(), Some(16));
        assert_eq!(table["database"]["pool"]["min_idle"].as_integer(), Some(1));
    }

    #[test]
    fn a_value_that_is_no_number_is_text() {
        let mut table = Table::new();
        overlay(&mut table, "S", variables(&[("S_A", "250ms"), ("S_B", "true"), ("S_C", "a\nb = 1")]))
            .unwrap();
        assert_eq!(table["a"].as_str(), Some("250ms"));
        assert_eq!(table["b"].as_bool(), Some(true));
        assert_eq!(table["c"].as_str(), Some("a\nb = 1"), "a value cannot smuggle in another key");
        assert!(!table.contains_key("value"));
    }

    #[test]
    fn a_variable_below_a_value_is_refused_by_name() {
        let mut table = table("database = 1").unwrap();
        let error = overlay(&mut table, "S", variables(&[("S_DATABASE__MAX", "1")])).unwrap_err();
        assert!(error.to_string().contains("S_DATABASE__MAX"), "{error}");
    }
}

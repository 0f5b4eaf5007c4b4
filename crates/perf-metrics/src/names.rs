//! What a metric and a label may be called.

use crate::RegisterError;
use perf_core::{Kind, Unit};

/// Labels that belong to the exposition formats.
const RESERVED: [&str; 2] = ["le", "quantile"];

/// Whether `name` is a metric name of the Prometheus data model.
pub(crate) fn is_metric(name: &str) -> bool {
    well_formed(name, true)
}

/// Whether `name` is a label name a series may carry: well formed, and not reserved.
pub(crate) fn is_label(name: &str) -> bool {
    well_formed(name, false) && !name.starts_with("__") && !RESERVED.contains(&name)
}

fn well_formed(name: &str, colons: bool) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || (colons && c == b':');
    name.bytes().next().is_some_and(|first| !first.is_ascii_digit()) && name.bytes().all(legal)
}

/// The nearest legal spelling, to be named in the refusal.
pub(crate) fn legal_spelling(name: &str) -> String {
    let mut legal: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if legal.bytes().next().is_none_or(|first| first.is_ascii_digit()) {
        legal.insert(0, '_');
    }
    legal
}

/// Checks a metric name.
pub(crate) fn check_metric(name: &str) -> Result<(), RegisterError> {
    if is_metric(name) {
        return Ok(());
    }
    Err(RegisterError::Name { name: name.to_owned(), legal: legal_spelling(name) })
}

/// Checks a label name.
pub(crate) fn check_label(name: &str) -> Result<(), RegisterError> {
    if is_label(name) {
        return Ok(());
    }
    if well_formed(name, false) {
        return Err(RegisterError::ReservedLabel(name.to_owned()));
    }
    Err(RegisterError::LabelName { name: name.to_owned(), legal: legal_spelling(name) })
}

/// The full name of a family: namespace, what it is, unit, and `_total` for counters. Parts already there are not repeated.
pub(crate) fn full(namespace: Option<&str>, name: &str, unit: Unit, kind: Kind) -> String {
    let mut full = match namespace {
        Some(namespace) => format!("{namespace}_{name}"),
        None => name.to_owned(),
    };
    let total = kind == Kind::Counter;
    if total && let Some(base) = full.strip_suffix("_total") {
        full.truncate(base.len());
    }
    let suffix = match unit {
        Unit::Seconds => "_seconds",
        Unit::Bytes => "_bytes",
        Unit::Ratio => "_ratio",
        _ => "",
    };
    if !full.ends_with(suffix) {
        full.push_str(suffix);
    }
    if total {
        full.push_str("_total");
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_name_comes_with_its_legal_spelling() {
        let error = check_metric("1.requests").unwrap_err();
        assert_eq!(error, RegisterError::Name { name: "1.requests".into(), legal: "_1_requests".into() });
        assert!(check_metric("").is_err() && check_metric("a:b_2").is_ok());
    }

    #[test]
    fn labels_of_the_formats_are_reserved() {
        for reserved in ["le", "quantile", "__name__"] {
            assert_eq!(check_label(reserved), Err(RegisterError::ReservedLabel(reserved.into())));
        }
        assert!(check_label("a:b").is_err() && check_label("route").is_ok());
    }

    #[test]
    fn units_and_total_are_added_once() {
        assert_eq!(full(Some("shop"), "orders", Unit::Count, Kind::Counter), "shop_orders_total");
        assert_eq!(full(None, "busy_seconds_total", Unit::Seconds, Kind::Counter), "busy_seconds_total");
        assert_eq!(full(None, "db_query", Unit::Seconds, Kind::Histogram), "db_query_seconds");
    }
}

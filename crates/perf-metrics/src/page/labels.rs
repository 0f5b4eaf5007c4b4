//! Label sets as the text formats write them: `key="value",…`, keys in order, values escaped.

use super::Span;
use crate::MAX_LABELS;

/// Writes the label set of a series: its own labels, its component's `name`, and the global labels it does not override.
/// `None`, with nothing written, when a key comes twice or there are more than [`MAX_LABELS`].
pub(super) fn write(
    text: &mut String,
    globals: &[(String, String)],
    component: Option<&str>,
    own: &[(&str, &str)],
) -> Option<Span> {
    let mut set = [("", ""); MAX_LABELS];
    let mut length = 0;
    let globals = globals.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let name = component.map(|name| ("name", name));
    let of_series = |key: &str| own.iter().any(|(k, _)| *k == key) || (name.is_some() && key == "name");
    for label in globals.filter(|(key, _)| !of_series(key)).chain(name).chain(own.iter().copied()) {
        *set.get_mut(length)? = label;
        length += 1;
    }
    let set = &mut set[..length];
    set.sort_unstable_by_key(|(key, _)| *key);
    if set.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return None;
    }
    let start = text.len() as u32;
    for (position, (key, value)) in set.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        text.push_str(key);
        text.push_str("=\"");
        escape(text, value);
        text.push('"');
    }
    Some(Span { start, end: text.len() as u32 })
}

/// Label values are any text; `\`, `"` and the line feed are escaped.
fn escape(text: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        text.push_str(&rest[..at]);
        text.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

/// Reads back what [`write`] wrote, for views that are not text.
pub(crate) fn parse(labels: &str) -> Vec<(String, String)> {
    let mut parsed = Vec::new();
    each(labels, |key, value| parsed.push((key.to_owned(), value.to_owned())));
    parsed
}

/// Calls `found` with every key and value of what [`write`] wrote. Allocates only where a value was escaped.
pub(super) fn each(labels: &str, mut found: impl FnMut(&str, &str)) {
    let mut rest = labels;
    while let Some((key, quoted)) = rest.split_once("=\"") {
        let end = closing_quote(quoted);
        let value = &quoted[..end];
        if value.contains('\\') {
            found(key, &unescape(value));
        } else {
            found(key, value);
        }
        rest = quoted.get(end + 1..).unwrap_or_default().trim_start_matches(',');
    }
}

fn closing_quote(quoted: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    quoted.len()
}

fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => plain.extend(characters.next().map(|c| if c == 'n' { '\n' } else { c })),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(
        globals: &[(String, String)],
        component: Option<&str>,
        own: &[(&str, &str)],
    ) -> Option<String> {
        let mut text = String::new();
        write(&mut text, globals, component, own).map(|_| text)
    }

    #[test]
    fn keys_are_in_order_and_the_series_overrides_the_globals() {
        let globals = [("env".to_owned(), "prod".to_owned()), ("zone".to_owned(), "a".to_owned())];
        let text = written(&globals, Some("users"), &[("zone", "b"), ("tier", "l1")]);
        assert_eq!(text.as_deref(), Some(r#"env="prod",name="users",tier="l1",zone="b""#));
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        assert_eq!(written(&[], None, &[("a", "1"), ("a", "2")]), None);
        assert_eq!(written(&[], Some("x"), &[("name", "y")]), None);
    }

    #[test]
    fn more_labels_than_allowed_are_refused() {
        let keys: Vec<String> = (0..=MAX_LABELS).map(|n| format!("k{n}")).collect();
        let own: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(written(&[], None, &own), None);
    }

    proptest! {
        #[test]
        fn any_value_reads_back_as_it_was(values in prop::collection::vec(".*", 0..4)) {
            let keys = ["a", "b", "c", "d"];
            let own: Vec<(&str, &str)> = keys.into_iter().zip(values.iter().map(String::as_str)).collect();
            let text = written(&[], None, &own).unwrap();
            prop_assert!(!text.contains('\n'));
            let expected: Vec<(String, String)> = own.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            prop_assert_eq!(parse(&text), expected);
        }
    }
}

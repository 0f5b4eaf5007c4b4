//! Keys of answers: what a request asks for, in whatever order it says so.

use crate::key::CacheKey;
use std::sync::Arc;

/// The key of an answer, made of the parameters of its request by [`Fingerprint`]. It holds the whole of them, not a hash,
/// so that no request can be made to look like another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct AnswerKey(Arc<[u8]>);

impl CacheKey for AnswerKey {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.len().write_key(out);
        out.extend_from_slice(&self.0);
    }
}

/// Collects the parameters of a request. The order of parameters does not matter, that of several values of one parameter
/// does; every part is kept with its length, so that none can run into another.
///
/// ```
/// use perf_cache::Fingerprint;
///
/// let one = Fingerprint::new("GET /products").query("page=2&sort=price&tag=a&tag=b").param("locale", "de").finish();
/// let same = Fingerprint::new("GET /products").param("locale", "de").query("tag=a&tag=b&sort=pri%63e&page=2").finish();
/// let other = Fingerprint::new("GET /products").query("page=2&sort=price&tag=b&tag=a").param("locale", "de").finish();
/// assert_eq!(one, same);
/// assert_ne!(one, other);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a fingerprint is nothing until `finish`"]
pub struct Fingerprint {
    subject: Box<str>,
    parts: Vec<Part>,
}

/// Where a parameter comes from, its name, and its value as bytes.
type Part = (Source, Box<str>, Vec<u8>);

/// Parameters of different sources may have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Param = 1,
    Query = 2,
    #[cfg(feature = "json")]
    Body = 3,
}

impl Fingerprint {
    /// What is asked for, such as method and path.
    pub fn new(subject: impl Into<Box<str>>) -> Self {
        Self { subject: subject.into(), parts: Vec::new() }
    }

    /// Adds a parameter: a path segment, a header that the answer varies with, the user that asks.
    pub fn param(mut self, name: &str, value: &(impl CacheKey + ?Sized)) -> Self {
        self.parts.push((Source::Param, name.into(), value.key_bytes()));
        self
    }

    /// Adds the parameters of a URL's query, as it stands in the URL, without the question mark. Escapes are resolved; one
    /// that is broken stands for itself. `a` and `a=` are two things.
    pub fn query(mut self, query: &str) -> Self {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, Some(unescaped(value))),
                None => (pair, None),
            };
            // Names that are no UTF-8 are told apart by their escapes.
            let name = String::from_utf8(unescaped(name)).unwrap_or_else(|_| name.to_owned());
            self.parts.push((Source::Query, name.into(), value.key_bytes()));
        }
        self
    }

    /// Adds a JSON body. The order of an object's members does not matter, and neither does space between tokens.
    #[cfg(feature = "json")]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        let mut bytes = Vec::new();
        write_json(body, &mut bytes);
        self.parts.push((Source::Body, "".into(), bytes));
        self
    }

    /// The key.
    #[must_use]
    pub fn finish(mut self) -> AnswerKey {
        // Stable, so that values of one name stay in their order.
        self.parts
            .sort_by(|(source, name, _), (other, other_name, _)| (source, name).cmp(&(other, other_name)));
        let mut bytes = self.subject.key_bytes();
        for (source, name, value) in &self.parts {
            bytes.push(*source as u8);
            name.write_key(&mut bytes);
            value.len().write_key(&mut bytes);
            bytes.extend_from_slice(value);
        }
        AnswerKey(bytes.into())
    }
}

/// Resolves `%xx` and `+`.
fn unescaped(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    while let Some(&byte) = bytes.get(at) {
        let escape = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2)));
        match (byte, escape) {
            (b'%', (Some(high), Some(low))) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _) => {
                out.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    out
}

#[cfg(feature = "json")]
fn write_json(value: &serde_json::Value, out: &mut Vec<u8>) {
    use serde_json::Value;
    match value {
        Value::Null => out.push(0),
        Value::Bool(value) => out.extend([1, u8::from(*value)]),
        Value::Number(number) => {
            out.push(2);
            number.to_string().write_key(out);
        }
        Value::String(text) => {
            out.push(3);
            text.write_key(out);
        }
        Value::Array(items) => {
            out.push(4);
            items.len().write_key(out);
            items.iter().for_each(|item| write_json(item, out));
        }
        Value::Object(members) => {
            out.push(5);
            members.len().write_key(out);
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            for (name, value) in sorted {
                name.write_key(out);
                write_json(value, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(query: &str) -> AnswerKey {
        Fingerprint::new("GET /x").query(query).finish()
    }

    #[test]
    fn the_same_request_in_other_words_has_the_same_key() {
        assert_eq!(of("a=1&b=2"), of("b=2&&a=1"));
        assert_eq!(of("a=x+y%21"), of("a=x%20y!"));
        assert_eq!(of("%61=1"), of("a=1"));
    }

    #[test]
    fn other_requests_have_other_keys() {
        for (one, other) in [
            ("a=1&a=2", "a=2&a=1"),
            ("a=1", "a=1&a=1"),
            ("a", "a="),
            ("ab=c", "a=bc"),
            ("a=1&b=2", "a=1%26b=2"),
            ("a=%zz", "a=zz"),
            ("a=%ff", "a=%fe"),
        ] {
            assert_ne!(of(one), of(other), "{one} and {other}");
        }
        let param = |name: &str, value: &str| Fingerprint::new("s").param(name, value).finish();
        assert_ne!(param("ab", "c"), param("a", "bc"));
        assert_ne!(Fingerprint::new("s").query("a=b").finish(), param("a", "b"));
        assert_ne!(Fingerprint::new("ab").finish(), Fingerprint::new("a").finish());
    }

    #[cfg(feature = "json")]
    #[test]
    fn the_order_of_members_does_not_matter_and_that_of_items_does() {
        let of = |text: &str| {
            let body: serde_json::Value = serde_json::from_str(text).unwrap();
            Fingerprint::new("POST /x").json(&body).finish()
        };
        assert_eq!(
            of(r#"{"a": [1, {"x": null, "y": true}], "b": "c"}"#),
            of(r#"{"b":"c","a":[1,{"y":true,"x":null}]}"#)
        );
        for (one, other) in [
            ("[1, 2]", "[2, 1]"),
            ("\"1\"", "1"),
            ("null", "false"),
            ("[]", "{}"),
            (r#"["ab"]"#, r#"["a", "b"]"#),
        ] {
            assert_ne!(of(one), of(other));
        }
    }

    proptest! {
        #[test]
        fn parameters_may_come_in_any_order_and_never_run_into_each_other(
            one in prop::collection::btree_map("[ab&=%]{0,3}", "[ab&=%]{0,3}", 0..4),
            other in prop::collection::btree_map("[ab&=%]{0,3}", "[ab&=%]{0,3}", 0..4),
        ) {
            let key = |parts: Vec<(&String, &String)>| {
                let add = |key: Fingerprint, (name, value): (&String, &String)| key.param(name, value);
                parts.into_iter().fold(Fingerprint::new("s"), add).finish()
            };
            prop_assert_eq!(key(one.iter().collect()), key(one.iter().rev().collect()));
            prop_assert_eq!(key(one.iter().collect()) == key(other.iter().collect()), one == other);
        }
    }
}

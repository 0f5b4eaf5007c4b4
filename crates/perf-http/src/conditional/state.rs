use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use httpdate::HttpDate;
use std::fmt;

/// An entity tag: what tells one version of a resource from another.
///
/// ```
/// use perf_http::ETag;
///
/// let strong = ETag::parse("\"v1\"").unwrap();
/// let weak = ETag::parse("W/\"v1\"").unwrap();
/// assert!(strong.weakly_equals(&weak) && !strong.strongly_equals(&weak));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag {
    weak: bool,
    opaque: String,
}

impl ETag {
    /// A strong tag of a version that the caller names: a number, a revision. `None` when the name holds what a tag may not.
    #[must_use]
    pub fn strong(version: impl Into<String>) -> Option<Self> {
        let opaque = version.into();
        opaque.bytes().all(is_tag_byte).then_some(Self { weak: false, opaque })
    }

    /// The tag of these bytes: strong, because other bytes have another one.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { weak: false, opaque: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes)) }
    }

    /// Reads a tag as a field carries it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (weak, quoted) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
        let opaque = quoted.strip_prefix('"')?.strip_suffix('"')?;
        opaque.bytes().all(is_tag_byte).then(|| Self { weak, opaque: opaque.to_owned() })
    }

    /// Whether both are strong and the same: byte for byte the same representation.
    #[must_use]
    pub fn strongly_equals(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Whether they are the same but for their strength: as good as the same representation.
    #[must_use]
    pub fn weakly_equals(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }

    /// The tag as a field carries it.
    #[must_use]
    pub fn to_value(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.to_string()).ok()
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\"{}\"", if self.weak { "W/" } else { "" }, self.opaque)
    }
}

/// `%x21 / %x23-7E / obs-text`, without what would need more than ASCII.
const fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7E)
}

/// What the preconditions of a request mean for a resource as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Proceed,
    /// The client has this version: 304.
    NotModified,
    /// The resource is not what the client took it for: 412.
    Failed,
}

/// Tags of a list field, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<ETag>),
}

impl Tags {
    /// A list that cannot be read matches nothing: the safe answer for both fields.
    fn of(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let lines: Vec<&str> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("")).collect();
        if lines.is_empty() {
            return None;
        }
        if lines.iter().any(|line| line.trim() == "*") {
            return Some(Self::Any);
        }
        Some(Self::List(lines.iter().flat_map(|line| tags_in(line)).collect()))
    }

    fn contains(&self, tag: Option<&ETag>, same: impl Fn(&ETag, &ETag) -> bool) -> bool {
        match (self, tag) {
            (Self::Any, _) => true,
            (Self::List(list), Some(tag)) => list.iter().any(|known| same(known, tag)),
            (Self::List(_), None) => false,
        }
    }
}

/// The tags of one line. A comma inside of the quotes belongs to its tag.
fn tags_in(line: &str) -> Vec<ETag> {
    let mut quoted = false;
    let parts = line.split(|sign: char| {
        quoted ^= sign == '"';
        sign == ',' && !quoted
    });
    parts.filter_map(ETag::parse).collect()
}

/// The preconditions of a request, for handlers that know the version of a resource before they change it:
/// `If-Match`, `If-Unmodified-Since`, `If-None-Match`, `If-Modified-Since`, in that order of precedence.
///
/// ```
/// use http::{HeaderMap, Method};
/// use perf_http::{ETag, Preconditions, Verdict};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("if-match", "\"v1\"".parse().unwrap());
/// let asked = Preconditions::of(&headers);
/// let (old, new) = (ETag::parse("\"v1\"").unwrap(), ETag::parse("\"v2\"").unwrap());
/// assert_eq!(asked.check(&Method::PUT, Some(&old), None), Verdict::Proceed);
/// assert_eq!(asked.check(&Method::PUT, Some(&new), None), Verdict::Failed);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    matches: Option<Tags>,
    none_matches: Option<Tags>,
    modified_since: Option<HttpDate>,
    unmodified_since: Option<HttpDate>,
}

impl Preconditions {
    /// Those of a request with these header fields. A date that cannot be read is no precondition.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let date = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            matches: Tags::of(headers, &IF_MATCH),
            none_matches: Tags::of(headers, &IF_NONE_MATCH),
            modified_since: date(IF_MODIFIED_SINCE),
            unmodified_since: date(IF_UNMODIFIED_SINCE),
        }
    }

    /// What they mean for a resource that exists, with the tag and the value of `Last-Modified` it has (RFC 9110 §13.2.2).
    #[must_use]
    pub fn check(&self, method: &Method, tag: Option<&ETag>, last_modified: Option<&str>) -> Verdict {
        let modified = last_modified.and_then(|date| date.parse::<HttpDate>().ok());
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let since = |date: Option<HttpDate>| modified.zip(date).map(|(modified, date)| modified > date);
        let held = match &self.matches {
            Some(tags) => tags.contains(tag, ETag::strongly_equals),
            None => since(self.unmodified_since) != Some(true),
        };
        if !held {
            return Verdict::Failed;
        }
        match &self.none_matches {
            Some(tags) if tags.contains(tag, ETag::weakly_equals) && reads => Verdict::NotModified,
            Some(tags) if tags.contains(tag, ETag::weakly_equals) => Verdict::Failed,
            Some(_) => Verdict::Proceed,
            None if reads && since(self.modified_since) == Some(false) => Verdict::NotModified,
            None => Verdict::Proceed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn check(fields: &[(&'static str, &str)], method: Method) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let tag = ETag::parse("\"now\"");
        Preconditions::of(&headers).check(&method, tag.as_ref(), Some(OLD))
    }

    #[test]
    fn if_none_match_compares_weakly_over_lists_and_lines() {
        for value in ["\"now\"", "W/\"now\"", "\"a\", \"now\"", "\"a,b\",W/\"now\" ", "*"] {
            assert_eq!(check(&[("if-none-match", value)], Method::GET), Verdict::NotModified, "{value}");
            assert_eq!(check(&[("if-none-match", value)], Method::PUT), Verdict::Failed, "{value}");
        }
        for value in ["\"a\"", "now", "\"now", "", "\"a,now\""] {
            assert_eq!(check(&[("if-none-match", value)], Method::GET), Verdict::Proceed, "{value}");
        }
        let two = [("if-none-match", "\"a\""), ("if-none-match", "\"now\"")];
        assert_eq!(check(&two, Method::HEAD), Verdict::NotModified);
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        assert_eq!(check(&[("if-match", "\"now\"")], Method::PUT), Verdict::Proceed);
        assert_eq!(check(&[("if-match", "*")], Method::PUT), Verdict::Proceed);
        for value in ["W/\"now\"", "\"a\"", "nonsense"] {
            assert_eq!(check(&[("if-match", value)], Method::PUT), Verdict::Failed, "{value}");
        }
        let both = [("if-match", "\"a\""), ("if-none-match", "\"now\"")];
        assert_eq!(check(&both, Method::GET), Verdict::Failed);
        let dated = [("if-match", "\"now\""), ("if-unmodified-since", "Sat, 05 Nov 1994 08:49:37 GMT")];
        assert_eq!(check(&dated, Method::PUT), Verdict::Proceed, "a tag is better than a date");
    }

    #[test]
    fn dates_decide_where_there_is_no_tag() {
        assert_eq!(check(&[("if-modified-since", OLD)], Method::GET), Verdict::NotModified);
        assert_eq!(check(&[("if-modified-since", NEW)], Method::GET), Verdict::NotModified);
        assert_eq!(check(&[("if-modified-since", NEW)], Method::POST), Verdict::Proceed);
        assert_eq!(check(&[("if-modified-since", "yesterday")], Method::GET), Verdict::Proceed);
        assert_eq!(check(&[("if-unmodified-since", OLD)], Method::PUT), Verdict::Proceed);
        assert_eq!(
            check(&[("if-unmodified-since", "Sat, 05 Nov 1994 08:49:37 GMT")], Method::PUT),
            Verdict::Failed
        );
        let tagged = [("if-none-match", "\"a\""), ("if-modified-since", NEW)];
        assert_eq!(check(&tagged, Method::GET), Verdict::Proceed, "a tag is better than a date");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm_and_tags_read_back(text in "[ -~]{0,40}") {
            let _ = tags_in(&text);
            if let Some(tag) = ETag::parse(&text) {
                prop_assert_eq!(ETag::parse(&tag.to_string()), Some(tag));
            }
        }
    }
}

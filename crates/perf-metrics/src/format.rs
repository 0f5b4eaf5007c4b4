/// The exposition formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Prometheus text 0.0.4: what a browser and every scraper reads.
    #[default]
    Text,
    /// OpenMetrics 1.0.0: text with exemplars and an end mark.
    OpenMetrics,
    /// Prometheus' protobuf, length-delimited: classic and native histograms and exemplars.
    Protobuf,
}

impl Format {
    /// The format to answer an `Accept` header with: the one with the highest weight, on a tie the one named first, and
    /// text 0.0.4 when it names none we speak.
    ///
    /// ```
    /// use perf_metrics::Format;
    ///
    /// let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    /// assert_eq!(Format::negotiate(Some(prometheus)), Format::OpenMetrics);
    /// assert_eq!(Format::negotiate(Some("image/png")), Format::Text);
    /// ```
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (0.0, Self::Text);
        for (format, weight) in accept.unwrap_or_default().split(',').filter_map(range) {
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    /// The value of the `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// One media range of an `Accept` header and its weight, when it is a format we speak.
fn range(text: &str) -> Option<(Format, f64)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let parameters: Vec<(String, &str)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
        .collect();
    let parameter = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let is = |name: &str, expected: &[&str]| parameter(name).is_none_or(|value| expected.contains(&value));
    let format = match media.as_str() {
        "application/openmetrics-text" if is("version", &["1.0.0", "0.0.1"]) => Format::OpenMetrics,
        "application/vnd.google.protobuf"
            if is("proto", &["io.prometheus.client.MetricFamily"]) && is("encoding", &["delimited"]) =>
        {
            Format::Protobuf
        }
        "text/plain" if is("version", &["0.0.4", "1.0.0"]) => Format::Text,
        "*/*" | "text/*" => Format::Text,
        _ => return None,
    };
    let weight = parameter("q").map_or(Some(1.0), |q| q.parse::<f64>().ok())?;
    Some((format, if weight.is_finite() { weight.clamp(0.0, 1.0) } else { 0.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                          application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

    #[test]
    fn what_scrapers_send_is_understood() {
        for (accept, format) in [
            (NATIVE, Format::Protobuf),
            ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text; version=9.0.0,text/plain;q=0.5", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("text/plain;q=0.2, application/openmetrics-text;q=0.9", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/vnd.google.protobuf;encoding=text, text/plain", Format::Text),
        ] {
            assert_eq!(Format::negotiate(Some(accept)), format, "{accept}");
        }
        assert_eq!(Format::negotiate(None), Format::Text);
    }

    proptest! {
        #[test]
        fn any_header_gets_an_answer(accept in ".*") {
            prop_assert!(!Format::negotiate(Some(&accept)).content_type().is_empty());
        }
    }
}

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "tracing")]
use tracing_subscriber::registry::LookupSpan as _;

/// W3C trace context: who called, as the header `traceparent` carries it.
///
/// ```
/// use perf_metrics::TraceParent;
///
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
/// assert_eq!(parent.trace_hex(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!(parent.is_sampled());
/// assert_eq!(parent.child(7).to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// A header that is not a trace context; the call then starts a trace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent: version-trace-span-flags in lower-case hexadecimal, ids not zero")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// A context from its parts; `None` when an id is zero.
    #[must_use]
    pub fn new(trace: u128, span: u64, sampled: bool) -> Option<Self> {
        (trace != 0 && span != 0).then_some(Self { trace, span, flags: u8::from(sampled) })
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(&self) -> u128 {
        self.trace
    }

    /// The span of the caller.
    #[must_use]
    pub const fn span_id(&self) -> u64 {
        self.span
    }

    /// Whether the caller records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The context to pass on from span `span`; zero, which is no span, keeps the caller's.
    #[must_use]
    pub const fn child(self, span: u64) -> Self {
        if span == 0 { self } else { Self { span, ..self } }
    }

    /// The context of a trace that begins here; ids of zero become one.
    #[cfg(feature = "otlp")]
    pub(crate) fn started(trace: u128, span: u64, sampled: bool) -> Self {
        Self { trace: trace.max(1), span: span.max(1), flags: u8::from(sampled) }
    }

    /// The context of the present `tracing` span, or of the nearest one around it that has one: what a call to somebody
    /// else carries in its header `traceparent`.
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn current() -> Option<Self> {
        tracing::dispatcher::get_default(|dispatch| {
            let registry = dispatch.downcast_ref::<tracing_subscriber::Registry>()?;
            let current = dispatch.current_span();
            let span = registry.span(current.id()?)?;
            span.scope().find_map(|span| span.extensions().get::<Self>().copied())
        })
    }

    /// Makes `span` continue this trace: its latency's exemplar, its export and its calls carry the caller's trace id from
    /// now on. Spans that were opened within it before keep theirs. Without effect when the subscriber is not built
    /// upon `tracing_subscriber`'s registry.
    #[cfg(feature = "tracing")]
    pub fn attach(self, span: &tracing::Span) {
        span.with_subscriber(|(id, dispatch)| {
            let registry = dispatch.downcast_ref::<tracing_subscriber::Registry>()?;
            let span = registry.span(id)?;
            let mut extensions = span.extensions_mut();
            let own = extensions.get_mut::<Self>().map_or(self, |own| self.child(own.span));
            extensions.replace(own);
            extensions.replace(RemoteParent(self.span));
            Some(())
        });
    }

    /// The trace id as exemplars and other tools write it: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_hex(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// The span of the caller, beside the context of the span that continues its trace.
#[cfg(feature = "tracing")]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only an export says who the parent was"))]
pub(crate) struct RemoteParent(pub(crate) u64);

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let hex = part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            hex.then(|| u128::from_str_radix(part, 16).ok()).flatten()
        };
        let (version, trace, span, flags) = (part(2), part(32), part(16), part(2));
        let (Some(version), Some(trace), Some(span), Some(flags)) = (version, trace, span, flags) else {
            return Err(InvalidTraceParent);
        };
        // Version 00 has exactly four parts; later ones may have more; ff is not a version.
        if version == 0xFF || (version == 0 && parts.next().is_some()) {
            return Err(InvalidTraceParent);
        }
        let parent = Self::new(trace, span as u64, flags & 1 == 1);
        parent.ok_or(InvalidTraceParent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_that_are_no_context_are_refused() {
        for text in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
        assert!("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x".parse::<TraceParent>().is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(trace in 1..u128::MAX, span in 1..u64::MAX, sampled: bool) {
            let parent = TraceParent::new(trace, span, sampled).unwrap();
            prop_assert_eq!(parent.to_string().parse::<TraceParent>(), Ok(parent));
        }

        #[test]
        fn any_header_gets_an_answer(text in ".*") {
            let _ = text.parse::<TraceParent>();
        }
    }
}

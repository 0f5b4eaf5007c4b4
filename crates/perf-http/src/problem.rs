use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::time::Duration;

/// An error answer a program can read: RFC 9457 problem details.
///
/// The answer is never stored by a cache. What it says goes to the client: give it nothing that only the operator may know.
///
/// ```
/// use http::StatusCode;
/// use perf_http::Problem;
///
/// let problem = Problem::new(StatusCode::CONFLICT, "the order was shipped already").with("order", 42);
/// let response = problem.response::<axum::body::Body>();
/// assert_eq!(response.status(), 409);
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: Cow<'static, str>,
    detail: Cow<'static, str>,
    retry_after: Option<u64>,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem of no particular type: the status says what it is, `detail` what happened this time.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            kind: "about:blank",
            title: Cow::Borrowed(status.canonical_reason().unwrap_or("Error")),
            detail: detail.into(),
            retry_after: None,
            members: Map::new(),
        }
    }

    /// Gives it a type: the URI that identifies the kind of problem, and its title.
    pub fn kind(mut self, uri: &'static str, title: impl Into<Cow<'static, str>>) -> Self {
        self.kind = uri;
        self.title = title.into();
        self
    }

    /// Says when to come back, in whole seconds rounded up.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(whole_seconds(wait));
        self
    }

    /// Adds a member of its own to the JSON object.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The status it is answered with.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer, in any body that can be made from bytes.
    pub fn response<B: From<Bytes>>(self) -> Response<B> {
        let mut response = Response::new(B::from(Bytes::from(self.json())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn json(&self) -> String {
        let mut object = self.members.clone();
        object.insert("type".into(), self.kind.into());
        object.insert("title".into(), self.title.as_ref().into());
        object.insert("status".into(), self.status.as_u16().into());
        object.insert("detail".into(), self.detail.as_ref().into());
        Value::Object(object).to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response()
    }
}

/// Whole seconds, rounded up: a client that waits that long does not come too early.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn own_members_cannot_replace_the_standard_ones() {
        let problem =
            Problem::new(StatusCode::BAD_REQUEST, "no").with("status", 200).with("hint", "\"quoted\"");
        let json: Value = serde_json::from_str(&problem.json()).unwrap();
        assert_eq!(json["status"], 400);
        assert_eq!(json["hint"], "\"quoted\"");
    }
}

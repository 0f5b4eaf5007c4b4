use crate::Problem;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use perf_core::{Reason, Rejected};
use std::error::Error;
use std::time::Duration;

/// What a refused client is told to wait when the policy that refused does not know: one second.
///
/// Long enough to keep a retrying client from spinning, short enough not to be felt as an outage.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A [`Rejected`] on its way to the client: the one place where a refusal becomes a status.
///
/// | reason | status |
/// |---|---|
/// | rate limited | 429 Too Many Requests |
/// | attempt timed out, deadline exceeded | 504 Gateway Timeout |
/// | everything else: open, full, won't make it, throttled, shed, paused, closed | 503 Service Unavailable |
///
/// The body is problem+json with the member `reason`. 429 and 503 always carry `Retry-After`, rounded up; 504 only when the
/// policy gave a hint. The name of the policy and the numbers that decided stay inside: they are the operator's.
///
/// ```
/// use axum::response::IntoResponse;
/// use perf_core::{Reason, Rejected};
/// use perf_http::Refusal;
///
/// async fn order() -> Result<&'static str, Refusal> {
///     Err(Rejected::new(Reason::Open, "orders-db"))?
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let response = order().await.into_response();
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.headers()["retry-after"], "1");
/// # });
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Refusal(Rejected);

impl Refusal {
    /// Looks for a refusal in an error and its sources, for handlers with an error type of their own.
    #[must_use]
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        Rejected::find(error).cloned().map(Self)
    }

    /// The refusal itself.
    #[must_use]
    pub const fn rejected(&self) -> &Rejected {
        &self.0
    }

    /// The status it is answered with.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self.0.reason() {
            Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Reason::Timeout | Reason::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The problem details it is answered with.
    pub fn problem(&self) -> Problem {
        let status = self.status();
        let reason = self.0.reason();
        let problem = Problem::new(status, in_words(reason)).with("reason", reason.as_str());
        match self.0.retry_hint() {
            Some(wait) => problem.retry_after(wait.max(Duration::from_nanos(1))),
            None if status == StatusCode::GATEWAY_TIMEOUT => problem,
            None => problem.retry_after(DEFAULT_RETRY_AFTER),
        }
    }

    /// The answer, in any body that can be made from bytes.
    #[must_use]
    pub fn response<B: From<Bytes>>(&self) -> Response<B> {
        self.problem().response()
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Self(rejected)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.response()
    }
}

const fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::RateLimited => "too many requests: the quota is spent",
        Reason::Timeout | Reason::DeadlineExceeded => "the answer took longer than it may",
        Reason::Closed => "the service is shutting down",
        Reason::Paused => "the service is paused",
        _ => "the service cannot take this request now",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(reason: Reason) -> (u16, Option<String>) {
        let response: Response = Refusal(Rejected::new(reason, "secret-backend")).into_response();
        let retry = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        (response.status().as_u16(), retry)
    }

    #[test]
    fn every_reason_has_its_status_and_refusals_say_when_to_come_back() {
        for reason in Reason::ALL {
            let (status, retry) = answered(reason);
            match reason {
                Reason::RateLimited => assert_eq!((status, retry.as_deref()), (429, Some("1"))),
                Reason::Timeout | Reason::DeadlineExceeded => assert_eq!((status, retry), (504, None)),
                _ => assert_eq!((status, retry.as_deref()), (503, Some("1")), "{reason:?}"),
            }
        }
    }

    #[test]
    fn the_hint_is_rounded_up_and_never_zero() {
        for (hint, header) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let rejected = Rejected::new(Reason::Full, "p").retry_after(Duration::from_millis(hint));
            let response: Response = Refusal(rejected).into_response();
            assert_eq!(response.headers()["retry-after"], header);
        }
    }

    #[tokio::test]
    async fn the_client_does_not_learn_the_name_of_the_policy() {
        let response: Response = Refusal(Rejected::new(Reason::Open, "secret-backend")).into_response();
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(!text.contains("secret-backend") && text.contains("\"reason\":\"open\""), "{text}");
    }
}

//! What the users of a load test do.

use crate::http::Request;
use perf_core::time::Duration;
use perf_core::{Name, Rng};

/// One virtual user, or one arrival of an open load.
///
/// ```
/// let mut user = perf_load::User::new(7, 42);
/// assert_eq!(user.index(), 7);
/// assert!(user.rng().below(10) < 10);
/// ```
#[derive(Clone, Debug)]
pub struct User {
    index: u64,
    requests: u64,
    rng: Rng,
}

impl User {
    /// The user with this number in a run with this seed. The engine makes them; tests of scenarios may, too.
    #[must_use]
    pub fn new(index: u64, seed: u64) -> Self {
        Self { index, requests: 0, rng: Rng::seeded(mix(seed, index)) }
    }

    /// Its number, from 0. In an open load, the number of the arrival.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many requests this user has made before. Always 0 in an open load, where every arrival is a new user.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// The random numbers of this user: the same in every run with the same seed, whatever the number of threads.
    pub const fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    pub(crate) const fn count_request(&mut self) {
        self.requests += 1;
    }
}

/// Spreads neighbouring numbers over the whole range, so that neighbouring users share no random numbers.
const fn mix(seed: u64, index: u64) -> u64 {
    let mixed = (seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(index.rotate_left(32));
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// What users send, and what they expect to get.
///
/// In a closed load each user has a scenario of its own; in an open load each shard has one, whose requests are made in the order
/// of their planned instants. Both methods run on the generator's threads: they must be quick and must not block.
///
/// Any closure `FnMut(&mut User, &mut Request)` is a scenario without checks:
///
/// ```
/// use perf_load::{Request, Scenario, User};
///
/// fn is_scenario(_: impl Scenario) {}
/// is_scenario(|user: &mut User, request: &mut Request| {
///     let product = user.rng().below(20_000);
///     request.get(format_args!("/products/{product}")).step("product");
/// });
/// ```
pub trait Scenario: Send + 'static {
    /// Fills in the next request of `user`. `request` comes empty.
    fn next(&mut self, user: &mut User, request: &mut Request);

    /// Looks at an accepted answer (2xx, 3xx, or what [`Request::accept`] allows). The time it takes belongs to no request.
    ///
    /// # Errors
    /// [`CheckFailed`] makes the request an error of kind [`check_failed`](crate::ErrorKind::CheckFailed).
    fn check(&mut self, request: &Request, answer: &Answer<'_>) -> Result<(), CheckFailed> {
        let _ = (request, answer);
        Ok(())
    }

    /// How long the user of a closed load waits before its next request. Not asked in an open load.
    fn think(&mut self, user: &mut User) -> Duration {
        let _ = user;
        Duration::ZERO
    }
}

impl<F> Scenario for F
where
    F: FnMut(&mut User, &mut Request) + Send + 'static,
{
    fn next(&mut self, user: &mut User, request: &mut Request) {
        self(user, request);
    }
}

/// An answer as the scenario sees it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) body_bytes: u64,
}

impl<'a> Answer<'a> {
    /// An answer made by hand, for tests of scenarios. `headers` is in wire form: `name: value` lines that end in CR LF.
    #[must_use]
    pub const fn new(status: u16, headers: &'a [u8], body: &'a [u8]) -> Self {
        Self { status, head: headers, body, body_bytes: body.len() as u64 }
    }

    /// The status code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The value of the first header of this name (in any case), when it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        crate::http::header(self.head, name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The body, decoded from its transfer encoding. Empty unless [`Request::keep_body`] asked for it; cut at the plan's
    /// [`max_kept_body`](crate::Load::max_kept_body).
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The length of the whole body in bytes, kept or not.
    #[must_use]
    pub const fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

/// A scenario's verdict on a wrong answer. The first text of each kind of error is shown in the report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CheckFailed(Name);

impl CheckFailed {
    /// Says what is wrong.
    pub fn new(why: impl Into<Name>) -> Self {
        Self(why.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn users_of_one_run_share_no_random_numbers() {
        let first: BTreeSet<u64> = (0..10_000).map(|index| User::new(index, 42).rng().next_u64()).collect();
        assert_eq!(first.len(), 10_000);
        assert_eq!(User::new(3, 42).rng().next_u64(), User::new(3, 42).rng().next_u64());
        assert_ne!(User::new(3, 42).rng().next_u64(), User::new(3, 43).rng().next_u64());
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let answer = Answer::new(200, b"X-Version: 17\r\ncontent-type: text/plain\r\n", b"ok");
        assert_eq!(answer.header("x-version"), Some("17"));
        assert_eq!(answer.header("Content-Type"), Some("text/plain"));
        assert_eq!(answer.header("missing"), None);
        assert_eq!((answer.status(), answer.body(), answer.body_bytes()), (200, &b"ok"[..], 2));
    }
}

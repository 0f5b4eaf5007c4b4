//! Who may look: a token, a session made with a one-time link, or whatever the host decides.

use crate::rate::{Quota, RateKey, RateLimit};
use crate::{Head, Problem, random};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, StatusCode};
use perf_core::time::{self, Duration, Instant};
use perf_core::{InvalidConfig, Secret};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Shortest token that is accepted: 16 characters, which nobody guesses at ten tries a minute.
pub const MIN_TOKEN_LENGTH: usize = 16;

/// Failed tries a peer has in a minute before it is not listened to any more.
pub const MAX_FAILURES_PER_MINUTE: u32 = 10;

/// Life of a one-time login link: time to copy it from a terminal to a browser.
pub const LOGIN_LINK_LIFE: Duration = Duration::from_secs(600);

/// Life of a browser session: a working day.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Sessions and links kept at once; the oldest goes when there are more.
const MAX_GRANTS: usize = 64;

/// Decides for the host whether a request may look. Called for every request that is not open to all: it must not block.
type Decide = Arc<dyn Fn(Head<'_>) -> bool + Send + Sync>;

/// Who may look at the management surface. There is no default that is open: the host says which.
#[derive(Clone)]
#[non_exhaustive]
pub enum Auth {
    /// Whoever has the token: `Authorization: Bearer …`, or a session begun with a one-time link.
    Token(Secret<String>),
    /// Whoever the host lets in.
    Custom(CustomAuth),
    /// Whoever is on this machine. Refused on any other address than a loopback one.
    InsecureLoopbackOnly,
}

/// A decision of the host; made by [`Auth::custom`].
#[derive(Clone)]
pub struct CustomAuth(Decide);

impl Auth {
    /// Whoever has `token`, which has at least [`MIN_TOKEN_LENGTH`] characters.
    pub fn token(token: impl Into<String>) -> Self {
        Self::Token(Secret::new(token.into()))
    }

    /// Whoever has a token made now, which nobody knows: only one-time links let anyone in.
    ///
    /// # Errors
    /// [`InvalidConfig`] when the system has no randomness to give.
    pub fn generated() -> Result<Self, InvalidConfig> {
        let token = random::token()
            .map_err(|error| InvalidConfig::new("token", error, "randomness of the system"))?;
        Ok(Self::token(token))
    }

    /// Whoever `decide` lets in: behind the host's own login, for example.
    pub fn custom(decide: impl Fn(Head<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self::Custom(CustomAuth(Arc::new(decide)))
    }

    pub(super) fn validate(&self) -> Result<(), InvalidConfig> {
        match self {
            Self::Token(token) if token.expose().len() < MIN_TOKEN_LENGTH => {
                Err(InvalidConfig::new("token", "***", format!("{MIN_TOKEN_LENGTH} characters or more")))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(***)",
            Self::Custom(_) => "Custom(..)",
            Self::InsecureLoopbackOnly => "InsecureLoopbackOnly",
        })
    }
}

impl fmt::Debug for CustomAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomAuth(..)")
    }
}

/// A secret that was handed out, until it expires.
#[derive(Debug)]
struct Grant {
    secret: Secret<String>,
    until: Instant,
}

/// Grants of one kind. Comparing looks at all of them, so that the time it takes tells nothing.
#[derive(Debug, Default)]
struct Grants(Mutex<Vec<Grant>>);

impl Grants {
    fn give(&self, life: Duration, now: Instant) -> Result<String, getrandom::Error> {
        let secret = random::token()?;
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        grants.retain(|grant| grant.until > now);
        if grants.len() >= MAX_GRANTS {
            grants.remove(0);
        }
        grants.push(Grant { secret: Secret::new(secret.clone()), until: now + life });
        Ok(secret)
    }

    fn knows(&self, guess: &[u8], now: Instant) -> bool {
        let grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        grants.iter().fold(false, |known, grant| known | (grant.secret.matches(guess) & (grant.until > now)))
    }

    fn take(&self, guess: &[u8], now: Instant) -> bool {
        let known = self.knows(guess, now);
        if known {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|grant| !grant.secret.matches(guess));
        }
        known
    }
}

/// The guard in front of the management surface.
#[derive(Debug)]
pub(super) struct Gate {
    auth: Auth,
    scrape: Option<Secret<String>>,
    failures: RateLimit,
    links: Grants,
    sessions: Grants,
    cookie: String,
}

impl Gate {
    pub(super) fn new(auth: Auth, scrape: Option<Secret<String>>) -> Result<Self, InvalidConfig> {
        auth.validate()?;
        if let Some(token) = &scrape {
            Auth::Token(token.clone()).validate().map_err(|error| error.within("scrape"))?;
        }
        let quota = Quota::per_minute(MAX_FAILURES_PER_MINUTE).named("failures");
        let suffix = random::token()
            .map_err(|error| InvalidConfig::new("token", error, "randomness of the system"))?;
        Ok(Self {
            auth,
            scrape,
            failures: RateLimit::builder("management-failures").quota(quota).max_keys(10_000).build()?,
            links: Grants::default(),
            sessions: Grants::default(),
            // Cookies of one host are shared by all its ports: two programs must not take each other's.
            cookie: format!("perf_{}", suffix.get(..8).unwrap_or("session")),
        })
    }

    /// Whether only this machine may connect.
    pub(super) const fn loopback_only(&self) -> bool {
        matches!(self.auth, Auth::InsecureLoopbackOnly)
    }

    /// Whether one-time links make sense.
    pub(super) const fn has_links(&self) -> bool {
        matches!(self.auth, Auth::Token(_))
    }

    /// Lets the request in, or says why not. `scrape` is whether the scrape token opens this door.
    pub(super) fn admit(&self, head: Head<'_>, scrape: bool) -> Result<(), Problem> {
        match &self.auth {
            Auth::Custom(CustomAuth(decide)) if decide(head) => return Ok(()),
            Auth::InsecureLoopbackOnly if head.peer().is_some_and(|peer| peer.is_loopback()) => return Ok(()),
            Auth::InsecureLoopbackOnly => {
                return Err(Problem::new(StatusCode::FORBIDDEN, "only from this machine"));
            }
            _ => {}
        }
        let peer = head.peer().map_or(RateKey::UNKNOWN, RateKey::address);
        let now = time::now();
        let (bearer, session) = (bearer(head.headers), cookie(head.headers, &self.cookie));
        if bearer.is_none() && session.is_none() {
            return Err(unauthorised("a token is needed"));
        }
        self.listen_to(peer, now)?;
        let by_session = session.is_some_and(|session| self.sessions.knows(session.as_bytes(), now));
        if by_session && is_cross_site(head.headers) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "a session is not valid on behalf of another site",
            ));
        }
        let by_token = bearer.is_some_and(|guess| self.has_token(guess.as_bytes(), scrape));
        if by_session || by_token {
            return Ok(());
        }
        self.count_failure(peer, now);
        Err(unauthorised("the token is not valid"))
    }

    fn has_token(&self, guess: &[u8], scrape: bool) -> bool {
        let own = matches!(&self.auth, Auth::Token(token) if token.matches(guess));
        let scraper = self.scrape.as_ref().is_some_and(|token| token.matches(guess));
        own | (scrape & scraper)
    }

    /// A link good for one login.
    pub(super) fn link(&self) -> Result<String, getrandom::Error> {
        self.links.give(LOGIN_LINK_LIFE, time::now())
    }

    /// Trades a link for a session: the value of the cookie to set.
    pub(super) fn login(&self, head: Head<'_>, link: &str) -> Result<String, Problem> {
        let peer = head.peer().map_or(RateKey::UNKNOWN, RateKey::address);
        let now = time::now();
        self.listen_to(peer, now)?;
        if !self.links.take(link.as_bytes(), now) {
            self.count_failure(peer, now);
            return Err(unauthorised(
                "the link was used already or is too old: the program prints a new one",
            ));
        }
        let session = self.sessions.give(SESSION_LIFE, now);
        let session = session
            .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no randomness for a session"))?;
        Ok(format!(
            "{}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
            self.cookie,
            SESSION_LIFE.as_secs()
        ))
    }

    /// Refuses a peer that failed too often before its guess is even looked at.
    fn listen_to(&self, peer: RateKey, now: Instant) -> Result<(), Problem> {
        let failures = self.failures.check(peer, 0, now);
        if failures.remaining() > 0 {
            return Ok(());
        }
        let wait = failures.wait().max(Duration::from_secs(1));
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many failed tries").retry_after(wait))
    }

    fn count_failure(&self, peer: RateKey, now: Instant) {
        // Whether this one is the last is asked before the next try.
        let _ = self.failures.check(peer, 1, now);
    }
}

fn unauthorised(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(known, value)| (known == name).then_some(value))
}

/// Whether another site's page sent the request; browsers say so and scripts cannot change it.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    matches!(site, Some(b"cross-site" | b"same-site"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_token_is_refused_and_never_shown() {
        let error = Auth::token("short").validate().unwrap_err();
        assert!(!error.to_string().contains("short") && error.to_string().contains("16"), "{error}");
        assert_eq!(format!("{:?}", Auth::token("0123456789abcdef")), "Token(***)");
    }

    #[test]
    fn a_grant_ends_when_it_is_taken_or_too_old() {
        let (grants, now) = (Grants::default(), time::now());
        let link = grants.give(Duration::from_secs(1), now).unwrap();
        assert!(grants.knows(link.as_bytes(), now));
        assert!(!grants.knows(link.as_bytes(), now + Duration::from_secs(1)));
        assert!(grants.take(link.as_bytes(), now) && !grants.take(link.as_bytes(), now));
    }

    #[test]
    fn grants_are_bounded() {
        let (grants, now) = (Grants::default(), time::now());
        let first = grants.give(Duration::from_secs(1), now).unwrap();
        for _ in 0..MAX_GRANTS {
            grants.give(Duration::from_secs(1), now).unwrap();
        }
        assert!(!grants.knows(first.as_bytes(), now));
        assert_eq!(grants.0.lock().unwrap().len(), MAX_GRANTS);
    }
}

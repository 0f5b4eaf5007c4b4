use perf_core::Name;
use std::any::Any;
use std::fmt::Write as _;
use std::fmt::{self, Display};
use std::sync::Arc;

/// A request method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Whether sending it twice does no more than sending it once (RFC 9110, section 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch)
    }

    /// The method of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options]
            .into_iter()
            .find(|method| method.as_str().eq_ignore_ascii_case(name))
    }
}

/// How many statuses outside 2xx and 3xx one request may accept.
const MAX_ACCEPTED: usize = 4;

/// A request, made in place in a buffer that is used again and again.
///
/// A path or header that would break the message (spaces in a path, line breaks anywhere) is never sent: the request counts as
/// [`generator_request`](crate::ErrorKind::GeneratorRequest).
///
/// ```
/// use perf_load::Request;
///
/// let mut request = Request::new("shop.example");
/// request.post("/orders").header("x-tenant", 7).body(b"{\"sku\":12}").step("order").keep_body();
/// assert_eq!(
///     request.wire(),
///     b"POST /orders HTTP/1.1\r\nhost: shop.example\r\nx-tenant: 7\r\ncontent-length: 10\r\n\r\n{\"sku\":12}"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    /// `host: …` and the headers every request of the run has.
    common: Arc<[u8]>,
    default_path: Arc<str>,
    method: Method,
    head: String,
    body: Vec<u8>,
    wire: Vec<u8>,
    path_end: usize,
    step: Name,
    accepted: [u16; MAX_ACCEPTED],
    keep_body: bool,
    valid: bool,
    attachment: Option<Arc<dyn Any + Send + Sync>>,
}

/// The step of requests that name none.
pub(crate) const DEFAULT_STEP: Name = Name::from_static("request");

impl Request {
    /// An empty request (`GET /`) to this host. The engine makes them; tests of scenarios may, too.
    #[must_use]
    pub fn new(authority: &str) -> Self {
        Self::with_common(format!("host: {authority}\r\n").into_bytes().into(), Arc::from("/"))
    }

    pub(crate) fn with_common(common: Arc<[u8]>, default_path: Arc<str>) -> Self {
        let mut request = Self {
            common,
            default_path,
            method: Method::Get,
            head: String::new(),
            body: Vec::new(),
            wire: Vec::new(),
            path_end: 0,
            step: DEFAULT_STEP,
            accepted: [0; MAX_ACCEPTED],
            keep_body: false,
            valid: true,
            attachment: None,
        };
        request.clear();
        request
    }

    /// Makes it empty again: `GET` of the target's own path.
    pub(crate) fn clear(&mut self) {
        self.body.clear();
        self.step = DEFAULT_STEP;
        self.accepted = [0; MAX_ACCEPTED];
        self.keep_body = false;
        self.valid = true;
        self.attachment = None;
        let path = Arc::clone(&self.default_path);
        self.method(Method::Get, &*path);
    }

    /// `GET` of a path with its query. Paths go out as they are given: percent-encode them where needed.
    pub fn get(&mut self, path: impl Display) -> &mut Self {
        self.method(Method::Get, path)
    }

    /// `POST` to a path; see [`body`](Self::body).
    pub fn post(&mut self, path: impl Display) -> &mut Self {
        self.method(Method::Post, path)
    }

    /// Any method. Starts the request over: headers come after it.
    pub fn method(&mut self, method: Method, path: impl Display) -> &mut Self {
        self.method = method;
        self.head.clear();
        // Writing to a string fails only when the value's own `Display` does.
        self.valid = write!(self.head, "{path}").is_ok()
            && (self.head.starts_with('/') || self.head == "*")
            && self.head.bytes().all(|b| b > b' ' && b != 0x7f);
        self.path_end = self.head.len();
        self
    }

    /// Adds a header. `host` and `content-length` are set already and must not be given.
    pub fn header(&mut self, name: &str, value: impl Display) -> &mut Self {
        let start = self.head.len();
        let written = write!(self.head, "{name}: {value}");
        let reserved = ["host", "content-length", "transfer-encoding"];
        self.valid &= written.is_ok()
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
            && !reserved.iter().any(|known| name.eq_ignore_ascii_case(known))
            && !self.head.as_bytes()[start..].iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
        self.head.push_str("\r\n");
        self
    }

    /// Sets the body.
    pub fn body(&mut self, body: &[u8]) -> &mut Self {
        self.body.clear();
        self.body.extend_from_slice(body);
        self
    }

    /// Names the step this request counts under; `request` unless set. At most
    /// [`MAX_STEPS`](crate::MAX_STEPS) names are told apart.
    pub fn step(&mut self, step: impl Into<Name>) -> &mut Self {
        self.step = step.into();
        self
    }

    /// Keeps the answer's body for [`Scenario::check`](crate::Scenario::check). Without this the body is read and counted, not kept.
    pub const fn keep_body(&mut self) -> &mut Self {
        self.keep_body = true;
        self
    }

    /// Also accepts this status, which would otherwise be an error (4xx and 5xx). At most four; more are ignored.
    pub fn accept(&mut self, status: u16) -> &mut Self {
        if let Some(free) = self.accepted.iter_mut().find(|known| **known == 0) {
            *free = status;
        }
        self
    }

    /// Remembers something with the request for [`Scenario::check`](crate::Scenario::check): what the answer must be, say. It is not
    /// sent.
    ///
    /// ```
    /// let mut request = perf_load::Request::new("shop.example");
    /// request.get("/products/7").attach("lamp");
    /// assert_eq!(request.attached::<&str>(), Some(&"lamp"));
    /// assert_eq!(request.attached::<u64>(), None);
    /// ```
    pub fn attach<T: Send + Sync + 'static>(&mut self, value: T) -> &mut Self {
        self.attachment = Some(Arc::new(value));
        self
    }

    /// What was attached, if it is of this type.
    #[must_use]
    pub fn attached<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.attachment.as_deref()?.downcast_ref()
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.head[..self.path_end]
    }

    /// The name of the step.
    #[must_use]
    pub const fn step_name(&self) -> &Name {
        &self.step
    }

    /// The method.
    #[must_use]
    pub const fn http_method(&self) -> Method {
        self.method
    }

    /// Whether [`keep_body`](Self::keep_body) was called.
    #[must_use]
    pub const fn keeps_body(&self) -> bool {
        self.keep_body
    }

    pub(crate) fn accepts(&self, status: u16) -> bool {
        (200..400).contains(&status) || self.accepted.contains(&status)
    }

    pub(crate) const fn is_valid(&self) -> bool {
        self.valid
    }

    /// The bytes that go out.
    pub fn wire(&mut self) -> &[u8] {
        let wire = &mut self.wire;
        wire.clear();
        wire.extend_from_slice(self.method.as_str().as_bytes());
        wire.push(b' ');
        wire.extend_from_slice(&self.head.as_bytes()[..self.path_end]);
        wire.extend_from_slice(b" HTTP/1.1\r\n");
        wire.extend_from_slice(&self.common);
        wire.extend_from_slice(&self.head.as_bytes()[self.path_end..]);
        if !self.body.is_empty() || matches!(self.method, Method::Post | Method::Put | Method::Patch) {
            // Writing to a vector cannot fail.
            let _ = std::io::Write::write_fmt(wire, format_args!("content-length: {}\r\n", self.body.len()));
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&self.body);
        wire
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_would_break_the_message_is_not_valid() {
        let mut request = Request::new("a");
        for path in ["no-slash", "/a b", "/a\r\nx: y", ""] {
            assert!(!request.get(path).is_valid(), "{path:?}");
        }
        assert!(!request.get("/").header("x", "1\r\ny: 2").is_valid());
        assert!(!request.get("/").header("content-length", 3).is_valid());
        assert!(!request.get("/").header("a b", 3).is_valid());
        assert!(request.get("/").header("x-ok", "ü").is_valid());
    }

    #[test]
    fn clearing_leaves_nothing_behind() {
        let mut request = Request::new("a");
        let empty = request.wire().to_vec();
        request.post("/x").header("a", 1).body(b"b").step("s").keep_body().accept(404);
        assert!(request.accepts(404) && request.keeps_body());
        request.clear();
        assert_eq!(request.wire(), empty);
        assert!(!request.accepts(404) && !request.keeps_body());
        assert_eq!(request.step_name(), "request");
        assert_eq!(request.to_string(), "GET /");
    }

    #[test]
    fn an_empty_post_says_that_it_is_empty() {
        let mut request = Request::new("a");
        assert!(request.post("/x").wire().ends_with(b"content-length: 0\r\n\r\n"));
    }
}

use crate::Error;
use std::fmt;
use std::str::FromStr;

/// What a load test drives: `http://host:port/path`. Every connection goes to this host; requests name their own path, and
/// the path here is the default one.
///
/// ```
/// use perf_load::Target;
///
/// let target: Target = "http://127.0.0.1:8080/products?page=2".parse().unwrap();
/// assert_eq!((target.authority(), target.path()), ("127.0.0.1:8080", "/products?page=2"));
/// assert!("ftp://example.org".parse::<Target>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// Host and port as they stand in the `host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host alone, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80 unless the URL has one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query; `/` unless the URL has one.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let refused = |reason| Error::Target { url: url.to_owned(), reason };
        let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
        if lower.starts_with("https://") {
            return Err(refused("https is not supported: put a terminating proxy in front, or use http"));
        }
        let rest = if lower.starts_with("http://") {
            &url[7..]
        } else {
            return Err(refused("it must begin with http://"));
        };
        if rest.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(refused("it contains white space or control characters"));
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if authority.contains('@') {
            return Err(refused("credentials do not belong in a URL: send an authorization header"));
        }
        let (host, port) =
            host_and_port(authority).ok_or_else(|| refused("the host or the port is not valid"))?;
        Ok(Self { authority: authority.to_owned(), host: host.to_owned(), port, path })
    }
}

fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map_or(Some(80), |text| text.parse().ok().filter(|port| *port != 0))?;
    (!host.is_empty()).then_some((host, port))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, path) in [
            ("http://a", "a", 80, "/"),
            ("HTTP://a:81", "a", 81, "/"),
            ("http://a?x=1", "a", 80, "/?x=1"),
            ("http://[::1]:8080/a/b#c", "::1", 8080, "/a/b"),
            ("http://[::1]", "::1", 80, "/"),
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!((target.host(), target.port(), target.path()), (host, port, path), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_driven_is_refused_with_a_reason() {
        for (url, reason) in [
            ("", "begin with"),
            ("a:80", "begin with"),
            ("ü://x", "begin with"),
            ("http://", "host or the port"),
            ("http://:80", "host or the port"),
            ("http://a:0", "host or the port"),
            ("http://a:99999", "host or the port"),
            ("http://[::1", "host or the port"),
            ("http://[x]/", "host or the port"),
            ("http://a b/", "white space"),
            ("http://u:p@a/", "credentials"),
            ("https://a/", "https"),
        ] {
            let error = url.parse::<Target>().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(reason), "{url}: {error}");
        }
    }
}

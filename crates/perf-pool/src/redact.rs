use std::fmt;

/// A URL as it may be shown: scheme, host and path, without what may be secret: the user, the password and the query. A text
/// that is no URL is shown as it is.
pub(crate) struct Redacted<'a>(pub(crate) &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(self.0) };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        // A password with a slash in it ends the authority too early: nothing is shown rather than a part of it.
        let (host, path) = if is_host(host) { (host, path) } else { ("…", "") };
        write!(f, "{scheme}://{host}{path}")
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A name or an address, perhaps with a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    port.bytes().all(|byte| byte.is_ascii_digit()) && (is_address || !host.contains(':'))
}

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_and_query() {
        for (url, shown) in [
            ("wss://feed.example/v1/stream?token=7b1f#a", "wss://feed.example/v1/stream"),
            ("postgres://app:hunter2@db-1:5432/orders", "postgres://db-1:5432/orders"),
            ("redis://:p@ss@cache", "redis://cache"),
            ("ws://token@[::1]:9000?x=1", "ws://[::1]:9000"),
            ("ws://user:hun/ter2@host/path", "ws://…"),
            ("ws://user:hun?ter2@host/path", "ws://…"),
            ("ws://host/@channel", "ws://host/@channel"),
            ("sqlite::memory:", "sqlite::memory:"),
            ("db-2.example:5432", "db-2.example:5432"),
        ] {
            assert_eq!(Redacted(url).to_string(), shown);
            assert_eq!(format!("{:?}", Redacted(url)), format!("{shown:?}"));
        }
    }
}

//! Which names the surface answers to: a page elsewhere must not reach it through a name of its own (DNS rebinding).

use http::header::HOST;
use std::net::IpAddr;

/// The names in `Host` that are answered. Addresses that are loopback ones always are.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    pub(super) fn allow(&mut self, address: IpAddr) {
        self.0.push(address.to_string());
    }

    /// Whether the request was meant for us. HTTP/2 and absolute targets carry the name in the target.
    pub(super) fn admits(&self, head: crate::Head<'_>) -> bool {
        let named = head.headers.get(HOST).and_then(|value| value.to_str().ok());
        let target = head.uri.authority().map(http::uri::Authority::as_str);
        match (named, target) {
            (Some(host), Some(target)) => self.knows(host) && self.knows(target),
            (Some(host), None) | (None, Some(host)) => self.knows(host),
            (None, None) => false,
        }
    }

    fn knows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        loopback || name == "localhost" || self.0.contains(&name)
    }
}

fn without_port(host: &str) -> &str {
    if let Some(end) = host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return &host[1..=end];
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_answered() {
        let hosts = Hosts::new(["ops.example.org".to_owned()]);
        for host in
            ["localhost", "LOCALHOST:9464", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "ops.example.org:443"]
        {
            assert!(hosts.knows(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "",
            ":80",
            "[::2]",
            "192.0.2.1",
        ] {
            assert!(!hosts.knows(host), "{host}");
        }
    }
}

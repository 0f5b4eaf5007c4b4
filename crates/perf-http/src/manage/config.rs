use super::auth::Auth;
use perf_core::{InvalidConfig, Secret};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The path everything also answers under, for a proxy that forwards one path of several services.
pub const DEFAULT_BASE: &str = "/_perf";

/// Where the surface listens unless said otherwise: on this machine only.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// What a configuration file can say about the management surface.
///
/// | field | default | why |
/// |---|---|---|
/// | `address` | `127.0.0.1:9464` | reachable from this machine only; 9464 is where exporters of OpenTelemetry listen |
/// | `base` | `/_perf` | beside `/`, see [`DEFAULT_BASE`] |
/// | `token` | none | without one, the host chooses an [`Auth`] or only one-time links let anyone in |
/// | `scrape_token` | none | a second token that opens `/metrics` and nothing else |
/// | `open_metrics` | `false` | numbers tell a stranger how to hurt |
/// | `hosts` | none | names beside `localhost` and the address; others are refused, against DNS rebinding |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ManagementConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// The path everything also answers under: `/` and segments of `A-Z a-z 0-9 - _ .`.
    pub base: String,
    /// The token that opens everything, 16 characters or more.
    pub token: Option<Secret<String>>,
    /// A token that opens `/metrics` only, 16 characters or more.
    pub scrape_token: Option<Secret<String>>,
    /// Whether `/metrics` needs no token.
    pub open_metrics: bool,
    /// Names this surface is reached by.
    pub hosts: Vec<String>,
}

impl Default for ManagementConfig {
    fn default() -> Self {
        Self {
            address: DEFAULT_ADDRESS,
            base: DEFAULT_BASE.to_owned(),
            token: None,
            scrape_token: None,
            open_metrics: false,
            hosts: Vec::new(),
        }
    }
}

impl ManagementConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used. A token is never part of the message.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let segment = |segment: &str| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        let path = self.base.strip_prefix('/');
        if !path.is_some_and(|path| path.split('/').all(segment)) {
            return Err(InvalidConfig::new(
                "base",
                &self.base,
                "a path such as /_perf, without a slash at its end",
            ));
        }
        for (field, token) in [("token", &self.token), ("scrape_token", &self.scrape_token)] {
            if let Some(token) = token {
                Auth::Token(token.clone())
                    .validate()
                    .map_err(|error| InvalidConfig::new(field, error.value(), error.allowed()))?;
            }
        }
        Ok(())
    }
}

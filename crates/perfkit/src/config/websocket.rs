use super::endpoint::scheme;
use perf_core::{InvalidConfig, Secret};
use perf_pool::balance::Strategy;
use perf_pool::websocket::{Tungstenite, WebSocketConfig};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A pool of WebSocket connections: where to, who is trusted, and how it is used. What is said over it is code:
/// [`Stack::websocket`](crate::Stack::websocket) takes a `Protocol`.
///
/// ```
/// let config = perfkit::Config::from_toml(r#"
///     [websockets.prices]
///     urls = ["wss://a.example/feed?token=90ab", "wss://b.example/feed"]
///     headers = { authorization = "Bearer 7b1f" }
///     ca_file = "/etc/ssl/feed-ca.pem"
///     strategy = "least_loaded"
///     pool = { max = 8, max_streams = 200, streams_per_connection = 100, max_age = "23h" }
/// "#)?;
/// let prices = &config.websockets["prices"];
/// assert_eq!((prices.urls.len(), prices.pool.max), (2, 8));
/// let shown = format!("{prices:?}");
/// assert!(!shown.contains("7b1f") && !shown.contains("90ab"));
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WebSocketPoolConfig {
    /// Where to connect, `ws://` or `wss://`: endpoints that serve the same. At least one. Never printed: they may hold a
    /// token.
    pub urls: Vec<Secret<String>>,
    /// Headers of the handshake. Their values are never printed.
    pub headers: BTreeMap<String, Secret<String>>,
    /// A PEM file of authorities that are trusted behind `wss://`.
    pub ca_file: Option<PathBuf>,
    /// Whether the authorities of the web are trusted, besides those of `ca_file`. Default true.
    pub web_roots: bool,
    /// Which endpoint the next connection goes to. Default `least_loaded`.
    pub strategy: Strategy,
    /// The largest message accepted, in bytes. 1 KiB to 1 GiB, default [`Tungstenite::DEFAULT_MAX_MESSAGE_SIZE`].
    pub max_message_size: usize,
    /// Connections, subscriptions, heartbeats and waits.
    pub pool: WebSocketConfig,
}

impl Default for WebSocketPoolConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            headers: BTreeMap::new(),
            ca_file: None,
            web_roots: true,
            strategy: Strategy::LeastLoaded,
            max_message_size: Tungstenite::DEFAULT_MAX_MESSAGE_SIZE,
            pool: WebSocketConfig::default(),
        }
    }
}

impl WebSocketPoolConfig {
    /// Checks every field; the file of authorities is read only when the pool is made.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.urls.is_empty() {
            return Err(InvalidConfig::new("urls", "none", "at least one"));
        }
        for url in self.urls() {
            let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://"));
            if rest.and_then(|rest| rest.split(['/', '?']).next()).is_none_or(str::is_empty) {
                let shown = format!("{}:…", scheme(url));
                return Err(InvalidConfig::new(
                    "urls",
                    shown,
                    "ws://host or wss://host, with a port and a path",
                ));
            }
        }
        if !self.web_roots && self.ca_file.is_none() && self.urls().any(|url| url.starts_with("wss://")) {
            return Err(InvalidConfig::new("web_roots", false, "true, or a ca_file: nobody is trusted"));
        }
        if !(1 << 10..=1 << 30).contains(&self.max_message_size) {
            return Err(InvalidConfig::new("max_message_size", self.max_message_size, "1024 to 1073741824"));
        }
        self.connector()?;
        self.pool.validate().map_err(|error| error.within("pool"))
    }

    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        self.urls.iter().map(|url| url.expose().as_str())
    }

    /// Who connects, but for who is trusted.
    pub(crate) fn connector(&self) -> Result<Tungstenite, InvalidConfig> {
        let start = Tungstenite::new().max_message_size(self.max_message_size);
        self.headers.iter().try_fold(start, |connector, (name, value)| {
            connector.header(name, value.expose()).map_err(|error| error.within("headers"))
        })
    }
}

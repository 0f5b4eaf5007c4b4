//! The management surface: probes, health, metrics, overview, events and the live page, on a listener of its own.

mod auth;
mod config;
mod events;
mod host;
mod overview;
mod page;
mod process;
mod reading;
mod routes;
mod sampler;
mod verdict;

pub use auth::{Auth, CustomAuth, LOGIN_LINK_LIFE, MAX_FAILURES_PER_MINUTE, MIN_TOKEN_LENGTH, SESSION_LIFE};
pub use config::{DEFAULT_ADDRESS, DEFAULT_BASE, ManagementConfig};

use crate::{BindError, Server, Serving, wallclock};
use auth::Gate;
use axum::Router;
use host::Hosts;
use overview::ComponentLine;
use perf_core::time::Duration;
use perf_core::{InvalidConfig, Secret};
use perf_metrics::{Alerts, HealthChecks, Metrics, Report};
use sampler::Sampler;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// A management surface that cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its address could not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// [`Auth::InsecureLoopbackOnly`] on an address others can reach.
    #[error("without a token the management surface listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
}

/// The management surface of a host.
///
/// | path | open to | answers |
/// |---|---|---|
/// | `/livez` `/readyz` `/startupz` | everybody (the status word); `?verbose` with a token | 200 or 503; `?exclude=name` leaves a check out |
/// | `/health`, `/health/{group or check}` | token | JSON |
/// | `/metrics` | token or scrape token | Prometheus text |
/// | `/overview` | token | JSON: verdict, signals, components, routes, 15 minutes of history |
/// | `/events` | token | the same as an event stream: a snapshot, then a tick a second |
/// | `/components`, `/components/{kind}`, `/components/{kind}/{name}` | token | JSON: health and numbers |
/// | `/caches`, `/pools`, `/breakers`, … | token | the components of a kind, by its plural |
/// | `/alerts` | token | JSON: every alert and burn rate as it stands |
/// | `/rules.yaml` | token | the same rules for Prometheus |
/// | `/info` | token | name, version, life |
/// | `/` | token | the live page |
/// | `/login?t=…` | a one-time link | a session for a browser |
///
/// All of it also answers below the base path, `/_perf`. Every answer forbids caching, framing and sniffing; errors are
/// problem+json; there is no CORS; requests for names that are not ours are refused.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use perf_http::{Auth, Management};
/// use perf_metrics::Metrics;
///
/// let metrics = Metrics::builder().build().unwrap();
/// let management = Management::builder(metrics)
///     .auth(Auth::token("a-long-secret-token"))
///     .service("shop", "1.4.0")
///     .address(([127, 0, 0, 1], 0).into())
///     .build()
///     .unwrap();
/// let server = management.start().await.unwrap();
/// let link = server.login_url().unwrap();
/// assert!(link.starts_with("http://127.0.0.1:"));
/// server.shutdown().await;
/// # });
/// ```
#[derive(Debug)]
pub struct Management {
    shared: Arc<Shared>,
    hosts: Hosts,
    address: SocketAddr,
    base: String,
}

/// What the handlers share.
struct Shared {
    metrics: Metrics,
    health: Option<Arc<HealthChecks>>,
    alerts: Option<Alerts>,
    gate: Gate,
    open_metrics: bool,
    service: String,
    version: String,
    started: u64,
    sampler: Sampler,
    streams: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

impl Shared {
    fn readiness(&self) -> Option<Report> {
        self.health.as_ref().map(|health| health.readiness())
    }

    fn components(&self) -> Vec<ComponentLine> {
        let line = |component: Arc<dyn perf_core::Component>| {
            let (id, health) = (component.id(), component.health());
            ComponentLine {
                kind: id.kind().to_owned(),
                name: id.name().to_string(),
                status: health.status(),
                reason: health.reason().to_owned(),
            }
        };
        self.metrics.registry().components().into_iter().map(line).collect()
    }

    fn viewers(&self) -> usize {
        events::MAX_STREAMS.saturating_sub(self.streams.available_permits())
    }

    fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("service", &self.service)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Management {
    /// The surface that shows `metrics` and the components registered with them.
    pub fn builder(metrics: Metrics) -> ManagementBuilder {
        ManagementBuilder {
            metrics,
            health: None,
            alerts: None,
            auth: None,
            service: "service".into(),
            version: String::new(),
            config: ManagementConfig::default(),
        }
    }

    /// Listens on the address and serves until the returned server is shut down or dropped.
    ///
    /// # Errors
    /// [`StartError::Bind`] with the address when it cannot be listened on; [`StartError::NotLoopback`].
    pub async fn start(self) -> Result<ManagementServer, StartError> {
        if self.shared.gate.loopback_only() && !self.address.ip().is_loopback() {
            return Err(StartError::NotLoopback(self.address));
        }
        let server = Server::bind(self.address).await?;
        let mut hosts = self.hosts;
        hosts.allow(server.address().ip());
        let router = routes::also_below(self.base, routes::tree(&self.shared, Some(hosts)));
        let sampler = tokio::spawn(sampler::run(Arc::clone(&self.shared)));
        Ok(ManagementServer { serving: Some(server.serve(router)), sampler, shared: self.shared })
    }

    /// The surface as a router to nest in another one, and the heartbeat of its live page, which the host runs for as long
    /// as it serves the router: `router.nest("/_perf", surface)`, `tokio::spawn(heartbeat.run())`.
    ///
    /// The names it answers to are the host's affair; who may look is decided by [`Auth`] all the same. The server must
    /// record its peers (see [`Head::peer`](crate::Head::peer)).
    pub fn into_router(self) -> (Router, Heartbeat) {
        let router = routes::tree(&self.shared, None);
        (router, Heartbeat(self.shared))
    }
}

/// Keeps the live page of [`Management::into_router`] up to date.
#[derive(Debug)]
#[must_use = "without it the live page stands still"]
pub struct Heartbeat(Arc<Shared>);

impl Heartbeat {
    /// Runs until it is dropped.
    ///
    /// # Cancel safety
    /// Made to be dropped at any time.
    pub async fn run(self) {
        sampler::run(self.0).await;
    }
}

/// Settings of a [`Management`] surface.
#[derive(Debug)]
#[must_use]
pub struct ManagementBuilder {
    metrics: Metrics,
    health: Option<Arc<HealthChecks>>,
    alerts: Option<Alerts>,
    auth: Option<Auth>,
    service: String,
    version: String,
    config: ManagementConfig,
}

impl ManagementBuilder {
    /// Takes over what a configuration file says.
    pub fn config(mut self, config: ManagementConfig) -> Self {
        self.config = config;
        self
    }

    /// Who may look. Without it the token of the configuration decides, and without that only one-time links do.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// The checks behind the probes. Without them the process counts as ready for as long as it answers.
    pub fn health(mut self, health: Arc<HealthChecks>) -> Self {
        self.health = Some(health);
        self
    }

    /// The alerts that are shown. Without them the list is empty.
    pub fn alerts(mut self, alerts: Alerts) -> Self {
        self.alerts = Some(alerts);
        self
    }

    /// What the page calls the service.
    pub fn service(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.service = name.into();
        self.version = version.into();
        self
    }

    /// Where to listen; [`DEFAULT_ADDRESS`] unless said otherwise.
    pub const fn address(mut self, address: SocketAddr) -> Self {
        self.config.address = address;
        self
    }

    /// The path everything also answers under; [`DEFAULT_BASE`] unless said otherwise.
    pub fn base(mut self, base: impl Into<String>) -> Self {
        self.config.base = base.into();
        self
    }

    /// A token that opens `/metrics` and nothing else.
    pub fn scrape_token(mut self, token: impl Into<String>) -> Self {
        self.config.scrape_token = Some(Secret::new(token.into()));
        self
    }

    /// Whether `/metrics` needs no token; it does unless said otherwise.
    pub const fn open_metrics(mut self, open: bool) -> Self {
        self.config.open_metrics = open;
        self
    }

    /// Another name this surface is reached by.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.config.hosts.push(name.into());
        self
    }

    /// Makes the surface. It listens once it is started.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a value cannot be used.
    pub fn build(self) -> Result<Management, InvalidConfig> {
        self.config.validate()?;
        let ManagementConfig { address, base, token, scrape_token, open_metrics, hosts } = self.config;
        let auth = match (self.auth, token) {
            (Some(auth), _) => auth,
            (None, Some(token)) => Auth::Token(token),
            (None, None) => Auth::generated()?,
        };
        let shared = Shared {
            metrics: self.metrics,
            health: self.health,
            alerts: self.alerts,
            gate: Gate::new(auth, scrape_token)?,
            open_metrics,
            service: self.service,
            version: self.version,
            started: wallclock::unix_millis(),
            sampler: Sampler::new(),
            streams: Arc::new(Semaphore::new(events::MAX_STREAMS)),
            stop: watch::channel(false).0,
        };
        Ok(Management { shared: Arc::new(shared), hosts: Hosts::new(hosts), address, base })
    }
}

/// Time that answers under way have when the surface shuts down; event streams end at once.
const GRACE: Duration = Duration::from_secs(2);

/// A management surface at work. Dropping it closes it at once.
#[derive(Debug)]
#[must_use = "dropping it closes the management surface"]
pub struct ManagementServer {
    /// `None` once it was shut down.
    serving: Option<Serving>,
    sampler: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl ManagementServer {
    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.serving.as_ref().map_or(DEFAULT_ADDRESS, Serving::address)
    }

    /// A link for a browser: it works once, for ten minutes, and begins a session. The plain address where no token is asked.
    ///
    /// Print it for whoever started the program, and nowhere else: whoever opens it first may look.
    ///
    /// # Errors
    /// [`InvalidConfig`] when the system has no randomness to give.
    pub fn login_url(&self) -> Result<String, InvalidConfig> {
        let address = self.address();
        if !self.shared.gate.has_links() {
            return Ok(format!("http://{address}/"));
        }
        let failed = |error| InvalidConfig::new("token", error, "randomness of the system");
        Ok(format!("http://{address}/login?t={}", self.shared.gate.link().map_err(failed)?))
    }

    /// Ends event streams, lets answers under way end for at most two seconds, and closes.
    ///
    /// # Cancel safety
    /// Dropping the future closes it at once.
    pub async fn shutdown(mut self) {
        self.shared.stop.send_replace(true);
        self.sampler.abort();
        if let Some(serving) = self.serving.take() {
            serving.shutdown(GRACE).await;
        }
    }
}

impl Drop for ManagementServer {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

use crate::measure::{HttpMetrics, Measure, MeasureLayer};
use crate::rate::{Key, RateLimit, RateLimitConfig, RateLimitLayer, RateLimited};
use crate::{
    BodyLimitLayer, BodyLimited, CatchPanic, CatchPanicLayer, Conditional, ConditionalLayer,
    DEFAULT_BODY_LIMIT, DEFAULT_REQUEST_TIMEOUT, DeadlineLayer, Identify, RequestIdLayer, ServerTimed,
    ServerTimingLayer, Timed, TrustedProxies,
};
#[cfg(feature = "compression")]
use crate::{Compress, CompressLayer};
use perf_core::{InvalidConfig, Name};
use std::time::Duration;
use tower_layer::Layer;

/// What a configuration file can say about the standard stack.
///
/// | field | default | why |
/// |---|---|---|
/// | `timeout` | 30 s | see [`DEFAULT_REQUEST_TIMEOUT`]; `none` is said by leaving it out in code |
/// | `body_limit` | 2 MiB | see [`DEFAULT_BODY_LIMIT`] |
/// | `server_timing` | `true` | whoever tunes a page needs it first |
/// | `etag` | `true` | an answer the client has already is not sent again |
/// | `compression` | `true` | with feature `compression`; ignored without |
/// | `trusted_proxies` | none | whose `X-Request-Id` and `traceparent` are believed |
/// | `rate_limit` | none | only the host knows what its clients need |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct StandardConfig {
    /// Time to the header fields of an answer, 1 ms to 1 day.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub timeout: Duration,
    /// Most bytes of a request body.
    pub body_limit: usize,
    /// Whether answers carry `Server-Timing`.
    pub server_timing: bool,
    /// Whether answers of known length carry an entity tag, and are answered 304 to who has them.
    pub etag: bool,
    /// Whether answers are compressed.
    pub compression: bool,
    /// Addresses and blocks of the proxies in front of the service.
    pub trusted_proxies: Vec<String>,
    /// What every client may do.
    pub rate_limit: Option<RateLimitConfig>,
}

impl Default for StandardConfig {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_REQUEST_TIMEOUT,
            body_limit: DEFAULT_BODY_LIMIT,
            server_timing: true,
            etag: true,
            compression: true,
            trusted_proxies: Vec::new(),
            rate_limit: None,
        }
    }
}

impl StandardConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        DeadlineLayer::new(self.timeout)?;
        TrustedProxies::parse(self.trusted_proxies.iter().map(String::as_str))?;
        match &self.rate_limit {
            Some(limit) => limit.validate().map_err(|error| error.within("rate_limit")),
            None => Ok(()),
        }
    }
}

/// The layers of a service in the one order in which they are right, as a single layer.
///
/// Outermost first:
///
/// 1. **request id**: so that everything below, refusals included, carries it;
/// 2. **metrics**: so that everything below is counted, refusals, panics and timeouts included;
/// 3. **server timing**;
/// 4. **panic**: what panics below becomes a 500 that is counted;
/// 5. **rate limit**: before any work is done for the request;
/// 6. **deadline**: time waited below counts;
/// 7. **body limit**;
/// 8. **compression**: so that the sizes counted are those on the wire;
/// 9. **entity tags**: innermost, of the bytes as the handler made them.
///
/// Add it with `Router::layer`, after the routes.
///
/// ```
/// use axum::{Router, routing::get};
/// use perf_http::{Quota, Standard};
///
/// let stack = Standard::builder("shop").quota(Quota::per_second(50).burst(100).named("api")).build().unwrap();
/// let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(stack.clone());
/// assert_eq!(stack.metrics().stats().requests, 0);
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
pub struct Standard {
    metrics: HttpMetrics,
    limit: Option<RateLimit>,
    request_id: RequestIdLayer,
    measure: MeasureLayer,
    timing: ServerTimingLayer,
    rate: RateLimitLayer,
    deadline: DeadlineLayer,
    body: BodyLimitLayer,
    conditional: ConditionalLayer,
    #[cfg(feature = "compression")]
    compress: CompressLayer,
}

impl Standard {
    /// The stack of the service `name`, with the defaults of [`StandardConfig`].
    pub fn builder(name: impl Into<Name>) -> StandardBuilder {
        StandardBuilder {
            name: name.into(),
            config: StandardConfig::default(),
            metrics: None,
            limit: None,
            quotas: Vec::new(),
        }
    }

    /// The request metrics, to be registered where numbers are read.
    #[must_use]
    pub const fn metrics(&self) -> &HttpMetrics {
        &self.metrics
    }

    /// The rate limit, if there is one, to be registered where numbers are read.
    #[must_use]
    pub const fn rate_limit(&self) -> Option<&RateLimit> {
        self.limit.as_ref()
    }
}

#[cfg(feature = "compression")]
type Innermost<S> = Compress<Conditional<S>>;
#[cfg(not(feature = "compression"))]
type Innermost<S> = Conditional<S>;

/// The service made by [`Standard`].
pub type StandardService<S> =
    Identify<Measure<ServerTimed<CatchPanic<RateLimited<Timed<BodyLimited<Innermost<S>>>>>>>>;

impl<S> Layer<S> for Standard {
    type Service = StandardService<S>;

    fn layer(&self, inner: S) -> StandardService<S> {
        let inner = self.conditional.layer(inner);
        #[cfg(feature = "compression")]
        let inner = self.compress.layer(inner);
        let inner = self.deadline.layer(self.body.layer(inner));
        let inner = CatchPanicLayer.layer(self.rate.layer(inner));
        self.request_id.layer(self.measure.layer(self.timing.layer(inner)))
    }
}

/// Settings of a [`Standard`] stack.
#[derive(Clone, Debug)]
#[must_use]
pub struct StandardBuilder {
    name: Name,
    config: StandardConfig,
    metrics: Option<HttpMetrics>,
    limit: Option<RateLimit>,
    quotas: Vec<crate::Quota>,
}

impl StandardBuilder {
    /// Takes over what a configuration file says.
    pub fn config(mut self, config: StandardConfig) -> Self {
        self.config = config;
        self
    }

    /// Measures into metrics made elsewhere, which several routers may share.
    pub fn metrics(mut self, metrics: HttpMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Time to the header fields of an answer; [`DEFAULT_REQUEST_TIMEOUT`] unless said otherwise.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.config.timeout = limit;
        self
    }

    /// Most bytes of a request body; [`DEFAULT_BODY_LIMIT`] unless said otherwise.
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.config.body_limit = bytes;
        self
    }

    /// Whether answers carry `Server-Timing`; they do unless said otherwise.
    pub const fn server_timing(mut self, enabled: bool) -> Self {
        self.config.server_timing = enabled;
        self
    }

    /// Whether answers of known length carry an entity tag; they do unless said otherwise.
    pub const fn etag(mut self, enabled: bool) -> Self {
        self.config.etag = enabled;
        self
    }

    /// Whether answers are compressed; they are, with feature `compression`, unless said otherwise.
    pub const fn compression(mut self, enabled: bool) -> Self {
        self.config.compression = enabled;
        self
    }

    /// Addresses and blocks of the proxies in front of the service.
    pub fn trusted_proxies(mut self, blocks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.trusted_proxies = blocks.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a quota for every client, told by its address.
    pub fn quota(mut self, quota: crate::Quota) -> Self {
        self.quotas.push(quota);
        self
    }

    /// Limits with a rate limit made elsewhere. Quotas given here are then not used.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Makes the stack.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a value is outside its range.
    pub fn build(self) -> Result<Standard, InvalidConfig> {
        let Self { name, config, metrics, limit, quotas } = self;
        let proxies = TrustedProxies::parse(config.trusted_proxies.iter().map(String::as_str))?;
        let limit = match limit {
            Some(limit) => Some(limit),
            None => limit_from(&name, &config, quotas, &proxies)?,
        };
        let metrics = metrics.unwrap_or_else(|| HttpMetrics::new(name));
        Ok(Standard {
            request_id: RequestIdLayer::behind(proxies),
            measure: metrics.layer(),
            timing: if config.server_timing {
                ServerTimingLayer::new()
            } else {
                ServerTimingLayer::disabled()
            },
            rate: limit.as_ref().map_or(RateLimitLayer::disabled(), RateLimit::layer),
            deadline: DeadlineLayer::new(config.timeout)?,
            body: BodyLimitLayer::new(config.body_limit),
            conditional: if config.etag { ConditionalLayer::new() } else { ConditionalLayer::disabled() },
            #[cfg(feature = "compression")]
            compress: if config.compression { CompressLayer::new() } else { CompressLayer::disabled() },
            metrics,
            limit,
        })
    }
}

/// The limit that the quotas of the file and of the code make together, if there are any.
fn limit_from(
    name: &Name,
    config: &StandardConfig,
    quotas: Vec<crate::Quota>,
    proxies: &TrustedProxies,
) -> Result<Option<RateLimit>, InvalidConfig> {
    let mut builder = RateLimit::builder(name.clone()).key(Key::behind(proxies.clone()));
    let configured = config.rate_limit.as_ref().filter(|limit| !limit.quotas.is_empty());
    if let Some(limit) = configured {
        builder = builder.config(limit)?;
        // One list of proxies is enough for most; a list of its own is for a limiter behind another hop.
        if limit.trusted_proxies.is_empty() {
            builder = builder.key(Key::behind(proxies.clone()));
        }
    }
    if configured.is_none() && quotas.is_empty() {
        return Ok(None);
    }
    let limit = quotas.into_iter().fold(builder, crate::rate::RateLimitBuilder::quota).build();
    limit.map(Some).map_err(|error| error.within("rate_limit"))
}

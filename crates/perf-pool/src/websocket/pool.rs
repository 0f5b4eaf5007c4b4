use super::call::Call;
use super::connect::{Connect, Tungstenite};
use super::endpoints::Endpoints;
use super::error::{Error, Waiting};
use super::hub::{Command, Hub, Phase};
use super::intake::{Intake, Stream};
use super::protocol::Protocol;
use super::shared::Shared;
use super::stats::{CONNECTIONS, ENDPOINTS, MOVED, ROTATED, SUBSCRIPTIONS, WebSocketStats};
use super::subscription::Subscription;
use super::topic::Topic;
use super::{Message, WebSocketConfig};
use crate::balance::{Balance, LeastLoaded};
use crate::redact::Redacted;
use perf_core::time::{self, Instant};
use perf_core::{Component, ComponentId, Health, InvalidConfig, Name, Reason, Rejected, Rng, Sink};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Shared WebSocket connections to one or several equal endpoints: subscriptions that survive whatever happens to a
/// connection, and requests that get their own answers.
///
/// Cheap to clone; the clones are one pool, which closes when the last of them and of its subscriptions is dropped.
pub struct WebSocketPool {
    pub(super) shared: Arc<Shared>,
}

/// Describes a [`WebSocketPool`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct WebSocketBuilder {
    urls: Vec<String>,
    protocol: Box<dyn Protocol>,
    name: Name,
    config: WebSocketConfig,
    connect: Arc<dyn Connect>,
    balance: Box<dyn Balance>,
    seed: Option<u64>,
}

impl WebSocketBuilder {
    /// The name of a pool that was given none.
    pub const DEFAULT_NAME: &'static str = "websocket";

    /// The name the pool goes by in errors and numbers.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Replaces the whole configuration.
    pub fn config(mut self, config: WebSocketConfig) -> Self {
        self.config = config;
        self
    }

    /// Connects in another way: with other headers, through a proxy, in memory.
    pub fn connect(mut self, connect: impl Connect) -> Self {
        self.connect = Arc::new(connect);
        self
    }

    /// Which endpoint the next connection goes to; the one with the fewest unless said otherwise.
    pub fn balance(mut self, balance: impl Balance) -> Self {
        self.balance = Box::new(balance);
        self
    }

    /// Makes jitter repeatable, for tests.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the pool. Connections are made when something is first asked of it.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used: a URL that is none, for example.
    pub fn build(self) -> Result<WebSocketPool, InvalidConfig> {
        self.config.validate()?;
        if self.urls.is_empty() {
            return Err(InvalidConfig::new("urls", "none", "at least one"));
        }
        for url in &self.urls {
            let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://"));
            let host = rest.and_then(|rest| rest.split(['/', '?']).next());
            if host.is_none_or(str::is_empty) {
                return Err(InvalidConfig::new(
                    "urls",
                    Redacted(url),
                    "ws://host or wss://host, with a port and a path",
                ));
            }
        }
        let rng = self.seed.map_or_else(Rng::from_entropy, Rng::seeded);
        let endpoints = Endpoints::new(self.urls, self.balance);
        let shared = Shared::new(self.name, self.config, self.protocol, self.connect, endpoints, rng);
        Ok(WebSocketPool { shared: Arc::new(shared) })
    }
}

impl WebSocketPool {
    /// Starts to describe a pool of connections to `urls`, all of which serve the same, in the words of `protocol`.
    pub fn builder<U: Into<String>>(
        urls: impl IntoIterator<Item = U>,
        protocol: impl Protocol,
    ) -> WebSocketBuilder {
        WebSocketBuilder {
            urls: urls.into_iter().map(Into::into).collect(),
            protocol: Box::new(protocol),
            name: Name::from_static(WebSocketBuilder::DEFAULT_NAME),
            config: WebSocketConfig::default(),
            connect: Arc::new(Tungstenite::new()),
            balance: Box::new(LeastLoaded::default()),
            seed: None,
        }
    }

    /// Subscribes, and waits until the server has acknowledged it.
    ///
    /// # Errors
    /// [`Error::Refused`] in the server's words; [`Error::Timeout`] after `call_timeout`; [`Error::Rejected`] when the
    /// pool is closed or all its connections are full.
    ///
    /// # Cancel safety
    /// A subscription whose future is dropped is ended at the server.
    pub async fn subscribe(&self, topic: impl Into<Topic>) -> Result<Subscription, Error> {
        let topic = topic.into();
        let began = time::now();
        self.shared.ensure_kept()?;
        let (first, acknowledged) = oneshot::channel();
        let intake = Intake::new(&topic, &self.shared.config, Some(first));
        let stream = self.shared.with_hub(|hub| {
            if let Some(refusal) = self.shared.refusal(hub) {
                return Err(refusal);
            }
            if hub.is_full() {
                return Err(Rejected::new(Reason::Full, self.shared.name.clone()).into());
            }
            let stream = Stream::new(hub.number(), topic.name.into(), intake);
            hub.subscribe(Arc::clone(&stream));
            Ok(stream)
        })?;
        let subscription = Subscription::new(self.clone(), stream);
        match time::timeout(self.shared.config.call_timeout, acknowledged).await {
            Ok(Ok(answer)) => answer.map(|()| subscription),
            Ok(Err(_)) => Err(self.closed()),
            Err(_) => Err(self.timed_out(began, Waiting::Acknowledgement)),
        }
    }

    /// Sends a message on the connection with the least to do, and waits until it is on its way.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `call_timeout`; [`Error::Disconnected`] when the connection ended with the message in it;
    /// [`Error::Rejected`] when the pool is closed.
    ///
    /// # Cancel safety
    /// The message may have been sent or not.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let deadline = time::now() + self.shared.config.call_timeout;
        self.call(message.into(), None, deadline).await.map(drop)
    }

    /// Puts a message into the send queue of the connection with the least to do, without waiting.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the queue is full, there is no connection, or the pool is closed.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.shared.ensure_kept()?;
        self.shared.with_hub(|hub| {
            if let Some(refusal) = self.shared.refusal(hub) {
                return Err(refusal);
            }
            let full = || Error::from(Rejected::new(Reason::Full, self.shared.name.clone()));
            let link = hub.for_call().and_then(|link| hub.link(link)).ok_or_else(full)?;
            let room = Arc::clone(&link.room).try_acquire_owned().map_err(|_| full())?;
            let deadline = time::now() + self.shared.config.call_timeout;
            link.commands.push_back(Command::Call(Call {
                message: message.into(),
                id: None,
                deadline,
                reply: None,
                room,
            }));
            link.signal.notify_one();
            Ok(())
        })
    }

    /// Sends the message that `make` builds around a fresh number, and waits for the answer that carries that number.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Error::Refused`] if the answer is a refusal.
    ///
    /// # Cancel safety
    /// The answer to a request whose future was dropped is dropped: nobody else gets it.
    pub async fn request(&self, make: impl FnOnce(u64) -> Message) -> Result<Message, Error> {
        self.request_until(make, time::now() + self.shared.config.call_timeout).await
    }

    /// The same with a deadline of one's own.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As [`request`](Self::request).
    pub async fn request_until(
        &self,
        make: impl FnOnce(u64) -> Message,
        deadline: Instant,
    ) -> Result<Message, Error> {
        let id = self.shared.hub().number();
        match self.call(make(id), Some(id), deadline).await? {
            Some(message) => Ok(message),
            None => Err(Error::Disconnected { pool: self.shared.name.clone() }),
        }
    }

    async fn call(
        &self,
        message: Message,
        id: Option<u64>,
        deadline: Instant,
    ) -> Result<Option<Message>, Error> {
        let began = time::now();
        self.shared.ensure_kept()?;
        let waiting = if id.is_some() { Waiting::Reply } else { Waiting::Room };
        let called = async {
            let (link, room) = self.room().await?;
            let (reply, answer) = oneshot::channel();
            // Counted until the caller has its answer, or goes away.
            let _counted = self.shared.with_hub(|hub| {
                let link_of = hub.link(link)?;
                link_of.commands.push_back(Command::Call(Call {
                    message,
                    id,
                    deadline,
                    reply: Some(reply),
                    room,
                }));
                link_of.calls += 1;
                link_of.signal.notify_one();
                Some(Counted { shared: &self.shared, link })
            });
            answer.await.unwrap_or_else(|_| Err(Error::Disconnected { pool: self.shared.name.clone() }))
        };
        match time::timeout_at(deadline, called).await {
            Ok(answer) => answer,
            Err(_) => Err(self.timed_out(began, waiting)),
        }
    }

    /// A place in the send queue of the connection with the least to do.
    async fn room(&self) -> Result<(u64, tokio::sync::OwnedSemaphorePermit), Error> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let link = {
                let mut hub = self.shared.hub();
                if let Some(refusal) = self.shared.refusal(&hub) {
                    return Err(refusal);
                }
                hub.for_call().and_then(|id| hub.link(id).map(|link| (id, Arc::clone(&link.room))))
            };
            match link {
                Some((link, room)) => match room.acquire_owned().await {
                    Ok(permit) => return Ok((link, permit)),
                    Err(_) => return Err(self.closed()),
                },
                None => changed.await,
            }
        }
    }

    /// Waits until `min` connections are open, at most for `call_timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the last error of connecting.
    ///
    /// # Cancel safety
    /// Nothing is lost: connections go on being made.
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.shared.ensure_kept()?;
        let began = time::now();
        let warm = async {
            loop {
                let mut changed = std::pin::pin!(self.shared.changed.notified());
                changed.as_mut().enable();
                {
                    let hub = self.shared.hub();
                    if let Some(refusal) = self.shared.refusal(&hub) {
                        return Err(refusal);
                    }
                    let open = hub.links().values().filter(|link| link.phase == Phase::Open).count();
                    if open >= self.shared.config.min {
                        return Ok(());
                    }
                }
                changed.await;
            }
        };
        match time::timeout(self.shared.config.call_timeout, warm).await {
            Ok(answer) => answer,
            Err(_) => Err(self.timed_out(began, Waiting::Connection)),
        }
    }

    /// Ends all subscriptions and closes all connections, each within `close_timeout`. May be called more than once.
    ///
    /// # Cancel safety
    /// The pool is closed even if the future is never polled.
    pub fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.with_hub(Hub::close);
        let shared = Arc::clone(&self.shared);
        async move {
            // Twice the time for each step: to write the close, and to see it answered.
            let limit = shared.config.close_timeout * 2;
            let ended = async {
                loop {
                    let mut changed = std::pin::pin!(shared.changed.notified());
                    changed.as_mut().enable();
                    if shared.hub().links().is_empty() {
                        return;
                    }
                    changed.await;
                }
            };
            // What has not closed by then is cut when its task ends.
            let _ = time::timeout(limit, ended).await;
        }
    }

    /// What has happened so far, and how it stands.
    #[must_use]
    pub fn stats(&self) -> WebSocketStats {
        let mut stats = self.shared.totals.read();
        let hub = self.shared.hub();
        for link in hub.links().values() {
            match link.phase {
                Phase::Open => stats.open += 1,
                Phase::Connecting => stats.connecting += 1,
                Phase::Leaving => stats.leaving += 1,
            }
        }
        stats.subscriptions = hub.streams();
        stats.waiting = hub.waiting();
        (stats.moved, stats.rotated) = (hub.moved as usize, hub.rotated as usize);
        (stats.endpoints_available, stats.endpoints_out, stats.endpoints_given_up) =
            self.shared.endpoints.levels(time::now());
        stats
    }

    /// Subscriptions on each open connection, for whoever wants to see how evenly they are spread.
    #[must_use]
    pub fn loads(&self) -> Vec<usize> {
        let hub = self.shared.hub();
        hub.links().values().filter(|link| link.phase == Phase::Open).map(|link| link.streams.len()).collect()
    }

    /// The name the pool goes by in errors and numbers.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &WebSocketConfig {
        &self.shared.config
    }

    fn closed(&self) -> Error {
        let hub = self.shared.hub();
        self.shared
            .refusal(&hub)
            .unwrap_or_else(|| Rejected::new(Reason::Closed, self.shared.name.clone()).into())
    }

    fn timed_out(&self, began: Instant, waiting: Waiting) -> Error {
        let open = self.shared.hub().links().values().any(|link| link.phase != Phase::Connecting);
        Error::Timeout {
            pool: self.shared.name.clone(),
            waited: time::now().saturating_duration_since(began),
            waiting: if open { waiting } else { Waiting::Connection },
            source: self.shared.last_error(),
        }
    }
}

/// A call under way, counted on its link.
struct Counted<'s> {
    shared: &'s Shared,
    link: u64,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.shared.hub().link(self.link) {
            link.calls = link.calls.saturating_sub(1);
        }
    }
}

impl Component for WebSocketPool {
    fn id(&self) -> ComponentId {
        ComponentId::new("websocket", self.shared.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        self.shared.totals.each(|desc, labels, total| sink.counter(desc, labels, total));
        sink.counter(&MOVED, &[], stats.moved as u64);
        sink.counter(&ROTATED, &[], stats.rotated as u64);
        for (state, count) in
            [("open", stats.open), ("connecting", stats.connecting), ("leaving", stats.leaving)]
        {
            sink.gauge(&CONNECTIONS, &[("state", state)], count as f64);
        }
        let carried = stats.subscriptions - stats.waiting;
        for (state, count) in [("carried", carried), ("waiting", stats.waiting)] {
            sink.gauge(&SUBSCRIPTIONS, &[("state", state)], count as f64);
        }
        for (state, count) in [
            ("available", stats.endpoints_available),
            ("out", stats.endpoints_out),
            ("given_up", stats.endpoints_given_up),
        ] {
            sink.gauge(&ENDPOINTS, &[("state", state)], count as f64);
        }
    }

    fn health(&self) -> Health {
        let stats = self.stats();
        let hub = self.shared.hub();
        match (&hub.fatal, hub.closed, self.shared.last_error()) {
            (Some(ended), _, _) => Health::down(ended.to_string()),
            (_, true, _) => Health::down("the pool is closed"),
            (_, _, Some(cause)) if stats.open == 0 => Health::down(format!("cannot connect: {cause}")),
            (_, _, Some(cause)) => Health::degraded(format!("cannot connect: {cause}")),
            _ if stats.endpoints_given_up > 0 => Health::degraded(format!(
                "endpoints that cannot be connected to as they are configured: {}",
                stats.endpoints_given_up
            )),
            _ if stats.waiting > 0 => {
                Health::degraded(format!("{} subscriptions wait for a connection", stats.waiting))
            }
            _ => Health::up(),
        }
    }
}

impl Clone for WebSocketPool {
    fn clone(&self) -> Self {
        self.shared.handles.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for WebSocketPool {
    fn drop(&mut self) {
        // Whoever sees the count reach zero also sees everything the other handles did before.
        if self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.with_hub(Hub::close);
        }
    }
}

impl fmt::Debug for WebSocketPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketPool")
            .field("name", &self.shared.name)
            .field("stats", &self.stats())
            .finish()
    }
}

impl fmt::Debug for WebSocketBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketBuilder")
            .field("name", &self.name)
            .field("urls", &self.urls.iter().map(|url| Redacted(url)).collect::<Vec<_>>())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

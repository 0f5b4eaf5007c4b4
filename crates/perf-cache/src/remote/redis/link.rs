//! Connections: made once for all who need one, left when they break, and made again by the next who asks.

use super::clock::ServerClock;
use crate::remote::port::StoreError;
use perf_core::{InvalidConfig, time};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, ProtocolVersion, PushInfo, RedisError, RedisFuture, Value,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long a connection may take to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// Answers in a row that nobody waited for to the end, after which a connection counts as broken: one whose other end has
/// gone without a word looks like that, and would go on to for minutes.
const UNANSWERED: u32 = 16;

type Resolve = dyn Fn(ProtocolVersion) -> Result<SentinelClient, InvalidConfig> + Send + Sync;

/// Where connections lead.
pub(super) enum Server {
    One {
        plain: Box<Client>,
        /// The same in the protocol that can push.
        pushed: Box<Client>,
    },
    Sentinel(Box<Resolve>),
    Cluster(Box<ClusterClient>),
}

impl Server {
    /// A connection of the caller's own. `answer` bounds the wait for one answer; the caller's own bound may be shorter.
    pub(super) async fn connect(&self, answer: Option<Duration>) -> Result<Connection, StoreError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(answer);
        let connecting = async {
            match self {
                Self::One { plain, .. } => {
                    plain.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
                }
                Self::Sentinel(resolve) => {
                    let client = primary(resolve, ProtocolVersion::RESP2).await?;
                    client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
                }
                Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            }
        };
        bounded(connecting).await
    }

    /// A connection on which the server may push.
    pub(super) async fn connect_pushed(
        &self,
        pushes: mpsc::UnboundedSender<PushInfo>,
    ) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT))
            .set_push_sender(pushes);
        let connecting = async {
            let client = match self {
                Self::One { pushed, .. } => Client::clone(pushed),
                Self::Sentinel(resolve) => primary(resolve, ProtocolVersion::RESP3).await?,
                Self::Cluster(_) => {
                    let kind = redis::ErrorKind::InvalidClientConfig;
                    return Err(RedisError::from((kind, "a Cluster has no single connection to push on")));
                }
            };
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        bounded(connecting).await
    }
}

async fn primary(resolve: &Resolve, protocol: ProtocolVersion) -> Result<Client, RedisError> {
    let kind = redis::ErrorKind::InvalidClientConfig;
    let mut client =
        resolve(protocol).map_err(|error| RedisError::from((kind, "sentinel", error.to_string())))?;
    client.async_get_client().await
}

async fn bounded<T>(connecting: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
    const ACTION: &str = "connect";
    match time::timeout(CONNECT * 2, connecting).await {
        Ok(connected) => connected.map_err(|error| StoreError::new(ACTION, error)),
        Err(_) => Err(StoreError::new(ACTION, "it took too long")),
    }
}

/// One connection, to a server or to a Cluster.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// The connection that everything but the follower shares.
pub(super) struct Link {
    pub(super) server: Arc<Server>,
    state: Arc<Mutex<State>>,
    /// The time of the server at the other end.
    pub(super) clock: ServerClock,
    /// Calls in a row whose answer was not waited for.
    unanswered: AtomicU32,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Connecting(watch::Receiver<Option<Result<(), StoreError>>>),
    Ready(Connection, u64),
}

impl Link {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server: Arc::new(server),
            state: Arc::default(),
            clock: ServerClock::default(),
            unanswered: AtomicU32::new(0),
        }
    }

    /// A clone of the connection, if there is one.
    fn ready(&self) -> Option<(Connection, u64)> {
        match &*lock(&self.state) {
            State::Ready(connection, number) => Some((connection.clone(), *number)),
            State::Idle | State::Connecting(_) => None,
        }
    }

    /// A clone of the connection; makes one if there is none. Making one is not given up when the caller is.
    async fn get(&self) -> Result<(Connection, u64), StoreError> {
        loop {
            let mut connected = {
                let mut state = lock(&self.state);
                match &*state {
                    State::Ready(connection, number) => return Ok((connection.clone(), *number)),
                    State::Connecting(connected) => connected.clone(),
                    State::Idle => {
                        let connected = self.begin();
                        *state = State::Connecting(connected.clone());
                        connected
                    }
                }
            };
            match connected.wait_for(Option::is_some).await.map(|done| done.clone()) {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(error))) => return Err(error),
                // Its runtime has ended; the next attempt makes a new one.
                Ok(None) | Err(_) => {
                    *lock(&self.state) = State::Idle;
                    return Err(StoreError::new("connect", "the runtime is shutting down"));
                }
            }
        }
    }

    fn begin(&self) -> watch::Receiver<Option<Result<(), StoreError>>> {
        let (done, connected) = watch::channel(None);
        let (server, state) = (Arc::clone(&self.server), Arc::clone(&self.state));
        drop(tokio::spawn(async move {
            let connection = server.connect(None).await;
            let outcome = {
                let mut state = lock(&state);
                match connection {
                    Ok(connection) => {
                        *state = State::Ready(connection, perf_core::Rng::from_entropy().next_u64());
                        Ok(())
                    }
                    Err(error) => {
                        *state = State::Idle;
                        Err(error)
                    }
                }
            };
            done.send_replace(Some(outcome));
        }));
        connected
    }

    /// Leaves a connection that is of no use any more, unless somebody has left it already.
    fn leave(&self, left: u64) {
        let mut state = lock(&self.state);
        if matches!(&*state, State::Ready(_, number) if *number == left) {
            *state = State::Idle;
            self.clock.forget();
        }
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// Runs a call on the connection. What breaks it, makes the next call connect again.
    pub(super) async fn call<T>(
        &self,
        action: &'static str,
        call: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, StoreError> {
        // What is seldom is in a box here: every call is as large as its largest part.
        let (connection, number) = match self.ready() {
            Some(ready) => ready,
            None => Box::pin(self.get()).await?,
        };
        let clustered = matches!(connection, Connection::Cluster(_));
        let unanswered = Unanswered { link: self, number, clustered };
        let result = if clustered {
            // It mends itself, but not from everything: one that is silent for so long is made anew.
            let Ok(result) = time::timeout(CONNECT * 2, Box::pin(call(connection))).await else {
                self.leave(number);
                return Err(StoreError::new(action, "the Cluster did not answer"));
            };
            result
        } else {
            call(connection).await
        };
        std::mem::forget(unanswered);
        self.unanswered.store(0, Ordering::Relaxed);
        result.map_err(|error| {
            // A Cluster's connection mends itself.
            if !clustered && is_broken(&error) {
                self.leave(number);
            }
            StoreError::new(action, error)
        })
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(&*lock(&self.state), State::Ready(..))
    }
}

/// Errors after which another connection is needed: it is gone, or leads to a server that has been demoted.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || error.code() == Some("READONLY")
}

/// A call that is dropped before its answer counts against the connection.
struct Unanswered<'a> {
    link: &'a Link,
    number: u64,
    clustered: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let before = self.link.unanswered.fetch_add(1, Ordering::Relaxed);
        if before + 1 >= UNANSWERED && !self.clustered {
            self.link.leave(self.number);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

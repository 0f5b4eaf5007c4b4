use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use perf_core::time::{self, Duration};
use perf_metrics::HealthChecks;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower_service::Service;

/// Time a client has to send the header fields of its next request, idle time of a kept connection included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections open at once: enough for any load this process can serve, and below the usual limit on descriptors.
const MAX_CONNECTIONS: usize = 16_384;

/// Pause after the system could not accept a connection, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time between readiness failing and the listener closing: a load balancer that probes every second has seen it.
pub const DEFAULT_DRAIN_DELAY: Duration = Duration::from_secs(3);

/// Time that requests under way have to end once the listener is closed.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl BindError {
    /// Whether somebody else listens there already.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// An HTTP/1.1 listener that knows its peers, bounds what a slow client can hold, and closes gracefully.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use axum::{Router, routing::get};
/// use perf_http::Server;
/// use std::time::Duration;
///
/// let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
/// let address = server.address();
/// let serving = server.serve(Router::new().route("/", get(|| async { "hello" })));
/// assert_ne!(address.port(), 0);
/// assert!(serving.shutdown(Duration::from_secs(1)).await, "nothing was under way");
/// # });
/// ```
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Starts to listen. Port 0 takes any free port; [`address`](Self::address) tells which.
    ///
    /// # Errors
    /// [`BindError`] with the address, when somebody else has it or it is not ours.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until the returned [`Serving`] is shut down or dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use = "dropping it closes the listener and every connection"]
    pub fn serve(self, router: Router) -> Serving {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(self.listener, router, stopped));
        Serving { address: self.address, stop, task }
    }
}

/// A listener at work. Dropping it closes the listener and every connection at once.
#[derive(Debug)]
#[must_use = "dropping it closes the listener and every connection"]
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and idle connections at once, and gives requests under way at most `grace` to end. Says whether
    /// all of them did; the others are cut off.
    ///
    /// # Cancel safety
    /// Dropping the future cuts everything off.
    pub async fn shutdown(mut self, grace: Duration) -> bool {
        self.stop.send_replace(true);
        let ended = time::timeout(grace, &mut self.task).await.is_ok();
        self.task.abort();
        ended
    }

    /// The same in the order a load balancer needs: readiness fails first, requests that still arrive during `delay` are
    /// served, then the listener closes. Then the host has stopped.
    ///
    /// # Cancel safety
    /// Dropping the future cuts everything off.
    pub async fn drain(self, health: &HealthChecks, delay: Duration, grace: Duration) -> bool {
        health.drain();
        time::sleep(delay).await;
        let ended = self.shutdown(grace).await;
        health.stop();
        ended
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts until told to stop, then waits for the connections that are left.
async fn accept(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = until(&mut stopped) => break,
        };
        let Ok((stream, peer)) = accepted else {
            time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = connection(stream, peer, router.clone(), stopped.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until the flag is raised, or whoever could raise it is gone.
pub(crate) async fn until(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

/// Serves one connection to its end. What goes wrong on it is the client's affair: it goes away, and we with it.
async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, mut stopped: watch::Receiver<bool>) {
    // Answers leave when they are written, not when the next one fills the packet.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = until(&mut stopped) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    drop(ended);
}

//! A TCP proxy that misbehaves on command.

mod connection;
mod fault;
mod listen;
mod pump;

pub use fault::{Direction, Fault};

use crate::ServerError;
use crate::server::Port;
use fault::Faults;
use listen::Listener;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A TCP proxy on a loopback port of its own in front of one server. It passes everything on until told otherwise, and
/// what it is told holds at once for open and new connections.
///
/// Delays follow tokio's clock. With real servers behind it, use real time: a paused clock jumps ahead while bytes travel.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use perf_testkit::{Fault, FaultProxy};
/// use tokio::net::{TcpListener, TcpStream};
///
/// let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
/// let proxy = FaultProxy::start(server.local_addr().unwrap()).await.unwrap();
/// proxy.set(Fault::Refuse).await;
/// assert!(TcpStream::connect(proxy.address()).await.is_err());
/// proxy.clear().await;
/// assert!(TcpStream::connect(proxy.address()).await.is_ok());
/// # });
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    port: Port,
    shared: Arc<Shared>,
    /// The version of the faults that the listener has seen.
    seen: watch::Receiver<u64>,
    listener: JoinHandle<()>,
}

/// What the proxy's handle, its listener and its connections share.
#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    faults: watch::Sender<Faults>,
    cuts: watch::Sender<u64>,
    accepted: AtomicU64,
    open: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl FaultProxy {
    /// Listens on a free port and passes connections on to `upstream`.
    ///
    /// # Errors
    /// [`ServerError::NoPort`], or [`ServerError::Io`] when the port cannot be listened on.
    ///
    /// # Cancel safety
    /// Nothing is left when the future is dropped.
    pub async fn start(upstream: SocketAddr) -> Result<Self, ServerError> {
        let port = Port::reserve()?;
        let shared = Arc::new(Shared {
            upstream,
            faults: watch::Sender::new(Faults::default()),
            cuts: watch::Sender::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let (listener, seen) = Listener::bind(address, Arc::clone(&shared)).await?;
        Ok(Self { port, shared, seen, listener: tokio::spawn(listener.run()) })
    }

    /// The address clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The port clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `url` with the port of the server behind the proxy replaced by that of the proxy.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        url.replacen(&format!(":{}", self.shared.upstream.port()), &format!(":{}", self.port()), 1)
    }

    /// Does this to both directions from now on.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the fault back.
    pub async fn set(&self, fault: Fault) {
        self.change(|faults| (faults.to_server, faults.to_client) = (fault, fault)).await;
    }

    /// Does this to one direction from now on; the other keeps what it has.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the fault back.
    pub async fn set_toward(&self, direction: Direction, fault: Fault) {
        self.change(|faults| *faults.toward_mut(direction) = fault).await;
    }

    /// Passes everything on again. Connections that were reset or lost their server stay so.
    ///
    /// # Cancel safety
    /// Dropping the future does not bring the fault back.
    pub async fn clear(&self) {
        self.set(Fault::Pass).await;
    }

    /// Changes the faults and waits until the listener has taken notice.
    async fn change(&self, change: impl FnOnce(&mut Faults)) {
        let mut version = 0;
        self.shared.faults.send_modify(|faults| {
            change(faults);
            faults.version += 1;
            version = faults.version;
        });
        let mut seen = self.seen.clone();
        // An error would mean that the listener has ended, which it does only with this handle.
        let _seen = seen.wait_for(|seen| *seen >= version).await;
    }

    /// Resets every open connection on both sides. New ones are accepted.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many connections were accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Acquire)
    }

    /// How many bytes were passed on in one direction since the start.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.shared.passed(direction).load(Ordering::Acquire)
    }
}

impl Drop for FaultProxy {
    /// Ends the listener, and with it all connections.
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Shared {
    const fn passed(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

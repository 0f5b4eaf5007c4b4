//! The listening side: it refuses by closing its port, and owns the connections.

use super::fault::{Fault, Faults};
use super::{Shared, connection};
use crate::ServerError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long to wait before listening again, when the port could not be had.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Listener {
    address: SocketAddr,
    socket: Option<TcpListener>,
    shared: Arc<Shared>,
    faults: watch::Receiver<Faults>,
    seen: watch::Sender<u64>,
    connections: JoinSet<()>,
}

impl Listener {
    pub(super) async fn bind(
        address: SocketAddr,
        shared: Arc<Shared>,
    ) -> Result<(Self, watch::Receiver<u64>), ServerError> {
        let socket = TcpListener::bind(address).await;
        let socket = socket.map_err(ServerError::io(|| format!("could not listen on {address}")))?;
        let (seen, watcher) = watch::channel(0);
        let faults = shared.faults.subscribe();
        let listener =
            Self { address, socket: Some(socket), shared, faults, seen, connections: JoinSet::new() };
        Ok((listener, watcher))
    }

    /// Accepts until aborted; the connections end with it.
    pub(super) async fn run(mut self) {
        loop {
            self.follow().await;
            tokio::select! {
                changed = self.faults.changed() => if changed.is_err() { return },
                accepted = accept(self.socket.as_ref()) => if let Ok(client) = accepted {
                    self.connect(client);
                },
                Some(_ended) = self.connections.join_next() => {}
            }
        }
    }

    /// Opens or closes the port as the faults say, and reports the version seen.
    async fn follow(&mut self) {
        let faults = *self.faults.borrow_and_update();
        if faults.any(Fault::Refuse) {
            self.socket = None;
        } else if self.socket.is_none() {
            self.socket = TcpListener::bind(self.address).await.ok();
        }
        if self.socket.is_some() || faults.any(Fault::Refuse) {
            self.seen.send_replace(faults.version);
        } else {
            tokio::time::sleep(PAUSE).await;
            self.faults.mark_changed();
        }
    }

    fn connect(&mut self, client: TcpStream) {
        self.shared.accepted.fetch_add(1, Ordering::AcqRel);
        let cuts = self.shared.cuts.subscribe();
        self.connections.spawn(connection::run(client, cuts, Arc::clone(&self.shared)));
    }
}

/// Waits for a client, for ever while the port is closed.
async fn accept(socket: Option<&TcpListener>) -> io::Result<TcpStream> {
    match socket {
        Some(socket) => socket.accept().await.map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

//! One client and the server behind the proxy.

use super::Shared;
use super::fault::{Direction, Fault, Faults};
use super::pump::pump;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How long the server may take to accept. A stopped process still accepts, through the kernel.
const CONNECT: Duration = Duration::from_secs(10);

/// How a connection came to its end.
enum End {
    /// Both sides have said goodbye.
    Closed,
    /// It was cut, or one side failed: the other side sees a reset.
    Reset,
    /// The server's side is gone and the client is not told.
    HalfOpen,
}

/// Passes bytes between `client` and a new connection to the server until either ends.
/// `cuts` was subscribed to when the client was accepted, so that no later cut is missed.
pub(super) async fn run(mut client: TcpStream, mut cuts: watch::Receiver<u64>, shared: Arc<Shared>) {
    let _open = Open::count(&shared.open);
    let _faster_if_possible = client.set_nodelay(true);
    let mut faults = shared.faults.subscribe();
    let end = tokio::select! {
        _ = cuts.changed() => End::Reset,
        () = half_open(&mut faults) => End::HalfOpen,
        end = pass(&mut client, &shared) => end.unwrap_or(End::Reset),
    };
    match end {
        End::Closed => {}
        End::Reset => reset(&client),
        End::HalfOpen => {
            tokio::select! {
                _ = cuts.changed() => reset(&client),
                _closed = swallow(&mut client) => {}
            }
        }
    }
}

/// Connects to the server and passes bytes on. A failing server resets the client, and a failing client the server.
async fn pass(client: &mut TcpStream, shared: &Shared) -> io::Result<End> {
    let mut server = tokio::time::timeout(CONNECT, TcpStream::connect(shared.upstream)).await??;
    server.set_nodelay(true)?;
    let (client_reader, client_writer) = client.split();
    let (server_reader, server_writer) = server.split();
    let ended = tokio::try_join!(
        pump(client_reader, server_writer, shared, Direction::ToServer),
        pump(server_reader, client_writer, shared, Direction::ToClient),
    );
    if ended.is_err() {
        reset(&server);
    }
    ended.map(|_| End::Closed)
}

/// Lets the kernel send a reset, and forget unsent bytes, when the socket is closed.
fn reset(socket: &TcpStream) {
    let _already_gone = socket.set_zero_linger();
}

/// Reads and forgets until the client closes.
async fn swallow(client: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while client.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn half_open(faults: &mut watch::Receiver<Faults>) {
    if faults.wait_for(|faults| faults.any(Fault::HalfOpen)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Counts a connection as open while it exists.
struct Open<'s>(&'s AtomicU64);

impl<'s> Open<'s> {
    fn count(open: &'s AtomicU64) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

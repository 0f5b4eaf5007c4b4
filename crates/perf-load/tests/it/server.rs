//! A server that does exactly what a test says, on a free loopback port, independent of the client under test.

use perf_load::Target;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes and goes on.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Never answers, but keeps the connection.
    Silence,
}

impl Act {
    pub(crate) fn ok(body: &str) -> Self {
        Self::Send(answer(200, body))
    }
}

pub(crate) fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its number on this server, from 0.
    pub(crate) number: u64,
    /// Its number on its connection, from 0.
    pub(crate) on_connection: u64,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("")
    }
}

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) connections: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::on_port(0, script).await
    }

    pub(crate) async fn on_port(port: u16, script: impl Fn(Seen) -> Act + Send + Sync + 'static) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], port).into()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicU64::new(0));
        let accepting = tokio::spawn(accept(listener, Arc::new(script), Arc::clone(&connections)));
        Self { port, connections, accepting }
    }

    pub(crate) fn target(&self) -> Target {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept<F>(listener: TcpListener, script: Arc<F>, connections: Arc<AtomicU64>)
where
    F: Fn(Seen) -> Act + Send + Sync + 'static,
{
    let requests = Arc::new(AtomicU64::new(0));
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        serving.spawn(serve(stream, Arc::clone(&script), Arc::clone(&requests)));
    }
}

async fn serve<F: Fn(Seen) -> Act>(mut stream: TcpStream, script: Arc<F>, requests: Arc<AtomicU64>) {
    let mut input = Vec::new();
    for on_connection in 0.. {
        let Some((head, body)) = read_request(&mut stream, &mut input).await else { return };
        let number = requests.fetch_add(1, Ordering::Relaxed);
        match script(Seen { number, on_connection, head, body }) {
            Act::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::SendAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Act::Silence => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(input.drain(..end).collect()).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    while input.len() < length {
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, input.drain(..length).collect()))
}

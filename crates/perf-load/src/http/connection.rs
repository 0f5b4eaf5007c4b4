use super::body::Decoder;
use super::head::{self, Head};
use super::protocol::{Http, connect_failure};
use super::{Method, Request};
use crate::engine::{Failure, Fired};
use crate::failure::ErrorKind;
use crate::scenario::Answer;
use perf_core::time::{self, Deadline, Instant};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A head larger than this is refused.
const MAX_HEAD: usize = 2 * 1024 * 1024;

/// How much is read at once to begin with: most answers fit, and thousands of connections stay small.
const FIRST_READ: usize = 4 * 1024;

/// How much is read at once when answers are large. Buffers that a large head made grow beyond it are given back.
const LARGEST_READ: usize = 64 * 1024;

/// One connection, its buffers, and what is known of the request it carries.
#[derive(Debug, Default)]
pub(super) struct Connection {
    stream: Option<TcpStream>,
    /// Whether the stream has carried an answer before.
    reused: bool,
    input: Vec<u8>,
    next_read: usize,
    head: Vec<u8>,
    body: Vec<u8>,
    body_bytes: u64,
    status: u16,
    started: Option<Instant>,
    answering: bool,
    sent: u64,
    received: u64,
    connects: u32,
    raced: bool,
}

impl Connection {
    /// Forgets the last exchange.
    pub(super) fn begin(&mut self) {
        self.head.clear();
        self.body.clear();
        self.body_bytes = 0;
        self.status = 0;
        self.started = None;
        self.answering = false;
        self.sent = 0;
        self.received = 0;
        self.connects = 0;
        self.raced = false;
    }

    pub(super) fn finish(&self, failure: Option<Failure>) -> Fired {
        Fired {
            started: self.started,
            done: time::now(),
            failure,
            sent: self.sent,
            received: self.received,
            connects: self.connects,
            raced: self.raced,
        }
    }

    pub(super) fn answer(&self) -> Answer<'_> {
        Answer { status: self.status, head: &self.head, body: &self.body, body_bytes: self.body_bytes }
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
        self.reused = false;
    }

    /// What a timeout at this moment means.
    pub(super) const fn timeout_kind(&self) -> ErrorKind {
        match (self.stream.is_some(), self.answering) {
            (false, _) => ErrorKind::TimeoutConnect,
            (true, false) => ErrorKind::TimeoutFirstByte,
            (true, true) => ErrorKind::TimeoutTotal,
        }
    }

    /// Sends the request and reads the answer. A request that can be repeated is sent a second time, on a new connection, when the
    /// reused one ended before the first byte of an answer: the server had closed it while it was idle.
    pub(super) async fn exchange(&mut self, http: &Http, request: &mut Request) -> Result<(), Failure> {
        let idempotent = request.http_method().is_idempotent();
        let first = self.attempt(http, request).await;
        let raced = self.reused && !self.answering && idempotent;
        match first {
            Err(failure) if raced && is_end_of_connection(failure.kind) => {
                self.close();
                self.raced = true;
                self.attempt(http, request).await
            }
            result => result,
        }
    }

    async fn attempt(&mut self, http: &Http, request: &mut Request) -> Result<(), Failure> {
        if self.stream.is_none() {
            self.connect(http).await?;
        }
        let head_only = request.http_method() == Method::Head;
        let kept = if request.keeps_body() { http.max_kept_body } else { 0 };
        self.write(request.wire()).await?;
        let head = self.read_head(head_only).await?;
        let clean = self.read_body(&head, kept).await?;
        if clean && head.keep_alive && http.keep_alive {
            self.reused = true;
        } else {
            self.close();
        }
        Ok(())
    }

    /// Connects to the first address that accepts, all within the connect timeout.
    pub(super) async fn connect(&mut self, http: &Http) -> Result<(), Failure> {
        let deadline = Deadline::within(http.connect_timeout);
        let (host, port) = (http.target.host(), http.target.port());
        let late = |_| Failure::new(ErrorKind::TimeoutConnect, "no connection within the connect timeout");
        let addresses = deadline.run(resolve(host, port)).await.map_err(late)??;
        let mut last = Failure::new(ErrorKind::Dns, format!("`{host}` has no address"));
        for address in addresses {
            match deadline.run(TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without this, small requests may wait for the acknowledgement of the one before. Its failure
                    // costs time, which is measured, and nothing else.
                    let _ = stream.set_nodelay(true);
                    self.stream = Some(stream);
                    self.connects += 1;
                    return Ok(());
                }
                Ok(Err(error)) => last = connect_failure(&error),
                Err(elapsed) => return Err(late(elapsed)),
            }
        }
        Err(last)
    }

    async fn write(&mut self, wire: &[u8]) -> Result<(), Failure> {
        self.started.get_or_insert_with(time::now);
        let Some(stream) = &mut self.stream else { return Err(lost()) };
        stream.write_all(wire).await.map_err(|e| Failure::new(ErrorKind::Write, e.to_string()))?;
        self.sent += wire.len() as u64;
        Ok(())
    }

    /// Reads more input; `false` at the end of the connection.
    async fn read(&mut self) -> Result<bool, std::io::Error> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        self.input.reserve(self.next_read.max(FIRST_READ));
        let room = self.input.capacity() - self.input.len();
        let read = stream.read_buf(&mut self.input).await?;
        if read == room {
            self.next_read = (2 * room).min(LARGEST_READ);
        }
        self.received += read as u64;
        self.answering |= read > 0;
        Ok(read > 0)
    }

    /// Reads up to the end of the head, past interim answers (1xx).
    async fn read_head(&mut self, head_only: bool) -> Result<Head, Failure> {
        self.input.clear();
        self.input.shrink_to(2 * LARGEST_READ);
        let mut searched = 0;
        loop {
            match head::parse(&self.input, &mut searched, head_only) {
                Err(why) => return Err(Failure::new(ErrorKind::Protocol, why)),
                Ok(Some(head)) if head.length > MAX_HEAD => return Err(too_large()),
                Ok(Some(head)) if head.status == 101 => {
                    return Err(Failure::new(ErrorKind::Protocol, "the server switched protocols unasked"));
                }
                Ok(Some(head)) if head.status < 200 => {
                    self.input.drain(..head.length);
                    searched = 0;
                    continue;
                }
                Ok(Some(head)) => {
                    self.status = head.status;
                    self.head.extend_from_slice(&self.input[head.headers..head.length]);
                    return Ok(head);
                }
                Ok(None) if self.input.len() > MAX_HEAD => return Err(too_large()),
                Ok(None) => {}
            }
            match self.read().await {
                Ok(true) => {}
                Ok(false) => return Err(self.ended("the connection was closed")),
                Err(error) => return Err(self.ended(error.to_string())),
            }
        }
    }

    /// Reads to the end of the body and keeps up to `kept` bytes of it. `false` when bytes came that belong to no answer.
    async fn read_body(&mut self, head: &Head, kept: usize) -> Result<bool, Failure> {
        let mut decoder = Decoder::new(head.framing);
        let mut consumed = head.length;
        loop {
            let (body, body_bytes) = (&mut self.body, &mut self.body_bytes);
            let mut sink = |bytes: &[u8]| {
                *body_bytes += bytes.len() as u64;
                let room = kept.saturating_sub(body.len()).min(bytes.len());
                body.extend_from_slice(&bytes[..room]);
            };
            let used = decoder.decode(&self.input[consumed..], &mut sink);
            consumed += used.map_err(|why| Failure::new(ErrorKind::Protocol, why))?;
            if decoder.is_done() {
                return Ok(consumed == self.input.len());
            }
            self.input.clear();
            consumed = 0;
            match self.read().await {
                Ok(true) => {}
                Ok(false) if decoder.ends_with_connection() => return Ok(true),
                Ok(false) => return Err(self.ended("the connection was closed inside the body")),
                Err(error) => return Err(self.ended(error.to_string())),
            }
        }
    }

    fn ended(&self, detail: impl Into<String>) -> Failure {
        let kind = if self.answering { ErrorKind::ResetMidBody } else { ErrorKind::ResetBeforeBytes };
        Failure::new(kind, detail)
    }
}

fn lost() -> Failure {
    Failure::new(ErrorKind::Write, "the connection is gone")
}

fn too_large() -> Failure {
    Failure::new(ErrorKind::Protocol, "the head of the answer is larger than 2 MiB")
}

const fn is_end_of_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ResetBeforeBytes | ErrorKind::Write)
}

/// The addresses of a host. Names are looked up for every new connection, so that a change of address is followed.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await;
    found.map(Iterator::collect).map_err(|error| Failure::new(ErrorKind::Dns, error.to_string()))
}

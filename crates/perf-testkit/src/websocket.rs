//! A WebSocket server of topics that misbehaves by script, on loopback or in memory.

use crate::ServerError;
use futures_util::{SinkExt, StreamExt};
use perf_core::Rng;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// A server of numbered topics. Its words, one text message each:
///
/// | message | meaning |
/// |---|---|
/// | `sub ID TOPIC [AFTER]` | asks for a topic, after a number if the server still has what follows |
/// | `unsub ID TOPIC` | asks for no more |
/// | `echo ID TEXT` | asks for `re ID TEXT` |
/// | `ok ID next NUMBER`, `ok ID new NUMBER`, `ok ID` | subscribed; messages go on, or begin anew, with a number; or carry none |
/// | `no ID REASON` | refused |
/// | `ev TOPIC NUMBER PAYLOAD` | a message; `-` for a number if the server does not number |
/// | `bye` | the connection is about to be closed |
#[derive(Clone)]
pub struct WebSocketServer(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Whether nothing is read or written.
    stalled: watch::Sender<bool>,
    listener: Mutex<Option<JoinHandle<()>>>,
    address: Option<SocketAddr>,
    #[cfg(feature = "websocket-tls")]
    tls: Option<tokio_rustls::TlsAcceptor>,
}

#[derive(Default)]
struct State {
    topics: HashMap<Utf8Bytes, Topic>,
    connections: BTreeMap<u64, Arc<Connection>>,
    accepted: u64,
    pongs: u64,
    history: usize,
    reorder: usize,
    unnumbered: bool,
    silent: bool,
    refused: Option<String>,
    restarted: bool,
    log: Vec<String>,
}

#[derive(Default)]
struct Topic {
    next: u64,
    history: VecDeque<(u64, Utf8Bytes)>,
    subscribers: Vec<Arc<Connection>>,
}

struct Connection {
    number: u64,
    queue: Mutex<Vec<Message>>,
    wake: Notify,
    end: watch::Sender<Option<End>>,
}

#[derive(Clone)]
enum End {
    Cut,
    Close(u16, String),
}

impl Connection {
    fn push(&self, message: Message) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}

impl WebSocketServer {
    /// Listens on a free port of the loopback interface.
    ///
    /// # Errors
    /// [`ServerError`] if it cannot listen there.
    pub async fn start() -> Result<Self, ServerError> {
        let (listener, address) = bind().await?;
        let server = Self::new(Some(address));
        server.listen(listener);
        Ok(server)
    }

    /// The same under TLS, as `localhost`, by an authority of its own: [`CA_PEM`](Self::CA_PEM).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[cfg(feature = "websocket-tls")]
    pub async fn start_tls() -> Result<Self, ServerError> {
        let (listener, address) = bind().await?;
        let server = Self::made(Some(address), Some(crate::tls::acceptor()?));
        server.listen(listener);
        Ok(server)
    }

    /// The authority behind the certificate of [`start_tls`](Self::start_tls). Nobody has its key.
    #[cfg(feature = "websocket-tls")]
    pub const CA_PEM: &str = crate::tls::CA_PEM;

    /// Serves whoever [`joins`](Self::join), without a network, so that time may be paused.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(None)
    }

    fn new(address: Option<SocketAddr>) -> Self {
        Self::made(
            address,
            #[cfg(feature = "websocket-tls")]
            None,
        )
    }

    fn made(
        address: Option<SocketAddr>,
        #[cfg(feature = "websocket-tls")] tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let state = Mutex::new(State { history: 1024, ..State::default() });
        Self(Arc::new(Inner {
            state,
            stalled: watch::channel(false).0,
            listener: Mutex::new(None),
            address,
            #[cfg(feature = "websocket-tls")]
            tls,
        }))
    }

    fn listen(&self, listener: TcpListener) {
        let server = Arc::downgrade(&self.0);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Some(server) = server.upgrade().map(Self) else { return };
                drop(socket.set_nodelay(true));
                drop(tokio::spawn(server.greet(socket)));
            }
        });
        *self.0.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Whoever does not get through a handshake is not served.
    async fn greet(self, socket: TcpStream) {
        #[cfg(feature = "websocket-tls")]
        if let Some(tls) = self.0.tls.clone() {
            if let Ok(socket) = tls.accept(socket).await
                && let Ok(socket) = tokio_tungstenite::accept_async(socket).await
            {
                self.serve(socket).await;
            }
            return;
        }
        if let Ok(socket) = tokio_tungstenite::accept_async(socket).await {
            self.serve(socket).await;
        }
    }

    /// Where it listens; an address nobody listens on for one in memory.
    #[must_use]
    pub fn url(&self) -> String {
        #[cfg(feature = "websocket-tls")]
        if let (Some(_), Some(address)) = (&self.0.tls, self.0.address) {
            return format!("wss://localhost:{}", address.port());
        }
        self.0.address.map_or_else(|| "ws://memory".to_owned(), |address| format!("ws://{address}"))
    }

    /// The other end of a new connection in memory, its handshake done.
    #[must_use]
    pub fn join(&self) -> DuplexStream {
        let (theirs, ours) = tokio::io::duplex(1 << 16);
        let server = self.clone();
        drop(tokio::spawn(async move {
            let socket = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
            server.serve(socket).await;
        }));
        theirs
    }

    /// Sends a message, with the next number, to whoever has subscribed to the topic.
    pub fn publish(&self, topic: &str, payload: &str) {
        self.publish_quietly(topic, payload);
        self.flush();
    }

    /// The same, leaving it to [`flush`](Self::flush) to wake the connections: for many at once.
    pub fn publish_quietly(&self, topic: &str, payload: &str) {
        let mut state = self.lock();
        let State { topics, history, unnumbered, .. } = &mut *state;
        let topic_of = match topics.get_mut(topic) {
            Some(topic) => topic,
            None => topics.entry(topic.into()).or_default(),
        };
        topic_of.next += 1;
        let number = topic_of.next;
        let text: Utf8Bytes = match unnumbered {
            true => format!("ev {topic} - {payload}").into(),
            false => format!("ev {topic} {number} {payload}").into(),
        };
        for connection in &topic_of.subscribers {
            connection.push(Message::Text(text.clone()));
        }
        topic_of.history.push_back((number, text));
        while topic_of.history.len() > *history {
            topic_of.history.pop_front();
        }
    }

    /// Lets every connection send what was published.
    pub fn flush(&self) {
        for connection in self.lock().connections.values() {
            connection.wake.notify_one();
        }
    }

    /// Uses up numbers of a topic for messages that nobody will ever get.
    pub fn skip(&self, topic: &str, count: u64) {
        let mut state = self.lock();
        let topic = state.topics.entry(topic.into()).or_default();
        topic.next += count;
        topic.history.clear();
    }

    /// Sends something to every connection, as it is.
    pub fn say(&self, text: &str) {
        self.lock().connections.values().for_each(|connection| connection.push(Message::text(text)));
        self.flush();
    }

    /// Pings every connection.
    pub fn ping(&self) {
        let ping = || Message::Ping(b"testkit".as_slice().into());
        self.lock().connections.values().for_each(|connection| connection.push(ping()));
        self.flush();
    }

    /// Pings that clients have answered.
    #[must_use]
    pub fn pongs(&self) -> u64 {
        self.lock().pongs
    }

    /// How many messages of each topic are kept for those that come back.
    pub fn keep(&self, messages: usize) {
        self.lock().history = messages;
    }

    /// Messages leave shuffled among so many neighbours; 0 and 1 keep the order.
    pub fn reorder(&self, window: usize) {
        self.lock().reorder = window;
    }

    /// Messages carry no numbers from now on.
    pub fn without_numbers(&self) {
        self.lock().unnumbered = true;
    }

    /// Subscriptions are not acknowledged while this is set.
    pub fn acknowledge_nothing(&self, silent: bool) {
        self.lock().silent = silent;
    }

    /// Subscriptions are refused with this reason; none accepts them again.
    pub fn refuse(&self, reason: Option<&str>) {
        self.lock().refused = reason.map(str::to_owned);
    }

    /// Breaks all connections without a word.
    pub fn cut(&self) {
        self.end_all(&End::Cut);
    }

    /// Breaks the connection that has been open for longest.
    pub fn cut_oldest(&self) {
        if let Some(connection) = self.lock().connections.values().next() {
            connection.end.send_replace(Some(End::Cut));
        }
    }

    /// Closes all connections with a code and a reason.
    pub fn close(&self, code: u16, reason: &str) {
        self.end_all(&End::Close(code, reason.to_owned()));
    }

    /// Neither reads nor writes, as if the machine stood still, while this is set.
    pub fn stall(&self, stalled: bool) {
        self.0.stalled.send_replace(stalled);
    }

    /// Listens no more and breaks all connections. Topics and their numbers stay.
    pub fn down(&self) {
        if let Some(listener) = self.0.listener.lock().unwrap_or_else(PoisonError::into_inner).take() {
            listener.abort();
        }
        self.cut();
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// [`ServerError`] if something else listens there now.
    pub async fn up(&self) -> Result<(), ServerError> {
        let Some(address) = self.0.address else { return Ok(()) };
        let socket =
            TcpSocket::new_v4().map_err(ServerError::io(|| "could not listen on the loopback interface"))?;
        socket
            .set_reuseaddr(true)
            .map_err(ServerError::io(|| "could not listen on the loopback interface"))?;
        socket.bind(address).map_err(ServerError::io(|| "could not listen on the loopback interface"))?;
        self.listen(
            socket.listen(1024).map_err(ServerError::io(|| "could not listen on the loopback interface"))?,
        );
        Ok(())
    }

    /// Forgets all topics and begins to count anew, as a server does that lost its memory.
    pub fn forget(&self) {
        let mut state = self.lock();
        for topic in state.topics.values_mut() {
            topic.next = 0;
            topic.history.clear();
        }
        state.restarted = true;
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lock().connections.len()
    }

    /// Connections that were ever made.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    /// How many connections have subscribed to a topic.
    #[must_use]
    pub fn subscribers(&self, topic: &str) -> usize {
        self.lock().topics.get(topic).map_or(0, |topic| topic.subscribers.len())
    }

    /// Subscriptions of all connections.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.lock().topics.values().map(|topic| topic.subscribers.len()).sum()
    }

    /// The last number of a topic.
    #[must_use]
    pub fn last_number(&self, topic: &str) -> u64 {
        self.lock().topics.get(topic).map_or(0, |topic| topic.next)
    }

    /// What clients have said so far, each line begun with the number of its connection.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_all(&self, end: &End) {
        for connection in self.lock().connections.values() {
            connection.end.send_replace(Some(end.clone()));
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut socket: WebSocketStream<S>) {
        let (end, mut ended) = watch::channel(None);
        let connection = {
            let mut state = self.lock();
            state.accepted += 1;
            let number = state.accepted;
            let connection =
                Arc::new(Connection { number, queue: Mutex::default(), wake: Notify::new(), end });
            state.connections.insert(number, Arc::clone(&connection));
            connection
        };
        let _leaving = Leaving { server: &self, connection: &connection };
        let mut stalled = self.0.stalled.subscribe();
        loop {
            if *stalled.borrow_and_update() {
                tokio::select! {
                    _ = stalled.changed() => {}
                    _ = ended.changed() => return,
                }
                continue;
            }
            tokio::select! {
                _ = ended.changed() => {
                    let end = ended.borrow_and_update().clone();
                    if let Some(End::Close(code, reason)) = end {
                        let frame = CloseFrame { code: code.into(), reason: reason.into() };
                        // The client may have gone already.
                        let _ = socket.close(Some(frame)).await;
                        while let Some(Ok(_)) = socket.next().await {}
                    }
                    return;
                }
                _ = stalled.changed() => {}
                () = connection.wake.notified() => {
                    if !self.write(&connection, &mut socket, &mut ended).await {
                        return;
                    }
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.answer(&connection, &text),
                    Some(Ok(Message::Pong(_))) => self.lock().pongs += 1,
                    Some(Ok(_)) => {}
                    _ => return,
                },
            }
        }
    }

    async fn write<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        connection: &Connection,
        socket: &mut WebSocketStream<S>,
        ended: &mut watch::Receiver<Option<End>>,
    ) -> bool {
        let mut messages =
            std::mem::take(&mut *connection.queue.lock().unwrap_or_else(PoisonError::into_inner));
        let window = self.lock().reorder;
        if window > 1 {
            let mut rng = Rng::seeded(messages.len() as u64 + connection.number);
            messages.chunks_mut(window).for_each(|chunk| rng.shuffle(chunk));
        }
        let writing = async {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        // A client that does not read must not keep a connection from being broken.
        tokio::select! {
            written = writing => written.is_ok(),
            _ = ended.changed() => false,
        }
    }

    fn answer(&self, connection: &Arc<Connection>, text: &str) {
        let mut state = self.lock();
        let mut words = text.splitn(4, ' ');
        let (word, id) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if state.log.len() < 10_000 {
            state.log.push(format!("{} {text}", connection.number));
        }
        match (word, words.next()) {
            ("sub", Some(topic)) => {
                let after = words.next().and_then(|after| after.parse().ok());
                state.subscribe(connection, id, topic, after);
            }
            ("unsub", Some(topic)) => {
                if let Some(topic) = state.topics.get_mut(topic) {
                    topic.subscribers.retain(|subscriber| subscriber.number != connection.number);
                }
            }
            ("echo", Some(first)) => {
                let rest = words.next().map(|rest| format!(" {rest}")).unwrap_or_default();
                connection.push(Message::text(format!("re {id} {first}{rest}")));
            }
            _ => {}
        }
        connection.wake.notify_one();
    }
}

async fn bind() -> Result<(TcpListener, SocketAddr), ServerError> {
    let bound = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(ServerError::io(|| "could not listen on the loopback interface"))
}

impl State {
    fn subscribe(&mut self, connection: &Arc<Connection>, id: &str, topic: &str, after: Option<u64>) {
        if self.silent {
            return;
        }
        if let Some(reason) = &self.refused {
            return connection.push(Message::text(format!("no {id} {reason}")));
        }
        let topic = self.topics.entry(topic.into()).or_default();
        if topic.subscribers.iter().all(|subscriber| subscriber.number != connection.number) {
            topic.subscribers.push(Arc::clone(connection));
        }
        if self.unnumbered {
            return connection.push(Message::text(format!("ok {id}")));
        }
        // One that knows a higher number than there is knows it from before this server lost its memory.
        let is_new = self.restarted && after.is_some_and(|after| after > topic.next);
        let after = if is_new { Some(0) } else { after };
        let missed: Vec<_> = match after {
            Some(after) => topic.history.iter().filter(|(number, _)| *number > after).cloned().collect(),
            None => Vec::new(),
        };
        let next = missed.first().map_or(topic.next + 1, |(number, _)| *number);
        let word = if is_new { "new" } else { "next" };
        connection.push(Message::text(format!("ok {id} {word} {next}")));
        missed.into_iter().for_each(|(_, text)| connection.push(Message::Text(text)));
    }
}

/// Takes a connection out when its task ends, however it ends.
struct Leaving<'s> {
    server: &'s WebSocketServer,
    connection: &'s Connection,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.server.lock();
        let number = self.connection.number;
        state.connections.remove(&number);
        for topic in state.topics.values_mut() {
            topic.subscribers.retain(|subscriber| subscriber.number != number);
        }
    }
}

impl fmt::Debug for WebSocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketServer").field("url", &self.url()).finish_non_exhaustive()
    }
}

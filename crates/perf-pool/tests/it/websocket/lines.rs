//! The words of the testkit's server, and a way to it that needs no network.

use perf_core::time::Duration;
use perf_pool::Cause;
use perf_pool::websocket::{
    Connect, Delivery, Incoming, Message, Position, Protocol, Subscription, Transport, Tungstenite,
    WebSocketBuilder, WebSocketConfig, WebSocketPool,
};
use perf_testkit::{ServerWord, WebSocketServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

#[derive(Debug)]
pub(crate) struct Lines;

impl Protocol for Lines {
    fn subscribe(&self, id: u64, topic: &str, after: Option<u64>) -> Message {
        Message::text(ServerWord::subscribe(id, topic, after))
    }

    fn unsubscribe(&self, id: u64, topic: &str) -> Message {
        Message::text(ServerWord::unsubscribe(id, topic))
    }

    fn read<'m>(&self, message: &'m Message) -> Incoming<'m> {
        let Ok(text) = message.to_text() else { return Incoming::Other };
        match ServerWord::read(text) {
            ServerWord::Event { topic, number } => Incoming::Event { topic, sequence: number },
            ServerWord::Subscribed { id, next, is_new } => {
                let position = match next {
                    Some(next) if is_new => Position::Restarted(next),
                    next => next.map_or(Position::Unknown, Position::Next),
                };
                Incoming::Reply { id, refused: None, position }
            }
            ServerWord::Refused { id, reason } => {
                Incoming::Reply { id, refused: Some(reason), position: Position::Unknown }
            }
            ServerWord::Echoed { id } => Incoming::Reply { id, refused: None, position: Position::Unknown },
            ServerWord::Bye => Incoming::GoingAway,
            ServerWord::Other if text == "boom" => panic!("the protocol was told to panic"),
            ServerWord::Other => Incoming::Other,
        }
    }
}

/// Joins a server in memory, unless it is said to be away.
#[derive(Clone)]
pub(crate) struct InMemory {
    pub(crate) server: WebSocketServer,
    pub(crate) away: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl Connect for InMemory {
    async fn connect(&self, _: &str) -> Result<Box<dyn Transport>, Cause> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Cause::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)));
        }
        let socket = WebSocketStream::from_raw_socket(self.server.join(), Role::Client, None).await;
        Ok(Tungstenite::wrap(socket))
    }
}

pub(crate) fn in_memory() -> InMemory {
    InMemory { server: WebSocketServer::in_memory(), away: Arc::default() }
}

pub(crate) fn builder(memory: &InMemory, change: impl FnOnce(&mut WebSocketConfig)) -> WebSocketBuilder {
    let mut config = WebSocketConfig::default();
    config.retry_base = Duration::from_millis(10);
    config.retry_cap = Duration::from_secs(1);
    change(&mut config);
    WebSocketPool::builder([memory.server.url()], Lines).connect(memory.clone()).config(config).seed(1)
}

pub(crate) fn pool(memory: &InMemory, change: impl FnOnce(&mut WebSocketConfig)) -> WebSocketPool {
    builder(memory, change).build().unwrap()
}

/// The next delivery in words: the payload of a message, or the notice.
pub(crate) async fn next(subscription: &mut Subscription) -> String {
    let limit = Duration::from_secs(120);
    match perf_core::time::timeout(limit, subscription.next()).await.unwrap() {
        Ok(Delivery::Message(message)) => {
            message.to_text().unwrap().splitn(4, ' ').nth(3).unwrap_or_default().to_owned()
        }
        Ok(other) => format!("{other:?}"),
        Err(ended) => format!("ended: {ended}"),
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if is_so() {
            return;
        }
        perf_core::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// A pool with the configuration as it comes.
pub(crate) fn small(memory: &InMemory) -> WebSocketPool {
    pool(memory, |_| {})
}

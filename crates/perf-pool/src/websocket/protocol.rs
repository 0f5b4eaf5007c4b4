use super::Message;
use perf_core::time::Duration;

/// What a message from the server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming<'m> {
    /// The answer to the message that carried `id`: a subscription, or a request.
    Reply {
        /// The number the question carried.
        id: u64,
        /// Why the server refused; none if it did what it was asked.
        refused: Option<&'m str>,
        /// Where the messages of a subscription go on. [`Position::Unknown`] for answers to anything else.
        position: Position,
    },
    /// A message of a topic.
    Event {
        /// The topic.
        topic: &'m str,
        /// Its number, if the server numbers the messages of each topic: 5 follows 4.
        sequence: Option<u64>,
    },
    /// The server is about to close the connection: what it carries moves to another one first.
    GoingAway,
    /// Anything else.
    Other,
}

/// Where the messages of a subscription go on, as far as the server says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// It does not say.
    #[default]
    Unknown,
    /// The next message has this number, or one below if it repeats some.
    Next(u64),
    /// The server counts anew, and the next message has this number.
    Restarted(u64),
}

/// The words of a server: how it is told to subscribe, and what its messages mean.
///
/// ```
/// use perf_pool::websocket::{Incoming, Message, Position, Protocol};
///
/// /// `sub 7 trades 41` is answered by `ok 7`, messages are `trades 42 …`.
/// struct Lines;
///
/// impl Protocol for Lines {
///     fn subscribe(&self, id: u64, topic: &str, after: Option<u64>) -> Message {
///         Message::text(format!("sub {id} {topic} {}", after.map_or(String::new(), |n| n.to_string())))
///     }
///
///     fn unsubscribe(&self, id: u64, topic: &str) -> Message {
///         Message::text(format!("unsub {id} {topic}"))
///     }
///
///     fn read<'m>(&self, message: &'m Message) -> Incoming<'m> {
///         let Ok(text) = message.to_text() else { return Incoming::Other };
///         let mut words = text.split(' ');
///         match (words.next(), words.next().and_then(|word| word.parse().ok())) {
///             (Some("ok"), Some(id)) => Incoming::Reply { id, refused: None, position: Position::Unknown },
///             (Some(topic), sequence) => Incoming::Event { topic, sequence },
///             _ => Incoming::Other,
///         }
///     }
/// }
///
/// let event = Message::text("trades 42 1.07");
/// assert_eq!(Lines.read(&event), Incoming::Event { topic: "trades", sequence: Some(42) });
/// ```
pub trait Protocol: Send + Sync + 'static {
    /// Asks for the messages of a topic, after the given one if the server can go back that far. The server answers with a
    /// [`Reply`](Incoming::Reply) that carries `id`.
    fn subscribe(&self, id: u64, topic: &str, after: Option<u64>) -> Message;

    /// Asks for no more messages of a topic. No answer is awaited.
    fn unsubscribe(&self, id: u64, topic: &str) -> Message;

    /// What a text or binary message means. Called for each of them: cheap is good.
    fn read<'m>(&self, message: &'m Message) -> Incoming<'m>;

    /// What is sent first on every connection, before the subscriptions: to log in, for example.
    fn hello(&self) -> Vec<Message> {
        Vec::new()
    }

    /// How long a close code and its reason ask us to stay away. Unless said otherwise, a duration in the text of 1012 and
    /// 1013 is taken for that: `retry after 3s`.
    fn retry_hint(&self, code: u16, reason: &str) -> Option<Duration> {
        matches!(code, 1012 | 1013).then(|| super::reconnect::hint_in(reason)).flatten()
    }
}

//! The words of the WebSocket server, for clients that speak them.

/// What the server says in one text message, taken apart: see [`WebSocketServer`](crate::WebSocketServer).
///
/// ```
/// use perf_testkit::ServerWord;
///
/// assert_eq!(ServerWord::read("ev euro 7 1.07"), ServerWord::Event { topic: "euro", number: Some(7) });
/// assert_eq!(ServerWord::read("ok 3 next 8"), ServerWord::Subscribed { id: 3, next: Some(8), is_new: false });
/// assert_eq!(ServerWord::subscribe(3, "euro", Some(7)), "sub 3 euro 7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerWord<'m> {
    /// `ok ID next NUMBER`, `ok ID new NUMBER`, `ok ID`.
    Subscribed {
        /// The number of the question.
        id: u64,
        /// The number of the next message, if messages are numbered.
        next: Option<u64>,
        /// Whether the server counts anew.
        is_new: bool,
    },
    /// `no ID REASON`; the first word of the reason.
    Refused {
        /// The number of the question.
        id: u64,
        /// Why.
        reason: &'m str,
    },
    /// `re ID TEXT`.
    Echoed {
        /// The number of the question.
        id: u64,
    },
    /// `ev TOPIC NUMBER PAYLOAD`.
    Event {
        /// The topic.
        topic: &'m str,
        /// Its number, if there is one.
        number: Option<u64>,
    },
    /// `bye`.
    Bye,
    /// Anything else.
    Other,
}

impl<'m> ServerWord<'m> {
    /// Takes a message apart.
    #[must_use]
    pub fn read(text: &'m str) -> Self {
        let mut words = text.splitn(4, ' ');
        let (word, second, third) = (words.next(), words.next(), words.next());
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
        match (word, second) {
            (Some("ev"), Some(topic)) => return Self::Event { topic, number: number(third) },
            (Some("bye"), _) => return Self::Bye,
            _ => {}
        }
        let Some(id) = number(second) else { return Self::Other };
        match word {
            Some("ok") => Self::Subscribed { id, next: number(words.next()), is_new: third == Some("new") },
            Some("no") => Self::Refused { id, reason: third.unwrap_or_default() },
            Some("re") => Self::Echoed { id },
            _ => Self::Other,
        }
    }

    /// The question `sub ID TOPIC [AFTER]`.
    #[must_use]
    pub fn subscribe(id: u64, topic: &str, after: Option<u64>) -> String {
        let after = after.map(|after| format!(" {after}")).unwrap_or_default();
        format!("sub {id} {topic}{after}")
    }

    /// The question `unsub ID TOPIC`.
    #[must_use]
    pub fn unsubscribe(id: u64, topic: &str) -> String {
        format!("unsub {id} {topic}")
    }
}

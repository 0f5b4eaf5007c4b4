use super::delivery::Policy;

/// What is subscribed to, and how it is delivered.
///
/// ```
/// use perf_pool::websocket::{Policy, Topic};
///
/// let topic = Topic::new("trades").policy(Policy::DropOldest).capacity(64).after(41);
/// assert_eq!(topic.name(), "trades");
/// ```
#[derive(Clone, Debug)]
pub struct Topic {
    pub(super) name: String,
    pub(super) policy: Policy,
    pub(super) capacity: Option<usize>,
    pub(super) after: Option<u64>,
}

impl Topic {
    /// A topic by its name in the server's words, delivered by [`Policy::Block`].
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), policy: Policy::default(), capacity: None, after: None }
    }

    /// What a full queue does with the next message.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Messages that wait for the reader at most; at least 1. Unless said otherwise, what the configuration says.
    #[must_use]
    pub const fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// Goes on after a message that was seen before: the bookmark of an earlier subscription.
    #[must_use]
    pub const fn after(mut self, number: u64) -> Self {
        self.after = Some(number);
        self
    }

    /// The name in the server's words.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<N: Into<String>> From<N> for Topic {
    fn from(name: N) -> Self {
        Self::new(name)
    }
}

//! The life of one connection.

mod incoming;
mod outgoing;

use crate::websocket::Message;
use crate::websocket::error::Error;
use crate::websocket::heartbeat::{Beat, Heartbeat};
use crate::websocket::intake::Stream;
use crate::websocket::reconnect::End;
use crate::websocket::shared::Shared;
use crate::websocket::transport::Transport;
use perf_core::Rng;
use perf_core::time::{self, Duration, Instant};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use tokio::sync::{Notify, oneshot};

/// A message on its way to the transport.
struct Outgoing {
    message: Message,
    /// A call that is done once the message is on its way, and its room in the queue.
    call: Option<Sent>,
}

struct Sent {
    reply: Option<oneshot::Sender<Result<Option<Message>, Error>>>,
    _room: tokio::sync::OwnedSemaphorePermit,
}

/// What the answer with a certain number is for.
enum Asked {
    Subscription(Arc<Stream>),
    Request(oneshot::Sender<Result<Option<Message>, Error>>),
}

/// The life of one connection: reads and writes it, beats its heart, and tells answers from messages.
pub(super) struct Session<'s> {
    shared: &'s Shared,
    link: u64,
    signal: Arc<Notify>,
    messages: Arc<AtomicU64>,
    transport: Box<dyn Transport>,
    heartbeat: Heartbeat,
    rng: Rng,
    routes: HashMap<Arc<str>, Vec<Arc<Stream>>>,
    outgoing: VecDeque<Outgoing>,
    asked: HashMap<u64, Asked>,
    deadlines: BTreeSet<(Instant, u64)>,
    unacknowledged: usize,
    /// Subscriptions that hold something back, by when to look again.
    held: BTreeMap<(Instant, u64), Arc<Stream>>,
    closed_by_server: Option<(u16, String)>,
    closing: Option<(Instant, bool)>,
    /// When frames last came, and how many since this task last let others run.
    now: Instant,
    in_a_row: usize,
}

/// Messages handled before others may run.
const BATCH: usize = 512;
/// Messages waiting for the transport before no more are taken from the hub.
const AHEAD: usize = 64;

impl<'s> Session<'s> {
    pub(super) fn new(
        shared: &'s Shared,
        link: u64,
        (signal, messages): (Arc<Notify>, Arc<AtomicU64>),
        transport: Box<dyn Transport>,
        mut rng: Rng,
    ) -> Self {
        let now = time::now();
        let config = &shared.config;
        let heartbeat = Heartbeat::new(config.heartbeat_interval, config.heartbeat_timeout, now, &mut rng);
        let hello = shared.protocol.hello();
        Self {
            shared,
            link,
            signal,
            messages,
            transport,
            heartbeat,
            rng,
            routes: HashMap::new(),
            outgoing: hello.into_iter().map(|message| Outgoing { message, call: None }).collect(),
            asked: HashMap::new(),
            deadlines: BTreeSet::new(),
            unacknowledged: 0,
            held: BTreeMap::new(),
            closed_by_server: None,
            closing: None,
            now,
            in_a_row: 0,
        }
    }

    /// Lives until the connection ends, and tells how.
    pub(super) async fn run(&mut self) -> End {
        loop {
            self.now = time::now();
            self.take_commands();
            if let Some(end) = self.look_at_the_clock() {
                return end;
            }
            let wake = self.next_wake();
            let signal = Arc::clone(&self.signal);
            tokio::select! {
                biased;
                end = poll_fn(|context| self.poll(context)) => {
                    if let Some(end) = end {
                        return end;
                    }
                }
                () = signal.notified() => {}
                () = time::sleep_until(wake) => {}
            }
            if self.in_a_row >= BATCH {
                self.in_a_row = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whoever still waits for an answer is told that none will come; what was to be looked at again is passed on.
    pub(super) fn disconnect(&mut self) -> Vec<Arc<Stream>> {
        let gone = || Err(Error::Disconnected { pool: self.shared.name.clone() });
        for (_, asked) in self.asked.drain() {
            if let Asked::Request(reply) = asked {
                let _ = reply.send(gone());
            }
        }
        for outgoing in self.outgoing.drain(..) {
            if let Some(Sent { reply: Some(reply), .. }) = outgoing.call {
                let _ = reply.send(gone());
            }
        }
        std::mem::take(&mut self.held).into_values().collect()
    }

    fn next_wake(&self) -> Instant {
        if let Some((at, _)) = self.closing {
            return at;
        }
        let far = self.now + Duration::from_secs(3600);
        let deadline = self.deadlines.first().map_or(far, |(at, _)| *at);
        let held = self.held.first_key_value().map_or(far, |((at, _), _)| *at);
        let beat = self.heartbeat.clone().next(self.now, &mut self.rng.clone());
        let beat = if let Beat::Wait(until) = beat { until } else { self.now };
        deadline.min(held).min(beat)
    }

    fn look_at_the_clock(&mut self) -> Option<End> {
        match self.closing {
            Some((until, ours)) if until <= self.now => return Some(self.end(ours)),
            Some(_) => return None,
            None => {}
        }
        match self.heartbeat.next(self.now, &mut self.rng) {
            Beat::Dead => return Some(End::Stalled),
            Beat::Ping => {
                self.shared.totals.pings.increment();
                self.outgoing.push_front(Outgoing { message: Message::Ping(Vec::new().into()), call: None });
            }
            Beat::Wait(_) => {}
        }
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= self.now) {
            self.deadlines.remove(&(at, id));
            self.expire(id);
        }
        while let Some(first) = self.held.first_entry().filter(|first| first.key().0 <= self.now) {
            let stream = first.remove();
            let effect = stream.lock().look_again(self.now);
            self.apply(&stream, effect);
        }
        None
    }

    fn expire(&mut self, id: u64) {
        match self.asked.remove(&id) {
            Some(Asked::Subscription(stream)) => {
                self.unacknowledged -= 1;
                let wanted = self
                    .routes
                    .get(&stream.topic)
                    .is_some_and(|route| route.iter().any(|known| known.id == stream.id));
                if wanted && !stream.lock().has_ended() {
                    self.shared.totals.ack_timeouts.increment();
                    let id = self.shared.hub().number();
                    self.subscribe(id, stream);
                }
            }
            // Its caller has the same deadline and has gone.
            Some(Asked::Request(_)) | None => {}
        }
    }

    /// Writes what there is to write and reads what there is to read. Ready when the loop has something to look at.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        let mut progress = false;
        let Self { transport, outgoing, shared, .. } = self;
        let mut next = || {
            let Outgoing { message, call } = outgoing.pop_front()?;
            progress = true;
            if let Some(sent) = call {
                shared.totals.sent.increment();
                if let Some(reply) = sent.reply {
                    let _ = reply.send(Ok(None));
                }
            }
            Some(message)
        };
        let failed = matches!(transport.poll_send(&mut next, context), Poll::Ready(Err(_)));
        let mut read = 0;
        while read < BATCH {
            match self.transport.poll_receive(context) {
                Poll::Ready(Some(Ok(message))) => {
                    if read == 0 {
                        self.now = time::now();
                        self.heartbeat.heard(self.now);
                    }
                    read += 1;
                    self.receive(message);
                }
                Poll::Ready(_) => return Poll::Ready(Some(self.end(false))),
                Poll::Pending => break,
            }
        }
        self.in_a_row += read;
        if failed && read == 0 && self.closing.is_none() {
            // Only now: what the server said before it hung up, its reason above all, has been read.
            return Poll::Ready(Some(End::Cut));
        }
        if progress || read > 0 { Poll::Ready(None) } else { Poll::Pending }
    }

    fn end(&mut self, timed_out: bool) -> End {
        match (self.closed_by_server.take(), &self.closing) {
            (_, Some((_, true))) => End::Ours,
            (Some((code, reason)), _) => End::Closed(code, reason),
            (None, _) if timed_out => End::Stalled,
            (None, _) => End::Cut,
        }
    }
}

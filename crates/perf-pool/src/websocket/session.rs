use super::call::Call;
use super::error::Error;
use super::heartbeat::{Beat, Heartbeat};
use super::hub::Command;
use super::intake::{Effect, Stream};
use super::protocol::{Incoming, Position};
use super::reconnect::End;
use super::shared::Shared;
use super::transport::Transport;
use super::{Message, error::Ended};
use perf_core::Rng;
use perf_core::time::{self, Duration, Instant};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{Notify, oneshot};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

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

    fn take_commands(&mut self) {
        if self.closing.is_some() {
            return;
        }
        let mut hub = self.shared.hub();
        if hub.closed {
            // Even with a full queue: a server that does not read is not waited for.
            return self.close();
        }
        while self.outgoing.len() < AHEAD {
            let allowed = self.unacknowledged < self.shared.config.max_unacknowledged;
            let Some(command) = hub.next_command(self.link, allowed) else { return };
            match command {
                Command::Subscribe(stream) => {
                    if stream.lock().is_paused() {
                        // Nobody reads it: it goes on when somebody does, wherever it then is at home.
                        hub.acknowledged(stream.id, self.link);
                    } else if !stream.lock().has_ended() {
                        let id = hub.number();
                        self.subscribe(id, stream);
                    }
                }
                Command::Unsubscribe(stream) => {
                    stream.lock().detach(self.link);
                    let id = hub.number();
                    self.unsubscribe(id, &stream);
                }
                Command::LookAgain(stream) => {
                    self.held.insert((self.now, stream.id), stream);
                }
                Command::Call(call) => self.call(call),
                Command::Close => return self.close(),
            }
        }
    }

    fn subscribe(&mut self, id: u64, stream: Arc<Stream>) {
        let after = stream.lock().after();
        self.push(self.shared.protocol.subscribe(id, &stream.topic, after));
        let route = self.routes.entry(Arc::clone(&stream.topic)).or_default();
        if !route.iter().any(|known| known.id == stream.id) {
            route.push(Arc::clone(&stream));
        }
        self.deadlines.insert((self.now + self.shared.config.ack_timeout, id));
        self.asked.insert(id, Asked::Subscription(stream));
        self.unacknowledged += 1;
    }

    /// The server is told only once nobody on this connection wants the topic any more.
    fn unsubscribe(&mut self, id: u64, stream: &Arc<Stream>) {
        let Some(route) = self.routes.get_mut(&stream.topic) else { return };
        route.retain(|known| known.id != stream.id);
        if route.is_empty() {
            self.routes.remove(&stream.topic);
            self.push(self.shared.protocol.unsubscribe(id, &stream.topic));
        }
    }

    fn call(&mut self, call: Call) {
        let Call { message, id, deadline, reply, room } = call;
        if reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return;
        }
        let reply = match (id, reply) {
            (Some(id), Some(reply)) => {
                self.deadlines.insert((deadline, id));
                self.asked.insert(id, Asked::Request(reply));
                None
            }
            (_, reply) => reply,
        };
        self.outgoing.push_back(Outgoing { message, call: Some(Sent { reply, _room: room }) });
    }

    fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.push(Message::Close(Some(frame)));
        self.closing = Some((self.now + self.shared.config.close_timeout, true));
    }

    fn push(&mut self, message: Message) {
        self.outgoing.push_back(Outgoing { message, call: None });
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

    fn receive(&mut self, message: Message) {
        match &message {
            Message::Text(_) | Message::Binary(_) => {}
            Message::Close(frame) => {
                let (code, reason) = frame
                    .as_ref()
                    .map_or((1005, String::new()), |frame| (u16::from(frame.code), frame.reason.to_string()));
                self.closed_by_server = Some((code, reason));
                // The transport answers the close; the server has to hang up, but not for ever.
                self.closing.get_or_insert((self.now + self.shared.config.close_timeout, false));
                return;
            }
            _ => return,
        }
        match self.shared.protocol.read(&message) {
            Incoming::Event { topic, sequence } => {
                let Some(route) = self.routes.get(topic) else {
                    self.shared.totals.strays.increment();
                    return;
                };
                self.messages.fetch_add(1, Ordering::Relaxed);
                self.shared.totals.messages.increment();
                // One stream nearly always: it gets the message itself, only more than one need copies of the handle.
                if let [stream] = route.as_slice() {
                    let stream = Arc::clone(stream);
                    let effect = stream.lock().receive(self.link, sequence, message, self.now);
                    self.apply(&stream, effect);
                } else {
                    for stream in route.clone() {
                        let effect = stream.lock().receive(self.link, sequence, message.clone(), self.now);
                        self.apply(&stream, effect);
                    }
                }
            }
            Incoming::Reply { id, refused, position } => {
                let refused = refused.map(str::to_owned);
                self.replied(id, refused, position, message);
            }
            Incoming::GoingAway => {
                self.shared.with_hub(|hub| hub.going_away(self.link));
            }
            Incoming::Other => {}
        }
    }

    fn replied(&mut self, id: u64, refused: Option<String>, position: Position, message: Message) {
        match (self.asked.remove(&id), refused) {
            (Some(Asked::Subscription(stream)), None) => {
                self.unacknowledged -= 1;
                self.shared.totals.subscribed.increment();
                let effect = stream.lock().acknowledge(self.link, position, self.now);
                self.apply(&stream, effect);
                self.shared.with_hub(|hub| hub.acknowledged(stream.id, self.link));
            }
            (Some(Asked::Subscription(stream)), Some(reason)) => {
                self.unacknowledged -= 1;
                self.shared.totals.refused.increment();
                let waker = stream.lock().end(Ended::Refused(reason));
                self.shared.with_hub(|hub| hub.unsubscribe(stream.id));
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            (Some(Asked::Request(reply)), None) => self.answer(reply, Ok(Some(message))),
            (Some(Asked::Request(reply)), Some(reason)) => self.answer(reply, Err(Error::Refused { reason })),
            (None, _) => self.shared.totals.late_replies.increment(),
        }
    }

    fn answer(
        &self,
        reply: oneshot::Sender<Result<Option<Message>, Error>>,
        answer: Result<Option<Message>, Error>,
    ) {
        if reply.send(answer).is_err() {
            self.shared.totals.late_replies.increment();
        }
    }

    fn apply(&mut self, stream: &Arc<Stream>, effect: Effect) {
        let Effect { wake, pause, overrun, look_again, dropped, conflated, duplicates, gaps, missed } =
            effect;
        if let Some(waker) = wake {
            waker.wake();
        }
        let totals = &self.shared.totals;
        for (counter, amount) in [
            (&totals.dropped, dropped),
            (&totals.conflated, conflated),
            (&totals.duplicates, duplicates),
            (&totals.gaps, gaps),
            (&totals.missed, missed),
        ] {
            if amount > 0 {
                counter.add(amount);
            }
        }
        if let Some(at) = look_again {
            self.held.insert((at, stream.id), Arc::clone(stream));
        }
        if pause {
            self.shared.totals.paused.increment();
            let id = self.shared.hub().number();
            self.pause(id, stream);
        }
        if overrun {
            self.shared.with_hub(|hub| hub.unsubscribe(stream.id));
        }
    }

    /// Asks the server for no more of a subscription that keeps its place here. What is on its way still arrives.
    fn pause(&mut self, id: u64, stream: &Arc<Stream>) {
        let alone = self.routes.get(&stream.topic).is_none_or(|route| route.len() == 1);
        if alone {
            self.push(self.shared.protocol.unsubscribe(id, &stream.topic));
        }
    }
}

//! What the server says: messages, answers, refusals and good-byes.

use super::{Asked, Session};
use crate::websocket::Message;
use crate::websocket::error::{Ended, Error};
use crate::websocket::intake::{Effect, Stream};
use crate::websocket::protocol::{Incoming, Position};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

impl Session<'_> {
    pub(super) fn receive(&mut self, message: Message) {
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

    pub(super) fn apply(&mut self, stream: &Arc<Stream>, effect: Effect) {
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

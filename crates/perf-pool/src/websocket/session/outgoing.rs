//! What the server is told: commands of the hub, in their order.

use super::{AHEAD, Asked, Outgoing, Sent, Session};
use crate::websocket::Message;
use crate::websocket::call::Call;
use crate::websocket::hub::Command;
use crate::websocket::intake::Stream;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

impl Session<'_> {
    pub(super) fn take_commands(&mut self) {
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

    pub(super) fn subscribe(&mut self, id: u64, stream: Arc<Stream>) {
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

    pub(super) fn push(&mut self, message: Message) {
        self.outgoing.push_back(Outgoing { message, call: None });
    }
}

use super::error::Ended;
use super::intake::Stream;
use super::reconnect::{End, Next, Reconnect};
use super::session::Session;
use super::shared::Shared;
use crate::error::Cause;
use futures_util::FutureExt;
use perf_core::time;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Keeps one connection: makes it, lets it live, and makes it again, until it is closed or refused for good.
pub(super) async fn run(shared: Arc<Shared>, link: u64) {
    let mut rng = shared.fork_rng();
    let config = &shared.config;
    let mut reconnect = Reconnect::new(config.backoff(), config.stable_after);
    loop {
        let (endpoint, url) = shared.endpoints.choose(time::now(), &mut rng);
        let (end, held) = live(&shared, link, endpoint, &url, &mut reconnect).await;
        shared.endpoints.let_go(endpoint);
        let hint = match &end {
            End::Closed(code, reason) => shared.protocol.retry_hint(*code, reason),
            _ => None,
        };
        let next = reconnect.ended(&end, hint, time::now(), &mut rng);
        let wait = match next {
            Next::After(wait) => wait,
            Next::Stop => {
                stop(&shared, link, end);
                return;
            }
        };
        let goes_on = shared.with_hub(|hub| {
            let goes_on = hub.lost(link);
            // Now that everything has its new place.
            held.into_iter().for_each(|stream| hub.look_again(stream));
            goes_on
        });
        shared.changed.notify_waiters();
        if !goes_on || !rest(&shared, link, wait).await {
            shared.with_hub(|hub| hub.remove(link));
            shared.changed.notify_waiters();
            return;
        }
    }
}

/// There will be no other connection in this place.
fn stop(shared: &Shared, link: u64, end: End) {
    let ended = match end {
        End::Closed(code, reason) => Ended::Fatal { code, reason },
        End::Hopeless(reason) => Ended::Unreachable(reason),
        End::Cut | End::Stalled | End::Ours => return shared.with_hub(|hub| hub.remove(link)),
    };
    shared.with_hub(|hub| hub.refused(link, &ended));
    shared.changed.notify_waiters();
}

/// Makes a connection and lets it live. Returns how it ended, and what it leaves to be looked at again.
async fn live(
    shared: &Shared,
    link: u64,
    endpoint: usize,
    url: &str,
    reconnect: &mut Reconnect,
) -> (End, Vec<Arc<Stream>>) {
    let connecting = AssertUnwindSafe(shared.connect.connect(url)).catch_unwind();
    let connected = tokio::select! {
        connected = time::timeout(shared.config.connect_timeout, connecting) => connected,
        () = shared.closed() => return (End::Ours, Vec::new()),
    };
    let transport = match connected {
        Ok(Ok(Ok(transport))) => transport,
        failed => {
            let cause = match failed {
                Ok(Ok(Err(cause))) => Some(cause),
                Ok(Err(_)) => {
                    shared.totals.panicked.increment();
                    None
                }
                _ => Some(Cause::new(time::Elapsed)),
            };
            return (not_connected(shared, endpoint, cause), Vec::new());
        }
    };
    shared.totals.connected.increment();
    shared.endpoints.succeeded(endpoint);
    shared.set_last_error(None);
    let now = time::now();
    reconnect.opened(now);
    let parts = shared.with_hub(|hub| {
        hub.opened(link, now);
        hub.link(link).map(|link| (Arc::clone(&link.signal), Arc::clone(&link.messages)))
    });
    shared.changed.notify_waiters();
    let Some(parts) = parts else { return (End::Ours, Vec::new()) };
    let mut session = Session::new(shared, link, parts, transport, shared.fork_rng());
    let end = AssertUnwindSafe(session.run()).catch_unwind().await.unwrap_or_else(|_| {
        shared.totals.panicked.increment();
        End::Cut
    });
    let held = session.disconnect();
    match &end {
        End::Cut => shared.totals.ended_cut.increment(),
        End::Stalled => shared.totals.ended_stalled.increment(),
        End::Closed(..) => shared.totals.ended_by_server.increment(),
        End::Hopeless(_) | End::Ours => shared.totals.ended_by_us.increment(),
    }
    (end, held)
}

/// Counts an attempt that failed. What can never succeed ends there, unless another endpoint may be better.
fn not_connected(shared: &Shared, endpoint: usize, cause: Option<Cause>) -> End {
    shared.totals.connect_failed.increment();
    let Some(cause) = cause else {
        shared.endpoints.failed(endpoint, time::now());
        return End::Cut;
    };
    shared.set_last_error(Some(cause.clone()));
    if !shared.connect.is_permanent(&cause) {
        shared.endpoints.failed(endpoint, time::now());
        return End::Cut;
    }
    if shared.endpoints.give_up(endpoint) { End::Cut } else { End::Hopeless(cause.to_string()) }
}

/// Waits before the next connection is made, no longer than the pool lives. Returns whether it lives.
async fn rest(shared: &Shared, link: u64, wait: time::Duration) -> bool {
    let until = time::now() + wait;
    loop {
        let mut changed = std::pin::pin!(shared.changed.notified());
        changed.as_mut().enable();
        let stays = {
            let hub = shared.hub();
            !hub.closed && hub.links().contains_key(&link)
        };
        if !stays {
            return false;
        }
        if time::timeout_at(until, changed).await.is_err() {
            return true;
        }
    }
}

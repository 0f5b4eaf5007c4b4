//! Reads the log to its end and stays there; notices gaps, and says when it cannot be read.

use super::Remote;
use super::order::Order;
use super::port::{End, Ends, InvalidationLog, News, Position, Record, StoreError};
use crate::clock::tick;
use crate::space::SpaceInner;
use perf_core::{Backoff, Rng, time};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long one read waits for news. Also how long a log that was emptied can go unnoticed.
const WAIT: Duration = Duration::from_millis(500);
/// Beyond the wait, how long the log may take to say that there is nothing new.
const SLACK: Duration = Duration::from_secs(2);

/// Follows the log for as long as the space lives.
pub(super) async fn run(remote: Arc<Remote>, log: Arc<dyn InvalidationLog>, space: Weak<SpaceInner>) {
    let backoff = Backoff::exponential(Duration::from_millis(50)).cap(Duration::from_secs(2));
    let mut rng = Rng::from_entropy();
    let mut delays = backoff.delays(rng.next_u64());
    let mut connected = false;
    loop {
        let outcome = step(&remote, &*log, &space, connected).await;
        let Some(space) = space.upgrade() else { return };
        match outcome {
            Ok(()) => {
                if !connected && remote.positions().was_following {
                    // What this node sent just before the interruption may have been lost with a primary that failed.
                    remote.repeat();
                }
                connected = true;
                {
                    let mut positions = remote.positions();
                    positions.following = true;
                    positions.was_following = true;
                }
                space.log_is_followed(true);
                delays = backoff.delays(rng.next_u64());
            }
            Err(_) => {
                connected = false;
                remote.positions().following = false;
                space.log_is_followed(false);
                drop(space);
                time::sleep(delays.next().unwrap_or(WAIT)).await;
            }
        }
    }
}

async fn step(
    remote: &Remote,
    log: &dyn InvalidationLog,
    space: &Weak<SpaceInner>,
    connected: bool,
) -> Result<(), StoreError> {
    if !connected {
        catch_up(remote, log, space).await?;
    }
    if !connected {
        // The end has been reached; the caller says so before anything waits.
        return Ok(());
    }
    let news = bounded(log.read(remote.applied(), WAIT)).await?;
    let Some(live) = space.upgrade() else { return Ok(()) };
    if take_in(remote, &live, news) {
        return Ok(());
    }
    drop(live);
    // Nothing new, or nothing left: an emptied log and a failover that lost records look alike from the end.
    catch_up(remote, log, space).await
}

/// Applies what a read brought; false when that is nothing.
fn take_in(remote: &Remote, space: &SpaceInner, news: News) -> bool {
    let News { mut records, changed, broken } = news;
    if !changed.is_empty() {
        space.fences.tags(changed.iter().copied());
    }
    // One that came behind a newer one would be taken for applied.
    records.sort_by_key(|record| record.position);
    records.iter().for_each(|record| apply(remote, space, record));
    if broken {
        gap(remote, space, remote.applied());
    }
    !records.is_empty() || !changed.is_empty()
}

/// Records may have been lost before `floor`: nothing older is believed any more.
fn gap(remote: &Remote, space: &SpaceInner, floor: Position) {
    remote.numbers.gaps.increment();
    remote.positions().raise(floor);
    space.forget_everything();
}

async fn bounded<T>(read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    time::timeout(WAIT + SLACK, read)
        .await
        .map_err(|_| StoreError::new("follow the invalidation log", "it did not answer in time"))?
}

/// Makes sure that no record between what was applied and what the log still holds can have been missed.
async fn catch_up(
    remote: &Remote,
    log: &dyn InvalidationLog,
    space: &Weak<SpaceInner>,
) -> Result<(), StoreError> {
    let applied = remote.applied();
    let Ends { oldest, newest } = match bounded(log.ends()).await? {
        Some(ends) => ends,
        None => {
            // A log that holds nothing gets a beginning, so that there is a position to start from.
            let begun = begin(remote, log, applied).await?;
            Ends { oldest: begun, newest: begun }
        }
    };
    if applied == Position::ZERO {
        // A cold node: records older than what is retained may have been trimmed, and what they fenced is unknown.
        remote.positions().start_from(oldest);
        let Some(space) = space.upgrade() else { return Ok(()) };
        // It may have served loads of its own before it reached the log; what was invalidated since is unknown too.
        space.forget_everything();
        return read_all(remote, log, &space).await;
    }
    let trimmed = oldest.position > applied;
    if trimmed || newest.position < applied || is_another(remote, log, applied).await? {
        // Behind `applied`, so that positions which other nodes have used for older things are not used again.
        let floor = if trimmed { newest } else { begin(remote, log, applied).await? };
        if let Some(space) = space.upgrade() {
            gap(remote, &space, floor.position);
        }
        remote.positions().start_from(floor);
    }
    if !remote.positions().following
        && let Some(space) = space.upgrade()
    {
        return read_all(remote, log, &space).await;
    }
    Ok(())
}

/// Appends a record that says only where it is.
async fn begin(remote: &Remote, log: &dyn InvalidationLog, after: Position) -> Result<End, StoreError> {
    let position = bounded(log.append(remote.origin, 0, &[], after)).await?;
    Ok(End { position, record: Some((remote.origin, 0)) })
}

/// Whether the log has another record where this node has read one, after an interruption: the log has lost its end and
/// handed out the positions again, and others may have filled it beyond `applied` since, which does not look like a loss.
async fn is_another(
    remote: &Remote,
    log: &dyn InvalidationLog,
    applied: Position,
) -> Result<bool, StoreError> {
    let (following, seen) = {
        let positions = remote.positions();
        (positions.following, positions.seen)
    };
    match seen {
        Some((origin, serial)) if !following => Ok(!bounded(log.holds(applied, origin, serial)).await?),
        _ => Ok(false),
    }
}

/// Reads what the log holds, without waiting for more.
async fn read_all(remote: &Remote, log: &dyn InvalidationLog, space: &SpaceInner) -> Result<(), StoreError> {
    loop {
        let news = bounded(log.read(remote.applied(), Duration::ZERO)).await?;
        let more = !news.records.is_empty();
        take_in(remote, space, news);
        if !more {
            return Ok(());
        }
    }
}

/// Applies one record. Doing so twice changes nothing.
fn apply(remote: &Remote, space: &SpaceInner, record: &Record) {
    let Record { position, origin, serial, fences } = record;
    let order = Order::decode(fences);
    // A cache that cannot read the pattern of an order is fenced as a whole.
    let whole = order.as_ref().filter(|order| !space.can_purge(order)).map(|order| [order.namespace]);
    let fences: &[u64] = match (&order, &whole) {
        (Some(_), Some(namespace)) => namespace,
        (Some(_), None) => &[],
        (None, _) => fences,
    };
    let everything = order.is_none() && fences.is_empty();
    let own = *origin == remote.origin;
    let complete;
    {
        let mut positions = remote.positions();
        if *position <= positions.applied {
            return;
        }
        complete = own || positions.count(*origin, *serial);
        if everything || !complete {
            positions.raise(*position);
        }
        if !own {
            fences.iter().for_each(|&fence| positions.learn(fence, *position));
        }
    }
    // The local fences first: a load that starts after `applied` has moved must be newer than them.
    if !complete {
        remote.numbers.gaps.increment();
    }
    if !complete || (everything && !own) {
        space.forget_everything();
    } else if !own {
        if !fences.is_empty() {
            space.fences.tags(fences.iter().copied());
        }
        if let Some(order) = &order {
            space.purge(order);
        }
    }
    {
        let mut positions = remote.positions();
        (positions.applied, positions.seen) = (*position, Some((*origin, *serial)));
    }
    remote.numbers.applied.increment();
    if let Some(asked) = own.then(|| remote.outbox.returned(*serial)).flatten() {
        remote.numbers.lag.record_duration(tick().since(asked));
    }
}

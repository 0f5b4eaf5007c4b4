//! Sends this node's invalidations to the log, again and again until they have arrived.

use super::Remote;
use super::order::Order;
use super::port::InvalidationLog;
use crate::clock::{Tick, tick};
use perf_core::{Backoff, Rng, time};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Invalidations on their way. One fence waits once, however often it is asked for while the log is away.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// The number of the last batch that has arrived.
    sent: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    fences: BTreeSet<u64>,
    /// Orders to other nodes, each the numbers of a record.
    orders: Vec<Vec<u64>>,
    /// There were too many to remember: everything is to be invalidated.
    everything: bool,
    /// The batch that collects what is asked for now.
    batch: u64,
    /// Fences of the batch that has left and not arrived.
    sending: usize,
    /// What has arrived lately, and when.
    lately: VecDeque<(Tick, Vec<u64>)>,
    /// Orders that have arrived lately, and when.
    lately_ordered: VecDeque<(Tick, Vec<u64>)>,
    /// How many fences those are.
    lately_held: usize,
    /// When the first of those that wait was asked for.
    since: Option<Tick>,
    /// Records that have not come back from the log, by their numbers, and since when their fences are asked for.
    away: VecDeque<(u64, Tick)>,
}

/// Fences that leave together.
struct Batch {
    number: u64,
    fences: Vec<u64>,
    orders: Vec<Vec<u64>>,
    /// Everything is to be invalidated instead.
    everything: bool,
    /// When the first of them was asked for.
    since: Tick,
}

/// Fences that wait one by one; beyond it everything is invalidated at once.
const MOST: usize = 65_536;
/// Orders that wait; beyond it everything is invalidated at once. Administrators give few.
const MOST_ORDERS: usize = 64;
/// Fences in one record of the log.
const RECORD: usize = 1024;
/// What was sent this long before an interruption is sent again after it: longer than a replica may be behind its primary
/// and the primary's end may go unnoticed.
const LATELY: Duration = Duration::from_secs(15);
/// Fences remembered for that.
const MOST_LATELY: usize = 16_384;
/// Records remembered until they come back from the log; one that is forgotten tells no lag.
const MOST_AWAY: usize = 1024;

impl Default for Outbox {
    fn default() -> Self {
        let waiting = Waiting { batch: 1, ..Waiting::default() };
        Self { waiting: Mutex::new(waiting), filled: Notify::new(), sent: watch::Sender::new(0) }
    }
}

impl Outbox {
    /// Puts fences in and returns the batch that will carry them.
    fn put(&self, fences: &[u64]) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.fences.len() + fences.len() > MOST {
            waiting.everything = true;
            waiting.fences.clear();
        } else {
            waiting.fences.extend(fences);
        }
        waiting.since.get_or_insert_with(tick);
        self.filled.notify_one();
        waiting.batch
    }

    /// Puts an order in, the same one once, and returns the batch that will carry it.
    fn put_order(&self, order: Vec<u64>) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.orders.len() >= MOST_ORDERS {
            waiting.everything = true;
            waiting.orders.clear();
        } else if !waiting.orders.contains(&order) {
            waiting.orders.push(order);
        }
        waiting.since.get_or_insert_with(tick);
        self.filled.notify_one();
        waiting.batch
    }

    fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.fences.is_empty() && waiting.orders.is_empty() && !waiting.everything {
            return None;
        }
        let batch = waiting.batch;
        waiting.batch += 1;
        let everything = std::mem::take(&mut waiting.everything);
        let fences = std::mem::take(&mut waiting.fences);
        let orders = std::mem::take(&mut waiting.orders);
        waiting.sending = fences.len() + orders.len() + usize::from(everything);
        let since = waiting.since.take().unwrap_or_else(tick);
        Some(Batch { number: batch, fences: fences.into_iter().collect(), orders, everything, since })
    }

    /// A record of this number is about to be sent; it may come back before the sender hears of it.
    fn leave(&self, serial: u64, since: Tick) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.away.back().is_none_or(|(last, _)| *last < serial) {
            waiting.away.push_back((serial, since));
        }
        if waiting.away.len() > MOST_AWAY {
            waiting.away.pop_front();
        }
    }

    /// A record has come back from the log: since when its fences were asked for.
    pub(crate) fn returned(&self, serial: u64) -> Option<Tick> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(&(first, since)) = waiting.away.front().filter(|(first, _)| *first <= serial) {
            waiting.away.pop_front();
            if first == serial {
                return Some(since);
            }
        }
        None
    }

    /// Whether a fence waits again: it was asked for after the batch that carried it had left.
    fn holds(&self, fence: u64) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).fences.contains(&fence)
    }

    /// Fences that have not arrived.
    pub(crate) fn len(&self) -> usize {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.fences.len() + waiting.orders.len() + waiting.sending + usize::from(waiting.everything)
    }

    fn arrive(&self, Batch { number, fences, orders, .. }: Batch) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.sending = 0;
            let now = tick();
            waiting.lately.push_back((now, fences));
            waiting.lately_held += waiting.lately.back().map_or(0, |(_, fences)| fences.len());
            while waiting.lately_held > MOST_LATELY
                || waiting.lately.front().is_some_and(|(sent, _)| sent.after(LATELY) <= now)
            {
                let gone = waiting.lately.pop_front();
                waiting.lately_held -= gone.map_or(0, |(_, fences)| fences.len());
            }
            waiting.lately_ordered.extend(orders.into_iter().map(|order| (now, order)));
            while waiting.lately_ordered.len() > MOST_ORDERS
                || waiting.lately_ordered.front().is_some_and(|(sent, _)| sent.after(LATELY) <= now)
            {
                waiting.lately_ordered.pop_front();
            }
        }
        self.sent.send_replace(number);
    }

    /// What had arrived lately when the last of it arrived, however long ago that is: an interruption may last.
    fn lately(&self) -> (Vec<u64>, Vec<Vec<u64>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.lately_held = 0;
        let orders = waiting.lately_ordered.drain(..).map(|(_, order)| order).collect();
        (waiting.lately.drain(..).flat_map(|(_, fences)| fences).collect(), orders)
    }

    /// Waits until a batch has arrived, `limit` at most.
    pub(crate) async fn arrived(&self, batch: u64, limit: Duration) -> bool {
        let mut sent = self.sent.subscribe();
        let waited = time::timeout(limit, sent.wait_for(|&last| last >= batch)).await;
        matches!(waited, Ok(Ok(_)))
    }
}

impl Remote {
    /// Fences for other nodes and for the second tier. Until the log has told their position, nothing from the second
    /// tier passes them. Returns the batch that carries them, if there is a log.
    pub(crate) fn publish(&self, fences: &[u64]) -> Option<u64> {
        {
            let mut positions = self.positions();
            fences.iter().for_each(|&fence| positions.pend(fence));
        }
        self.log.is_some().then(|| self.outbox.put(fences))
    }

    /// Sends once more what was sent lately: doing so twice does no harm, losing it does.
    pub(crate) fn repeat(&self) {
        let (fences, orders) = self.outbox.lately();
        if !fences.is_empty() {
            // The batch matters only to those who wait for it.
            let _ = self.publish(&fences);
        }
        for order in orders {
            let _ = self.outbox.put_order(order);
        }
    }

    /// Gives other nodes an order. Returns the batch that carries it, if there is a log.
    pub(crate) fn order(&self, order: Vec<u64>) -> Option<u64> {
        self.log.is_some().then(|| self.outbox.put_order(order))
    }
}

/// Sends what waits, for as long as the space lives.
pub(super) async fn run(remote: Arc<Remote>, log: Arc<dyn InvalidationLog>) {
    let backoff = Backoff::exponential(Duration::from_millis(50)).cap(Duration::from_secs(1));
    let mut rng = Rng::from_entropy();
    let mut serial = 1;
    loop {
        let Some(batch) = remote.outbox.take() else {
            remote.outbox.filled.notified().await;
            continue;
        };
        let mut delays = backoff.delays(rng.next_u64());
        while !send(&remote, &*log, &mut serial, &batch).await {
            remote.numbers.publish_errors.increment();
            time::sleep(delays.next().unwrap_or(Backoff::DEFAULT_CAP)).await;
        }
        remote.outbox.arrive(batch);
    }
}

/// Appends the fences; sending one twice does no harm.
async fn send(remote: &Remote, log: &dyn InvalidationLog, serial: &mut u64, batch: &Batch) -> bool {
    let orders = batch.orders.iter().map(Vec::as_slice);
    let records: Vec<&[u64]> = match batch.everything {
        true => vec![&[]],
        false => batch.fences.chunks(RECORD).chain(orders).collect(),
    };
    for record in records {
        remote.outbox.leave(*serial, batch.since);
        let append = log.append(remote.origin, *serial, record, remote.applied());
        let Ok(Ok(position)) = time::timeout(remote.timeout * 10, append).await else {
            // It may have arrived all the same: the next attempt has the same number.
            return false;
        };
        *serial += 1;
        remote.numbers.published.add(record.len().max(1) as u64);
        let mut positions = remote.positions();
        if record.is_empty() {
            positions.raise(position);
        }
        if Order::decode(record).is_some() {
            continue;
        }
        for &fence in record.iter().filter(|&&fence| !remote.outbox.holds(fence)) {
            positions.settle(fence, position);
        }
    }
    true
}

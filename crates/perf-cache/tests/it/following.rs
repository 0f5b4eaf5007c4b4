//! Nodes and their invalidation log: what a node hears of late, twice, in the wrong order, or not at all.

use perf_cache::{
    Cache, CacheSpace, CacheSpaceBuilder, Ends, Entries, InvalidationLog, MemoryStore, News, Position,
    Postcard, Record, StoreError, tag,
};
use perf_core::{Component, Desc, Histogram, Label, Sink, time};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

type Change = Box<dyn FnMut(Vec<Record>) -> Vec<Record> + Send>;

/// One node's line to the log; the line to the second tier is another one.
struct Line {
    log: Arc<MemoryStore>,
    cut: AtomicBool,
    /// What the node says does not arrive, while it hears everything.
    mute: AtomicBool,
    /// What is asked for takes so many milliseconds to get there.
    slow: AtomicU64,
    /// What becomes of the records of one read.
    change: Mutex<Change>,
}

impl Line {
    fn check(&self, flag: &AtomicBool) -> Result<(), StoreError> {
        if flag.load(Ordering::SeqCst) {
            Err(StoreError::new("reach the log", "the line is cut"))
        } else {
            Ok(())
        }
    }
    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }
    fn change(&self, change: impl FnMut(Vec<Record>) -> Vec<Record> + Send + 'static) {
        *self.change.lock().unwrap() = Box::new(change);
    }
}

#[async_trait::async_trait]
impl InvalidationLog for Line {
    async fn append(
        &self,
        origin: u64,
        serial: u64,
        fences: &[u64],
        after: Position,
    ) -> Result<Position, StoreError> {
        self.check(&self.cut)?;
        self.check(&self.mute)?;
        self.log.append(origin, serial, fences, after).await
    }
    async fn read(&self, after: Position, wait: Duration) -> Result<News, StoreError> {
        self.check(&self.cut)?;
        time::sleep(MS(self.slow.load(Ordering::SeqCst))).await;
        let mut news = self.log.read(after, wait).await?;
        // A line that is cut while somebody listens brings nothing.
        self.check(&self.cut)?;
        let brought = news.records.len();
        news.records = (self.change.lock().unwrap())(news.records);
        if news.records.len() < brought {
            // What is lost takes its time as well.
            time::sleep(MS(5)).await;
        }
        Ok(news)
    }
    async fn holds(&self, position: Position, origin: u64, serial: u64) -> Result<bool, StoreError> {
        self.check(&self.cut)?;
        self.log.holds(position, origin, serial).await
    }
    async fn ends(&self) -> Result<Option<Ends>, StoreError> {
        self.check(&self.cut)?;
        self.log.ends().await
    }
}

struct Node {
    line: Arc<Line>,
    space: CacheSpace,
    cache: Cache<u64, u32>,
}

async fn node(store: &Arc<MemoryStore>) -> Node {
    let (cut, mute) = (AtomicBool::new(false), AtomicBool::new(false));
    let change: Mutex<Change> = Mutex::new(Box::new(|records| records));
    let line = Arc::new(Line { log: Arc::clone(store), cut, mute, slow: AtomicU64::new(0), change });
    let space = CacheSpace::builder("shop").shared(store.clone(), line.clone()).build().await.unwrap();
    assert!(space.coherent(Duration::from_secs(5)).await);
    let cache = space.cache("a").capacity(Entries(100)).jitter(0.0).codec(Postcard);
    Node { cache: cache.fresh(Duration::from_secs(600)).build().unwrap(), line, space }
}

async fn two(store: &Arc<MemoryStore>) -> (Node, Node) {
    (node(store).await, node(store).await)
}

/// Loads a key, whose value has a tag of its own.
async fn load(cache: &Cache<u64, u32>, key: u64, value: u32) -> u32 {
    let loader = move || async move { Ok::<_, Infallible>(value) };
    *cache.get_or_load(&key, loader).tags([tag!("t", key)]).await.unwrap()
}

fn held(cache: &Cache<u64, u32>) -> Vec<u64> {
    (1..=5).filter(|key| cache.contains(key)).collect()
}

/// Keys 1 to 5 in the memory of both, and in the second tier.
async fn fill(a: &Node, b: &Node) {
    for key in 1..=5 {
        assert_eq!(load(&a.cache, key, 1).await, 1);
        settle().await;
        assert_eq!(load(&b.cache, key, 9).await, 1);
    }
}

async fn settle() {
    time::sleep(MS(20)).await;
}

#[tokio::test(start_paused = true)]
async fn s5_what_the_log_has_not_acknowledged_is_refused_here_in_both_tiers_and_arrives_later() {
    for way in ["key", "tag", "clear"] {
        let store = Arc::new(MemoryStore::new());
        let (a, b) = two(&store).await;
        fill(&a, &b).await;
        a.line.mute.store(true, Ordering::SeqCst);
        let invalidating = match way {
            "key" => a.cache.invalidate(&1),
            "tag" => a.space.invalidate_tags([tag!("t", 1)]),
            _ => a.cache.clear(),
        };
        assert!(a.cache.get(&1).is_none(), "{way}: before anything is waited for");
        assert!(!invalidating.await.acked, "{way}");
        assert_eq!(store.len(), 5, "{way}: the second tier has the old value still");
        assert!(a.cache.fetch(&1).await.is_none(), "{way}");
        assert_eq!(load(&a.cache, 1, 2).await, 2, "{way}");
        assert_eq!(
            (b.cache.get(&1).as_deref(), b.space.is_coherent()),
            (Some(&1), true),
            "{way}: nobody told it"
        );
        a.line.mute.store(false, Ordering::SeqCst);
        time::sleep(Duration::from_secs(2)).await;
        assert!(b.cache.get(&1).is_none(), "{way}: it arrived");
        assert_eq!(a.space.stats().waiting, 0, "{way}");
        assert_eq!(held(&b.cache), if way == "clear" { vec![] } else { vec![2, 3, 4, 5] }, "{way}");
        assert_eq!(load(&b.cache, 1, 3).await, 3, "{way}: what the second tier got meanwhile is as old");
    }
}

#[tokio::test(start_paused = true)]
async fn s8_a_node_that_was_cut_off_serves_nothing_that_was_invalidated_meanwhile_and_all_the_rest() {
    let store = Arc::new(MemoryStore::new());
    let (a, b) = two(&store).await;
    let cache = |node: &Node| -> Cache<u64, u32> {
        node.space.cache("cleared").fresh(Duration::from_secs(600)).build().unwrap()
    };
    let (cleared_a, cleared_b) = (cache(&a), cache(&b));
    fill(&a, &b).await;
    load(&cleared_b, 1, 1).await;
    b.line.cut(true);
    time::sleep(Duration::from_secs(1)).await;
    assert!(!b.space.is_coherent() && a.space.is_coherent());
    a.cache.invalidate(&1).await;
    a.space.invalidate_tags([tag!("t", 2)]).await;
    a.cache.insert(3, 30);
    cleared_a.clear().await;
    assert_eq!(b.cache.get(&1).as_deref(), Some(&1), "within `degraded_ttl` it cannot know");
    time::sleep(CacheSpaceBuilder::DEGRADED_TTL).await;
    assert!(held(&b.cache).is_empty() && cleared_b.get(&1).is_none(), "beyond it nothing that old is served");
    b.line.cut(false);
    assert!(b.space.coherent(Duration::from_secs(10)).await);
    assert_eq!(
        (held(&b.cache), cleared_b.get(&1).is_none()),
        (vec![4, 5], true),
        "at once, when it is coherent"
    );
    assert_eq!(b.space.stats().gaps, 0, "nothing was lost, so nothing else is dropped");
    assert_eq!(
        (load(&b.cache, 1, 2).await, load(&b.cache, 2, 2).await, load(&b.cache, 3, 2).await),
        (2, 2, 30)
    );
}

#[tokio::test(start_paused = true)]
async fn s7_a_gap_in_the_log_forgets_everything_in_both_tiers() {
    for cut in [true, false] {
        let store = Arc::new(MemoryStore::new());
        store.retain(3);
        let (a, b) = two(&store).await;
        let lone: Cache<u64, u32> = b.space.cache("lone").build().unwrap();
        fill(&a, &b).await;
        lone.insert(7, 7);
        settle().await;
        // The log moves on by more than it retains while this node cannot read it, or is slow to.
        b.line.cut(cut);
        b.line.slow.store(if cut { 0 } else { 1_500 }, Ordering::SeqCst);
        time::sleep(Duration::from_secs(1)).await;
        for key in [1, 101, 102, 103, 104] {
            a.cache.invalidate(&key).await;
            settle().await;
        }
        b.line.slow.store(0, Ordering::SeqCst);
        b.line.cut(false);
        time::sleep(Duration::from_secs(3)).await;
        assert!(b.space.coherent(Duration::from_secs(10)).await);
        assert_eq!((b.space.stats().gaps > 0, a.space.stats().gaps), (true, 0), "cut: {cut}");
        assert!(held(&b.cache).is_empty() && lone.get(&7).is_none(), "each may have been in what was lost");
        assert_eq!(held(&a.cache), [2, 3, 4, 5], "whoever has read everything keeps the rest");
        let unknown = b.cache.fetch_many(&[1, 2, 3, 4, 5]).await;
        assert!(unknown.iter().all(Option::is_none), "nor is what was stored before the gap believed");
        assert_eq!(load(&a.cache, 6, 6).await, 6);
        settle().await;
        assert_eq!(b.cache.fetch(&6).await.as_deref(), Some(&6), "what is stored after it is");
    }
}

/// The node hears of three invalidations, loads what they were about, and something goes wrong with the records.
#[tokio::test(start_paused = true)]
async fn s7_however_records_arrive_nothing_they_invalidate_is_served_in_the_end() {
    let (old, new) = (Some(1), Some(2));
    for (fault, expected, gaps) in [
        ("lost", [None, None, new, None, None], 1),
        ("doubled", [new, new, new, old, old], 0),
        ("again later", [new, new, new, old, old], 0),
    ] {
        let store = Arc::new(MemoryStore::new());
        let (a, b) = two(&store).await;
        fill(&a, &b).await;
        let mut before = Vec::new();
        b.line.change(move |mut records| {
            match fault {
                "lost" => records.retain(|record| record.serial != 2),
                "doubled" => {
                    records = records.iter().flat_map(|record| [record.clone(), record.clone()]).collect();
                }
                "again later" if !records.is_empty() => {
                    before.append(&mut records);
                    records.clone_from(&before);
                }
                _ => {}
            }
            records
        });
        for key in 1..=3 {
            assert!(a.cache.invalidate(&key).await.acked);
            settle().await;
            load(&b.cache, key, 2).await;
            settle().await;
        }
        let held = [1, 2, 3, 4, 5].map(|key| b.cache.get(&key).as_deref().copied());
        assert_eq!((held, b.space.stats().gaps), (expected, gaps), "{fault}");
        let found = b.cache.fetch_many(&[1, 2, 3]).await;
        assert!(found.iter().all(|hit| hit.as_deref() != Some(&1)), "{fault}: nor from the second tier");
    }
}

#[tokio::test(start_paused = true)]
async fn s7_records_in_the_wrong_order_invalidate_all_the_same() {
    let store = Arc::new(MemoryStore::new());
    let ((a, b), c) = (two(&store).await, node(&store).await);
    fill(&a, &b).await;
    b.line.cut(true);
    time::sleep(Duration::from_secs(1)).await;
    for (node, key) in [(&a, 1), (&c, 2), (&a, 3)] {
        assert!(node.cache.invalidate(&key).await.acked);
    }
    b.line.change(|mut records| {
        records.reverse();
        records
    });
    b.line.cut(false);
    assert!(b.space.coherent(Duration::from_secs(10)).await);
    assert_eq!((held(&b.cache), b.space.stats().gaps), (vec![4, 5], 0));
}

/// A node begins at the end of a log, before it has read any record of it; then a failover loses the log's last record,
/// and its position is given to another one.
#[tokio::test(start_paused = true)]
async fn s7_s39_a_node_that_has_read_nothing_yet_notices_that_the_end_of_the_log_was_lost() {
    for cold in [true, false] {
        let store = Arc::new(MemoryStore::new());
        let (writer, third) = two(&store).await;
        let early = if cold { None } else { Some(node(&store).await) };
        writer.line.cut(true);
        let replica = store.snapshot();
        if let Some(early) = &early {
            early.line.cut(true);
        }
        time::sleep(Duration::from_secs(1)).await;
        // The log retains one record, so that there is nothing behind the position that is taken from it.
        store.retain(1);
        third.cache.invalidate(&101).await;
        if early.is_some() {
            third.cache.invalidate(&102).await;
        }
        let reader = match early {
            Some(early) => {
                early.line.cut(false);
                assert!(early.space.coherent(Duration::from_secs(10)).await);
                assert_eq!(early.space.stats().gaps, 1, "it was trimmed");
                early
            }
            None => node(&store).await,
        };
        let read = reader.space.stats();
        assert_eq!(load(&reader.cache, 1, 1).await, 1);
        settle().await;
        assert_eq!(reader.space.stats().since(&read).applied, 0, "cold: {cold}");
        // The others are away until the writer has filled the place of what was lost, and gone on.
        reader.line.cut(true);
        third.line.cut(true);
        time::sleep(Duration::from_secs(1)).await;
        store.fail_over(replica);
        store.retain(100);
        writer.line.cut(false);
        assert!(writer.space.coherent(Duration::from_secs(10)).await, "so that it has nothing to repeat");
        for key in [1, 103, 104] {
            writer.cache.invalidate(&key).await;
        }
        time::sleep(Duration::from_secs(5)).await;
        reader.line.cut(false);
        assert!(reader.space.coherent(Duration::from_secs(10)).await);
        assert!(
            reader.cache.get(&1).is_none(),
            "cold: {cold}: it was invalidated in a place that counted as read"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn s3_s39_a_cold_node_refuses_what_may_have_been_invalidated_in_records_that_are_gone() {
    let store = Arc::new(MemoryStore::new());
    store.retain(2);
    let a = node(&store).await;
    for key in [1, 2] {
        assert_eq!(load(&a.cache, key, 1).await, 1);
    }
    settle().await;
    for key in [1, 101, 102, 103] {
        a.cache.invalidate(&key).await;
        settle().await;
    }
    assert_eq!(load(&a.cache, 3, 1).await, 1);
    settle().await;
    assert_eq!(store.len(), 3);
    let cold = node(&store).await;
    let found = cold.cache.fetch_many(&[1, 2, 3]).await;
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(cold.space.stats().outdated, 2);
}

/// The lag that a space reports.
#[derive(Default)]
struct Lag(u64, f64);

impl Sink for Lag {
    fn counter(&mut self, _: &Desc, _: &[Label<'_>], _: u64) {}
    fn gauge(&mut self, _: &Desc, _: &[Label<'_>], _: f64) {}
    fn seconds(&mut self, _: &Desc, _: &[Label<'_>], _: Duration) {}
    fn histogram(&mut self, desc: &Desc, _: &[Label<'_>], histogram: &Histogram) {
        if desc.name == "perf_cache_log_lag_seconds" {
            let snapshot = histogram.snapshot();
            *self = Self(snapshot.count(), snapshot.mean().unwrap_or(0.0));
        }
    }
}

impl Lag {
    fn of(node: &Node) -> Self {
        let mut lag = Self::default();
        node.space.collect(&mut lag);
        lag
    }
}

#[tokio::test(start_paused = true)]
async fn s6_the_time_until_an_invalidation_is_applied_is_measured() {
    let store = Arc::new(MemoryStore::new());
    let (a, b) = two(&store).await;
    for key in 0..10 {
        a.cache.invalidate(&key).await;
    }
    settle().await;
    let Lag(count, mean) = Lag::of(&a);
    assert!(count == 10 && mean < 0.001, "{count} {mean}");
    a.line.mute.store(true, Ordering::SeqCst);
    a.cache.invalidate(&11).detach();
    time::sleep(Duration::from_secs(10)).await;
    a.line.mute.store(false, Ordering::SeqCst);
    time::sleep(Duration::from_secs(2)).await;
    let Lag(count, mean) = Lag::of(&a);
    assert!(
        count == 11 && mean * 11.0 > 9.5 && mean * 11.0 < 12.5,
        "what waited counts with its wait: {mean}"
    );
    assert_eq!(Lag::of(&b).0, 0, "each node measures its own");
}

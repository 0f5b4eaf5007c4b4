use perf_cache::{Cache, CacheSpace};
use perf_core::{Component, Desc, Histogram, Label, Sink};
use std::collections::BTreeSet;
use std::time::Duration;

/// The names that a component hands out.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Sink for Names {
    fn counter(&mut self, desc: &Desc, _: &[Label<'_>], _: u64) {
        self.0.insert(desc.name.to_owned());
    }
    fn gauge(&mut self, desc: &Desc, _: &[Label<'_>], _: f64) {
        self.0.insert(desc.name.to_owned());
    }
    fn histogram(&mut self, desc: &Desc, _: &[Label<'_>], _: &Histogram) {
        self.0.insert(desc.name.to_owned());
    }
    fn seconds(&mut self, desc: &Desc, _: &[Label<'_>], _: Duration) {
        self.0.insert(desc.name.to_owned());
    }
}

#[test]
fn the_documented_numbers_are_the_collected_ones() {
    let space = CacheSpace::in_process("t");
    let cache: Cache<u64, u64> = space.cache("a").build().unwrap();
    let mut names = Names::default();
    cache.collect(&mut names);
    space.collect(&mut names);
    let prefetcher = cache.prefetcher(|key| async move { Ok::<_, std::convert::Infallible>(key) }).unwrap();
    prefetcher.collect(&mut names);
    let page = include_str!("../../../../docs/cache.md");
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `perf_cache_"))
        .filter_map(|line| line.split_once('`'))
        .map(|(name, _)| format!("perf_cache_{name}"))
        .collect();
    assert_eq!(documented, names.0);
    assert_eq!(cache.id().to_string(), "cache `t.a`");
}

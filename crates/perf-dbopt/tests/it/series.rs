//! The series the docs list are those that are collected.

use perf_core::{Component, Desc, Histogram, Label, Sink};
use perf_dbopt::{Dialect, QueryStats, SERIES};
use std::time::Duration;

#[derive(Default)]
struct Names(Vec<&'static str>);

impl Sink for Names {
    fn counter(&mut self, desc: &Desc, _: &[Label<'_>], _: u64) {
        self.0.push(desc.name);
    }
    fn gauge(&mut self, desc: &Desc, _: &[Label<'_>], _: f64) {
        self.0.push(desc.name);
    }
    fn histogram(&mut self, desc: &Desc, _: &[Label<'_>], _: &Histogram) {
        self.0.push(desc.name);
    }
    fn seconds(&mut self, desc: &Desc, _: &[Label<'_>], _: Duration) {
        self.0.push(desc.name);
    }
}

#[test]
fn every_documented_series_is_collected_from_the_start() {
    let mut names = Names::default();
    QueryStats::new("main", Dialect::Sqlite).collect(&mut names);
    assert_eq!(names.0, SERIES.map(|desc| desc.name));
    let docs = include_str!("../../../../docs/dbopt.md");
    for name in names.0 {
        assert!(docs.contains(&format!("`{name}`")), "{name} is missing in docs/dbopt.md");
    }
}

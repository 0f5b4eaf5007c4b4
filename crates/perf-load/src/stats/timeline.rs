use super::latencies::Latencies;
use perf_core::time::Duration;

/// More intervals than this are merged in pairs: two hours of seconds, four of double seconds, and so on.
const MAX_INTERVALS: usize = 7_200;

/// What happened second by second, in bounded memory: the running second has a dense histogram, the others keep the few
/// cells that are not empty.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// In seconds.
    width: u64,
    intervals: Vec<Interval>,
    running: usize,
    dense: Latencies,
}

/// One interval of a timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) planned: u64,
    pub(crate) ok: u64,
    pub(crate) errors: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) max: Duration,
    /// Response times in microseconds with their counts, ascending.
    pub(crate) cells: Vec<(u64, u64)>,
}

impl Interval {
    fn merge(&mut self, other: Self) {
        self.planned += other.planned;
        self.ok += other.ok;
        self.errors += other.errors;
        self.sent += other.sent;
        self.received += other.received;
        self.max = self.max.max(other.max);
        self.cells.extend(other.cells);
        self.cells.sort_unstable();
        self.cells.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
    }

    /// The quantile of the response times in microseconds; `None` without any.
    pub(crate) fn quantile_micros(&self, q: f64) -> Option<u64> {
        let total: u64 = self.cells.iter().map(|(_, count)| count).sum();
        let rank = ((q * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        self.cells.iter().find_map(|(micros, count)| {
            seen += count;
            (seen >= rank).then_some(*micros)
        })
    }
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self { width: 1, intervals: vec![Interval::default()], running: 0, dense: Latencies::with_digits(2) }
    }

    /// Counts a request planned at this offset from the start of the run.
    pub(crate) fn plan(&mut self, at: Duration, count: u64) {
        let index = self.index_of(at);
        self.at(index).planned += count;
    }

    /// Counts a request that ended at this offset, with its response time when it succeeded.
    pub(crate) fn end(&mut self, at: Duration, response: Option<Duration>, sent: u64, received: u64) {
        let index = self.index_of(at).max(self.running);
        if index > self.running {
            self.seal();
            self.running = index;
        }
        if let Some(time) = response {
            self.dense.record(time);
        }
        let interval = self.at(index);
        interval.sent += sent;
        interval.received += received;
        match response {
            Some(time) => {
                interval.ok += 1;
                interval.max = interval.max.max(time);
            }
            None => interval.errors += 1,
        }
    }

    /// Adds another shard's timeline.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.seal();
        other.seal();
        while self.width < other.width {
            self.halve();
        }
        while other.width < self.width {
            other.halve();
        }
        for (index, interval) in other.intervals.into_iter().enumerate() {
            self.at(index).merge(interval);
        }
    }

    /// The width of an interval, and the intervals.
    pub(crate) fn finish(mut self) -> (Duration, Vec<Interval>) {
        self.seal();
        (Duration::from_secs(self.width), self.intervals)
    }

    fn index_of(&mut self, at: Duration) -> usize {
        loop {
            let index = (at.as_secs() / self.width) as usize;
            if index < MAX_INTERVALS {
                return index;
            }
            self.seal();
            self.halve();
        }
    }

    fn at(&mut self, index: usize) -> &mut Interval {
        if index >= self.intervals.len() {
            self.intervals.resize(index + 1, Interval::default());
        }
        &mut self.intervals[index]
    }

    /// Empties the dense histogram into the running interval.
    fn seal(&mut self) {
        if self.dense.count() > 0 {
            let cells = self.dense.recorded().collect();
            let running = self.running;
            self.at(running).merge(Interval { cells, ..Interval::default() });
            self.dense.clear();
        }
    }

    fn halve(&mut self) {
        self.width *= 2;
        self.running /= 2;
        let fine = std::mem::take(&mut self.intervals);
        for (index, interval) in fine.into_iter().enumerate() {
            self.at(index / 2).merge(interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_second_has_its_own_quantiles() {
        let mut timeline = Timeline::new();
        for second in 0..3_u64 {
            for _ in 0..100 {
                timeline.plan(secs(second), 1);
                timeline.end(secs(second), Some(Duration::from_millis(10 * (second + 1))), 10, 20);
            }
        }
        timeline.end(secs(2), None, 10, 0);
        let (width, intervals) = timeline.finish();
        assert_eq!((width, intervals.len()), (secs(1), 3));
        for (second, interval) in intervals.iter().enumerate() {
            let expected = 10_000.0 * (second as f64 + 1.0);
            let p99 = interval.quantile_micros(0.99).unwrap() as f64;
            assert!((p99 - expected).abs() < expected * 0.01, "{p99}");
            assert_eq!((interval.planned, interval.ok), (100, 100));
        }
        assert_eq!((intervals[2].errors, intervals[2].sent, intervals[2].received), (1, 1_010, 2_000));
    }

    #[test]
    fn a_day_fits_in_bounded_memory_and_loses_no_count() {
        let (mut day, mut hour) = (Timeline::new(), Timeline::new());
        for second in 0..86_400 {
            day.plan(secs(second), 1);
            day.end(secs(second), Some(Duration::from_micros(1 + second % 50)), 1, 1);
        }
        for second in 0..3_600 {
            hour.end(secs(second), None, 0, 0);
        }
        hour.merge(day);
        let (width, intervals) = hour.finish();
        assert_eq!(width, secs(16));
        assert_eq!(intervals.iter().map(|interval| interval.ok).sum::<u64>(), 86_400);
        assert_eq!(intervals.iter().map(|interval| interval.errors).sum::<u64>(), 3_600);
        let cells: u64 = intervals.iter().flat_map(|interval| &interval.cells).map(|(_, count)| count).sum();
        assert_eq!(cells, 86_400);
    }
}

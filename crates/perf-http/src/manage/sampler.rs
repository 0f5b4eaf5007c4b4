//! The heartbeat of the live page: one reading a second, a quarter of an hour of history, and a tick for whoever watches.

use super::Shared;
use super::overview::{Overview, Point, Snapshot};
use super::process::Process;
use super::reading::{Interval, Reading};
use super::verdict::{Verdict, judge};
use bytes::Bytes;
use perf_core::time::{self, Duration, Instant};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Time between two readings.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// Readings between two of the process: reading its numbers means reading the whole page.
const PROCESS_EVERY: u64 = 5;

/// Points of history: 15 minutes.
pub(super) const POINTS: usize = 900;

/// Readings over which the numbers on the tiles are taken: ten seconds, long enough to be calm and short enough to be now.
const WINDOW: usize = 10;

/// What the page shows, kept up to date by [`run`].
#[derive(Debug)]
pub(super) struct Sampler {
    state: Mutex<State>,
    ticks: watch::Sender<Bytes>,
}

#[derive(Debug)]
struct State {
    readings: VecDeque<(Instant, Reading)>,
    history: VecDeque<Point>,
    process: Process,
    verdict: Verdict,
    overview: Overview,
    sequence: u64,
    cost: Duration,
}

impl Sampler {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                readings: VecDeque::with_capacity(WINDOW + 1),
                history: VecDeque::with_capacity(POINTS),
                process: Process::default(),
                verdict: Verdict::unknown(),
                overview: Overview::default(),
                sequence: 0,
                cost: Duration::ZERO,
            }),
            ticks: watch::channel(Bytes::new()).0,
        }
    }

    /// The ticks from now on. The receiver sees the newest only: a slow client misses some and is never behind.
    pub(super) fn subscribe(&self) -> watch::Receiver<Bytes> {
        self.ticks.subscribe()
    }

    /// Everything, history included.
    pub(super) fn snapshot(&self, shared: &Shared) -> Snapshot {
        if self.state.lock().unwrap_or_else(PoisonError::into_inner).sequence == 0 {
            self.sample(shared);
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot::new(state.overview.clone(), state.history.iter())
    }

    /// Takes one reading, and tells whoever watches.
    pub(super) fn sample(&self, shared: &Shared) {
        let began = time::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reading = Reading::of(shared.metrics.registry());
        if state.sequence.is_multiple_of(PROCESS_EVERY) {
            state.process.read(&shared.metrics, began);
        }
        state.process.offer(&mut reading);
        let second = state.advance(reading, began);
        let window = state.window();
        let Some((_, latest)) = state.readings.back() else { return };
        let readiness = shared.readiness();
        let components = shared.components();
        let found = judge(&window, latest, readiness.as_ref(), &components);
        let mut overview = Overview::of(shared, &window, latest, components, readiness.as_ref());
        state.verdict = std::mem::take(&mut state.verdict).followed_by(found);
        overview.sequence = state.sequence;
        overview.verdict = state.verdict.clone();
        overview.tick_seconds = state.cost.as_secs_f64();
        overview.point = second;
        state.overview = overview;
        if self.ticks.receiver_count() > 0 {
            self.ticks.send_replace(super::events::frame("tick", state.sequence, &state.overview));
        }
        state.cost = time::now().saturating_duration_since(began);
    }
}

impl State {
    /// Takes the reading in, and returns its point of history.
    fn advance(&mut self, reading: Reading, now: Instant) -> Point {
        let second = self.readings.back().map(|(at, earlier)| {
            Interval::between(earlier, &reading, now.saturating_duration_since(*at).as_secs_f64())
        });
        let point = Point::of(second.as_ref(), &reading);
        if self.history.len() == POINTS {
            self.history.pop_front();
        }
        self.history.push_back(point.clone());
        if self.readings.len() > WINDOW {
            self.readings.pop_front();
        }
        self.readings.push_back((now, reading));
        self.sequence += 1;
        point
    }

    fn window(&self) -> Interval {
        match (self.readings.front(), self.readings.back()) {
            (Some((from, earlier)), Some((to, later))) => {
                Interval::between(earlier, later, to.saturating_duration_since(*from).as_secs_f64())
            }
            _ => Interval::default(),
        }
    }
}

/// Takes a reading each second until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut next = time::now();
    loop {
        shared.sampler.sample(&shared);
        // A machine that slept does not catch up: the gap stays a gap.
        next = (next + STEP).max(time::now());
        time::sleep_until(next).await;
    }
}

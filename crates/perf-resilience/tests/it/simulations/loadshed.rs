//! A server through its bad days, with an adaptive limit at its door: the phases of the README of little-loadshedder.

use perf_core::time::{self, Duration, Instant};
use perf_core::{Outcome, Rng};
use perf_resilience::adaptive::Adaptive;
use perf_resilience::{Gate, Leaving, Now, Token};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const SLOTS: usize = 20;
/// The 95th percentile of calls that never queue, as a multiple of their mean: they are spread evenly over 0.5 to 1.5.
const UNDISTURBED: f64 = 1.45;

/// One stretch of the day.
struct Phase {
    name: &'static str,
    seconds: f64,
    /// Calls offered, as a multiple of what the server can do in this phase.
    offered: f64,
    /// How long a call takes, in seconds.
    takes: f64,
}

struct Day {
    start: Instant,
    limit: Adaptive,
    rng: Rng,
    waiting: VecDeque<(f64, Token)>,
    /// Who is being served: when that ends, when it came, and its token.
    served: BinaryHeap<Reverse<(u64, u64, u64)>>,
}

impl Day {
    fn new() -> Self {
        let limit = Adaptive::builder("door").max(400).build().unwrap();
        let (waiting, served) = (VecDeque::new(), BinaryHeap::new());
        Self { start: time::now(), limit, rng: Rng::seeded(11), waiting, served }
    }

    fn at(&self, seconds: f64) -> Now {
        Now::at(self.start + Duration::from_secs_f64(seconds))
    }

    fn serve(&mut self, now: f64, takes: f64) {
        while self.served.len() < SLOTS
            && let Some((came, token)) = self.waiting.pop_front()
        {
            let end = now + takes * (0.5 + self.rng.unit());
            self.served.push(Reverse(((end * 1e9) as u64, (came * 1e9) as u64, token.value())));
        }
    }

    /// Ends what is done by `now`; the times of those calls.
    fn finish(&mut self, now: f64, takes: f64, times: &mut Vec<f64>) {
        while let Some(Reverse((end, came, token))) = self.served.peek().copied() {
            let (end, came) = (end as f64 / 1e9, came as f64 / 1e9);
            if end > now {
                break;
            }
            self.served.pop();
            let (left, started) = (self.at(end), self.at(came).get());
            let leaving = Leaving { outcome: Outcome::Success, started: Some(started), now: &left };
            self.limit.leave(Token::new(token), &leaving);
            times.push(end - came);
            self.serve(end, takes);
        }
    }

    /// The share of its capacity the server did, and the 95th percentile as a multiple of what a call takes on average.
    fn live(&mut self, from: f64, phase: &Phase) -> (f64, f64) {
        let capacity = SLOTS as f64 / phase.takes;
        let (mut now, mut times, mut settled) = (from, Vec::new(), 0);
        let half = from + phase.seconds / 2.0;
        while now < from + phase.seconds {
            now += self.rng.exponential(1.0 / (capacity * phase.offered));
            self.finish(now, phase.takes, &mut times);
            if now < half {
                settled = times.len();
            }
            if let Ok(token) = self.limit.enter(&self.at(now)) {
                self.waiting.push_back((now, token));
                self.serve(now, phase.takes);
            }
        }
        let times = &mut times[settled..];
        times.sort_by(f64::total_cmp);
        let done = times.len() as f64 / (phase.seconds / 2.0);
        (done / capacity.min(capacity * phase.offered), times[times.len() * 95 / 100] / phase.takes)
    }
}

#[test]
fn an_adaptive_limit_keeps_the_server_at_work_through_every_phase() {
    let mut day = Day::new();
    let phases = [
        Phase { name: "startup", seconds: 60.0, offered: 0.9, takes: 0.05 },
        Phase { name: "burst", seconds: 60.0, offered: 2.0, takes: 0.05 },
        Phase { name: "degradation", seconds: 60.0, offered: 1.5, takes: 0.1 },
        Phase { name: "slow", seconds: 60.0, offered: 0.5, takes: 0.1 },
        Phase { name: "recovery", seconds: 60.0, offered: 1.2, takes: 0.05 },
    ];
    let mut from = 0.0;
    for phase in phases {
        let (goodput, p95) = day.live(from, &phase);
        assert!(
            goodput >= 0.9 && p95 <= 2.0 * UNDISTURBED,
            "{}: {goodput} of capacity, p95 {p95}",
            phase.name
        );
        from += phase.seconds;
    }
}

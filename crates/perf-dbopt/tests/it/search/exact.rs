//! Random instances of the choice of indexes where each scan takes the cheapest of its candidates, and their exact answers.
//!
//! The answers come from branch and bound. Bounds relax "each scan uses one index": a scan pays a price for being served, prices are
//! moved until few scans are served twice or never (subgradient steps), and candidates whose price says enough are settled at once.

use perf_core::Rng;
use perf_dbopt::Error;
use perf_dbopt::advise::{Candidate, Limits, Planned, Problem, WhatIf};

/// Steps of the prices at the root, and at each further node.
const STEPS: (usize, usize) = (400, 60);
/// Steps without a better bound before they get smaller.
const PATIENCE: usize = 8;

/// Scans and candidates with their costs, weighted by calls.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Each scan's cost without new indexes.
    pub(crate) base: Vec<f64>,
    /// Each scan's cost with each candidate.
    pub(crate) with: Vec<Vec<f64>>,
    /// What writes pay for each candidate.
    pub(crate) upkeep: Vec<f64>,
    /// The size of each candidate.
    pub(crate) bytes: Vec<f64>,
    /// All candidates chosen may take this.
    pub(crate) max_bytes: f64,
    /// How many may be chosen.
    pub(crate) max_count: usize,
}

/// What limits a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cap {
    /// Upkeep alone.
    Nothing,
    /// The number of new indexes.
    Count,
    /// Their size, which also stands for a tolerance of upkeep.
    Size,
    /// Both.
    Both,
}

impl Instance {
    /// A random one; each candidate helps this share of the scans.
    pub(crate) fn random(seed: u64, scans: usize, candidates: usize, share: f64, cap: Cap) -> Self {
        let mut rng = Rng::seeded(seed);
        let base: Vec<f64> =
            (0..scans).map(|_| (100.0 + 900.0 * rng.unit()) * (1.0 + rng.below(20) as f64)).collect();
        let cost = |base: &f64, rng: &mut Rng| if rng.chance(share) { base * rng.unit() } else { base * 2.0 };
        let with = base.iter().map(|base| (0..candidates).map(|_| cost(base, &mut rng)).collect()).collect();
        let upkeep = (0..candidates).map(|_| 2_000.0 * rng.unit()).collect();
        let bytes: Vec<f64> = (0..candidates).map(|_| 1.0 + 9.0 * rng.unit()).collect();
        let all: f64 = bytes.iter().sum();
        let (by_size, by_count) =
            (matches!(cap, Cap::Size | Cap::Both), matches!(cap, Cap::Count | Cap::Both));
        Self {
            base,
            with,
            upkeep,
            max_bytes: if by_size { 10.0 + all * 0.07 } else { f64::INFINITY },
            bytes,
            max_count: if by_count { 3 + candidates / 16 } else { candidates },
        }
    }

    /// The same for the search.
    pub(crate) fn problem(&self) -> Problem {
        let helps = |scan: usize| move |item: &usize| self.with[scan][*item] < self.base[scan];
        Problem {
            weights: vec![1.0; self.base.len()],
            relevant: (0..self.base.len())
                .map(|scan| (0..self.bytes.len()).filter(helps(scan)).collect())
                .collect(),
            limits: Limits {
                bytes: self.max_bytes,
                count: self.max_count,
                per_table: usize::MAX,
                min_saving: 0.0,
                planner_calls: usize::MAX,
                ..Limits::default()
            },
            candidates: (0..self.bytes.len())
                .map(|item| Candidate {
                    table: 0,
                    bytes: self.bytes[item],
                    upkeep: self.upkeep[item],
                    narrower: Vec::new(),
                })
                .collect(),
            ..Problem::default()
        }
    }

    /// What a choice costs.
    pub(crate) fn total(&self, chosen: &[usize]) -> f64 {
        let scan =
            |(base, with): (&f64, &Vec<f64>)| chosen.iter().map(|item| with[*item]).fold(*base, f64::min);
        let reading: f64 = self.base.iter().zip(&self.with).map(scan).sum();
        reading + chosen.iter().map(|item| self.upkeep[*item]).sum::<f64>()
    }

    /// Whether a choice keeps to the caps.
    pub(crate) fn fits(&self, chosen: &[usize]) -> bool {
        chosen.len() <= self.max_count
            && chosen.iter().map(|item| self.bytes[*item]).sum::<f64>() <= self.max_bytes
    }

    /// The least total there is; `known` is one that can be had, and only saves time.
    pub(crate) fn best(&self, known: f64) -> f64 {
        let prices = self.base.iter().map(|base| base * 0.5).collect();
        let mut solver = Solver { instance: self, best: known.min(self.total(&[])) };
        solver.branch(vec![None; self.bytes.len()], prices, STEPS.0);
        solver.best
    }
}

/// The planner: of the candidates on offer, the cheapest that is cheaper than none.
impl WhatIf for Instance {
    async fn plan(&mut self, scan: usize, indexes: &[usize]) -> Result<Planned, Error> {
        let costs = &self.with[scan];
        let best = indexes.iter().copied().min_by(|a, b| costs[*a].total_cmp(&costs[*b]));
        Ok(match best {
            Some(best) if costs[best] < self.base[scan] => Planned { cost: costs[best], used: vec![best] },
            _ => Planned { cost: self.base[scan], used: Vec::new() },
        })
    }
}

struct Solver<'a> {
    instance: &'a Instance,
    best: f64,
}

/// A bound and what it rests on.
#[derive(Clone)]
struct Bound {
    least: f64,
    prices: Vec<f64>,
    /// By how much the bound rises when a candidate is chosen (above zero) or left out (below).
    lean: Vec<f64>,
}

impl Solver<'_> {
    /// Looks at every choice that agrees with what is settled, except those that cannot be better than the best so far.
    fn branch(&mut self, mut settled: Vec<Option<bool>>, prices: Vec<f64>, steps: usize) {
        let bound = self.bound(&settled, prices, steps);
        if bound.least >= self.best - 1e-9 * self.best.abs() {
            return;
        }
        for (item, state) in settled.iter_mut().enumerate() {
            if state.is_none() && bound.least + bound.lean[item].abs() >= self.best {
                *state = Some(bound.lean[item] < 0.0);
            }
        }
        let open = (0..settled.len()).filter(|item| settled[*item].is_none());
        let Some(next) = open.min_by(|a, b| bound.lean[*a].abs().total_cmp(&bound.lean[*b].abs())) else {
            let chosen: Vec<usize> = (0..settled.len()).filter(|item| settled[*item] == Some(true)).collect();
            self.see(&chosen);
            return;
        };
        let first = bound.lean[next] < 0.0;
        for choice in [first, !first] {
            settled[next] = Some(choice);
            self.branch(settled.clone(), bound.prices.clone(), STEPS.1);
        }
    }

    fn see(&mut self, chosen: &[usize]) {
        if self.instance.fits(chosen) {
            self.best = self.best.min(self.instance.total(chosen));
        }
    }

    /// The highest bound found by moving the prices.
    fn bound(&mut self, settled: &[Option<bool>], mut prices: Vec<f64>, steps: usize) -> Bound {
        let mut highest = Bound { least: f64::NEG_INFINITY, prices: prices.clone(), lean: Vec::new() };
        let (mut length, mut idle) = (1.0_f64, 0);
        for _ in 0..steps {
            let worth = self.worth(settled, &prices);
            let (extra, lean, share) = self.fill(settled, &worth);
            let least = prices.iter().sum::<f64>() + extra;
            if least == f64::INFINITY {
                return Bound { least, prices, lean };
            }
            let chosen: Vec<usize> = (0..share.len()).filter(|item| share[*item] > 0.999).collect();
            self.see(&chosen);
            if least > highest.least + 1e-7 * least.abs() {
                highest = Bound { least, prices: prices.clone(), lean };
                idle = 0;
            } else {
                idle += 1;
                if idle % PATIENCE == 0 {
                    length *= 0.6;
                }
            }
            if highest.least >= self.best || length < 1e-4 {
                break;
            }
            let slope = self.slope(&prices, &share);
            let norm: f64 = slope.iter().map(|s| s * s).sum();
            if norm < 1e-9 {
                break;
            }
            let step = length * (self.best - least).max(1e-6 * self.best) / norm;
            for ((price, slope), base) in prices.iter_mut().zip(&slope).zip(&self.instance.base) {
                *price = (*price + step * slope).clamp(0.0, *base);
            }
        }
        highest
    }

    /// What each candidate adds at these prices, below zero for those worth choosing.
    fn worth(&self, settled: &[Option<bool>], prices: &[f64]) -> Vec<f64> {
        let mut worth = self.instance.upkeep.clone();
        for (costs, price) in self.instance.with.iter().zip(prices) {
            for (worth, cost) in worth.iter_mut().zip(costs) {
                *worth += (cost - price).min(0.0);
            }
        }
        for (worth, state) in worth.iter_mut().zip(settled) {
            if *state == Some(false) {
                *worth = 0.0;
            }
        }
        worth
    }

    /// The cheapest choice at these worths, parts of candidates allowed: its worth, how each candidate leans, and its share.
    fn fill(&self, settled: &[Option<bool>], worth: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
        let instance = self.instance;
        let by_count = pack(settled, worth, &vec![1.0; worth.len()], instance.max_count as f64);
        if instance.max_bytes.is_infinite() {
            return by_count;
        }
        let by_size = pack(settled, worth, &instance.bytes, instance.max_bytes);
        if by_size.0 >= by_count.0 { by_size } else { by_count }
    }

    /// How often each scan is served, less one, turned round: up when nobody serves it, down when several do.
    fn slope(&self, prices: &[f64], share: &[f64]) -> Vec<f64> {
        let served = |(costs, price): (&Vec<f64>, &f64)| -> f64 {
            costs.iter().zip(share).filter(|(cost, _)| *cost < price).map(|(_, share)| share).sum()
        };
        let slope = self.instance.with.iter().zip(prices).map(served);
        slope
            .zip(prices.iter().zip(&self.instance.base))
            .map(|(served, (price, base))| {
                let slope = 1.0 - served;
                if slope > 0.0 && price >= base { 0.0 } else { slope }
            })
            .collect()
    }
}

/// Fills a room with what is worth most for its size; the last may go in in part. Those settled to be chosen go in first.
fn pack(settled: &[Option<bool>], worth: &[f64], sizes: &[f64], room: f64) -> (f64, Vec<f64>, Vec<f64>) {
    let mut share = vec![0.0; worth.len()];
    let (mut left, mut total) = (room, 0.0);
    for item in (0..worth.len()).filter(|item| settled[*item] == Some(true)) {
        share[item] = 1.0;
        left -= sizes[item];
        total += worth[item];
    }
    if left < -1e-9 {
        return (f64::INFINITY, vec![0.0; worth.len()], share);
    }
    let mut open: Vec<usize> =
        (0..worth.len()).filter(|item| settled[*item].is_none() && worth[*item] < 0.0).collect();
    open.sort_by(|a, b| (worth[*a] / sizes[*a]).total_cmp(&(worth[*b] / sizes[*b])));
    // What a unit of room is worth to the one that no longer fits.
    let mut rent = 0.0;
    for item in open {
        let part = (left / sizes[item]).clamp(0.0, 1.0);
        if part < 1.0 {
            rent = -worth[item] / sizes[item];
        }
        share[item] = part;
        total += part * worth[item];
        left -= part * sizes[item];
        if part < 1.0 {
            break;
        }
    }
    let lean = worth.iter().zip(sizes).map(|(worth, size)| worth + rent * size).collect();
    (total, lean, share)
}

//! Ways from nothing to a set: what the planner takes by itself, by benefit per byte, and from narrow to wide.

use super::look::{Look, State};
use super::{HARVESTING, Search};
use crate::Error;
use crate::advise::costs::WhatIf;
use crate::advise::set::Set;
use perf_core::time::now;

/// Rounds of "what would the planner take of everything", each without the winners of those before.
const HARVEST_ROUNDS: usize = 3;
/// The same where candidates compete in groups first.
const HEAT_ROUNDS: usize = 2;
/// Candidates offered at once at most: planning takes longer with each, and more than in proportion.
const AT_ONCE: usize = 300;
/// Where candidates compete in groups, the narrow ones are offered by themselves: the narrowest, and those one step wider.
const NARROW_DEPTHS: usize = 2;
/// Where not everything could be offered at once, no set is expected to bring a statement below this share of its cost with
/// the best of the groups.
const FLOOR: f64 = 0.95;
/// With more candidates than this, those nothing has been heard of are not widened to.
const WIDEN_ALL: usize = 1000;

impl<W: WhatIf> Search<'_, W> {
    /// Offers each statement everything, then everything but the winners, and keeps what was taken: the dearest statements
    /// first, as far as a part of the effort allows.
    pub(super) async fn harvest(&mut self) -> Result<(), Error> {
        let last = self.costs.calls + self.costs.left() / HARVESTING as usize;
        let until = self.costs.after(1.0 / f64::from(HARVESTING));
        for query in self.dearest_first(&self.base) {
            if self.costs.calls >= last || until.is_some_and(|until| now() >= until) {
                break;
            }
            let mut offered = self.costs.relevant(query).clone();
            // What no budget can hold only hides what it could.
            for item in self.costs.relevant(query).iter().collect::<Vec<_>>() {
                if self.problem.candidates[item].bytes > self.problem.limits.bytes {
                    offered.remove(item);
                }
            }
            let many = offered.len() > AT_ONCE;
            if many {
                self.large = true;
                for depth in 0..NARROW_DEPTHS {
                    let narrow = self.narrow_part(&offered, depth);
                    if narrow.len() <= AT_ONCE {
                        self.take(query, narrow, HEAT_ROUNDS).await?;
                    }
                }
                offered = self.finalists(query, &offered).await?;
            }
            let taken = self.take(query, offered, HARVEST_ROUNDS).await?;
            if let (true, Some(cost)) = (many, taken) {
                self.costs.expect(query, cost * FLOOR);
            }
            if self.costs.exhausted {
                break;
            }
        }
        self.bundles.extend(self.pool.iter().map(|item| Set::of([item])));
        Ok(())
    }

    /// Those that have no narrower ones, or only such: a planner that is offered everything takes the widest, and tight budgets
    /// want the others.
    fn narrow_part(&self, offered: &Set, depth: usize) -> Set {
        let candidates = &self.problem.candidates;
        let narrowest = |item: &usize| candidates[*item].narrower.is_empty();
        let narrow =
            |item: &usize| narrowest(item) || depth > 0 && candidates[*item].narrower.iter().all(narrowest);
        Set::of(offered.iter().filter(narrow))
    }

    /// Offers these, then these without the winners, and so on; the first cost, when there was an answer.
    async fn take(&mut self, query: usize, mut offered: Set, rounds: usize) -> Result<Option<f64>, Error> {
        let mut first = None;
        for _ in 0..rounds {
            let Some((cost, used)) = self.costs.plan(query, &offered).await? else { break };
            first = first.or(Some(cost));
            if used.is_empty() || cost >= self.base[query] {
                break;
            }
            self.pool = self.pool.with(&used);
            if used.len() > 1 && !self.bundles.contains(&used) {
                self.bundles.push(used.clone());
            }
            offered = offered.without(&used);
        }
        Ok(first)
    }

    /// Too many to be offered at once: those made for the statement, some at a time, and of these what the planner takes.
    async fn finalists(&mut self, query: usize, offered: &Set) -> Result<Set, Error> {
        let proposed = self.problem.proposed.get(query).map(|items| Set::of(items.iter().copied()));
        let own = proposed.map_or_else(|| offered.clone(), |proposed| proposed.intersection(offered));
        if own.len() <= AT_ONCE {
            return Ok(own);
        }
        let before = self.pool.clone();
        self.pool = Set::default();
        for heat in own.iter().collect::<Vec<_>>().chunks(AT_ONCE / 2) {
            self.take(query, Set::of(heat.iter().copied()), HEAT_ROUNDS).await?;
        }
        let winners = std::mem::replace(&mut self.pool, before);
        self.pool = self.pool.with(&winners);
        Ok(winners)
    }

    /// A planner offered everything takes the widest; a tight budget wants what is left when columns are dropped.
    pub(super) fn narrow(&mut self) {
        let known = self.pool.clone();
        for item in known.iter() {
            for narrower in &self.problem.candidates[item].narrower {
                self.pool.insert(*narrower);
            }
        }
        let added: Vec<Set> = self.pool.without(&known).iter().map(|item| Set::of([item])).collect();
        self.bundles.extend(added);
    }

    /// Adds bundles, the best benefit per size first, until none fits or helps. Benefits are looked at again only when
    /// they come to the top, and only until they would not be at the top any more: adding an index rarely makes another
    /// more useful.
    pub(super) async fn grow(
        &mut self,
        mut state: State,
        exponent: f64,
        banned: Option<usize>,
    ) -> Result<State, Error> {
        let least = self.least();
        let mut open = Vec::with_capacity(self.bundles.len());
        for bundle in 0..self.bundles.len() {
            let added = self.bundles[bundle].without(&state.set);
            let hope = state.total - self.least_total(&state, &state.set.with(&added));
            if hope > least {
                open.push((hope / self.bytes(&added).max(1.0).powf(exponent), bundle));
            }
        }
        open.sort_by(|a, b| a.0.total_cmp(&b.0));
        while let Some((before, bundle)) = open.pop() {
            let added = self.bundles[bundle].without(&state.set);
            let set = state.set.with(&added);
            if added.is_empty() || banned.is_some_and(|item| added.contains(item)) || !self.fits(&set) {
                continue;
            }
            let size = self.bytes(&added).max(1.0).powf(exponent);
            let next_best = open.last().map_or(0.0, |(score, _)| *score);
            let enough = state.total - least;
            let target = enough.min(state.total - next_best * size);
            let mut look = self.look(&state, set.clone(), target).await?;
            if let Look::Above(total) = look
                && (state.total - total) / size >= before * (1.0 - 1e-9)
            {
                // Nothing was learnt: look to the end, or two equals would take turns for ever.
                look = self.look(&state, set, enough).await?;
            }
            let (total, found) = match look {
                Look::Found(next) => (next.total, Some(next)),
                Look::Above(total) => (total, None),
                Look::Spent => break,
            };
            let gain = state.total - total;
            if gain <= least {
                continue;
            }
            let score = gain / size;
            match found {
                Some(next) if score >= next_best => state = next,
                _ => {
                    let place = open.partition_point(|(other, _)| *other < score);
                    open.insert(place, (score, bundle));
                }
            }
        }
        Ok(state)
    }

    /// Begins narrow and widens, as Extend does (Schlosser, Kossmann and Boissier, ICDE 2019): each step adds one of the
    /// narrowest candidates, or puts a wider one in the place of those it covers, whichever gains most per byte. It finds
    /// what a planner that is offered everything never takes, and tight budgets want.
    pub(super) async fn widen(&mut self, mut state: State) -> Result<State, Error> {
        let least = self.least();
        let items = self.widenable();
        loop {
            let mut open: Vec<(f64, f64, Set)> = Vec::new();
            for &item in &items {
                if let Some((set, size)) = self.wider(&state.set, item) {
                    let hope = state.total - self.least_total(&state, &set);
                    if hope > least {
                        open.push((hope / size, size, set));
                    }
                }
            }
            open.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut best: Option<(f64, State)> = None;
            for (hope, size, set) in open {
                let score = best.as_ref().map_or(0.0, |(score, _)| *score);
                if score >= hope {
                    break;
                }
                match self.look(&state, set, state.total - least.max(score * size)).await? {
                    Look::Found(next) => best = Some(((state.total - next.total) / size, next)),
                    Look::Above(_) => {}
                    Look::Spent => return Ok(best.map_or(state, |(_, next)| next)),
                }
            }
            match best {
                Some((_, next)) if next.total < state.total => state = next,
                _ => return Ok(state),
            }
        }
    }

    /// What may be widened to: everything, or of very many the narrowest, what the planner took, and what is narrower than that.
    fn widenable(&self) -> Vec<usize> {
        let candidates = &self.problem.candidates;
        if candidates.len() <= WIDEN_ALL {
            return (0..candidates.len()).collect();
        }
        let narrower = self.pool.iter().flat_map(|item| candidates[item].narrower.iter().copied());
        let narrowest = (0..candidates.len()).filter(|item| candidates[*item].narrower.is_empty());
        Set::of(self.pool.iter().chain(narrower).chain(narrowest)).iter().collect()
    }

    /// The set with this candidate in the place of those it covers, and the bytes that adds.
    pub(super) fn wider(&self, set: &Set, item: usize) -> Option<(Set, f64)> {
        let narrower = &self.problem.candidates[item].narrower;
        let held = Set::of(narrower.iter().copied().filter(|narrow| set.contains(*narrow)));
        if set.contains(item) || (held.is_empty() && !narrower.is_empty()) {
            return None;
        }
        let wider = set.without(&held).with(&Set::of([item]));
        let size = (self.bytes(&wider) - self.bytes(set)).max(1.0);
        self.fits(&wider).then_some((wider, size))
    }
}

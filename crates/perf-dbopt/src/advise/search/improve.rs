//! Changes of a set that make it better: exchanges, dropping, building a part of it anew.

use super::Search;
use super::look::{Look, State};
use crate::Error;
use crate::advise::costs::WhatIf;
use crate::advise::set::Set;

const EXCHANGE_ROUNDS: usize = 4;

impl<W: WhatIf> Search<'_, W> {
    /// Exchanges one chosen candidate for another, drops what became superfluous, and fills the room that leaves.
    pub(super) async fn improve(&mut self, state: &mut State, exponent: f64) -> Result<(), Error> {
        for _ in 0..EXCHANGE_ROUNDS {
            let before = state.total;
            for out in state.set.iter().collect::<Vec<_>>() {
                self.exchange(state, out).await?;
            }
            self.prune(state).await?;
            *state = self.grow(state.clone(), exponent, None).await?;
            if self.costs.exhausted || state.total >= before * 0.9999 {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) async fn exchange(&mut self, state: &mut State, out: usize) -> Result<(), Error> {
        if !state.set.contains(out) {
            return Ok(());
        }
        let rest = state.set.without(&Set::of([out]));
        let mut best: Option<State> = None;
        let candidates = &self.problem.candidates;
        // While there is room, another table's index is simply added.
        let tight = self.is_tight(&state.set);
        for item in self.pool.iter().collect::<Vec<_>>() {
            let set = rest.with(&Set::of([item]));
            let elsewhere = !tight && candidates[item].table != candidates[out].table;
            if elsewhere || state.set.contains(item) || !self.fits(&set) {
                continue;
            }
            let target = best.as_ref().map_or(state.total, |best| best.total);
            match self.look(state, set, target).await? {
                Look::Found(next) if next.total < target => best = Some(next),
                Look::Spent => break,
                Look::Found(_) | Look::Above(_) => {}
            }
        }
        if let Some(best) = best {
            *state = best;
        }
        Ok(())
    }

    /// Takes out what saves less than the least saving, the least useful first.
    pub(super) async fn prune(&mut self, state: &mut State) -> Result<(), Error> {
        let least = self.least();
        loop {
            let mut best: Option<State> = None;
            for out in state.set.iter().collect::<Vec<_>>() {
                let target = best.as_ref().map_or(state.total + least, |best| best.total);
                let look = self.look(state, state.set.without(&Set::of([out])), target).await?;
                if let Look::Found(next) = look
                    && best.as_ref().is_none_or(|best| next.total < best.total)
                {
                    best = Some(next);
                }
            }
            match best {
                Some(next) => *state = next,
                None => return Ok(()),
            }
        }
    }

    /// Takes each chosen candidate out in turn, fills the room without it, and keeps what is better: two may do what one did.
    pub(super) async fn rebuild(&mut self, best: &mut State) -> Result<(), Error> {
        for out in best.set.iter().collect::<Vec<_>>() {
            if self.costs.exhausted || !best.set.contains(out) {
                continue;
            }
            let Some(rest) = self.at(best, best.set.without(&Set::of([out]))).await? else { continue };
            for exponent in [1.0, 0.0] {
                let mut state = self.grow(rest.clone(), exponent, Some(out)).await?;
                self.prune(&mut state).await?;
                if state.total < best.total {
                    *best = state;
                    break;
                }
            }
        }
        Ok(())
    }
}

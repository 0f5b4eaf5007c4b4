#![expect(clippy::unwrap_used, reason = "helpers of tests fail the way tests do")]

mod choose;
mod ejector;
mod figures;
mod pick;

use super::choose::{Chosen, Wish};
use super::state::State;
use super::*;
use perf_core::Rng;
use perf_core::time::{self, Duration};
use std::collections::BTreeSet;

fn idle(count: usize) -> Vec<EndpointView> {
    vec![EndpointView { weight: 1.0, latency: 0.01, in_flight: 0, available: true }; count]
}

fn state(endpoints: Vec<Endpoint>, config: BalanceConfig) -> (State, time::Instant) {
    let now = time::now();
    let mut state = State::new(config, Rng::seeded(1), now);
    state.set(endpoints, now);
    (state, now)
}

/// The names of the endpoints that ten choices fall on.
fn chosen(state: &mut State, wish: Wish<'_>, now: time::Instant) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..10 {
        let Some(call) = state.choose(wish, &RandomPick, now) else { continue };
        state.finish(call, Duration::from_millis(1), Some(true), now);
        names.insert(name(state, call));
    }
    names
}

fn name(state: &State, call: Chosen) -> String {
    state.known[state.index(call.id).unwrap()].endpoint.name().to_owned()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(ToOwned::to_owned).collect()
}

fn id_of(state: &State, name: &str) -> u64 {
    state.known.iter().find(|known| known.endpoint.name() == name).unwrap().id
}

/// An ordinary call to an endpoint.
const fn call(id: u64) -> Chosen {
    Chosen { id, probe: false, available: true }
}

/// Calls to an endpoint fail, as many in a row as take it out. Returns whether the last of them did.
fn eject(state: &mut State, name: &str, now: time::Instant) -> bool {
    let call = call(id_of(state, name));
    (0..5).fold(false, |_, _| state.finish(call, Duration::ZERO, Some(false), now))
}

/// Probes of an endpoint fail until it is down.
fn take_out(state: &mut State, name: &str, now: time::Instant) {
    let id = id_of(state, name);
    let turned = (0..3).fold(None, |_, _| state.probed(id, None, now).health);
    assert_eq!(turned, Some(false), "the third in a row");
}

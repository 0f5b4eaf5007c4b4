//! Traces that a value may be followed to: at most one per power of two, the newest, never for long under a lock.

use crate::page::Page;
use perf_core::time::{self, Duration, Instant};
use std::sync::{Mutex, PoisonError, TryLockError};

/// Characters the labels of an exemplar may have together: OpenMetrics' limit.
const LONGEST: usize = 128;

/// How long an exemplar stays at least, so that a busy bucket is not rewritten for every value.
const MIN_AGE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Exemplar {
    octave: i32,
    value: f64,
    labels: String,
    seen: Instant,
}

/// The exemplars of one distribution.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<Vec<Exemplar>>);

impl Exemplars {
    /// Notes where `value` came from. When another thread is doing the same, or the labels are longer than OpenMetrics
    /// allows, nothing is noted.
    pub(super) fn note(&self, value: f64, labels: &[(&str, &str)]) {
        let length: usize =
            labels.iter().map(|(key, value)| key.chars().count() + value.chars().count()).sum();
        if length > LONGEST || labels.iter().any(|(key, _)| !crate::names::is_label(key)) {
            return;
        }
        let now = time::now();
        match self.0.try_lock() {
            Ok(mut notes) => put(&mut notes, value, labels, now),
            Err(TryLockError::Poisoned(notes)) => put(&mut notes.into_inner(), value, labels, now),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    pub(super) fn read(&self, page: &mut Page) {
        for note in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            page.push_note(note.octave, note.value, &note.labels);
        }
    }
}

fn put(notes: &mut Vec<Exemplar>, value: f64, labels: &[(&str, &str)], now: Instant) {
    // The bucket `(2^(octave − 1), 2^octave]`.
    let octave = if value > 0.0 { value.log2().ceil().clamp(-128.0, 128.0) as i32 } else { -128 };
    let render = || crate::page::render_labels(&std::sync::Arc::from([]), labels);
    match notes.binary_search_by_key(&octave, |note| note.octave) {
        Ok(at) if now.saturating_duration_since(notes[at].seen) < MIN_AGE => {}
        Ok(at) => {
            if let Some(labels) = render() {
                notes[at] = Exemplar { octave, value, labels, seen: now };
            }
        }
        Err(at) => {
            if let Some(labels) = render() {
                notes.insert(at, Exemplar { octave, value, labels, seen: now });
            }
        }
    }
}

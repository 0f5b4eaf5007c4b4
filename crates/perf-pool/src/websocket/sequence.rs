use std::collections::BTreeMap;

/// What comes out of a [`Sequencer`], in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen<T> {
    Item(T),
    /// Everything between the two is missing.
    Gap {
        last_seen: u64,
        next: u64,
    },
}

/// Puts numbered things in order, drops what was there before, and tells what is missing: every number from the first one
/// seen on comes out once, as an item or inside a gap. Pure.
#[derive(Clone, Debug)]
pub(super) struct Sequencer<T> {
    expected: Option<u64>,
    /// What came too early.
    held: BTreeMap<u64, T>,
}

impl<T> Sequencer<T> {
    /// Continues after a number that was seen before, or begins with the first to come.
    pub(super) fn new(after: Option<u64>) -> Self {
        Self { expected: after.map(|after| after.saturating_add(1)), held: BTreeMap::new() }
    }

    /// The last number that came out, or is known to be missing.
    pub(super) fn last(&self) -> Option<u64> {
        self.expected.map(|next| next.wrapping_sub(1))
    }

    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes in a numbered thing, holding back at most `window` that came too early. Returns whether it is new.
    pub(super) fn see(&mut self, number: u64, item: T, window: usize, out: &mut impl FnMut(Seen<T>)) -> bool {
        let expected = *self.expected.get_or_insert(number);
        if number < expected || self.held.contains_key(&number) {
            return false;
        }
        if number == expected {
            self.expected = Some(expected.saturating_add(1));
            out(Seen::Item(item));
            self.release(out);
            return true;
        }
        self.held.insert(number, item);
        while self.held.len() > window {
            self.give_up_oldest(out);
        }
        true
    }

    /// Waits no longer for what is missing before the things held back.
    pub(super) fn flush(&mut self, out: &mut impl FnMut(Seen<T>)) {
        while self.is_holding() {
            self.give_up_oldest(out);
        }
    }

    /// The other end says that it goes on with `next`: what lies before it and is not held back will not come any more.
    pub(super) fn goes_on_with(&mut self, next: u64, out: &mut impl FnMut(Seen<T>)) {
        while self.held.first_key_value().is_some_and(|(first, _)| *first < next) {
            self.give_up_oldest(out);
        }
        let expected = *self.expected.get_or_insert(next);
        if next > expected {
            out(Seen::Gap { last_seen: expected.wrapping_sub(1), next });
            self.expected = Some(next);
            self.release(out);
        }
    }

    /// The other end counts anew: nothing of before can be compared.
    pub(super) fn restart(&mut self, next: u64) {
        self.held.clear();
        self.expected = Some(next);
    }

    fn give_up_oldest(&mut self, out: &mut impl FnMut(Seen<T>)) {
        let (Some(expected), Some((first, item))) = (self.expected, self.held.pop_first()) else { return };
        out(Seen::Gap { last_seen: expected.wrapping_sub(1), next: first });
        out(Seen::Item(item));
        self.expected = Some(first.saturating_add(1));
        self.release(out);
    }

    fn release(&mut self, out: &mut impl FnMut(Seen<T>)) {
        while let Some(expected) = self.expected {
            let Some(item) = self.held.remove(&expected) else { return };
            out(Seen::Item(item));
            self.expected = Some(expected.saturating_add(1));
        }
    }
}

//! A line whose places are numbered for ever: who has a number finds its place, wherever the line has got to.

/// Growing a ring doubles it; the first one holds so many.
const FIRST: usize = 16;

/// The places from `head` to `tail`, of which some may be gaps. Nothing is written to a place when its turn has come, and
/// the two numbers lie beside each other: under contention each line of the cache that is written has to come from the
/// other core.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Ring<T> {
    head: u64,
    tail: u64,
    /// As many as a power of two; a number's place is its remainder.
    places: Box<[Option<T>]>,
}

impl<T: Copy> Ring<T> {
    pub(super) fn new() -> Self {
        Self { head: 0, tail: 0, places: Box::default() }
    }

    /// How many places there are between the first and the last, gaps and all.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// The number the next one gets.
    #[inline]
    pub(super) const fn next(&self) -> u64 {
        self.tail
    }

    #[inline]
    pub(super) fn push(&mut self, item: T) {
        if self.len() == self.places.len() {
            self.grow();
        }
        self.tail += 1;
        let place = self.place(self.tail - 1);
        place.into_iter().for_each(|place| *place = Some(item));
    }

    /// The first place; none where there are no more.
    #[inline]
    pub(super) fn first(&self) -> Option<Option<&T>> {
        self.numbers().next().and_then(|number| self.places.get(self.index(number))).map(Option::as_ref)
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Option<T>> {
        let first = self.first().map(Option::<&T>::copied)?;
        self.head += 1;
        Some(first)
    }

    /// The place of this number, while it has one.
    #[inline]
    pub(super) fn place(&mut self, number: u64) -> Option<&mut Option<T>> {
        if !self.numbers().contains(&number) {
            return None;
        }
        let index = self.index(number);
        self.places.get_mut(index)
    }

    pub(super) const fn numbers(&self) -> std::ops::Range<u64> {
        self.head..self.tail
    }

    /// Closes all gaps. What is left gets new numbers, so that old ones stay unknown; `moved` is told each.
    pub(super) fn close_gaps(&mut self, mut moved: impl FnMut(&T, u64)) {
        let old = self.numbers();
        self.head = self.tail;
        for number in old {
            // Whatever is moved goes to a place that was looked at already, or to its own.
            let index = self.index(number);
            if let Some(item) = self.places[index].take() {
                moved(&item, self.tail);
                self.push(item);
            }
        }
    }

    #[inline]
    const fn index(&self, number: u64) -> usize {
        number as usize & self.places.len().wrapping_sub(1)
    }

    #[cold]
    fn grow(&mut self) {
        let mut larger: Box<[Option<T>]> = vec![None; (self.places.len() * 2).max(FIRST)].into();
        for number in self.numbers() {
            larger[number as usize & (larger.len() - 1)] = self.places[self.index(number)];
        }
        self.places = larger;
    }
}

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_ring_does_what_a_map_from_numbers_does(steps in proptest::collection::vec(0..8_u8, 0..400)) {
            let (mut ring, mut map, mut head) = (Ring::new(), BTreeMap::new(), 0);
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    0..=3 => {
                        map.insert(ring.next(), Some(value));
                        ring.push(value);
                    }
                    4 => {
                        prop_assert_eq!(ring.pop(), map.remove(&head));
                        head = ring.numbers().start;
                    }
                    5 | 6 => {
                        let number = head + value as u64 % 20;
                        let taken = ring.place(number).map(Option::take);
                        prop_assert_eq!(taken, map.get_mut(&number).map(Option::take));
                    }
                    _ => {
                        let mut moved = Vec::new();
                        ring.close_gaps(|item, number| moved.push((number, Some(*item))));
                        let left: Vec<_> = std::mem::take(&mut map).into_values().flatten().collect();
                        prop_assert_eq!(&left, &moved.iter().filter_map(|(_, item)| *item).collect::<Vec<_>>());
                        map.extend(moved);
                        head = ring.numbers().start;
                    }
                }
                prop_assert_eq!(ring.numbers().count(), map.len());
                prop_assert_eq!(ring.first().map(Option::<&usize>::copied), map.get(&head).copied());
            }
        }
    }
}

//! When entries end: a hierarchical timer wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987), so
//! that what is dead does not wait for eviction.
//!
//! Time is counted in pages of about a second. The lowest wheel has a bucket for each of the next 64 pages, the one above
//! for each of the next 64 turns of the lowest, and so on. An entry moves down when its turn comes: at most once per wheel,
//! and a call moves only a few.

use super::list::{Linked, Links, List};
use crate::clock::Tick;

/// Bits of a page number that choose a bucket of one wheel.
const DIGIT: u32 = 6;
const BUCKETS: usize = 1 << DIGIT;
/// Six digits of six bits are more pages than the clock has.
const WHEELS: usize = 6;
/// Steps of one call at most: an entry moved down, or a jump to the next bucket in use.
const STEPS: usize = 64;

/// No page: never, or not on the wheel.
const UNDATED: u64 = u64::MAX;

/// Two to the thirtieth of a nanosecond is a little more than a second.
const fn page(at: Tick) -> u64 {
    if at.0 == u64::MAX { UNDATED } else { at.0 >> 30 }
}

/// Numbers by the page of their end.
#[derive(Debug, Default)]
pub(super) struct Wheel {
    /// Everything that ends before this page has been handed out.
    at: u64,
    /// Made with the first date: a cache whose entries never end has none.
    wheels: Vec<Buckets>,
    dates: Dates,
}

#[derive(Debug)]
struct Buckets {
    lists: [List; BUCKETS],
    /// A bit for each list that is not empty.
    used: u64,
}

#[derive(Debug, Default)]
struct Dates(Vec<Date>);

#[derive(Clone, Copy, Debug)]
struct Date {
    links: Links,
    page: u64,
    wheel: u8,
    bucket: u8,
}

impl Linked for Dates {
    fn links(&mut self, node: u32) -> &mut Links {
        &mut self.0[node as usize].links
    }
}

impl Wheel {
    /// Enters a number with the tick of its end; an earlier date of it is crossed out.
    pub(super) fn enter(&mut self, number: u32, end: Tick) {
        self.cross_out(number);
        let page = page(end);
        if page == UNDATED {
            return;
        }
        if self.dates.0.len() <= number as usize {
            let undated = Date { links: Links::default(), page: UNDATED, wheel: 0, bucket: 0 };
            self.dates.0.resize(number as usize + 1, undated);
        }
        if self.wheels.is_empty() {
            let wheel = || Buckets { lists: [List::default(); BUCKETS], used: 0 };
            self.wheels.resize_with(WHEELS, wheel);
        }
        self.place(number, page);
    }

    pub(super) fn cross_out(&mut self, number: u32) {
        let Some(date) = self.dates.0.get_mut(number as usize) else { return };
        if std::mem::replace(&mut date.page, UNDATED) == UNDATED {
            return;
        }
        let (wheel, bucket) = (usize::from(date.wheel), usize::from(date.bucket));
        let Buckets { lists, used } = &mut self.wheels[wheel];
        lists[bucket].unlink(&mut self.dates, number, 1);
        if lists[bucket].weight == 0 {
            *used &= !(1 << bucket);
        }
    }

    /// Crosses out and returns a number whose page has passed entirely. `None` may also mean that it takes more steps to
    /// find one; the next call goes on from here.
    pub(super) fn due(&mut self, now: Tick) -> Option<u32> {
        let end = page(now);
        if self.wheels.is_empty() {
            self.at = end;
        }
        for _ in 0..STEPS {
            if self.at >= end {
                return None;
            }
            if let Some(number) = self.above() {
                let page = self.dates.0[number as usize].page;
                self.cross_out(number);
                self.place(number, page);
            } else if let Some(number) = self.wheels[0].lists[self.digit(0)].oldest() {
                self.cross_out(number);
                return Some(number);
            } else {
                self.at = self.next().map_or(end, |next| next.min(end));
            }
        }
        None
    }

    /// The bucket of a page is chosen by the highest digit in which it differs from the present one.
    fn place(&mut self, number: u32, page: u64) {
        let ahead = page.max(self.at);
        let wheel = (ahead ^ self.at).checked_ilog2().map_or(0, |bit| bit / DIGIT).min(WHEELS as u32 - 1);
        let bucket = (ahead >> (wheel * DIGIT)) as usize % BUCKETS;
        let date = &mut self.dates.0[number as usize];
        (date.page, date.wheel, date.bucket) = (page, wheel as u8, bucket as u8);
        let Buckets { lists, used } = &mut self.wheels[wheel as usize];
        lists[bucket].push(&mut self.dates, number, 1);
        *used |= 1 << bucket;
    }

    fn digit(&self, wheel: usize) -> usize {
        (self.at >> (wheel as u32 * DIGIT)) as usize % BUCKETS
    }

    /// A number in the present bucket of a higher wheel: it belongs further down by now.
    fn above(&self) -> Option<u32> {
        (1..WHEELS).find_map(|wheel| self.wheels[wheel].lists[self.digit(wheel)].oldest())
    }

    /// The first page of the next bucket in use, of any wheel.
    fn next(&self) -> Option<u64> {
        let of = |wheel: usize| {
            let (digit, shift) = (self.digit(wheel), wheel as u32 * DIGIT);
            let later = self.wheels[wheel].used & u64::MAX.checked_shl(digit as u32 + 1).unwrap_or(0);
            let turn = self.at >> (shift + DIGIT) << DIGIT;
            (later != 0).then(|| (turn | u64::from(later.trailing_zeros())) << shift)
        };
        (0..WHEELS).filter_map(of).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const fn at_page(page: u64) -> Tick {
        Tick(page << 30)
    }

    #[test]
    fn numbers_come_due_once_their_page_has_passed() {
        let second = |n: u64| Tick(0).after(Duration::from_secs(n));
        let mut wheel = Wheel::default();
        wheel.enter(0, second(5));
        wheel.enter(1, second(5));
        wheel.enter(2, second(100));
        wheel.enter(3, Tick(u64::MAX));
        wheel.enter(1, second(50));
        assert_eq!(wheel.due(second(4)), None);
        assert_eq!((wheel.due(second(9)), wheel.due(second(9))), (Some(0), None));
        wheel.cross_out(1);
        assert_eq!((wheel.due(second(200)), wheel.due(second(200))), (Some(2), None));
        assert!(wheel.wheels.iter().all(|wheel| wheel.used == 0));
    }

    #[test]
    fn a_call_does_little_however_many_end_at_once() {
        let mut wheel = Wheel::default();
        (0..1_000).for_each(|number| wheel.enter(number, at_page(5000)));
        let (mut calls, mut found) = (0, 0);
        while found < 1_000 {
            match wheel.due(at_page(6000)) {
                Some(_) => found += 1,
                None => calls += 1,
            }
        }
        // Each entry moves down twice before it is handed out; a call without a result made some of those moves.
        assert!(calls >= 1_000 * 2 / STEPS - 2, "{calls}");
    }

    proptest! {
        /// The oracle is a map of dates: nothing comes early, nothing is forgotten.
        #[test]
        fn it_hands_out_what_has_ended_and_nothing_else(
            ops in prop::collection::vec((0..50_u32, 0..4_u8, 0..400_000_u64), 1..200),
        ) {
            let (mut wheel, mut map, mut now) = (Wheel::default(), BTreeMap::new(), 0_u64);
            for (number, op, ahead) in ops {
                match op {
                    0 => {
                        wheel.cross_out(number);
                        map.remove(&number);
                    }
                    1 => now += ahead >> 6,
                    _ => {
                        wheel.enter(number, at_page(now + ahead));
                        map.insert(number, now + ahead);
                    }
                }
                let mut idle = 0;
                while idle < 100 {
                    match wheel.due(at_page(now)) {
                        Some(number) => prop_assert!(map.remove(&number).is_some_and(|page| page < now)),
                        None => idle += 1,
                    }
                }
                prop_assert!(map.values().all(|&page| page >= now));
            }
        }
    }
}

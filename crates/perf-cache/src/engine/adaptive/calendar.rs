//! When entries end: a calendar with a page a second, so that what is dead does not wait for eviction.

use super::list::{Linked, Links, List, NONE};
use crate::clock::Tick;
use std::collections::BTreeMap;

/// Entries by the page of their end. Every operation costs the logarithm of the pages in use.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    pages: BTreeMap<u64, List>,
    dates: Dates,
}

#[derive(Debug, Default)]
struct Dates(Vec<(Links, u64)>);

impl Linked for Dates {
    fn links(&mut self, node: u32) -> &mut Links {
        &mut self.0[node as usize].0
    }
}

/// No page: never, or not in the calendar.
const UNDATED: u64 = u64::MAX;

/// Two to the thirtieth of a nanosecond is a little more than a second.
const fn page(at: Tick) -> u64 {
    if at.0 == u64::MAX { UNDATED } else { at.0 >> 30 }
}

impl Calendar {
    /// Enters a number with the tick of its end; an earlier date of it is crossed out.
    pub(super) fn enter(&mut self, number: u32, end: Tick) {
        self.cross_out(number);
        let page = page(end);
        if self.dates.0.len() <= number as usize {
            self.dates.0.resize(number as usize + 1, (Links::default(), UNDATED));
        }
        if page != UNDATED {
            self.dates.0[number as usize].1 = page;
            self.pages.entry(page).or_default().push(&mut self.dates, number, 1);
        }
    }

    pub(super) fn cross_out(&mut self, number: u32) {
        let Some((_, page)) = self.dates.0.get_mut(number as usize) else { return };
        let page = std::mem::replace(page, UNDATED);
        if let Some(list) = self.pages.get_mut(&page) {
            list.unlink(&mut self.dates, number, 1);
            if list.weight == 0 {
                self.pages.remove(&page);
            }
        }
    }

    /// Crosses out and returns a number whose page has passed entirely.
    pub(super) fn due(&mut self, now: Tick) -> Option<u32> {
        let (&first, list) = self.pages.first_key_value()?;
        if first >= page(now) {
            return None;
        }
        let number = list.oldest().filter(|&number| number != NONE)?;
        self.cross_out(number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_come_due_once_their_page_has_passed() {
        let second = |n: u64| Tick(0).after(Duration::from_secs(n));
        let mut calendar = Calendar::default();
        calendar.enter(0, second(5));
        calendar.enter(1, second(5));
        calendar.enter(2, second(100));
        calendar.enter(3, Tick(u64::MAX));
        calendar.enter(1, second(50));
        assert_eq!(calendar.due(second(4)), None);
        assert_eq!((calendar.due(second(9)), calendar.due(second(9))), (Some(0), None));
        calendar.cross_out(1);
        assert_eq!((calendar.due(second(200)), calendar.due(second(200))), (Some(2), None));
        assert!(calendar.pages.is_empty());
    }
}

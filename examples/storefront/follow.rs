//! What an order does to the pages that show it: the page after it follows from the page before it, without asking the database.

use crate::shop::{Answer, Content, Day, OrderLine, PAGE_SIZE, Page, Placed, TODAY};

/// Whether orders change this page in a way that can be followed. Such a page must be read in one snapshot: a version and a
/// content from two moments would be followed into a third that never was.
pub const fn can_be_followed(page: &Page) -> bool {
    matches!(page, Page::History(_) | Page::Revenue(_))
}

/// The pages that show an order as soon as it is placed.
pub fn shown_on(placed: &Placed) -> [Page; 2] {
    [Page::History(placed.customer), Page::Revenue(TODAY[..7].to_owned())]
}

/// The page at `version`, which `orders` alone made of the version before it: those of one transaction that the page shows,
/// in any order. `None` if the held page is of another version, so that it has to be read again.
pub fn followed(held: &Answer, version: i64, orders: &[&Placed]) -> Option<Answer> {
    if held.version + 1 != version {
        return None;
    }
    let content = match &held.content {
        Content::History(lines) => Content::History(history(lines, orders)),
        Content::Revenue(days) => Content::Revenue(revenue(days, orders)),
        _ => return None,
    };
    Some(Answer { version, content })
}

/// Newest first: nothing is newer than what has just been placed.
fn history(lines: &[OrderLine], orders: &[&Placed]) -> Vec<OrderLine> {
    let mut newest: Vec<OrderLine> = orders
        .iter()
        .map(|placed| OrderLine {
            order: placed.order,
            date: TODAY.to_owned(),
            status: "O".to_owned(),
            total_cents: placed.total_cents,
        })
        .collect();
    newest.sort_unstable_by_key(|line| std::cmp::Reverse(line.order));
    newest.extend_from_slice(lines);
    newest.truncate(PAGE_SIZE as usize);
    newest
}

/// An order without a discount adds its total to the revenue of its day, to the cent.
fn revenue(days: &[Day], orders: &[&Placed]) -> Vec<Day> {
    let mut days = days.to_vec();
    if days.last().is_none_or(|day| day.date != TODAY) {
        days.push(Day { date: TODAY.to_owned(), orders: 0, revenue_cents: 0 });
    }
    if let Some(today) = days.last_mut() {
        today.orders += orders.len() as i64;
        today.revenue_cents += orders.iter().map(|placed| placed.total_cents).sum::<i64>();
    }
    days
}

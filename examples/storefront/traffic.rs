//! What the shop's users do: mostly read, popular things most of all, and one request in twenty places an order.

use crate::check::{Ledger, Samples};
use crate::shop::{NewOrder, Page, Receipt, TODAY};
use perf_load::{Answer, CheckFailed, Request, Scenario, User};
use perfkit::core::{Rng, Zipf};
use std::sync::Arc;

/// One answer in so many is compared with the database.
const SAMPLE: u64 = 40;

/// Words that TPC-H's product names are made of; each is in one name in twenty.
const WORDS: [&str; 24] = [
    "almond", "azure", "beige", "blanched", "blush", "brown", "chiffon", "coral", "cream", "dodger",
    "forest", "ghost", "honeydew", "indian", "ivory", "lace", "lemon", "linen", "maroon", "midnight", "navy",
    "plum", "sienna", "thistle",
];

/// The size of the data, and how popular its things are.
pub struct Catalogue {
    parts: Zipf,
    customers: Zipf,
    words: Zipf,
    months: Zipf,
    nations: u64,
    orders: u64,
}

impl Catalogue {
    pub fn new(scale: f64) -> Self {
        let rows = |at_one: f64| ((at_one * scale) as u64).max(1);
        Self {
            parts: Zipf::new(rows(200_000.0), 0.99),
            customers: Zipf::new(rows(150_000.0), 0.99),
            words: Zipf::new(WORDS.len() as u64, 0.99),
            months: Zipf::new(80, 0.99),
            nations: 25,
            orders: rows(1_500_000.0),
        }
    }

    /// The next page a user looks at: products half of the time, then search, histories, orders and reports.
    fn page(&self, rng: &mut Rng) -> Page {
        match rng.below(95) {
            0..50 => Page::Product(self.part(rng)),
            50..70 => Page::Search {
                word: WORDS[self.words.sample(rng) as usize].to_owned(),
                page: rng.below(3) as u32,
            },
            70..78 => Page::History(self.customer(rng)),
            78..86 => Page::Order(self.order(rng)),
            86..90 => {
                Page::BestSellers { nation: rng.below(self.nations) as i64, year: 1992 + rng.below(6) as i32 }
            }
            _ => Page::Revenue(self.month(rng)),
        }
    }

    fn new_order(&self, rng: &mut Rng) -> NewOrder {
        NewOrder { customer: self.customer(rng), part: self.part(rng), quantity: 1 + rng.below(3) as i64 }
    }

    fn part(&self, rng: &mut Rng) -> i64 {
        spread(self.parts.sample(rng), self.parts.ranks())
    }

    fn customer(&self, rng: &mut Rng) -> i64 {
        spread(self.customers.sample(rng), self.customers.ranks())
    }

    /// A popular order. TPC-H uses eight of every 32 order keys.
    fn order(&self, rng: &mut Rng) -> i64 {
        let nth = spread(self.customers.sample(rng), self.customers.ranks()) as u64 % self.orders + 1;
        ((nth >> 3 << 5) | (nth & 7)) as i64
    }

    /// A month of the data, the present one most often.
    fn month(&self, rng: &mut Rng) -> String {
        let present = 1998 * 12 + 7;
        let month = present - self.months.sample(rng) as i64;
        let text = format!("{}-{:02}", month / 12, month % 12 + 1);
        debug_assert!(text.as_str() <= TODAY);
        text
    }
}

/// Turns a rank into a key from 1 on, so that neighbours in popularity are not neighbours in the table.
fn spread(rank: u64, keys: u64) -> i64 {
    // A stride without a common factor visits every key once.
    let stride = (keys as f64 * 0.618) as u64 | 1;
    let stride = (stride..).find(|stride| gcd(*stride, keys) == 1).unwrap_or(1);
    ((u128::from(rank) * u128::from(stride) % u128::from(keys)) + 1) as i64
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The shop's users, as the load tester drives them.
pub struct Users {
    catalogue: Arc<Catalogue>,
    ledger: Arc<Ledger>,
    samples: Samples,
}

impl Users {
    pub fn new(catalogue: Arc<Catalogue>, ledger: Arc<Ledger>, samples: Samples) -> Self {
        Self { catalogue, ledger, samples }
    }
}

impl Scenario for Users {
    fn next(&mut self, user: &mut User, request: &mut Request) {
        let rng = user.rng();
        if rng.below(100) < 5 {
            let order = self.catalogue.new_order(rng);
            // A sold-out product is an answer, not a failure. A body of three numbers cannot fail to serialise.
            let body = serde_json::to_vec(&order).unwrap_or_default();
            request
                .post("/orders")
                .header("content-type", "application/json")
                .body(&body)
                .step("order")
                .accept(409)
                .keep_body();
            return;
        }
        let page = self.catalogue.page(rng);
        request.get(page.path()).header("accept-encoding", "gzip").step(step(&page));
        if rng.below(SAMPLE) == 0 {
            // The ledger is read before the request is sent: what a client was told by then, this answer must know.
            let floor = self.ledger.floor(&page);
            request.keep_body().attach(Sampled { page, floor });
        }
    }

    fn check(&mut self, request: &Request, answer: &Answer<'_>) -> Result<(), CheckFailed> {
        if request.http_method() == perf_load::Method::Post {
            return self.note_order(answer);
        }
        let Some(Sampled { page, floor }) = request.attached::<Sampled>() else { return Ok(()) };
        let body = plain(answer)?;
        self.samples.submit(page.clone(), *floor, body);
        Ok(())
    }
}

/// What is remembered with a request whose answer is compared.
struct Sampled {
    page: Page,
    floor: i64,
}

impl Users {
    fn note_order(&self, answer: &Answer<'_>) -> Result<(), CheckFailed> {
        if answer.status() == 409 {
            return Ok(());
        }
        let receipt: Receipt = serde_json::from_slice(answer.body())
            .map_err(|_| CheckFailed::new("the receipt of an order cannot be read"))?;
        self.ledger.raise(receipt.versions);
        Ok(())
    }
}

/// The body without its content encoding.
fn plain(answer: &Answer<'_>) -> Result<Vec<u8>, CheckFailed> {
    use std::io::Read;
    match answer.header("content-encoding") {
        None => Ok(answer.body().to_vec()),
        Some("gzip") => {
            let mut plain = Vec::new();
            let read = flate2::read::GzDecoder::new(answer.body()).read_to_end(&mut plain);
            read.map_err(|_| CheckFailed::new("the compressed body cannot be read"))?;
            Ok(plain)
        }
        Some(_) => Err(CheckFailed::new("the body has an encoding that was not asked for")),
    }
}

fn step(page: &Page) -> &'static str {
    match page {
        Page::Product(_) => "product",
        Page::Search { .. } => "search",
        Page::History(_) => "history",
        Page::Order(_) => "order detail",
        Page::BestSellers { .. } => "best sellers",
        Page::Revenue(_) => "revenue",
    }
}

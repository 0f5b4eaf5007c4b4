//! What the shop shows and does, whichever way it is served.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The last day in the data, on which every new order is placed.
pub const TODAY: &str = "1998-08-02";

/// Products on a page of search results, and orders on a page of a customer's history.
pub const PAGE_SIZE: i64 = 20;

/// One page of the shop, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Page {
    /// A product with its suppliers.
    Product(i64),
    /// Products with a word in their name, cheapest first.
    Search { word: String, page: u32 },
    /// A customer's newest orders.
    History(i64),
    /// An order with its lines.
    Order(i64),
    /// What a nation's customers bought most in a year.
    BestSellers { nation: i64, year: i32 },
    /// Revenue of each day of a month, `1998-08`.
    Revenue(String),
}

impl Page {
    /// What the answer depends on, and by which its version is kept. Placing an order raises the versions of what it changes.
    pub fn scope(&self) -> String {
        match self {
            Self::Product(part) => format!("part:{part}"),
            Self::Search { .. } => "catalogue".to_owned(),
            Self::History(customer) => format!("customer:{customer}"),
            Self::Order(order) => format!("order:{order}"),
            Self::BestSellers { year, .. } => format!("year:{year}"),
            Self::Revenue(month) => format!("month:{month}"),
        }
    }

    /// The path under which the page is served.
    pub fn path(&self) -> String {
        match self {
            Self::Product(part) => format!("/products/{part}"),
            Self::Search { word, page } => format!("/products?q={word}&page={page}"),
            Self::History(customer) => format!("/customers/{customer}/orders"),
            Self::Order(order) => format!("/orders/{order}"),
            Self::BestSellers { nation, year } => format!("/bestsellers/{nation}/{year}"),
            Self::Revenue(month) => format!("/revenue/{month}"),
        }
    }
}

/// A page's content and the version of its scope when it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub version: i64,
    #[serde(flatten)]
    pub content: Content,
}

/// The content of each kind of page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Product(Product),
    Search(Search),
    History(Vec<OrderLine>),
    Order(Order),
    BestSellers(Vec<BestSeller>),
    Revenue(Vec<Day>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    pub part: i64,
    pub name: String,
    pub brand: String,
    pub kind: String,
    pub size: i64,
    pub container: String,
    pub price_cents: i64,
    pub suppliers: Vec<Supplier>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Supplier {
    pub supplier: i64,
    pub name: String,
    pub nation: String,
    pub cost_cents: i64,
    pub in_stock: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Search {
    pub total: i64,
    pub products: Vec<Found>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub part: i64,
    pub name: String,
    pub brand: String,
    pub price_cents: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderLine {
    pub order: i64,
    pub date: String,
    pub status: String,
    pub total_cents: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub order: i64,
    pub customer: i64,
    pub date: String,
    pub status: String,
    pub total_cents: i64,
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub number: i64,
    pub part: i64,
    pub name: String,
    pub quantity: i64,
    pub price_cents: i64,
    pub discount_percent: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestSeller {
    pub part: i64,
    pub name: String,
    pub sold: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Day {
    pub date: String,
    pub orders: i64,
    pub revenue_cents: i64,
}

/// An order to place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    pub customer: i64,
    pub part: i64,
    pub quantity: i64,
}

/// A placed order, and the new version of everything it changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub order: i64,
    pub versions: Vec<(String, i64)>,
}

/// A placed order, as the shop itself remembers it until everybody has been told.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    pub order: i64,
    pub customer: i64,
    pub total_cents: i64,
    pub versions: Vec<(String, i64)>,
}

impl From<Placed> for Receipt {
    fn from(placed: Placed) -> Self {
        Self { order: placed.order, versions: placed.versions }
    }
}

/// Why the shop could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("product {0} is sold out")]
    SoldOut(i64),
    #[error("{field} = {value}, allowed: {allowed}")]
    Invalid { field: &'static str, value: String, allowed: &'static str },
    #[error("the database could not answer")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Rejected(#[from] perfkit::core::Rejected),
    #[error("the database has no connection to spare")]
    Pool(#[from] perfkit::pool::Error),
    #[error("{0}")]
    Unavailable(String),
    /// The error of a load that several callers waited for.
    #[error(transparent)]
    Shared(Arc<ShopError>),
}

impl ShopError {
    /// Whether the database could not be reached, so that an older answer is better than none.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Database(_) | Self::Rejected(_) | Self::Pool(_) | Self::Unavailable(_) => true,
            Self::NotFound(_) | Self::SoldOut(_) | Self::Invalid { .. } => false,
            Self::Shared(error) => error.is_outage(),
        }
    }
}

impl NewOrder {
    /// Everything the order may change.
    pub fn scopes(&self) -> [String; 3] {
        [
            Page::History(self.customer).scope(),
            Page::Revenue(TODAY[..7].to_owned()).scope(),
            Page::Product(self.part).scope(),
        ]
    }

    /// Checks what a client sent.
    pub fn validate(&self) -> Result<(), ShopError> {
        if (1..=50).contains(&self.quantity) {
            return Ok(());
        }
        Err(ShopError::Invalid { field: "quantity", value: self.quantity.to_string(), allowed: "1 to 50" })
    }
}

/// The first day of a month given as `1998-08`, and the first day after it.
pub fn month_range(month: &str) -> Result<(String, String), ShopError> {
    let refused =
        || ShopError::Invalid { field: "month", value: month.to_owned(), allowed: "a month such as 1998-08" };
    let (year, number) = month.split_once('-').ok_or_else(refused)?;
    let (year, number): (i32, u32) =
        (year.parse().map_err(|_| refused())?, number.parse().map_err(|_| refused())?);
    if !(1900..=2100).contains(&year) || !(1..=12).contains(&number) {
        return Err(refused());
    }
    let (next_year, next) = if number == 12 { (year + 1, 1) } else { (year, number + 1) };
    Ok((format!("{year}-{number:02}-01"), format!("{next_year}-{next:02}-01")))
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

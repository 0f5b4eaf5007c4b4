//! The web service: the same handlers whichever way the shop is served.

use crate::shop::{Answer, NewOrder, Page, Receipt, ShopError};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

/// A way to serve the shop.
pub trait Shop: Send + Sync + 'static {
    /// How an answer is held: owned, or shared with a cache.
    type Held: Deref<Target = Answer> + Send;

    fn page(&self, page: Page) -> impl Future<Output = Result<Self::Held, ShopError>> + Send;

    fn place(&self, order: NewOrder) -> impl Future<Output = Result<Receipt, ShopError>> + Send;
}

/// The routes of the shop.
pub fn routes<S: Shop>(shop: Arc<S>) -> Router {
    Router::new()
        .route("/products/{part}", get(product::<S>))
        .route("/products", get(search::<S>))
        .route("/customers/{customer}/orders", get(history::<S>))
        .route("/orders/{order}", get(order::<S>))
        .route("/bestsellers/{nation}/{year}", get(best_sellers::<S>))
        .route("/revenue/{month}", get(revenue::<S>))
        .route("/orders", post(place::<S>))
        .with_state(shop)
}

#[derive(Deserialize)]
struct Words {
    q: String,
    #[serde(default)]
    page: u32,
}

async fn product<S: Shop>(State(shop): State<Arc<S>>, Path(part): Path<i64>) -> Result<Response, ShopError> {
    show(&*shop, Page::Product(part)).await
}

async fn search<S: Shop>(
    State(shop): State<Arc<S>>,
    Query(words): Query<Words>,
) -> Result<Response, ShopError> {
    let simple = (2..=20).contains(&words.q.len()) && words.q.bytes().all(|b| b.is_ascii_lowercase());
    if !simple {
        return Err(ShopError::Invalid { field: "q", value: words.q, allowed: "2 to 20 lower-case letters" });
    }
    if words.page > 1000 {
        return Err(ShopError::Invalid {
            field: "page",
            value: words.page.to_string(),
            allowed: "0 to 1000",
        });
    }
    show(&*shop, Page::Search { word: words.q, page: words.page }).await
}

async fn history<S: Shop>(
    State(shop): State<Arc<S>>,
    Path(customer): Path<i64>,
) -> Result<Response, ShopError> {
    show(&*shop, Page::History(customer)).await
}

async fn order<S: Shop>(State(shop): State<Arc<S>>, Path(order): Path<i64>) -> Result<Response, ShopError> {
    show(&*shop, Page::Order(order)).await
}

async fn best_sellers<S: Shop>(
    State(shop): State<Arc<S>>,
    Path((nation, year)): Path<(i64, i32)>,
) -> Result<Response, ShopError> {
    show(&*shop, Page::BestSellers { nation, year }).await
}

async fn revenue<S: Shop>(
    State(shop): State<Arc<S>>,
    Path(month): Path<String>,
) -> Result<Response, ShopError> {
    show(&*shop, Page::Revenue(month)).await
}

async fn place<S: Shop>(
    State(shop): State<Arc<S>>,
    Json(order): Json<NewOrder>,
) -> Result<Response, ShopError> {
    let receipt = shop.place(order).await?;
    Ok((StatusCode::CREATED, Json(receipt)).into_response())
}

async fn show<S: Shop>(shop: &S, page: Page) -> Result<Response, ShopError> {
    let answer = shop.page(page).await?;
    Ok(Json(&*answer).into_response())
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response {
        (status(&self), Json(serde_json::json!({ "error": self.to_string() }))).into_response()
    }
}

fn status(error: &ShopError) -> StatusCode {
    match error {
        ShopError::NotFound(_) => StatusCode::NOT_FOUND,
        ShopError::SoldOut(_) => StatusCode::CONFLICT,
        ShopError::Invalid { .. } => StatusCode::BAD_REQUEST,
        ShopError::Rejected(_) | ShopError::Pool(_) | ShopError::Unavailable(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ShopError::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ShopError::Shared(error) => status(error),
    }
}

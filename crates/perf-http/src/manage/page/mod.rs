//! The live page: a document, a style sheet and a module, as they are written. Nothing is built and nothing is fetched from
//! elsewhere.

use crate::Problem;
use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

/// What a browser shows to someone without a session.
pub(super) const LOCKED: &str = include_str!("locked.html");

pub(super) async fn document() -> Html<&'static str> {
    Html(include_str!("index.html"))
}

pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "page.js" => ("text/javascript; charset=utf-8", include_str!("page.js")),
        "format.js" => ("text/javascript; charset=utf-8", include_str!("format.js")),
        "chart.js" => ("text/javascript; charset=utf-8", include_str!("chart.js")),
        "page.css" => ("text/css; charset=utf-8", include_str!("page.css")),
        _ => return Problem::new(StatusCode::NOT_FOUND, "there is no such asset").into_response(),
    };
    ([(CONTENT_TYPE, kind)], text).into_response()
}

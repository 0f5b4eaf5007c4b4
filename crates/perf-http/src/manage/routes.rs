//! The paths, and the guard in front of them.

use super::host::Hosts;
use super::{Shared, events, page};
use crate::{Head, Problem};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use perf_core::Status;
use perf_metrics::{CheckReport, Format, Report, SeriesView};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tower_service::Service;

/// Every path, guarded, and what applies to all of them.
pub(super) fn tree(shared: &Arc<Shared>, hosts: Option<Hosts>) -> Router {
    let open = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/login", get(login));
    let scraped = Router::new().route("/metrics", get(metrics));
    let guarded = Router::new()
        .route("/health", get(health))
        .route("/health/{name}", get(health_of))
        .route("/overview", get(overview))
        .route("/events", get(events::events))
        .route("/alerts", get(alerts))
        .route("/rules.yaml", get(rules))
        .route("/info", get(info))
        .route("/components", get(components))
        .route("/components/{kind}", get(components_of))
        .route("/components/{kind}/{name}", get(component))
        .route("/{resource}", get(resource))
        .route("/assets/{name}", get(page::asset))
        .route("/", get(page::document));
    let hosts = hosts.map(Arc::new);
    open.merge(scraped.route_layer(from_fn_with_state(Arc::clone(shared), admit_scraper)))
        .merge(guarded.route_layer(from_fn_with_state(Arc::clone(shared), admit)))
        .fallback(|| async { nothing_here() })
        .with_state(Arc::clone(shared))
        .layer(from_fn(move |request: Request, next: Next| protected(hosts.clone(), request, next)))
}

/// The same tree at the root and below `base`: a proxy may forward one path of several services.
pub(super) fn also_below(base: String, tree: Router) -> Router {
    Router::new().fallback(move |mut request: Request| {
        let (base, mut tree) = (base.clone(), tree.clone());
        async move {
            match request.uri().path().strip_prefix(base.as_str()) {
                // The page's links are relative: without the slash they would lead beside it.
                Some("") => {
                    let last = base.rsplit('/').next().unwrap_or_default();
                    return (StatusCode::PERMANENT_REDIRECT, [(LOCATION, format!("{last}/"))])
                        .into_response();
                }
                Some(rest) if rest.starts_with('/') => {
                    if let Some(uri) = with_path(request.uri(), rest) {
                        *request.uri_mut() = uri;
                    }
                }
                _ => {}
            }
            tree.call(request).await.into_response()
        }
    })
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{path}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here")
}

/// Answers for names of ours only, and gives every answer its security headers.
async fn protected(hosts: Option<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let known = hosts.is_none_or(|hosts| hosts.admits(Head::of(&request)));
    let mut response = if known {
        next.run(request).await
    } else {
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "this name is not one of ours").into_response()
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = response.headers().get(ALLOW).cloned();
        response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this can only be read").into_response();
        response.headers_mut().extend(allowed.map(|allowed| (ALLOW, allowed)));
    }
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const SECURITY: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match shared.gate.admit(Head::of(&request), false) {
        Ok(()) => next.run(request).await,
        Err(problem) => refused(problem, request.headers()),
    }
}

async fn admit_scraper(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if shared.open_metrics {
        return next.run(request).await;
    }
    match shared.gate.admit(Head::of(&request), true) {
        Ok(()) => next.run(request).await,
        Err(problem) => refused(problem, request.headers()),
    }
}

/// The refusal as problem+json, or as a page for someone who opened the address in a browser.
fn refused(problem: Problem, headers: &HeaderMap) -> Response {
    let status = problem.status();
    let browser =
        headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|a| a.contains("text/html"));
    let mut response = problem.into_response();
    if browser && status == StatusCode::UNAUTHORIZED {
        response = (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], page::LOCKED).into_response();
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"perf\""));
    }
    response
}

#[derive(Deserialize)]
struct Link {
    t: String,
}

async fn login(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Ok(Query(Link { t })) = Query::try_from_uri(request.uri()) else {
        return Problem::new(StatusCode::BAD_REQUEST, "a link has the form /login?t=…").into_response();
    };
    match shared.gate.login(Head::of(&request), &t) {
        Ok(cookie) => {
            (StatusCode::SEE_OTHER, [(LOCATION, "./".to_owned()), (SET_COOKIE, cookie)]).into_response()
        }
        Err(problem) => refused(problem, request.headers()),
    }
}

/// What a probe may ask for.
#[derive(Default)]
struct Asked {
    verbose: bool,
    excluded: Vec<String>,
}

impl Asked {
    /// `?verbose` and any number of `exclude=name`, as Kubernetes' own probes understand them.
    fn of(uri: &Uri) -> Self {
        let mut asked = Self::default();
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else { return asked };
        for (key, value) in pairs {
            match key.as_str() {
                "verbose" => asked.verbose = true,
                "exclude" => asked.excluded.push(value),
                _ => {}
            }
        }
        asked
    }
}

async fn livez(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    probe(&shared, &request, shared.health.as_ref().map(|health| health.liveness()))
}

async fn readyz(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    probe(&shared, &request, shared.readiness())
}

async fn startupz(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    probe(&shared, &request, shared.health.as_ref().map(|health| health.startup()))
}

/// The status word for everybody, and the checks for those who may look.
fn probe(shared: &Shared, request: &Request, report: Option<Report>) -> Response {
    let asked = Asked::of(request.uri());
    // Without checks, answering at all is the answer.
    let Some(report) = report else { return (StatusCode::OK, "up\n").into_response() };
    let status = without(&report, &asked.excluded);
    let code = code_of(status);
    let word = status.as_str();
    let response = if !asked.verbose {
        (code, format!("{word}\n")).into_response()
    } else if let Err(problem) = shared.gate.admit(Head::of(request), false) {
        return refused(problem, request.headers());
    } else {
        let line =
            |check: &CheckReport| format!("[{}] {} {}", check.status.as_str(), check.name, check.reason);
        let lines: Vec<String> = report.checks.iter().map(line).collect();
        (code, format!("{}\n{word} {}\n", lines.join("\n"), report.reason)).into_response()
    };
    with_status(response, status)
}

/// The status of a report when some of its checks are left out.
fn without(report: &Report, excluded: &[String]) -> Status {
    let counts = |check: &&CheckReport| check.status != Status::Up && !excluded.contains(&check.name);
    if excluded.is_empty() || report.checks.iter().all(|check| check.status == Status::Up) {
        // What is left is the life cycle's verdict, which cannot be left out.
        return report.status;
    }
    let weighed = |check: &CheckReport| if check.fatal { check.status } else { Status::Degraded };
    let of_checks = report.checks.iter().filter(counts).map(weighed).max().unwrap_or(Status::Up);
    match report.lifecycle {
        perf_metrics::Lifecycle::Ready => of_checks,
        perf_metrics::Lifecycle::Starting => of_checks.max(Status::Unknown),
        _ => Status::Down,
    }
}

const fn code_of(status: Status) -> StatusCode {
    match status {
        Status::Up | Status::Degraded => StatusCode::OK,
        Status::Unknown | Status::Down => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Says in a field what a code of 200 leaves open: up, or merely degraded.
fn with_status(mut response: Response, status: Status) -> Response {
    response.headers_mut().insert("perf-status", HeaderValue::from_static(status.as_str()));
    response
}

fn reported(headers: &HeaderMap, report: &Report) -> Response {
    let draft = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let response = if draft.is_some_and(|accept| accept.contains("application/health+json")) {
        (code_of(report.status), [(CONTENT_TYPE, "application/health+json")], health_json(report))
            .into_response()
    } else {
        (code_of(report.status), Json(report)).into_response()
    };
    with_status(response, report.status)
}

/// The form of draft-inadarei-api-health-check, for those who ask for it.
fn health_json(report: &Report) -> String {
    let word = |status: Status| match status {
        Status::Up => "pass",
        Status::Degraded => "warn",
        Status::Unknown | Status::Down => "fail",
    };
    let check = |check: &CheckReport| {
        (check.name.clone(), json!([{ "status": word(check.status), "output": check.reason }]))
    };
    let checks: serde_json::Map<_, _> = report.checks.iter().map(check).collect();
    json!({ "status": word(report.status), "output": report.reason, "checks": checks }).to_string()
}

async fn health(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match &shared.health {
        Some(health) => reported(&headers, &health.report()),
        None => Json(json!({ "status": "up", "checks": [] })).into_response(),
    }
}

async fn health_of(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(health) = &shared.health else { return nothing_here().into_response() };
    if let Some(group) = health.group(&name) {
        return reported(&headers, &group);
    }
    match health.check(&name) {
        Some(check) => with_status((code_of(check.status), Json(&check)).into_response(), check.status),
        None => {
            Problem::new(StatusCode::NOT_FOUND, "there is no group and no check of this name").into_response()
        }
    }
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let format = Format::negotiate(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    let mut page = Vec::new();
    shared.metrics.render(format, &mut page);
    ([(CONTENT_TYPE, format.content_type())], page).into_response()
}

async fn overview(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.sampler.snapshot(&shared)).into_response()
}

async fn alerts(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.alerts.as_ref().map(|alerts| alerts.views()).unwrap_or_default()).into_response()
}

async fn rules(State(shared): State<Arc<Shared>>) -> Response {
    match &shared.alerts {
        Some(alerts) => ([(CONTENT_TYPE, "application/yaml")], alerts.rules_yaml()).into_response(),
        None => nothing_here().into_response(),
    }
}

async fn info(State(shared): State<Arc<Shared>>) -> Response {
    let lifecycle = shared.health.as_ref().map(|health| health.lifecycle());
    Json(json!({
        "service": shared.service,
        "version": shared.version,
        "started": shared.started,
        "lifecycle": lifecycle,
    }))
    .into_response()
}

/// A component, its health and its numbers.
#[derive(Serialize)]
struct Detail {
    kind: String,
    name: String,
    status: Status,
    reason: String,
    numbers: BTreeMap<String, Vec<SeriesView>>,
}

/// The components that `wanted` picks, by kind and name.
fn details(shared: &Shared, wanted: impl Fn(&str, &str) -> bool) -> Vec<Detail> {
    let view = shared.metrics.view();
    let picked = view.components.iter().filter(|component| wanted(&component.kind, &component.name));
    let detail = |component: &perf_metrics::ComponentView| {
        let own = |series: &&SeriesView| {
            series.component.as_deref() == Some(component.kind.as_str())
                && series.labels.get("name").is_some_and(|name| *name == component.name)
        };
        let numbers = view.families.iter().filter_map(|family| {
            let series: Vec<SeriesView> = family.series.iter().filter(own).cloned().collect();
            (!series.is_empty()).then(|| (family.name.clone(), series))
        });
        Detail {
            kind: component.kind.clone(),
            name: component.name.clone(),
            status: component.status,
            reason: component.reason.clone(),
            numbers: numbers.collect(),
        }
    };
    picked.map(detail).collect()
}

async fn components(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.components()).into_response()
}

async fn components_of(State(shared): State<Arc<Shared>>, Path(kind): Path<String>) -> Response {
    Json(details(&shared, |known, _| known == kind)).into_response()
}

async fn component(
    State(shared): State<Arc<Shared>>,
    Path((kind, name)): Path<(String, String)>,
) -> Response {
    match details(&shared, |known, named| known == kind && named == name).into_iter().next() {
        Some(detail) => Json(detail).into_response(),
        None => {
            Problem::new(StatusCode::NOT_FOUND, "there is no component of this kind and name").into_response()
        }
    }
}

/// One resource for each kind of component, by its plural: `/caches`, `/pools`, `/breakers`, `/rate-limits`.
async fn resource(State(shared): State<Arc<Shared>>, Path(resource): Path<String>) -> Response {
    let known = shared.components().iter().any(|component| plural(&component.kind) == resource);
    if known || KINDS.contains(&resource.as_str()) {
        Json(details(&shared, |kind, _| plural(kind) == resource)).into_response()
    } else {
        nothing_here().into_response()
    }
}

/// Resources that are there, empty, even before the first component of their kind.
const KINDS: [&str; 4] = ["caches", "pools", "breakers", "rate-limits"];

fn plural(kind: &str) -> String {
    match kind {
        _ if kind.ends_with('y') => format!("{}ies", &kind[..kind.len() - 1]),
        _ if ["s", "x", "ch", "sh"].iter().any(|end| kind.ends_with(end)) => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_a_plural() {
        for (kind, many) in
            [("cache", "caches"), ("pool", "pools"), ("retry", "retries"), ("switch", "switches")]
        {
            assert_eq!(plural(kind), many);
        }
    }
}

//! The management surface over real sockets.

use crate::support::{Answer, fetch, request};
use perf_core::{Component, ComponentId, Counter, Desc, Health, Sink, Unit};
use perf_http::manage::StartError;
use perf_http::{Auth, Management, ManagementBuilder, ManagementServer};
use perf_metrics::{Alerts, Check, Criticality, HealthChecks, Metrics, Rule, Signal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const TOKEN: &str = "the-token-of-this-test";
pub(crate) const BEARER: (&str, &str) = ("authorization", "Bearer the-token-of-this-test");
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

const HITS: Desc = Desc::counter("perf_cache_hits_total", "Reads answered from memory", Unit::Count);

pub(crate) struct Cache(pub(crate) &'static str, pub(crate) Health);

impl Component for Cache {
    fn id(&self) -> ComponentId {
        ComponentId::new("cache", self.0)
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let hits = Counter::new();
        hits.add(7);
        sink.counter(&HITS, &[], hits.get());
    }

    fn health(&self) -> Health {
        self.1.clone()
    }
}

pub(crate) fn metrics() -> Metrics {
    let metrics = Metrics::builder().build().unwrap();
    metrics.register(Arc::new(Cache("users", Health::up()))).unwrap().keep();
    metrics
}

pub(crate) fn builder() -> ManagementBuilder {
    Management::builder(metrics()).auth(Auth::token(TOKEN)).service("shop", "1.2.3").address(ANY)
}

async fn started() -> ManagementServer {
    builder().build().unwrap().start().await.unwrap()
}

const GUARDED: [&str; 12] = [
    "/",
    "/assets/page.js",
    "/health",
    "/health/readiness",
    "/metrics",
    "/overview",
    "/events",
    "/info",
    "/components",
    "/components/cache",
    "/components/cache/users",
    "/caches",
];

#[tokio::test]
async fn nothing_but_probes_is_shown_without_a_token() {
    let server = started().await;
    for path in GUARDED {
        let answer = fetch(server.address(), path, &[]).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{path}");
    }
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = fetch(server.address(), path, &[]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "up\n"), "{path}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn everything_is_shown_with_one_at_the_root_and_below_the_base() {
    let server = started().await;
    for path in GUARDED.iter().filter(|path| !["/events", "/health/readiness"].contains(path)) {
        for base in ["", "/_perf"] {
            let answer = fetch(server.address(), &format!("{base}{path}"), &[BEARER]).await;
            assert_eq!(answer.status, 200, "{base}{path}: {}", answer.body);
        }
    }
    let moved = fetch(server.address(), "/_perf", &[BEARER]).await;
    assert_eq!((moved.status, moved.header("location")), (308, "_perf/"));
    assert_eq!(fetch(server.address(), "/_perfect", &[BEARER]).await.status, 404);
    server.shutdown().await;
}

#[tokio::test]
async fn every_answer_carries_the_security_fields() {
    let server = started().await;
    for (path, fields) in
        [("/", &[BEARER][..]), ("/", &[]), ("/nothing/here", &[]), ("/livez", &[("host", "evil.example")])]
    {
        let answer = fetch(server.address(), path, fields).await;
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{path}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn names_that_are_not_ours_are_refused() {
    let server = builder().host("ops.example.org").build().unwrap().start().await.unwrap();
    let status = async |host: &str| fetch(server.address(), "/livez", &[("host", host)]).await.status;
    assert_eq!(status("evil.example").await, 421);
    assert_eq!(status("127.0.0.1.evil.example:9464").await, 421);
    assert_eq!(status("localhost:9464").await, 200);
    assert_eq!(status("ops.example.org").await, 200);
    server.shutdown().await;
}

#[tokio::test]
async fn only_reading_is_possible() {
    let server = started().await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = request(server.address(), method, "/livez", &[BEARER, ("content-length", "0")]).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.header("allow").contains("GET"));
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_guesses_is_not_listened_to_any_more() {
    let server = started().await;
    let guess = async |guess: &str| {
        fetch(server.address(), "/info", &[("authorization", &format!("Bearer {guess}"))]).await
    };
    for n in 0..10 {
        assert_eq!(guess(&format!("wrong-{n}")).await.status, 401);
    }
    let refused = guess("wrong-10").await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(guess(TOKEN).await.status, 429, "even the right token is not looked at");
    assert_eq!(fetch(server.address(), "/livez", &[]).await.status, 200, "probes go on");
    server.shutdown().await;
}

#[tokio::test]
async fn a_link_begins_one_session_for_pages_of_this_site_only() {
    let server = started().await;
    let link = server.login_url().unwrap();
    let path = link.strip_prefix(&format!("http://{}", server.address())).unwrap().to_owned();
    let first = fetch(server.address(), &path, &[]).await;
    assert_eq!((first.status, first.header("location")), (303, "./"));
    let cookie = first.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(fetch(server.address(), &path, &[]).await.status, 401, "a link works once");
    let pair = cookie.split(';').next().unwrap();
    let with = async |fields: &[(&str, &str)]| fetch(server.address(), "/info", fields).await.status;
    assert_eq!(with(&[("cookie", pair)]).await, 200);
    assert_eq!(with(&[("cookie", &format!("other=1; {pair}; last=2"))]).await, 200);
    assert_eq!(with(&[("cookie", pair), ("sec-fetch-site", "same-origin")]).await, 200);
    assert_eq!(with(&[("cookie", pair), ("sec-fetch-site", "cross-site")]).await, 403);
    let name = pair.split('=').next().unwrap();
    assert_eq!(with(&[("cookie", &format!("{name}=guess"))]).await, 401);
    server.shutdown().await;
}

#[tokio::test]
async fn the_scrape_token_opens_the_metrics_and_nothing_else() {
    let server = builder().scrape_token("the-token-of-a-scraper").build().unwrap().start().await.unwrap();
    let scraper = ("authorization", "Bearer the-token-of-a-scraper");
    let page = fetch(server.address(), "/metrics", &[scraper]).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(page.body.contains("perf_cache_hits_total{name=\"users\"} 7"), "{}", page.body);
    assert_eq!(fetch(server.address(), "/overview", &[scraper]).await.status, 401);
    server.shutdown().await;
}

#[tokio::test]
async fn open_metrics_is_a_choice() {
    let server = builder().open_metrics(true).build().unwrap().start().await.unwrap();
    assert_eq!(fetch(server.address(), "/metrics", &[]).await.status, 200);
    assert_eq!(fetch(server.address(), "/overview", &[]).await.status, 401);
    server.shutdown().await;
}

#[tokio::test]
async fn without_a_token_only_loopback_addresses_are_listened_on() {
    let open = || Management::builder(metrics()).auth(Auth::InsecureLoopbackOnly);
    let refused = open().address(([0, 0, 0, 0], 0).into()).build().unwrap().start().await.unwrap_err();
    assert!(matches!(refused, StartError::NotLoopback(_)), "{refused}");
    let server = open().address(ANY).build().unwrap().start().await.unwrap();
    assert_eq!(fetch(server.address(), "/info", &[]).await.status, 200);
    server.shutdown().await;
}

#[tokio::test]
async fn the_host_may_decide_itself() {
    let auth = Auth::custom(|head| head.headers.contains_key("x-staff"));
    let server =
        Management::builder(metrics()).auth(auth).address(ANY).build().unwrap().start().await.unwrap();
    assert_eq!(fetch(server.address(), "/info", &[("x-staff", "1")]).await.status, 200);
    assert_eq!(fetch(server.address(), "/info", &[]).await.status, 401);
    server.shutdown().await;
}

#[tokio::test]
async fn an_address_somebody_has_is_named() {
    let server = started().await;
    let taken = builder().address(server.address()).build().unwrap().start().await.unwrap_err();
    let StartError::Bind(error) = taken else { panic!("{taken}") };
    assert!(error.is_in_use());
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", server.address())), "{error}");
    server.shutdown().await;
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    let field = |builder: ManagementBuilder| builder.build().unwrap_err().field().to_owned();
    assert_eq!(field(builder().auth(Auth::token("short"))), "token");
    assert_eq!(field(builder().scrape_token("short")), "scrape_token");
    for base in ["", "/", "perf", "/perf/", "/a//b", "/a b", "/{x}"] {
        assert_eq!(field(builder().base(base)), "base", "{base}");
    }
}

#[tokio::test]
async fn readiness_follows_the_checks_and_the_life_of_the_host() {
    let health = HealthChecks::builder()
        .check(Check::new("orders-db", || async { Health::up() }).criticality(Criticality::Fatal))
        .start()
        .unwrap();
    let health = Arc::new(health);
    let server = builder().health(Arc::clone(&health)).build().unwrap().start().await.unwrap();
    let ready = async || fetch(server.address(), "/readyz", &[]).await;
    let starting = ready().await;
    assert_eq!((starting.status, starting.body.as_str()), (503, "unknown\n"));
    assert_eq!(fetch(server.address(), "/startupz", &[]).await.status, 503);
    health.ready();
    health.settled().await;
    let up = ready().await;
    assert_eq!((up.status, up.body.as_str(), up.header("perf-status")), (200, "up\n", "up"));
    assert_eq!(fetch(server.address(), "/readyz?verbose", &[]).await.status, 401);
    let verbose = fetch(server.address(), "/readyz?verbose", &[BEARER]).await;
    assert!(verbose.body.contains("[up] orders-db"), "{}", verbose.body);
    let report = fetch(server.address(), "/health", &[BEARER]).await.json();
    assert_eq!(
        (report["status"].as_str(), report["checks"][0]["name"].as_str()),
        (Some("up"), Some("orders-db"))
    );
    assert_eq!(fetch(server.address(), "/health/orders-db", &[BEARER]).await.json()["status"], "up");
    assert_eq!(fetch(server.address(), "/health/nothing", &[BEARER]).await.status, 404);
    let draft = fetch(server.address(), "/health", &[BEARER, ("accept", "application/health+json")]).await;
    assert_eq!(
        (draft.header("content-type"), draft.json()["status"].as_str()),
        ("application/health+json", Some("pass"))
    );
    health.drain();
    assert_eq!(ready().await.status, 503);
    assert_eq!(
        fetch(server.address(), "/livez", &[]).await.status,
        200,
        "draining is no reason to be killed"
    );
    server.shutdown().await;
}

#[tokio::test]
async fn a_check_can_be_left_out_of_a_probe() {
    let down = || async { Health::down("refused") };
    let check = Check::new("mail", down).criticality(Criticality::Fatal);
    let health = Arc::new(HealthChecks::builder().check(check).start().unwrap());
    health.ready();
    health.settled().await;
    let server = builder().health(health).build().unwrap().start().await.unwrap();
    assert_eq!(fetch(server.address(), "/readyz", &[]).await.status, 503);
    assert_eq!(fetch(server.address(), "/readyz?exclude=mail", &[]).await.status, 200);
    assert_eq!(fetch(server.address(), "/readyz?exclude=other", &[]).await.status, 503);
    server.shutdown().await;
}

#[tokio::test]
async fn components_have_their_resource_with_health_and_numbers() {
    let server = started().await;
    let caches = fetch(server.address(), "/caches", &[BEARER]).await.json();
    assert_eq!((caches[0]["name"].as_str(), caches[0]["status"].as_str()), (Some("users"), Some("up")));
    assert_eq!(caches[0]["numbers"]["perf_cache_hits_total"][0]["value"], 7);
    assert_eq!(fetch(server.address(), "/pools", &[BEARER]).await.json(), serde_json::json!([]));
    assert_eq!(fetch(server.address(), "/components/cache/users", &[BEARER]).await.json()["name"], "users");
    assert_eq!(fetch(server.address(), "/components/cache/none", &[BEARER]).await.status, 404);
    assert_eq!(fetch(server.address(), "/nonsense", &[BEARER]).await.status, 404);
    server.shutdown().await;
}

#[tokio::test]
async fn alerts_are_listed_as_they_stand_and_exported_as_rules() {
    let metrics = metrics();
    let depth = metrics.gauge("queue_depth", "Orders waiting").get().unwrap();
    let full = Rule::above("queue_full", Signal::level("queue_depth"), 10.0).summary("The queue is full");
    let alerts = Alerts::builder().rule(full).build(&metrics).unwrap();
    let management =
        Management::builder(metrics).auth(Auth::token(TOKEN)).address(ANY).alerts(alerts.clone());
    let server = management.build().unwrap().start().await.unwrap();
    for (level, state) in [(3.0, "inactive"), (11.0, "firing")] {
        depth.set(level);
        alerts.tick(perf_core::time::now());
        let listed = fetch(server.address(), "/alerts", &[BEARER]).await.json();
        assert_eq!(
            (listed[0]["name"].as_str(), listed[0]["state"].as_str()),
            (Some("queue_full"), Some(state))
        );
        assert_eq!(listed[0]["value"], level);
    }
    let rules = fetch(server.address(), "/rules.yaml", &[BEARER]).await;
    assert!(rules.body.contains("alert: queue_full"), "{}", rules.body);
    for path in ["/alerts", "/rules.yaml"] {
        assert_eq!(fetch(server.address(), path, &[]).await.status, 401, "{path}");
    }
    server.shutdown().await;
    let server = started().await;
    assert_eq!(fetch(server.address(), "/alerts", &[BEARER]).await.json(), serde_json::json!([]));
    assert_eq!(fetch(server.address(), "/rules.yaml", &[BEARER]).await.status, 404);
    server.shutdown().await;
}

#[tokio::test]
async fn the_overview_begins_with_a_verdict() {
    let metrics = metrics();
    metrics.register(Arc::new(Cache("orders", Health::down("no memory")))).unwrap().keep();
    let management = Management::builder(metrics).auth(Auth::token(TOKEN)).service("shop", "1").address(ANY);
    let server = management.build().unwrap().start().await.unwrap();
    let overview = fetch(server.address(), "/overview", &[BEARER]).await.json();
    assert_eq!(overview["verdict"]["state"], "degraded");
    assert_eq!(overview["verdict"]["sentence"], "cache “orders” is down: no memory.");
    assert_eq!(overview["service"], "shop");
    assert_eq!(overview["signals"]["latency"]["p99"], serde_json::Value::Null, "unknown is not zero");
    assert!(overview["history"]["traffic"].is_array());
    server.shutdown().await;
}

/// Reads the stream until `enough` says so.
async fn streamed(address: SocketAddr, enough: impl Fn(&str) -> bool) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("GET /events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    let read = async {
        let mut buffer = [0; 4096];
        while !enough(&text) {
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                n => text += &String::from_utf8_lossy(&buffer[..n]),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("events arrive");
    text
}

#[tokio::test]
async fn the_stream_is_a_snapshot_and_then_ticks() {
    let server = started().await;
    let text = streamed(server.address(), |text| text.matches("event: tick").count() >= 2).await;
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    let snapshot = text.find("event: snapshot").unwrap();
    assert!(snapshot < text.find("event: tick").unwrap());
    server.shutdown().await;
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_server() {
    let server = started().await;
    let address = server.address();
    let watching: Vec<_> = (0..32).map(|_| tokio::spawn(streamed(address, |_| false))).collect();
    let refused: Answer = loop {
        let viewers = fetch(address, "/overview", &[BEARER]).await.json()["viewers"].as_u64().unwrap();
        if viewers == 32 {
            break fetch(address, "/events", &[BEARER]).await;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    server.shutdown().await;
    for stream in watching {
        assert!(stream.await.unwrap().contains("event: snapshot"), "ended, and not cut off before it began");
    }
}

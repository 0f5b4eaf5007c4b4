//! What measuring and limiting a request costs, beside the rivals, without a socket in between.
//!
//! The metrics layer is measured twice: round a plain tower service, where only the layer itself counts, and inside of an
//! axum router, where a layer that does nothing shows what axum takes for any layer at all.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath};
use axum::response::Response;
use axum::routing::get;
use axum_prometheus::PrometheusMetricLayer;
use bytes::Bytes;
use http::Request;
use http_body::Body as HttpBody;
use http_body_util::Full;
use perf_core::{Rng, time};
use perf_http::rate::RateKey;
use perf_http::{HttpMetrics, Quota, RateLimit, Standard};
use perfkit_benches::{Contest, CountingAllocator, allocations_during};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;
use tower_layer::Layer;
use tower_service::Service;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Short rounds and many of them: on a busy machine most are then not interrupted.
fn contest<'a>(name: impl Into<String>) -> Contest<'a> {
    Contest::new(name).rounds(301).round_time(Duration::from_micros(400))
}

/// Enough that nobody is refused.
const PLENTY: u32 = 1_000_000_000;

fn main() {
    // The deadline of the standard stack needs a timer, and axum-prometheus a runtime to clean up in.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let (theirs, _handle) = PrometheusMetricLayer::pair();
    let path = matched_path();
    layer_alone(&path, &theirs);
    inside_a_router(&theirs);
    limiter(&path);
    keys();
}

/// The service all layers are put round: ready at once, with a body of a few bytes.
#[derive(Clone)]
struct Plain;

impl Service<Request<Body>> for Plain {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Full::new(Bytes::from_static(b"one order")))))
    }
}

/// Runs a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing in this benchmark waits"),
    }
}

/// Reads a body that never waits to its end.
fn drain<B: HttpBody>(body: B) {
    let mut body = pin!(body);
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut context) {
        black_box(frame.is_ok());
        if body.is_end_stream() {
            break;
        }
    }
}

fn one<S, B>(service: &mut S, request: Request<Body>)
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    if let Ok(response) = now(service.call(request)) {
        drain(response.into_body());
    }
}

/// The template of a route can be had from axum only, so one request is sent to ask for it.
fn matched_path() -> MatchedPath {
    let seen = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&seen);
    let handler = move |path: MatchedPath| {
        *slot.lock().expect("nobody panicked") = Some(path);
        ready("")
    };
    let mut router: Router = Router::new().route("/orders/{id}", get(handler));
    one(&mut router, Request::get("/orders/1").body(Body::empty()).expect("a request"));
    seen.lock().expect("nobody panicked").take().expect("the route matched")
}

fn request(path: &MatchedPath, peer: SocketAddr) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(path.clone());
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

fn peer(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + n)), 4711)
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn figure(name: &str, medians: &[(String, f64)], base: &str) {
    let of = |wanted: &str| medians.iter().find(|(name, _)| name == wanted).map_or(f64::NAN, |(_, ns)| *ns);
    for (entry, ns) in medians.iter().filter(|(entry, _)| entry != base) {
        println!("{name} {entry}: {:.0} ns beyond {base}", ns - of(base));
    }
}

fn layer_alone(path: &MatchedPath, theirs: &PrometheusMetricLayer<'static>) {
    let metrics = HttpMetrics::new("bench");
    let mut ours = metrics.layer().layer(Plain);
    let (mut bare, mut bare_too) = (Plain, Plain);
    let mut theirs = theirs.layer(Plain);
    let make = || request(path, peer(1));
    one(&mut ours, make());
    let medians = contest("http_metrics_layer")
        .entry("ours", |n| (0..n).for_each(|_| one(&mut ours, make())))
        .entry("axum-prometheus", |n| (0..n).for_each(|_| one(&mut theirs, make())))
        .entry("bare", |n| (0..n).for_each(|_| one(&mut bare, make())))
        // Begin, header fields and last byte: what no layer that measures all three can go below.
        .entry("bare and three looks at the clock", |n| {
            (0..n).for_each(|_| {
                one(&mut bare_too, make());
                black_box((time::now(), time::now(), time::now()));
            });
        })
        .run();
    figure("http_metrics_layer", &medians, "bare");
    let with = allocations_during(|| (0..1000).for_each(|_| one(&mut ours, make())));
    let without = allocations_during(|| (0..1000).for_each(|_| one(&mut bare, make())));
    assert_eq!(with, without, "the layer allocates nothing for a route it knows");
}

/// A layer as cheap as a layer can be.
#[derive(Clone)]
struct Nothing;

#[derive(Clone)]
struct Pass<S>(S);

impl<S> Layer<S> for Nothing {
    type Service = Pass<S>;

    fn layer(&self, inner: S) -> Pass<S> {
        Pass(inner)
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Pass<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.0.call(request)
    }
}

fn inside_a_router(theirs: &PrometheusMetricLayer<'static>) {
    let routes = || Router::<()>::new().route("/orders/{id}", get(|| ready("one order")));
    let metrics = HttpMetrics::new("bench");
    let stack = Standard::builder("bench").quota(Quota::per_second(PLENTY)).build().expect("valid settings");
    let mut ours = routes().layer(metrics.layer());
    let mut standard = routes().layer(stack);
    let mut theirs = routes().layer(theirs.clone());
    let mut nothing = routes().layer(Nothing);
    let mut bare = routes();
    let make = || {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = http::Uri::from_static("/orders/1");
        request.extensions_mut().insert(ConnectInfo(peer(1)));
        request
    };
    let medians = contest("http_router")
        .entry("ours", |n| (0..n).for_each(|_| one(&mut ours, make())))
        .entry("axum-prometheus", |n| (0..n).for_each(|_| one(&mut theirs, make())))
        .entry("our standard stack", |n| (0..n).for_each(|_| one(&mut standard, make())))
        .entry("a layer that does nothing", |n| (0..n).for_each(|_| one(&mut nothing, make())))
        .entry("bare axum", |n| (0..n).for_each(|_| one(&mut bare, make())))
        .run();
    figure("http_router", &medians, "a layer that does nothing");
}

fn limiter(path: &MatchedPath) {
    for clients in [1, 100_000] {
        let limit =
            RateLimit::builder("bench").quota(Quota::per_second(PLENTY)).build().expect("valid settings");
        let config =
            GovernorConfigBuilder::default().per_nanosecond(1).burst_size(PLENTY).use_headers().finish();
        let mut ours = limit.layer().layer(Plain);
        let mut theirs = GovernorLayer::new(config.expect("valid settings")).layer(Boxed);
        let mut bare = Plain;
        let mut random = Rng::seeded(1);
        let mut other = Rng::seeded(1);
        let mut third = Rng::seeded(1);
        let name = format!("http_rate_limit_layer_{clients}_clients");
        let medians = contest(&name)
            .entry("ours", |n| {
                (0..n).for_each(|_| one(&mut ours, request(path, peer(random.below(clients) as u32))));
            })
            .entry("tower_governor", |n| {
                (0..n).for_each(|_| one(&mut theirs, request(path, peer(other.below(clients) as u32))));
            })
            .entry("bare", |n| {
                (0..n).for_each(|_| one(&mut bare, request(path, peer(third.below(clients) as u32))));
            })
            .run();
        figure(&name, &medians, "bare");
    }
}

/// The same service with axum's body, which tower_governor asks for.
#[derive(Clone)]
struct Boxed;

impl Service<Request<Body>> for Boxed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Body::from("one order"))))
    }
}

/// The decision alone: no request, no field.
fn keys() {
    use tower_governor::governor::GovernorConfig;
    let limit = RateLimit::builder("bench").quota(Quota::per_second(PLENTY)).build().expect("valid settings");
    let config: Option<GovernorConfig<_, _>> =
        GovernorConfigBuilder::default().per_nanosecond(1).burst_size(PLENTY).finish();
    let theirs = Arc::clone(config.expect("valid settings").limiter());
    let addresses: Vec<IpAddr> = (0..100_000).map(|n| peer(n).ip()).collect();
    let order: Vec<usize> = {
        let mut rng = Rng::seeded(3);
        (0..65_536).map(|_| rng.below(100_000) as usize).collect()
    };
    for address in &addresses {
        black_box(limit.check(RateKey::address(*address), 1, time::now()));
        black_box(theirs.check_key(address).is_ok());
    }
    let at = |n: u64| addresses[order[(n & 0xFFFF) as usize]];
    contest("http_rate_decision_100000_keys")
        .entry("ours", |n| {
            (0..n).for_each(|n| {
                black_box(limit.check(RateKey::address(at(n)), 1, time::now()));
            });
        })
        .entry("governor", |n| {
            (0..n).for_each(|n| {
                black_box(theirs.check_key(&at(n)).is_ok());
            });
        })
        .run();
    let decisions = || {
        (0..1000).for_each(|n| {
            black_box(limit.check(RateKey::address(at(n)), 1, time::now()));
        });
    };
    assert_eq!(allocations_during(decisions), 0, "a decision allocates nothing");
}

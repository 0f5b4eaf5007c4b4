//! Numbers and spans posted to a collector: scope 1 and 9 of the list, in OpenTelemetry's own protobuf.

use crate::protobuf::{all, number, one, string};
use crate::receiver::{Answer, Receiver};
use perf_metrics::{Metrics, Otlp, PostError, SpanTimes, TraceParent};
use std::time::Duration;
use tracing_subscriber::prelude::*;

const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn metrics() -> Metrics {
    Metrics::builder().process(false).build().unwrap()
}

fn otlp(metrics: &Metrics, receiver: &Receiver) -> Otlp {
    Otlp::builder(metrics, "shop")
        .collector(receiver.url("/"))
        .attribute("deployment.environment", "test")
        .header("api-key", "hunter2")
        .timeout(Duration::from_secs(2))
        .build()
        .unwrap()
}

/// The spans of all posts that came.
fn spans(receiver: &Receiver) -> Vec<Vec<u8>> {
    let posts = receiver.came().into_iter().filter(|came| came.path == "/v1/traces");
    posts.flat_map(|came| all(&one(&one(&came.body, 1), 2), 2)).collect()
}

/// The attributes of a message whose attributes are in `field`, as text.
fn attributes(message: &[u8], field: u64) -> Vec<(String, String)> {
    let value = |any: &[u8]| {
        let (kind, payload) = crate::protobuf::fields(any).remove(0);
        match kind {
            1 => String::from_utf8(payload).unwrap(),
            4 => f64::from_le_bytes(payload.try_into().unwrap()).to_string(),
            _ => i64::from_le_bytes(payload.try_into().unwrap()).to_string(),
        }
    };
    all(message, field).iter().map(|pair| (string(pair, 1), value(&one(pair, 2)))).collect()
}

#[tokio::test]
async fn a_collector_receives_every_family_once_with_all_its_series() {
    let (metrics, receiver) = (metrics(), Receiver::start([]).await);
    let calls = metrics.counter("calls", "Calls").family(["route"]).unwrap();
    calls.with(["/a"]).add(2);
    calls.with(["/b"]).add(3);
    metrics.gauge("depth", "Depth").get().unwrap().set(1.5);
    metrics.timer("query", "Queries").get().unwrap().record(Duration::from_secs(1));
    let otlp = otlp(&metrics, &receiver);
    otlp.export().await.unwrap();
    otlp.export().await.unwrap();
    let came = receiver.came();
    assert_eq!((came[0].path.as_str(), came.len(), receiver.connections()), ("/v1/metrics", 2, 1));
    let head = came[0].head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/x-protobuf") && head.contains("api-key: hunter2"),
        "{head}"
    );
    let resource_metrics = one(&came[0].body, 1);
    let resource = attributes(&one(&resource_metrics, 1), 1);
    assert!(resource.contains(&("service.name".into(), "shop".into())) && resource.len() == 2);
    let families = all(&one(&resource_metrics, 2), 2);
    let named = |name: &str| families.iter().filter(|family| string(family, 1) == name).collect::<Vec<_>>();
    let calls = named("calls_total");
    assert_eq!(calls.len(), 1);
    let sum = one(calls[0], 7);
    let points: Vec<(String, u64)> =
        all(&sum, 1).iter().map(|point| (attributes(point, 7)[0].1.clone(), number(point, 6))).collect();
    assert_eq!(points, [("/a".to_owned(), 2), ("/b".to_owned(), 3)]);
    // Cumulative and monotone.
    assert_eq!((number(&sum, 2), number(&sum, 3)), (2, 1));
    let depth = one(&one(named("depth")[0], 5), 1);
    assert_eq!(f64::from_bits(number(&depth, 4)), 1.5);
    let query = one(&one(named("query_seconds")[0], 10), 1);
    assert_eq!(number(&query, 4), 1);
    assert!(number(&query, 3) > number(&query, 2));
}

#[tokio::test]
async fn spans_arrive_with_their_trace_parents_fields_events_and_errors() {
    let (metrics, receiver) = (metrics(), Receiver::start([]).await);
    let otlp = otlp(&metrics, &receiver);
    let subscriber =
        tracing_subscriber::registry().with(otlp.layer()).with(SpanTimes::new(&metrics).unwrap());
    let outgoing = tracing::subscriber::with_default(subscriber, || {
        let request = tracing::info_span!(
            "request",
            otel.kind = "server",
            traceparent = HEADER,
            route = "/a",
            size = 7
        );
        request.in_scope(|| {
            tracing::info!(rows = 3, "read");
            tracing::debug!("not sent");
            tracing::info_span!(
                "query",
                otel.name = "select orders",
                cached = true,
                late = tracing::field::Empty
            )
            .in_scope(|| {
                tracing::Span::current().record("late", 0.5);
                tracing::error!("connection lost");
                TraceParent::current().unwrap()
            })
        })
    });
    assert_eq!(outgoing.trace_hex(), "4bf92f3577b34da6a3ce929d0e0e4736");
    otlp.export_spans().await.unwrap();
    let spans = spans(&receiver);
    assert_eq!(spans.len(), 2);
    let [query, request] = [&spans[0], &spans[1]];
    let trace = HEADER.parse::<TraceParent>().unwrap();
    assert_eq!((one(request, 1), one(query, 1)), (trace.trace_id().to_be_bytes().into(), one(request, 1)));
    assert_eq!(one(request, 4), trace.span_id().to_be_bytes());
    assert_eq!((one(query, 4), one(query, 2)), (one(request, 2), outgoing.span_id().to_be_bytes().into()));
    assert_eq!((string(request, 5), string(query, 5)), ("request".into(), "select orders".into()));
    assert_eq!((number(request, 6), number(query, 6)), (2, 1));
    assert!(number(request, 7) <= number(query, 7) && number(query, 8) <= number(request, 8));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(attributes(request, 9), [pair("route", "/a"), pair("size", "7")]);
    assert_eq!(attributes(query, 9), [pair("cached", "1"), pair("late", "0.5")]);
    let event = one(request, 11);
    assert_eq!((string(&event, 2), attributes(&event, 3)), ("read".into(), vec![pair("rows", "3")]));
    let status = one(query, 15);
    assert_eq!((string(&status, 2), number(&status, 3)), ("connection lost".into(), 2));
    assert!(all(request, 15).is_empty());
    // The same trace is the exemplar of the latency.
    let mut page = Vec::new();
    metrics.render(perf_metrics::Format::OpenMetrics, &mut page);
    assert!(String::from_utf8(page).unwrap().contains("# {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"}"));
}

#[tokio::test]
async fn a_span_can_join_its_callers_trace_later_and_what_the_caller_does_not_record_is_not_sent() {
    let (metrics, receiver) = (metrics(), Receiver::start([]).await);
    let otlp = otlp(&metrics, &receiver);
    let subscriber = tracing_subscriber::registry().with(otlp.layer());
    tracing::subscriber::with_default(subscriber, || {
        let late = tracing::info_span!("late");
        HEADER.parse::<TraceParent>().unwrap().attach(&late);
        late.in_scope(|| tracing::info_span!("inner").in_scope(|| ()));
        drop(late);
        let unrecorded = HEADER.replace("-01", "-00");
        tracing::info_span!("silent", traceparent = unrecorded).in_scope(|| {
            assert!(!TraceParent::current().unwrap().is_sampled());
            tracing::info_span!("silent too").in_scope(|| ());
        });
        // A header that is none begins a trace of its own.
        tracing::info_span!("broken", traceparent = "00-zz").in_scope(|| ());
        assert_eq!(TraceParent::current(), None);
    });
    let rare = tracing_subscriber::registry().with(otlp.layer().sample(0.0));
    tracing::subscriber::with_default(rare, || tracing::info_span!("left out").in_scope(|| ()));
    otlp.export_spans().await.unwrap();
    let spans = spans(&receiver);
    let names: Vec<String> = spans.iter().map(|span| string(span, 5)).collect();
    assert_eq!(names, ["inner", "late", "broken"]);
    let trace = HEADER.parse::<TraceParent>().unwrap();
    assert_eq!(
        (one(&spans[0], 1), one(&spans[1], 1)),
        (trace.trace_id().to_be_bytes().into(), one(&spans[0], 1))
    );
    assert_eq!(one(&spans[1], 4), trace.span_id().to_be_bytes());
    assert_ne!(one(&spans[2], 1), one(&spans[0], 1));
    assert!(all(&spans[2], 4).is_empty());
}

#[tokio::test]
async fn spans_a_collector_cannot_take_now_are_offered_again_and_refused_ones_are_counted() {
    let (metrics, receiver) = (metrics(), Receiver::start([Answer::Status(503), Answer::Silence]).await);
    let otlp = otlp(&metrics, &receiver);
    metrics.register(otlp.component()).unwrap().keep();
    let subscriber = tracing_subscriber::registry().with(otlp.layer());
    let span = |name: &'static str| {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(otlp.layer()), || {
            tracing::info_span!("span", otel.name = name).in_scope(|| ());
        });
    };
    drop(subscriber);
    span("first");
    assert!(matches!(otlp.export_spans().await, Err(PostError::Status(503))));
    // Dropped half-way: the batch is not lost.
    let interrupted = tokio::time::timeout(Duration::from_millis(50), otlp.export_spans()).await;
    assert!(interrupted.is_err());
    span("second");
    otlp.export_spans().await.unwrap();
    let names: Vec<String> = spans(&receiver).iter().map(|span| string(span, 5)).collect();
    assert_eq!(names, ["first", "first", "first", "second"]);
    let refusing = Receiver::start([Answer::Status(400)]).await;
    let strict = self::otlp(&metrics, &refusing);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(strict.layer()), || {
        tracing::info_span!("bad").in_scope(|| ());
    });
    assert!(matches!(strict.export_spans().await, Err(PostError::Status(400))));
    assert!(strict.export_spans().await.is_ok());
    let text = metrics.text();
    for line in [
        "perf_metrics_otlp_exports_total{name=\"collector\",signal=\"spans\"} 3",
        "perf_metrics_otlp_failures_total{name=\"collector\",signal=\"spans\"} 1",
        "perf_metrics_otlp_spans_dropped_total{name=\"collector\"} 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn waiting_spans_are_bounded() {
    let (metrics, receiver) = (metrics(), Receiver::start([]).await);
    let otlp = otlp(&metrics, &receiver);
    metrics.register(otlp.component()).unwrap().keep();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(otlp.layer()), || {
        (0..3_000).for_each(|_| tracing::info_span!("storm").in_scope(|| ()));
    });
    otlp.export_spans().await.unwrap();
    assert_eq!((spans(&receiver).len(), receiver.came().len()), (2_048, 4));
    assert!(metrics.text().contains("perf_metrics_otlp_spans_dropped_total{name=\"collector\"} 952"));
}

#[tokio::test]
async fn the_task_sends_by_itself_and_a_last_time_when_it_is_shut_down() {
    let (metrics, receiver) = (metrics(), Receiver::start([Answer::Close]).await);
    let otlp = Otlp::builder(&metrics, "shop")
        .collector(receiver.url(""))
        .interval(Duration::from_secs(1))
        .build()
        .unwrap();
    metrics.counter("calls", "Calls").get().unwrap();
    let task = otlp.spawn();
    receiver.wait_for(2).await;
    tracing::subscriber::with_default(tracing_subscriber::registry().with(otlp.layer()), || {
        tracing::info_span!("last").in_scope(|| ());
    });
    let before = receiver.came().len();
    task.shutdown().await.unwrap();
    let paths: Vec<String> = receiver.came()[before..].iter().map(|came| came.path.clone()).collect();
    assert_eq!(paths, ["/v1/metrics", "/v1/traces"]);
    // One connection was closed by the collector after its answer; nothing failed.
    assert!(receiver.connections() >= 2);
}

//! Posts under TLS, to a server over loopback whose authority only those trust who were told of it.

use crate::receiver::Receiver;
use perf_metrics::{AlertEvent, AlertSink, Change, Metrics, Otlp, PostError, Severity, Webhook};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const CA: &str = include_str!("../tls/ca.pem");

fn url(receiver: &Receiver, host: &str) -> String {
    format!("https://{host}:{}", receiver.address.port())
}

fn event() -> AlertEvent {
    AlertEvent {
        name: "Full".to_owned(),
        change: Change::Fired,
        value: Some(2.0),
        active_for: Duration::ZERO,
        severity: Severity::Page,
        labels: BTreeMap::new(),
        summary: String::new(),
    }
}

#[tokio::test]
async fn a_webhook_posts_to_a_server_it_trusts_on_one_connection() {
    let receiver = Receiver::start_tls().await;
    let webhook = Webhook::new(&url(&receiver, "localhost")).unwrap().authorities(CA).unwrap();
    webhook.deliver(&event()).await.unwrap();
    webhook.deliver(&event()).await.unwrap();
    assert_eq!((receiver.came().len(), receiver.connections()), (2, 1));
    assert!(String::from_utf8(receiver.came().remove(0).body).unwrap().contains(r#""alertname":"Full""#));
}

#[tokio::test]
async fn numbers_and_spans_go_to_a_collector_that_is_trusted() {
    let receiver = Receiver::start_tls().await;
    let metrics = Metrics::builder().process(false).build().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/ca.pem");
    let builder = || Otlp::builder(&metrics, "shop").collector(url(&receiver, "localhost"));
    let otlp = builder().authorities(&file).build().unwrap();
    let subscriber =
        tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), otlp.layer());
    tracing::subscriber::with_default(subscriber, || tracing::info_span!("order").in_scope(|| ()));
    otlp.export().await.unwrap();
    otlp.export_spans().await.unwrap();
    let paths: Vec<String> = receiver.came().into_iter().map(|came| came.path).collect();
    assert_eq!(paths, ["/v1/metrics", "/v1/traces"]);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_nothing() {
    let receiver = Receiver::start_tls().await;
    let metrics = Metrics::builder().process(false).build().unwrap();
    let said = async |builder: perf_metrics::OtlpBuilder| {
        let error = builder.build().unwrap().export().await.unwrap_err();
        assert!(matches!(error, PostError::Connect { .. }), "{error}");
        error.to_string()
    };
    // The web does not know this authority, and the certificate is not for an address.
    let unknown = Otlp::builder(&metrics, "shop").collector(url(&receiver, "localhost"));
    assert!(said(unknown).await.contains("UnknownIssuer"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/ca.pem");
    let another = Otlp::builder(&metrics, "shop").collector(url(&receiver, "127.0.0.1")).authorities(&file);
    assert!(said(another).await.contains("not valid for name"));
    assert!(receiver.came().is_empty());
}

#[test]
fn authorities_that_cannot_be_used_are_refused_with_the_reason() {
    let refused = |webhook: Webhook, pem: &str| webhook.authorities(pem).unwrap_err().to_string();
    assert!(refused(Webhook::new("https://pager").unwrap(), "nothing").contains("no certificate"));
    assert!(refused(Webhook::new("http://pager").unwrap(), CA).contains("without https"));
    let metrics = Metrics::builder().process(false).build().unwrap();
    let missing =
        Otlp::builder(&metrics, "shop").collector("https://localhost").authorities("/no/such/file.pem");
    let said = missing.build().unwrap_err().to_string();
    assert!(said.contains("authorities") && said.contains("/no/such/file.pem"), "{said}");
}

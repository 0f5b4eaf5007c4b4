//! Alerts posted to a webhook.

use crate::receiver::{Answer, Receiver};
use perf_metrics::{AlertSink, Alerts, Metrics, Rule, Severity, Signal, Webhook};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_webhook_gets_alertmanagers_format_and_posts_are_repeated_until_they_are_taken() {
    let receiver = Receiver::start([Answer::Status(503), Answer::Close]).await;
    let metrics = Metrics::builder().process(false).build().unwrap();
    let depth = metrics.gauge("depth", "Depth").get().unwrap();
    let webhook = Webhook::new(&receiver.url("/hook?team=a")).unwrap().bearer("hunter2").unwrap();
    assert!(!format!("{webhook:?}").contains("hunter2"));
    let rule = Rule::above("Full", Signal::level("depth"), 1.0)
        .severity(Severity::Page)
        .label("team", "shop")
        .summary("the queue is \"full\"");
    let alerts = Alerts::builder().rule(rule).sink(webhook).build(&metrics).unwrap();
    metrics.register(alerts.component()).unwrap().keep();
    depth.set(2.5);
    let task = alerts.spawn(Duration::from_millis(20));
    receiver.wait_for(2).await;
    depth.set(0.0);
    let came = receiver.wait_for(3).await;
    let head = came[0].head.to_ascii_lowercase();
    assert!(head.starts_with("post /hook?team=a http/1.1") && head.contains("authorization: bearer hunter2"));
    assert_eq!(came[0].path, "/hook?team=a");
    assert_eq!(came[0].body, came[1].body, "the same post again");
    let parsed = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap();
    let (fired, resolved) = (parsed(&came[1].body), parsed(&came[2].body));
    assert_eq!((fired["status"].as_str(), resolved["status"].as_str()), (Some("firing"), Some("resolved")));
    let (first, last) = (&fired["alerts"][0], &resolved["alerts"][0]);
    assert_eq!(first["labels"]["alertname"], "Full");
    assert_eq!(
        (first["labels"]["severity"].as_str(), first["labels"]["team"].as_str()),
        (Some("page"), Some("shop"))
    );
    assert_eq!(first["annotations"]["summary"], "the queue is \"full\"");
    assert_eq!(first["annotations"]["value"], "2.5");
    assert_eq!(
        (first["fingerprint"].as_str(), first["endsAt"].as_str()),
        (last["fingerprint"].as_str(), Some("0001-01-01T00:00:00Z"))
    );
    let date = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    assert!(date(&last["startsAt"]) < date(&last["endsAt"]) && date(&first["startsAt"]).ends_with('Z'));
    assert_eq!(receiver.connections(), 2, "a connection is kept until the receiver closes it");
    drop(task);
    assert!(metrics.text().contains("perf_metrics_alerts_failed_total{name=\"rules\"} 0"));
}

#[tokio::test]
async fn a_webhook_that_hangs_or_refuses_is_given_up_and_holds_nothing_up() {
    let receiver = Receiver::start([Answer::Status(400), Answer::Silence]).await;
    let metrics = Metrics::builder().process(false).build().unwrap();
    let depth = metrics.gauge("depth", "Depth").get().unwrap();
    depth.set(2.0);
    let alerts = Alerts::builder()
        .rule(Rule::above("Full", Signal::level("depth"), 1.0))
        .sink(Webhook::new(&receiver.url("/")).unwrap())
        .build(&metrics)
        .unwrap();
    let began = perf_core::time::now();
    alerts.tick(began);
    depth.set(0.0);
    alerts.tick(began + SECOND);
    assert!(began.elapsed() < SECOND, "the evaluation does not wait for the post");
    let webhook = Webhook::new(&receiver.url("/")).unwrap();
    let (sender, mut events) = tokio::sync::mpsc::channel(4);
    let watching = Alerts::builder()
        .rule(Rule::below("Empty", Signal::level("depth"), 1.0))
        .sink(sender)
        .build(&metrics)
        .unwrap();
    let task = watching.spawn(SECOND);
    let event = events.recv().await.unwrap();
    drop(task);
    assert!(webhook.deliver(&event).await.unwrap_err().to_string().contains("400"));
    assert!(tokio::time::timeout(Duration::from_millis(50), webhook.deliver(&event)).await.is_err());
    // A future that was dropped closed its connection; the next post has one of its own.
    webhook.deliver(&event).await.unwrap();
    assert_eq!((receiver.came().len(), receiver.connections()), (3, 2));
}

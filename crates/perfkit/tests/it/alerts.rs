//! Alerts and objectives by configuration, from the number to the webhook.

use perf_metrics::{AlertState, Change};
use perfkit::{Config, Stack};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Takes one post and answers that all is well.
async fn post(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut text, mut part) = (String::new(), [0; 4096]);
    let is_whole = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        (body.len() >= length.unwrap_or(0)).then_some(())
    };
    while is_whole(&text).is_none() {
        let read = stream.read(&mut part).await.unwrap();
        assert_ne!(read, 0, "cut off after {text}");
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    text
}

#[tokio::test]
async fn a_configured_alert_reaches_the_webhook_and_the_host_and_resolves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config::from_toml(&format!(
        r#"
        [alerts.orders_waiting]
        metric = "orders_waiting"
        above = 100.0
        clear = 50.0
        severity = "page"
        summary = "Orders wait"

        [objectives.checkout]
        bad = "checkout_failed_total"
        total = "checkout_total"

        [webhook]
        url = "http://{address}/alerts"
        token = "7b1f"
        "#
    ))
    .unwrap();
    assert!(!format!("{config:?}").contains("7b1f"));
    let (events, mut told) = tokio::sync::mpsc::channel(8);
    let stack = Stack::builder(config).alert_events(events).build().await.unwrap();
    let waiting = stack.metrics().gauge("orders_waiting", "Orders that wait").get().unwrap();
    waiting.set(200.0);

    let limit = Duration::from_secs(20);
    let posted = tokio::time::timeout(limit, post(&listener)).await.unwrap();
    assert!(posted.starts_with("POST /alerts ") && posted.contains("Bearer 7b1f"), "{posted}");
    assert!(posted.contains("orders_waiting") && posted.contains("firing"), "{posted}");
    let event = tokio::time::timeout(limit, told.recv()).await.unwrap().unwrap();
    assert_eq!((event.name.as_str(), event.change), ("orders_waiting", Change::Fired));

    let alerts = stack.alerts().unwrap();
    let views = alerts.views();
    assert!(views.iter().any(|view| view.name == "orders_waiting" && view.state == AlertState::Firing));
    assert!(views.len() > 1, "the objective has its burn rates");
    assert!(alerts.rules_yaml().contains("orders_waiting"));

    waiting.set(1.0);
    let event = tokio::time::timeout(limit, told.recv()).await.unwrap().unwrap();
    assert_eq!(event.change, Change::Resolved);
    assert!(tokio::time::timeout(limit, post(&listener)).await.unwrap().contains("resolved"));
    assert!(stack.close().await.is_clean());
}

#[tokio::test]
async fn without_sections_there_are_no_alerts() {
    let stack = Stack::new(Config::from_toml("").unwrap()).await.unwrap();
    assert!(stack.alerts().is_none());
    assert!(stack.close().await.is_clean());
}

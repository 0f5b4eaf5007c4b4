//! WebSocket pools by configuration, against a server on loopback, plain and under TLS.

use perf_testkit::{ServerWord, WebSocketServer};
use perfkit::pool::websocket::{Delivery, Error, Incoming, Message, Position, Protocol};
use perfkit::{Config, Stack, StackError};

/// As much of the server's words as a subscription needs.
#[derive(Clone, Copy)]
struct Words;

impl Protocol for Words {
    fn subscribe(&self, id: u64, topic: &str, after: Option<u64>) -> Message {
        Message::text(ServerWord::subscribe(id, topic, after))
    }

    fn unsubscribe(&self, id: u64, topic: &str) -> Message {
        Message::text(ServerWord::unsubscribe(id, topic))
    }

    fn read<'m>(&self, message: &'m Message) -> Incoming<'m> {
        match ServerWord::read(message.to_text().unwrap()) {
            ServerWord::Subscribed { id, .. } => {
                Incoming::Reply { id, refused: None, position: Position::Unknown }
            }
            ServerWord::Event { topic, number } => Incoming::Event { topic, sequence: number },
            _ => Incoming::Other,
        }
    }
}

async fn stack(urls: &[String], more: &str) -> Stack {
    let text = format!("[websockets.prices]\nurls = {urls:?}\n{more}");
    Stack::new(Config::from_toml(&text).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_websocket_section_is_a_pool_with_numbers_and_health_and_ends_with_the_stack() {
    let (plain, secure) =
        (WebSocketServer::start().await.unwrap(), WebSocketServer::start_tls().await.unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), WebSocketServer::CA_PEM).unwrap();
    let more = format!(
        "ca_file = '{}'\nweb_roots = false\nheaders = {{ authorization = 'Bearer hunter2' }}\n\
         strategy = 'round_robin'\npool = {{ min = 2, max = 2, retry_base = '5ms' }}",
        file.path().display()
    );
    let stack = stack(&[plain.url(), secure.url()], &more).await;
    assert!(!format!("{:?}", stack.config()).contains("hunter2"));
    let pool = stack.websocket("prices", Words).unwrap();
    pool.warm_up().await.unwrap();
    assert_eq!((plain.connections(), secure.connections()), (1, 1), "one connection to each in turn");
    let mut euro = pool.subscribe("euro").await.unwrap();
    for server in [&plain, &secure] {
        server.publish("euro", "1.07");
    }
    assert!(matches!(euro.next().await, Ok(Delivery::Message(_))));
    let page = stack.metrics().text();
    for series in [
        r#"perf_pool_websocket_connections{name="prices",state="open"} 2"#,
        r#"perf_pool_websocket_subscriptions{name="prices",state="carried"} 1"#,
    ] {
        assert!(page.contains(series), "{series} in {page}");
    }
    let report = stack.health().report();
    let prices = report.checks.iter().find(|check| check.name.contains("prices")).unwrap();
    assert_eq!(prices.status, perf_core::Status::Up);
    assert!(matches!(stack.websocket("prices", Words), Err(StackError::Duplicate(_))));
    let said = stack.websocket("rates", Words).unwrap_err().to_string();
    assert!(said.contains("websockets.rates") && said.contains("there are: prices"), "{said}");
    assert!(stack.close().await.is_clean());
    assert!(matches!(pool.send("late").await, Err(Error::Rejected(_))), "closed with the stack");
}

#[tokio::test]
async fn a_server_that_the_configuration_does_not_trust_is_refused_at_once() {
    let secure = WebSocketServer::start_tls().await.unwrap();
    let stack = stack(&[secure.url()], "").await;
    let error = stack.websocket("prices", Words).unwrap().subscribe("euro").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(stack.close().await.is_clean());
    let text = format!("[websockets.prices]\nurls = ['{}']\nca_file = '/nowhere/ca.pem'", secure.url());
    let stack = Stack::new(Config::from_toml(&text).unwrap()).await.unwrap();
    let said = stack.websocket("prices", Words).unwrap_err().to_string();
    assert!(said.contains("/nowhere/ca.pem"), "{said}");
}

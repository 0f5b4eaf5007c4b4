use axum::{Router, routing::get};
use perf_core::Status;
use perfkit::{Config, Stack};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn stack(more: &str) -> Stack {
    let text = format!("[databases.orders]\nurl = 'sqlite::memory:'\npool = {{ max = 1 }}\n{more}");
    Stack::new(Config::from_toml(&text).unwrap()).await.unwrap()
}

async fn answer(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_port_in_use_is_refused_with_the_address() {
    let taken = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let stack = stack("").await;
    let said = stack.serve(address, Router::new()).await.unwrap_err().to_string();
    assert!(said.contains(&address.to_string()), "{said}");

    let text = format!("[management]\naddress = '{address}'");
    let error = Stack::new(Config::from_toml(&text).unwrap()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&address.to_string()), "{cause}");
}

#[tokio::test]
async fn a_database_that_answers_makes_the_service_ready() {
    let stack = stack("").await;
    assert!(!stack.health().readiness().is_ok(), "it does not serve yet");
    let serving = stack.serve((LOCAL, 0).into(), Router::new()).await.unwrap();
    stack.health().settled().await;
    assert_eq!(stack.health().readiness().status, Status::Up);
    assert!(stack.shut_down(serving).await.is_clean());
}

#[tokio::test]
async fn the_budget_for_retries_is_configured_like_every_other_part() {
    use perfkit::resilience::retry::{BudgetKind, DEFAULT_BUDGET_RATIO};
    let plain = stack("").await;
    let config = plain.sqlite("orders").unwrap().guard().budget().unwrap().config();
    assert_eq!((config.kind, config.ratio), (BudgetKind::Ratio, DEFAULT_BUDGET_RATIO));
    for whole in ["", "pipeline.retry = {}\npipeline."] {
        let budget = format!("{whole}budget.kind.in_flight = {{ share = 0.2, floor = 2 }}");
        let stack = stack(&format!("[databases.orders.resilience]\n{budget}")).await;
        let budget = stack.sqlite("orders").unwrap().guard().budget().unwrap().clone();
        assert!(matches!(budget.config().kind, BudgetKind::InFlight(places) if places.floor == 2));
        assert_eq!(budget.balance(), 2.0);
    }
}

#[tokio::test]
async fn every_part_is_on_the_metrics_page_and_the_probes_need_no_token() {
    // An address of its own: on the one all tests share another may take the port as soon as it is free.
    let stack = stack("[management]\naddress = '127.0.1.2:0'").await;
    let _users = stack.cache::<u64, String>("users").unwrap();
    let serving =
        stack.serve((LOCAL, 0).into(), Router::new().route("/", get(|| async { "hello" }))).await.unwrap();
    assert!(answer(serving.address(), "/").await.ends_with("hello"));
    let page = stack.metrics().text();
    for series in [
        "perf_cache_reads_total",
        "perf_pool_acquired_total",
        "perf_http_",
        "perf_dbopt_",
        "process_cpu_seconds_total",
    ] {
        assert!(page.contains(series), "{series} in {page}");
    }
    let management = stack.management().unwrap().address();
    assert!(answer(management, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(answer(management, "/overview").await.starts_with("HTTP/1.1 401"));
    assert!(stack.shut_down(serving).await.is_clean());
    assert!(TcpStream::connect(management).await.is_err(), "the management listener is closed as well");
}

#[tokio::test]
async fn requests_under_way_end_before_the_service_does() {
    let stack = stack("").await;
    let slow = get(|| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "done"
    });
    // An address of its own: on the one all tests share another may take the port as soon as it is free.
    let own = ([127, 0, 1, 3], 0).into();
    let serving = stack.serve(own, Router::new().route("/", slow)).await.unwrap();
    let address = serving.address();
    let asked = tokio::spawn(async move { answer(address, "/").await });
    // The request is under way once the server counts it.
    while stack.layers().metrics().stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let report = stack.shut_down(serving).await;
    assert!(report.is_clean(), "{report:?}");
    assert!(asked.await.unwrap().ends_with("done"));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_lease_that_does_not_come_back_is_reported() {
    let stack = stack("[shutdown]\ntimeout = '100ms'").await;
    let lease = stack.sqlite("orders").unwrap().pool().acquire().await.unwrap();
    let report = stack.close().await;
    assert!(!report.is_clean());
    assert_eq!(report.unreturned, [("orders".to_owned(), 1)]);
    drop(lease);
}

#[tokio::test]
async fn a_database_is_only_given_out_as_what_it_is() {
    let stack = stack("").await;
    let said = stack.sqlite("users").unwrap_err().to_string();
    assert!(said.contains("`users`") && said.contains("there are: orders"), "{said}");
    assert!(stack.cache::<u64, u64>("twice").is_ok());
    assert!(stack.cache::<u64, u64>("twice").is_err());
    stack.close().await;
}

/// A collector that accepts everything and remembers the heads of what it was sent.
#[cfg(feature = "otlp")]
async fn collector() -> (SocketAddr, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let remembered = std::sync::Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            remembered.lock().unwrap().push(head);
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    (address, seen)
}

#[cfg(feature = "otlp")]
#[tokio::test]
async fn a_section_sends_numbers_and_spans_to_a_collector_a_last_time_at_the_end() {
    use tracing_subscriber::layer::SubscriberExt as _;

    let (address, seen) = collector().await;
    let text = format!(
        "[otlp]\ncollector = 'http://{address}'\nheaders = {{ api-key = 'hunter2' }}\ninterval = '1h'"
    );
    let config = Config::from_toml(&text).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let stack = Stack::new(config).await.unwrap();
    assert!(stack.metrics().text().contains("perf_metrics_otlp_exports_total"));
    let layer = stack.otlp().unwrap().layer();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info_span!("order").in_scope(|| ());
    });
    assert!(stack.close().await.is_clean());
    let seen = seen.lock().unwrap();
    let heads: Vec<&str> = seen.iter().map(|head| head.lines().next().unwrap()).collect();
    assert_eq!(heads, ["POST /v1/metrics HTTP/1.1", "POST /v1/traces HTTP/1.1"]);
    assert!(seen[0].contains("api-key: hunter2"), "{}", seen[0]);
    let said = Config::from_toml("[otlp]\ncollector = 'ftp://x'").unwrap_err().to_string();
    assert!(said.contains("otlp.collector"), "{said}");
}

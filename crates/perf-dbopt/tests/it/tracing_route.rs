//! The observer behind sqlx's own events (design page (f), route 1).

use perf_dbopt::{Dialect, QueryStats};
use sqlx::{Connection, SqliteConnection};
use tracing_subscriber::layer::SubscriberExt;

#[tokio::test]
async fn queries_are_seen_without_touching_the_code_that_sends_them() {
    let stats = QueryStats::new("main", Dialect::Sqlite);
    // sqlx runs SQLite on threads of its own, so only the subscriber of the whole process sees its events.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(stats.tracing_layer()))
        .unwrap();
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for value in 1..=3 {
        sqlx::query("select value, value + 1, value + 2 from json_each('[1,2]') where value > ?")
            .bind(value)
            .fetch_all(&mut conn)
            .await
            .unwrap();
    }
    sqlx::query("select 1").fetch_all(&mut conn).await.unwrap();
    let statement = stats.statements().into_iter().find(|s| s.text.contains("json_each")).unwrap();
    assert_eq!((statement.calls(), statement.rows), (3, 1));
    assert!(stats.statements().iter().any(|s| &*s.text == "select ?"), "short statements too");
}

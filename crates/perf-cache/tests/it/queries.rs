//! Cached query results, against SQLite.

use perf_cache::{Cache, CacheSpace, Dialect, QueryCache, QueryError, QueryKey, table_tag};
use sqlx::sqlite::{Sqlite, SqlitePool, SqlitePoolOptions};

type Row = (i64, String);

async fn database() -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    for sql in [
        "create table users (id integer primary key, name text)",
        "create table orders (id integer primary key, note text)",
        "insert into users values (1, 'Ada'), (2, 'Grace')",
        "insert into orders values (1, 'a lamp')",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    pool
}

fn queries(space: &CacheSpace) -> QueryCache<Sqlite, Row> {
    let cache: Cache<QueryKey, Vec<Row>> = space.cache("queries").build().unwrap();
    QueryCache::new(cache)
}

const BY_ID: &str = "select id, name from users where id = ?";

async fn name(queries: &QueryCache<Sqlite, Row>, pool: &SqlitePool, id: i64) -> String {
    queries.query(BY_ID).bind(id).fetch_all(pool).await.unwrap()[0].1.clone()
}

#[tokio::test]
async fn a_query_is_asked_once_for_each_set_of_bound_values() {
    let (space, pool) = (CacheSpace::in_process("t"), database().await);
    let queries = queries(&space);
    for _ in 0..3 {
        assert_eq!(name(&queries, &pool, 1).await, "Ada");
        assert_eq!(name(&queries, &pool, 2).await, "Grace");
        let spelled = queries.query("SELECT id, name FROM users -- one\n WHERE id=?").bind(1_i64);
        assert_eq!(spelled.fetch_all(&pool).await.unwrap()[0].1, "Ada");
    }
    assert_eq!((queries.cache().stats().loaded, queries.cache().stats().hits), (2, 7));
}

#[tokio::test]
async fn role_and_search_path_are_part_of_the_question() {
    let (space, pool) = (CacheSpace::in_process("t"), database().await);
    let queries = queries(&space).role("app");
    name(&queries, &pool, 1).await;
    for (role, path) in [("admin", "public"), ("app", "tenant_7"), ("app", "tenant_8")] {
        let query = queries.query(BY_ID).bind(1_i64).role(role).search_path(path);
        query.fetch_all(&pool).await.unwrap();
    }
    assert_eq!(queries.cache().stats().loaded, 4);
}

#[tokio::test]
async fn a_committed_write_ends_the_results_that_name_its_table_and_a_rollback_none() {
    let (space, pool) = (CacheSpace::in_process("t"), database().await);
    let queries = queries(&space);
    let orders = || async { queries.query("select id, note from orders").fetch_all(&pool).await.unwrap() };
    name(&queries, &pool, 1).await;
    orders().await;
    let rename = "update users set name = 'Ada L.' where id = 1";

    let mut tx = pool.begin().await.unwrap();
    sqlx::query(rename).execute(&mut *tx).await.unwrap();
    let collected = space.collector().sql(rename, Dialect::Sqlite);
    tx.rollback().await.unwrap();
    drop(collected);
    assert_eq!((name(&queries, &pool, 1).await, queries.cache().stats().loaded), ("Ada".into(), 2));

    let mut tx = pool.begin().await.unwrap();
    sqlx::query(rename).execute(&mut *tx).await.unwrap();
    let receipt = space.collector().sql(rename, Dialect::Sqlite).commit(tx).await.unwrap();
    assert!(receipt.acked);
    assert_eq!(name(&queries, &pool, 1).await, "Ada L.");
    orders().await;
    assert_eq!(queries.cache().stats().loaded, 3, "what does not name the table stays");
}

#[tokio::test]
async fn a_commit_that_fails_ends_the_results_all_the_same() {
    let (space, pool) = (CacheSpace::in_process("t"), database().await);
    let queries = queries(&space);
    sqlx::query("pragma foreign_keys = on").execute(&pool).await.unwrap();
    let lines = "create table lines (o integer references orders(id) deferrable initially deferred)";
    sqlx::query(lines).execute(&pool).await.unwrap();
    name(&queries, &pool, 1).await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("insert into lines values (99)").execute(&mut *tx).await.unwrap();
    let collected = space.collector().tag(table_tag("users"));
    assert!(collected.commit(tx).await.is_err(), "the constraint is checked at the commit");
    name(&queries, &pool, 1).await;
    assert_eq!(queries.cache().stats().loaded, 2);
}

#[tokio::test]
async fn a_statement_that_nobody_can_read_ends_all_results() {
    let (space, pool) = (CacheSpace::in_process("t"), database().await);
    let queries = queries(&space);
    name(&queries, &pool, 1).await;
    space.collector().sql("call tidy_up()", Dialect::Postgres).publish().await;
    name(&queries, &pool, 1).await;
    assert_eq!(queries.cache().stats().loaded, 2);
}

#[tokio::test]
async fn what_must_not_be_cached_is_refused_with_the_reason() {
    let (space, pool) = (CacheSpace::in_process("t"), database().await);
    let queries = queries(&space);
    for (sql, word) in [
        ("insert into users values (3, 'Eve') returning id, name", "writes"),
        ("select 1, 'a'; select 2, 'b'", "several"),
        ("select 1, datetime('now')", "each time"),
    ] {
        let error = queries.query(sql).fetch_all(&pool).await.unwrap_err();
        assert!(matches!(error, QueryError::NotCacheable { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let count: (i64,) = sqlx::query_as("select count(*) from users").fetch_one(&pool).await.unwrap();
    assert_eq!(count.0, 2, "a refused statement is not run");
    let as_of_the_load = queries.query("select 1, datetime('now')").accept_volatile();
    assert_eq!(as_of_the_load.fetch_all(&pool).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_error_of_the_database_reaches_the_caller_and_is_not_kept() {
    let (space, pool) = (CacheSpace::in_process("t"), database().await);
    let queries = queries(&space);
    let missing = || queries.query("select id, name from nowhere").fetch_all(&pool);
    let error = missing().await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    sqlx::query("create table nowhere (id integer, name text)").execute(&pool).await.unwrap();
    assert!(missing().await.unwrap().is_empty());
}

#[tokio::test]
async fn tables_behind_a_view_are_tagged_by_hand_and_any_pool_may_be_asked() {
    let (space, pool) = (CacheSpace::in_process("t"), database().await);
    let queries = queries(&space);
    sqlx::query("create view people as select id, name from users").execute(&pool).await.unwrap();
    for _ in 0..2 {
        let other = pool.clone();
        let query = queries.query("select id, name from people").tags([table_tag("users")]);
        let rows = query
            .fetch_with(|sql, arguments| async move {
                let mut connection = other.acquire().await?;
                sqlx::query_as_with(sql, arguments).fetch_all(&mut *connection).await
            })
            .await
            .unwrap();
        assert_eq!(rows.len(), 2);
    }
    assert_eq!(queries.cache().stats().loaded, 1);
    space.collector().sql("delete from users", Dialect::Sqlite).publish().await;
    assert_eq!(queries.cache().stats().entries, 1, "it is found out at the next read");
    assert!(queries.query("select id, name from people").fetch_all(&pool).await.is_ok());
    assert_eq!(queries.cache().stats().loaded, 2);
}

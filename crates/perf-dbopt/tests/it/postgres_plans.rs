//! Plans of normalised statements on PostgreSQL (B1), from the texts pg_stat_statements keeps.
#![expect(clippy::unwrap_used, reason = "what tests share may unwrap as tests may")]

use crate::{nasty, shop};
use perf_dbopt::advise::SkipReason;
use perf_dbopt::postgres::Explainer;
use perf_testkit::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn server() -> (PostgresServer, PgConnection) {
    let server = PostgresServer::builder().preload("pg_stat_statements").start().await.unwrap();
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    for sql in ["create extension pg_stat_statements", shop::SCHEMA] {
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    }
    (server, conn)
}

async fn normalised(conn: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("select query from pg_stat_statements where query not like '%pg_stat_statements%' and query not like 'create %'")
        .fetch_all(conn)
        .await
        .unwrap()
}

#[tokio::test]
async fn b1_1_and_b1_3_every_normalised_statement_of_the_shop_is_explained() {
    let (_server, mut conn) = server().await;
    sqlx::raw_sql("select pg_stat_statements_reset()").execute(&mut conn).await.unwrap();
    for sql in shop::statements() {
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await {
            panic!("{sql}: {error}");
        }
    }
    let texts = normalised(&mut conn).await;
    assert!(texts.len() >= 60, "{}", texts.len());
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    let (mut repaired, mut failed) = (0, Vec::new());
    for text in &texts {
        match explainer.explain(text).await.unwrap() {
            Ok(explained) => {
                assert!(explained.cost > 0.0 || text.contains("select $1"), "{text}");
                assert!(
                    !explained.plan.contains("One-Time Filter\": \"false"),
                    "B1.2, planned for NULL: {text}"
                );
                repaired += usize::from(explained.repaired);
            }
            Err(reason) => failed.push(format!("{reason}: {text}")),
        }
    }
    explainer.finish().await.unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), texts.len(), failed.join("\n"));
    assert!(repaired >= 15, "these statements are chosen to need repair: {repaired}");
}

/// Runs the statements, explains what the server made of them, and says which could not be and how many were repaired.
async fn explain_all(conn: &mut PgConnection, statements: impl Iterator<Item = &'static str>) -> usize {
    sqlx::raw_sql("select pg_stat_statements_reset()").execute(&mut *conn).await.unwrap();
    let mut invalid = Vec::new();
    for sql in statements {
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await {
            invalid.push(format!("{error}: {sql}"));
        }
    }
    assert!(invalid.is_empty(), "not SQL of this server:\n{}", invalid.join("\n"));
    let texts = normalised(conn).await;
    assert!(texts.len() >= 60, "{}", texts.len());
    let mut explainer = Explainer::new(conn).await.unwrap();
    let (mut repaired, mut failed) = (0, Vec::new());
    for text in &texts {
        match explainer.explain(text).await.unwrap() {
            Ok(explained) => repaired += usize::from(explained.repaired),
            Err(reason) => failed.push(format!("{reason}: {text}")),
        }
    }
    explainer.finish().await.unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), texts.len(), failed.join("\n"));
    repaired
}

#[tokio::test]
async fn b1_3_forms_of_decision_support_and_of_generated_sql_are_explained() {
    let (_server, mut conn) = server().await;
    explain_all(&mut conn, shop::hard()).await;
}

#[tokio::test]
async fn b1_3_nasty_forms_of_every_part_of_the_language_are_explained() {
    let (_server, mut conn) = server().await;
    sqlx::raw_sql(nasty::SCHEMA).execute(&mut conn).await.unwrap();
    let repaired = explain_all(&mut conn, nasty::statements()).await;
    assert!(repaired >= 40, "these statements are chosen to need repair: {repaired}");
}

#[tokio::test]
async fn b1_4_what_has_no_plan_is_skipped_with_its_reason() {
    let (server, mut conn) = server().await;
    server.sql("create role reader login; create table secret (a int)").await.unwrap();
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    let mut reason = async |sql: &str| explainer.explain(sql).await.unwrap().unwrap_err();
    assert_eq!(reason("call f($1)").await, SkipReason::Utility);
    assert_eq!(reason("vacuum orders").await, SkipReason::Utility);
    assert_eq!(reason("select 1; drop table orders").await, SkipReason::MultipleStatements);
    assert_eq!(reason("select * from orders where id in ($1, $2").await, SkipReason::Truncated);
    assert_eq!(reason("truncate orders").await, SkipReason::Utility);
    assert_eq!(reason("set work_mem = $1").await, SkipReason::Utility);
    assert_eq!(reason("copy orders from stdin").await, SkipReason::Utility);
    assert_eq!(reason("<insufficient privilege>").await, SkipReason::InsufficientPrivilege);
    let long = format!("select {} from orders", "id, ".repeat(26_000) + "id");
    assert_eq!(reason(&long).await, SkipReason::Truncated, "no statement is as long as {} bytes", long.len());
    assert!(matches!(reason("select * from nowhere where a = $1").await, SkipReason::Missing(_)));
    assert!(matches!(reason("select nothing from orders where id = $1").await, SkipReason::Missing(_)));
    // Without its constants nothing is left that it could be joined by.
    let full = "select 1 from orders full join stock on $1 = $2";
    assert!(matches!(reason(full).await, SkipReason::NotPlannable(why) if why.contains("FULL JOIN")));
    // No type makes sense of it, and trying ends.
    assert!(matches!(
        reason("select point($1, $2) + row($3, $4) from orders").await,
        SkipReason::NotPlannable(_)
    ));
    assert!(matches!(reason("select no_such_function($1, $2)").await, SkipReason::NotPlannable(_)));
    assert!(matches!(reason("selec 1").await, SkipReason::Utility));
    assert!(matches!(reason("select from from").await, SkipReason::NotPlannable(_)));
    explainer.finish().await.unwrap();
    let url = server.url().replace("postgres@", "reader@");
    let mut reader = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("set role reader").execute(&mut reader).await.unwrap();
    let mut explainer = Explainer::new(&mut reader).await.unwrap();
    let denied = explainer.explain("select * from secret where a = $1").await.unwrap().unwrap_err();
    assert!(matches!(denied, SkipReason::PermissionDenied(_)), "{denied:?}");
}

#[tokio::test]
async fn b1_6_explaining_a_write_changes_nothing() {
    let (server, mut conn) = server().await;
    server.sql("insert into stock values (1, 1, 1)").await.unwrap();
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    for sql in [
        "delete from stock where product = $1",
        "with d as (delete from stock returning 1) select * from d",
        "update stock set amount = amount + $1",
        "insert into stock (product, place) values ($1, $2) on conflict do nothing",
        "merge into stock s using (select $1 as product, $2 as place) n on s.product = n.product \
         when matched then update set amount = s.amount + $3 when not matched then insert (product, place) values (n.product, n.place)",
    ] {
        let plan = explainer.explain(sql).await.unwrap().unwrap().plan;
        assert!(plan.contains("ModifyTable"), "{sql}: {plan}");
    }
    assert_eq!(server.sql("select * from stock").await.unwrap(), "1|1|1||");
}

#[tokio::test]
async fn b1_8_and_b_7_planning_leaves_at_most_one_entry_per_number_of_parameters() {
    let (server, mut conn) = server().await;
    server
        .sql("create role plain login; grant select on all tables in schema public to plain")
        .await
        .unwrap();
    sqlx::raw_sql("set role plain").execute(&mut conn).await.unwrap();
    server.sql("select pg_stat_statements_reset()").await.unwrap();
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    for column in ["id", "customer", "status", "total", "day", "at"] {
        for _ in 0..5 {
            explainer.explain(&format!("select * from orders where {column} = $1")).await.unwrap().unwrap();
        }
    }
    explainer.finish().await.unwrap();
    let entries =
        server.sql("select count(*) from pg_stat_statements where query ilike 'explain%'").await.unwrap();
    assert_eq!(entries, "1");
    let all: i32 = server.sql("select count(*) from pg_stat_statements").await.unwrap().parse().unwrap();
    assert!(all <= 16, "a constant number besides: {all}");
}

#[tokio::test]
async fn a_call_dropped_half_way_leaves_the_session_usable() {
    let (_server, mut conn) = server().await;
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    for _ in 0..20 {
        let call = explainer.explain("select * from orders where id = $1");
        let _ = tokio::time::timeout(std::time::Duration::from_micros(400), call).await;
    }
    explainer.explain("select * from orders where id = $1").await.unwrap().unwrap();
}

#[tokio::test]
async fn b1_3_what_was_repaired_says_so_with_the_types_it_took() {
    let (_server, mut conn) = server().await;
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    let plain = explainer.explain("select * from orders where id = $1").await.unwrap().unwrap();
    assert_eq!((plain.repaired, plain.types.len()), (false, 0));
    let sum = explainer.explain("select $1 + $2, id from orders where day > date $3").await.unwrap().unwrap();
    assert!(sum.repaired);
    assert_eq!(sum.types.into_iter().collect::<Vec<_>>(), [(1, "int"), (2, "int")]);
}

#[tokio::test]
async fn b1_1_and_b1_9_the_session_is_given_back_as_it_was() {
    let (_server, mut conn) = server().await;
    let state = "select (select count(*) from pg_prepared_statements) || current_setting('plan_cache_mode') \
                 || current_setting('statement_timeout') || current_setting('lock_timeout') || current_setting('pg_stat_statements.track')";
    let before: String = sqlx::query_scalar(state).persistent(false).fetch_one(&mut conn).await.unwrap();
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    for n in 0..3 {
        explainer.explain(&format!("select {n} + $1 from orders where id = $2")).await.unwrap().unwrap();
    }
    explainer.finish().await.unwrap();
    let after: String = sqlx::query_scalar(state).persistent(false).fetch_one(&mut conn).await.unwrap();
    assert_eq!(before, after, "statements, settings");
}

/// A pooler in transaction mode: after each transaction (here: each statement) the client goes on in the other of two sessions.
async fn pooler(server: &PostgresServer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = server
        .url()
        .replace(&format!(":{}/", server.port()), &format!(":{}/", listener.local_addr().unwrap().port()));
    let upstream = format!("127.0.0.1:{}", server.port());
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        // Who wants TLS is told that there is none; then comes the message that says who connects.
        let mut hello = untyped(&mut client).await;
        if hello.len() == 8 {
            client.write_all(b"N").await.unwrap();
            hello = untyped(&mut client).await;
        }
        let mut sessions = Vec::new();
        for number in 0..2 {
            let mut session = TcpStream::connect(&upstream).await.unwrap();
            session.write_all(&hello).await.unwrap();
            let welcome = until_ready(&mut session).await;
            if number == 0 {
                client.write_all(&welcome).await.unwrap();
            }
            sessions.push(session);
        }
        for turn in 0.. {
            let session = &mut sessions[turn % 2];
            // A simple query, or everything up to the end of an extended one.
            loop {
                let Some(message) = typed(&mut client).await else { return };
                session.write_all(&message).await.unwrap();
                if matches!(message[0], b'Q' | b'S') {
                    break;
                }
            }
            client.write_all(&until_ready(session).await).await.unwrap();
        }
    });
    url
}

async fn untyped(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = stream.read_u32().await.unwrap().to_be_bytes().to_vec();
    let length = u32::from_be_bytes(message[..].try_into().unwrap()) as usize;
    message.resize(length, 0);
    stream.read_exact(&mut message[4..]).await.unwrap();
    message
}

async fn typed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = vec![stream.read_u8().await.ok()?];
    message.extend(untyped(stream).await);
    Some(message)
}

async fn until_ready(session: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let message = typed(session).await.unwrap();
        all.extend(&message);
        if message[0] == b'Z' {
            return all;
        }
    }
}

#[tokio::test]
async fn b1_9_a_pooler_that_changes_sessions_between_statements_is_refused() {
    let (server, _conn) = server().await;
    let mut conn = PgConnection::connect(&pooler(&server).await).await.unwrap();
    let mut explainer = Explainer::new(&mut conn).await.unwrap();
    let error = explainer.explain("select * from orders where id = $1").await.unwrap_err();
    assert!(error.to_string().contains("pooler in session mode"), "{error}");
}

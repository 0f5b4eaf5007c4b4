//! What is one statement and what is two (design page (d): libpg_query classes, percona and sql-fingerprint behaviours).

use perf_dbopt::{Dialect, fingerprint, normalize};
use proptest::prelude::*;

fn same(dialect: Dialect, statements: &[&str]) {
    for pair in statements.windows(2) {
        assert_eq!(normalize(pair[0], dialect), normalize(pair[1], dialect));
        assert_eq!(fingerprint(pair[0], dialect), fingerprint(pair[1], dialect));
    }
}

fn different(dialect: Dialect, statements: &[&str]) {
    for (index, a) in statements.iter().enumerate() {
        for b in &statements[index + 1..] {
            assert_ne!(fingerprint(a, dialect), fingerprint(b, dialect), "{a}\n{b}");
            assert_ne!(normalize(a, dialect), normalize(b, dialect), "{a}\n{b}");
        }
    }
}

#[test]
fn values_case_space_and_comments_do_not_matter() {
    for dialect in Dialect::ALL {
        same(
            dialect,
            &[
                "select a from t where b = 1",
                "SELECT a\n FROM t WHERE b='x';",
                "select a /* x */ from t where b = -1.5e3 -- y",
                "select a from t where b=+7",
                "select a from t where b = true",
                "select a from t where b = NULL",
            ],
        );
    }
}

#[test]
fn lists_of_values_are_one_value_long() {
    for dialect in Dialect::ALL {
        same(dialect, &["select 1 from t where a in (1)", "select 1 from t where a in (1, -2, 'x', null)"]);
        same(
            dialect,
            &["insert into t (a, b) values (1, 2)", "insert into t (a, b) values (1, 2), (3, 4), (5, f(6))"],
        );
        same(
            dialect,
            &["select 1 from t where (a, b) in ((1, 2))", "select 1 from t where (a, b) in ((1, 2), (3, 4))"],
        );
    }
    same(Dialect::Postgres, &["select array[1]", "select ARRAY[1, 2, 3]"]);
    different(
        Dialect::Postgres,
        &["select f(1)", "select f(1, 2)", "select a in (select 1)", "select a in (1)"],
    );
}

#[test]
fn words_of_any_length_are_words_at_any_place_and_whatever_follows() {
    for before in 0..70 {
        for len in [1, 2, 7, 8, 9, 60, 63, 64, 65, 127, 128, 129, 200] {
            let (blank, word) = (" ".repeat(before), "w".repeat(len));
            for (after, form) in
                [(" 'x'", " $1"), ("'x'", " $1"), ("&1", " & $1"), (", b", ", b"), ("=1", " = $1"), ("", "")]
            {
                let sql = format!("{blank}{word}{after}");
                assert_eq!(normalize(&sql, Dialect::Postgres), format!("{word}{form}"), "{before} {len}");
                assert_eq!(
                    fingerprint(&sql, Dialect::Postgres),
                    fingerprint(&format!("{word} {after}"), Dialect::Postgres),
                    "{sql}"
                );
            }
        }
    }
}

#[test]
fn quotes_that_change_nothing_do_not_matter() {
    same(Dialect::Postgres, &[r#"select "a"."b" from "t""#, "select a.b from t"]);
    same(Dialect::MySql, &["select `a`.`b` from `t`", "select a.b from t"]);
    same(Dialect::Sqlite, &["select [a] from `t`", "select a from t"]);
    different(Dialect::Postgres, &[r#"select "A" from t"#, "select a from t", r#"select "order" from t"#]);
}

#[test]
fn column_numbers_null_tests_names_and_order_matter() {
    different(
        Dialect::Postgres,
        &[
            "select a, b from t order by 1",
            "select a, b from t order by 2",
            "select a, b from t group by 1, 2",
            "select a, b from t group by 1, 1",
            "select b, a from t order by 1",
            "select a, b from t where a is null",
            "select a, b from t where a is not null",
            "select a, b from t where a = null",
            "select a, b from t1",
            "select a, b from t where a - 1 = b",
            "select a, b from t where a = b",
            "select a, b from t where a::int = b",
            "update t set a = 1",
            "update t set b = 1",
        ],
    );
    same(Dialect::Postgres, &["select a from t order by 1 limit 5", "select a from t order by 1 limit 7"]);
}

#[test]
fn normal_forms_are_statements_the_server_can_prepare() {
    let form = |sql| normalize(sql, Dialect::Postgres);
    assert_eq!(
        form("select * from t where a = 'x' and b between 1 and 2 and c = $9"),
        "select * from t where a = $1 and b between $2 and $3 and c = $4"
    );
    assert_eq!(
        form("select x::numeric(10,2), count(*) from \"T\".u"),
        "select x::numeric($1, $2), count(*) from \"T\".u"
    );
    assert_eq!(
        normalize("SELECT a FROM t WHERE b LIKE 'x%' LIMIT 5, 10", Dialect::MySql),
        "select a from t where b like ? limit ?, ?"
    );
}

fn statement() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "select",
        "from",
        "where",
        "a",
        "b",
        "t",
        "in",
        "(",
        ")",
        ",",
        "values",
        "null",
        "is",
        "not",
        "order by",
        "group by",
        "1",
        "-2",
        "'x'",
        "\"q\"",
        "\"order\"",
        "=",
        "and",
        "array[",
        "]",
        ".",
        "::",
        ";",
        "limit",
        "-",
        "e'\\''",
        "$1",
        "?",
        "é",
    ]);
    prop::collection::vec(words, 0..30).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn equal_fingerprints_mean_equal_normal_forms(a in statement(), b in statement(), d in prop::sample::select(Dialect::ALL.to_vec())) {
        let one = fingerprint(&a, d) == fingerprint(&b, d);
        prop_assert_eq!(one, normalize(&a, d) == normalize(&b, d), "{}\n{}", a, b);
    }

    #[test]
    fn the_normal_form_is_its_own_normal_form(sql in statement(), d in prop::sample::select(Dialect::ALL.to_vec())) {
        let form = normalize(&sql, d);
        prop_assert_eq!(fingerprint(&form, d), fingerprint(&sql, d), "{}", form);
        prop_assert_eq!(normalize(&form, d), form);
    }

    #[test]
    fn no_text_makes_it_panic(sql in any::<String>(), d in prop::sample::select(Dialect::ALL.to_vec())) {
        let _ = (fingerprint(&sql, d), normalize(&sql, d), perf_dbopt::statements(&sql, d).count());
    }

    #[test]
    fn no_value_survives(secret in "[a-z]{12}", d in prop::sample::select(Dialect::ALL.to_vec())) {
        let sql = format!("select 1 from t where a = '{secret}' and b in ('{secret}', 'z{secret}') /* {secret} */");
        prop_assert!(!normalize(&sql, d).contains(&secret));
    }
}

//! What a statement reads and writes, and the one form of it that all spellings share.

use super::Dialect;
use super::lexer::{Kind, Lexer, Token};
use crate::tag::Tag;
use std::sync::Arc;

/// A SQL statement, as far as a cache must understand it: its normal form, and which tables it names.
///
/// This is no parser. Names are taken from where tables can stand, and in doubt a name too many is taken, such as that of a
/// common table expression: it costs an invalidation and is never wrong. Tables behind views, functions, triggers and
/// cascading keys are not named in a statement, and are for the caller to add.
///
/// ```
/// use perf_cache::{Dialect, Statement};
///
/// let read = Statement::new("SELECT * FROM shop.users u -- all of them", Dialect::Postgres);
/// assert_eq!(read.normal(), "select * from shop . users u");
/// assert_eq!((read.reads(), read.why_not_cacheable()), (&["users".to_owned()][..], None));
///
/// let write = Statement::new("update users set name = $1", Dialect::Postgres);
/// assert_eq!(write.writes(), Some(&["users".to_owned()][..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    normal: Arc<str>,
    reads: Vec<String>,
    writes: Option<Vec<String>>,
    obstacle: Option<&'static str>,
    volatile: bool,
}

/// Words whose spelling does not matter; names keep theirs, which matters to some databases.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CROSS",
    "DELETE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "FALSE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NATURAL",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "RIGHT",
    "SELECT",
    "SET",
    "THEN",
    "TRUE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Functions and keywords that give another answer each time, or do something.
const VOLATILE: &[&str] = &[
    "BENCHMARK",
    "CHANGES",
    "CLOCK_TIMESTAMP",
    "CURDATE",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRVAL",
    "CURTIME",
    "GEN_RANDOM_UUID",
    "GET_LOCK",
    "LASTVAL",
    "LAST_INSERT_ID",
    "LAST_INSERT_ROWID",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "NEXTVAL",
    "NOW",
    "PG_ADVISORY_LOCK",
    "PG_ADVISORY_XACT_LOCK",
    "PG_SLEEP",
    "PG_TRY_ADVISORY_LOCK",
    "RAND",
    "RANDOM",
    "RANDOMBLOB",
    "RELEASE_LOCK",
    "SETVAL",
    "SET_CONFIG",
    "SLEEP",
    "STATEMENT_TIMESTAMP",
    "SYSDATE",
    "TIMEOFDAY",
    "TOTAL_CHANGES",
    "TRANSACTION_TIMESTAMP",
    "TXID_CURRENT",
    "UNIX_TIMESTAMP",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
    "UUID",
    "UUID_GENERATE_V1",
    "UUID_GENERATE_V4",
    "UUID_SHORT",
];

/// Strings that a date is made of and that mean another one tomorrow.
const VOLATILE_TEXT: &[&str] = &["'NOW'", "'TODAY'", "'TOMORROW'", "'YESTERDAY'"];

/// Words after which no table comes any more, until the next `FROM` or `JOIN`.
const ENDS_TABLES: &[&str] = &[
    "WHERE",
    "GROUP",
    "ORDER",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "SET",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "WINDOW",
    "FOR",
    "SELECT",
    "VALUES",
    "RETURNING",
    "DEFAULT",
];

/// Words that may stand between such a word and the table.
const BEFORE_NAME: &[&str] = &[
    "ONLY",
    "LATERAL",
    "TABLE",
    "IF",
    "NOT",
    "EXISTS",
    "OR",
    "IGNORE",
    "REPLACE",
    "ROLLBACK",
    "ABORT",
    "FAIL",
    "LOW_PRIORITY",
];

fn among(token: &Token<'_>, words: &[&str]) -> bool {
    token.kind == Kind::Word && words.iter().any(|word| token.text.eq_ignore_ascii_case(word))
}

impl Statement {
    /// Looks at a statement.
    #[must_use]
    pub fn new(sql: &str, dialect: Dialect) -> Self {
        let tokens: Vec<_> = Lexer::new(sql, dialect).collect();
        let end = tokens.iter().rposition(|token| !token.is_symbol(";")).map_or(0, |last| last + 1);
        let tokens = &tokens[..end];
        let found = tables(tokens);
        Self {
            normal: normal(tokens).into(),
            writes: written(tokens, &found, dialect),
            reads: distinct(found.iter().map(|table| &table.name)),
            obstacle: obstacle(tokens),
            volatile: is_volatile(tokens),
        }
    }

    /// The statement with comments left out, keywords in small letters, and one space between tokens. Two statements with
    /// the same normal form ask the same.
    #[must_use]
    pub fn normal(&self) -> &str {
        &self.normal
    }

    /// The tables that it names, without their schemas, in small letters.
    #[must_use]
    pub fn reads(&self) -> &[String] {
        &self.reads
    }

    /// The tables that it changes: none for a query, and `None` when that cannot be told, as for a procedure call.
    #[must_use]
    pub fn writes(&self) -> Option<&[String]> {
        self.writes.as_deref()
    }

    /// Why its result must not be cached at all, if so: it writes, locks, or is several statements.
    #[must_use]
    pub const fn why_not_cacheable(&self) -> Option<&'static str> {
        self.obstacle
    }

    /// Whether it asks for the time, for random numbers or the like, so that its result is another one each time.
    #[must_use]
    pub const fn is_volatile(&self) -> bool {
        self.volatile
    }

    /// The tags of a cached result: one for each table, and one for all tables.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + '_ {
        self.reads.iter().map(|table| table_tag(table)).chain([table_tag(ANY)])
    }

    /// The tags that its execution invalidates: those of the tables that it changes, or the one of all tables.
    #[must_use]
    pub fn invalidates(&self) -> Vec<Tag> {
        match &self.writes {
            Some(tables) => tables.iter().map(|table| table_tag(table)).collect(),
            None => vec![table_tag(ANY)],
        }
    }
}

/// Stands for all tables.
const ANY: &str = "*";

/// The tag of what was read from a table: `table:` and the name without schema and quotes, in small letters. Tables of
/// several schemas that have one name have one tag.
///
/// ```
/// use perf_cache::{table_tag, tag};
///
/// assert_eq!(table_tag("shop.\"Users\""), tag!("table", "users"));
/// ```
#[must_use]
pub fn table_tag(table: &str) -> Tag {
    crate::tag!("table", last_part(table))
}

fn last_part(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.trim_matches(['"', '`', ' ']).to_lowercase()
}

fn normal(tokens: &[Token<'_>]) -> String {
    let mut out = String::new();
    for token in tokens {
        if !out.is_empty() {
            out.push(' ');
        }
        let at = out.len();
        out.push_str(token.text);
        if among(token, KEYWORDS) {
            out[at..].make_ascii_lowercase();
        }
    }
    out
}

/// A name where a table can stand, and the word that came before it.
struct Table {
    name: String,
    after: &'static str,
}

/// Where in a list of tables a statement is, at one depth of parentheses.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The next name is a table.
    expected: bool,
    /// After a comma comes another one.
    listed: bool,
    after: &'static str,
}

fn tables(tokens: &[Token<'_>]) -> Vec<Table> {
    let mut found = Vec::new();
    let mut depths = vec![Place::default()];
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let previous = at.checked_sub(1).and_then(|before| tokens.get(before));
        let Some(place) = depths.last_mut() else { break };
        at += 1;
        if let Some(after) = opens(token, previous) {
            *place = Place { expected: true, listed: true, after };
        } else if token.is_symbol("(") {
            // Parentheses round tables, or round a query whose own FROM is still to come.
            let inner = Place { expected: place.expected, listed: place.expected, after: place.after };
            place.expected = false;
            depths.push(inner);
        } else if token.is_symbol(")") {
            if depths.len() > 1 {
                depths.pop();
            }
        } else if token.is_symbol(",") {
            place.expected = place.listed;
        } else if among(token, ENDS_TABLES) {
            *place = Place::default();
        } else if place.expected && !among(token, BEFORE_NAME) {
            place.expected = false;
            if matches!(token.kind, Kind::Word | Kind::Quoted) {
                let (name, next) = qualified(tokens, at - 1);
                found.push(Table { name, after: place.after });
                at = next;
            }
        }
    }
    found
}

/// The word after which tables come.
fn opens(token: &Token<'_>, previous: Option<&Token<'_>>) -> Option<&'static str> {
    let follows = |word: &str| previous.is_some_and(|previous| previous.is(word));
    match token {
        token if token.is("FROM") => Some(if follows("DELETE") { "DELETE" } else { "FROM" }),
        token if token.is("JOIN") || token.is("STRAIGHT_JOIN") => Some("JOIN"),
        token if token.is("USING") => Some("USING"),
        token if token.is("INTO") => Some("INTO"),
        token if token.is("TABLE") || token.is("TRUNCATE") => Some("TABLE"),
        // Not `FOR UPDATE`, `DO UPDATE SET` or `ON DUPLICATE KEY UPDATE`.
        token if token.is("UPDATE") && !["FOR", "DO", "KEY"].into_iter().any(follows) => Some("UPDATE"),
        _ => None,
    }
}

/// The last part of a name with dots, and where it ends.
fn qualified(tokens: &[Token<'_>], mut at: usize) -> (String, usize) {
    while tokens.get(at + 1).is_some_and(|dot| dot.is_symbol("."))
        && tokens.get(at + 2).is_some_and(|part| matches!(part.kind, Kind::Word | Kind::Quoted))
    {
        at += 2;
    }
    (last_part(tokens[at].text.trim_matches(['"', '`'])), at + 1)
}

const READS: &[&str] = &["SELECT", "WITH", "VALUES", "TABLE"];
const WRITES: &[&str] = &["INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE"];
const ALTERS: &[&str] = &["ALTER", "DROP", "CREATE"];

/// The first word, parentheses left out.
fn first<'t, 's>(tokens: &'t [Token<'s>]) -> Option<&'t Token<'s>> {
    tokens.iter().find(|token| !token.is_symbol("("))
}

fn written(tokens: &[Token<'_>], found: &[Table], dialect: Dialect) -> Option<Vec<String>> {
    let first = first(tokens)?;
    let all = || Some(distinct(found.iter().map(|table| &table.name)));
    if tokens.iter().any(|token| token.is_symbol(";")) {
        // One of several statements may do anything.
        return None;
    }
    let writes = tokens.iter().enumerate().any(|(at, token)| is_write(tokens, at, token));
    if among(first, READS) && !writes {
        return Some(Vec::new());
    }
    if among(first, ALTERS) {
        return all().filter(|tables| !tables.is_empty());
    }
    if !among(first, READS) && !among(first, WRITES) {
        return None;
    }
    let changed = |table: &&Table| matches!(table.after, "INTO" | "UPDATE" | "DELETE" | "TABLE");
    let some = distinct(found.iter().filter(changed).map(|table| &table.name));
    // MySQL changes several tables at once.
    if dialect == Dialect::MySql || some.is_empty() {
        return all().filter(|tables| !tables.is_empty());
    }
    Some(some)
}

/// Whether a token begins a write: a name may be spelled like a keyword, but stands elsewhere.
fn is_write(tokens: &[Token<'_>], at: usize, token: &Token<'_>) -> bool {
    let previous = at.checked_sub(1).and_then(|before| tokens.get(before));
    let begins = previous.is_none_or(|previous| previous.is_symbol("(") || previous.is_symbol(")"));
    let called = tokens.get(at + 1).is_some_and(|next| next.is_symbol("("));
    (among(token, WRITES) && begins && !called) || token.is("INTO")
}

fn obstacle(tokens: &[Token<'_>]) -> Option<&'static str> {
    let Some(first) = first(tokens) else { return Some("there is no statement") };
    if tokens.iter().any(|token| token.is_symbol(";")) {
        return Some("there are several statements");
    }
    if !among(first, READS) || tokens.iter().enumerate().any(|(at, token)| is_write(tokens, at, token)) {
        return Some("it is no query, or it writes");
    }
    let locks = tokens.windows(2).any(|pair| {
        pair[0].is("FOR") && among(&pair[1], &["UPDATE", "SHARE", "NO", "KEY"])
            || pair[0].is("LOCK") && pair[1].is("IN")
    });
    locks.then_some("it locks what it reads")
}

fn is_volatile(tokens: &[Token<'_>]) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        let called = tokens.get(at + 1).is_some_and(|next| next.is_symbol("("));
        let bare = token.text.to_ascii_uppercase().starts_with("CURRENT_")
            || token.text.to_ascii_uppercase().starts_with("LOCALTIME");
        // SQLite's date functions without an argument mean now.
        let now = among(token, &["DATE", "TIME", "DATETIME", "JULIANDAY", "UNIXEPOCH"])
            && called
            && tokens.get(at + 2).is_some_and(|next| next.is_symbol(")"));
        (among(token, VOLATILE) && (called || bare))
            || now
            || (token.kind == Kind::Text && VOLATILE_TEXT.contains(&token.text.to_ascii_uppercase().as_str()))
    })
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        if !distinct.contains(name) {
            distinct.push(name.clone());
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{MySql, Postgres, Sqlite};

    fn reads(sql: &str) -> Vec<String> {
        Statement::new(sql, Postgres).reads
    }

    #[test]
    fn every_table_that_is_read_is_named() {
        for (sql, tables) in [
            ("select 1", &[][..]),
            ("SELECT * FROM a, b AS x, only c where d = 'from e'", &["a", "b", "c"]),
            (
                "select * from a join b on a.x = b.x, c left join lateral (select * from d) q on true",
                &["a", "b", "c", "d"],
            ),
            ("select * from (a cross join b), (select 1 from c) s, d", &["a", "b", "c", "d"]),
            ("select (select max(x) from a) from b where y in (select z from c)", &["a", "b", "c"]),
            ("with a as (select * from a), q as (select * from b) select * from q, a", &["a", "b", "q"]),
            (
                "select * from \"Shop\".\"Users\" union all select * from shop.users_old",
                &["users", "users_old"],
            ),
            ("table a", &["a"]),
            ("select * from a join b using (id), c", &["a", "b", "c"]),
        ] {
            let mut found = reads(sql);
            // Which order they come in, and whether a column is taken for a table, does not matter.
            found.retain(|name| tables.contains(&name.as_str()));
            found.sort();
            assert_eq!(found, tables, "{sql}");
        }
    }

    #[test]
    fn every_table_that_is_changed_is_named_or_all_are() {
        for (sql, dialect, tables) in [
            ("select * from a", Postgres, Some(&[][..])),
            ("insert into a (x) select y from b", Postgres, Some(&["a"][..])),
            ("insert or replace into a values (1)", Sqlite, Some(&["a"])),
            ("replace into a values (1)", MySql, Some(&["a"])),
            ("update only s.a set x = 1 from b", Postgres, Some(&["a"])),
            ("update or ignore a set x = 1", Sqlite, Some(&["a"])),
            ("update a join b on a.x = b.x set b.y = 1", MySql, Some(&["a", "b"])),
            ("delete from a using b where a.x = b.x", Postgres, Some(&["a"])),
            ("delete a from a join b on a.x = b.x", MySql, Some(&["a", "b"])),
            ("merge into a using b on a.x = b.x when matched then delete", Postgres, Some(&["a"])),
            ("truncate a, b", Postgres, Some(&["a", "b"])),
            ("truncate table a", MySql, Some(&["a"])),
            (
                "with gone as (delete from a returning *) insert into b select * from gone",
                Postgres,
                Some(&["a", "b"]),
            ),
            ("alter table if exists a add column b int", Postgres, Some(&["a"])),
            ("insert into a values (1) on conflict (x) do update set y = 2", Postgres, Some(&["a"])),
            ("call tidy_up()", Postgres, None),
            ("do $$ begin delete from a; end $$", Postgres, None),
            ("update a set x = 1; update b set x = 1", Sqlite, None),
            ("", Sqlite, None),
        ] {
            let writes = Statement::new(sql, dialect).writes;
            let writes = writes.as_ref().map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(writes.as_deref(), tables, "{sql}");
        }
    }

    #[test]
    fn only_queries_without_side_effects_are_cacheable() {
        for sql in
            ["select replace(x, 'a', 'b') from t", "(select 1) union (select 2)", "values (1)", "select 1;"]
        {
            assert_eq!(Statement::new(sql, Postgres).why_not_cacheable(), None, "{sql}");
        }
        for sql in [
            "",
            "-- nothing",
            "insert into a values (1)",
            "select * from a for update",
            "select * from a for no key update",
            "select * from a lock in share mode",
            "select * into b from a",
            "with x as (update a set y = 1 returning *) select * from x",
            "select 1; drop table a",
            "explain analyze select 1",
            "set role admin",
        ] {
            assert!(Statement::new(sql, Postgres).why_not_cacheable().is_some(), "{sql}");
        }
    }

    #[test]
    fn what_asks_for_the_time_or_for_chance_is_volatile() {
        for sql in [
            "select now()",
            "select * from a where t > CURRENT_TIMESTAMP",
            "select random()",
            "select datetime('now')",
            "select date()",
            "select nextval('s')",
            "select 'today'::date",
        ] {
            assert!(Statement::new(sql, Postgres).is_volatile(), "{sql}");
        }
        for sql in
            ["select now from a", "select 'now and then'", "select date(x) from a", "select uuid from a"]
        {
            assert!(!Statement::new(sql, Postgres).is_volatile(), "{sql}");
        }
    }

    #[test]
    fn spellings_of_one_statement_share_a_normal_form_and_no_others_do() {
        let normal = |sql| Statement::new(sql, Postgres).normal;
        assert_eq!(
            normal("SELECT  a,b\nFROM t -- x\nWHERE c=$1 ;"),
            normal("select a , b from t where c = $1")
        );
        for (one, other) in [
            ("select * from T", "select * from t"),
            ("select a <- b", "select a < - b"),
            ("select 'a' 'b'", "select 'a''b'"),
            ("select E'a'", "select E 'a'"),
            ("select 1.5", "select 1 . 5"),
            ("select 'A'", "select 'a'"),
            ("select \"A\"", "select A"),
            ("select ab", "select a b"),
        ] {
            assert_ne!(normal(one), normal(other));
        }
    }
}

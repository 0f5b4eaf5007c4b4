use super::{Dialect, Lexer, TokenKind};

/// The statements of a text, split where the servers split: at semicolons that are not inside a string, a quoted name, a
/// comment, brackets, or the body of a trigger or SQL-standard function. Without the semicolons, trimmed; what is empty
/// or only a comment is left out.
///
/// ```
/// use perf_dbopt::{Dialect, statements};
///
/// let text = "insert into t values ('a;b'); /* none; */ ; select 1";
/// let all: Vec<_> = statements(text, Dialect::Postgres).collect();
/// assert_eq!(all, ["insert into t values ('a;b')", "select 1"]);
/// ```
pub fn statements(sql: &str, dialect: Dialect) -> impl Iterator<Item = &str> {
    let mut lexer = Lexer::new(sql, dialect);
    std::iter::from_fn(move || next_statement(sql, &mut lexer))
}

/// What of a statement decides whether a semicolon ends it.
#[derive(Default)]
struct Body {
    brackets: u32,
    /// Open `BEGIN` and `CASE` inside the body of a trigger or function.
    blocks: u32,
    words: u32,
    creates: bool,
    has_body: bool,
}

impl Body {
    fn word(&mut self, word: &str) {
        self.words += 1;
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        if self.words == 1 {
            self.creates = is("create");
            return;
        }
        if !self.creates {
            return;
        }
        self.has_body |=
            self.words <= 6 && ["trigger", "function", "procedure", "event"].iter().any(|w| is(w));
        if !self.has_body {
            return;
        }
        if is("begin") || (is("case") && self.blocks > 0) {
            self.blocks += 1;
        } else if is("end") {
            self.blocks = self.blocks.saturating_sub(1);
        }
    }

    fn ends_here(&self) -> bool {
        self.brackets == 0 && self.blocks == 0
    }
}

fn next_statement<'a>(sql: &'a str, lexer: &mut Lexer<'_>) -> Option<&'a str> {
    let mut start = None;
    let mut end = 0;
    let mut body = Body::default();
    for token in lexer.by_ref() {
        match token.kind {
            TokenKind::Semicolon if body.ends_here() => {
                if start.is_some() {
                    break;
                }
                continue;
            }
            TokenKind::Open => body.brackets += 1,
            TokenKind::Close => body.brackets = body.brackets.saturating_sub(1),
            TokenKind::Word => body.word(token.text(sql)),
            _ => {}
        }
        start.get_or_insert(token.start);
        end = token.end;
    }
    sql.get(start?..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(sql: &str, dialect: Dialect) -> Vec<&str> {
        statements(sql, dialect).collect()
    }

    #[test]
    fn semicolons_in_strings_names_comments_and_dollar_quotes_do_not_split() {
        let pg = Dialect::Postgres;
        assert_eq!(split(r#"select ';', E'\';', $x$;$x$, ";" /* ; /* ; */ */ -- ;"#, pg).len(), 1);
        assert_eq!(
            split("select /* a */ c from t /* b */ where a=1", pg),
            ["select /* a */ c from t /* b */ where a=1"]
        );
        assert_eq!(split(";;select 1;;\n-- end\n;select 2;", pg), ["select 1", "select 2"]);
    }

    #[test]
    fn bodies_of_triggers_and_functions_stay_whole() {
        let trigger = "create trigger a after insert on t begin update u set n = case when 1 then 2 end; delete from v; end; select 1";
        assert_eq!(split(trigger, Dialect::Sqlite).len(), 2);
        let function = "create function f() returns int begin atomic select 1; select 2; end; select 3";
        assert_eq!(split(function, Dialect::Postgres).len(), 2);
        assert_eq!(split("begin; select 1; end", Dialect::Postgres).len(), 3);
        let rule = "create rule r as on insert to t do also (select 1; select 2); select 3";
        assert_eq!(split(rule, Dialect::Postgres).len(), 2);
    }
}

//! Making a normalised statement acceptable to PREPARE.
//!
//! Replacing constants by `$n` loses what the constants said: `date $1` is no syntax, `$1 + $2` no operator PostgreSQL can
//! pick. Each error it reports says where; a rewrite or a type declared for the parameters nearby takes it one step further.

use super::operands::Tokens;
use super::rewrite::{lists_after_by, parameter, parameters, renumber, rewrite};
use crate::advise::SkipReason;
use crate::{Dialect, Lexer, Token, TokenKind};
use std::collections::BTreeMap;

/// Attempts at most. A statement of a decision-support benchmark needed 24.
pub(super) const MAX_ATTEMPTS: usize = 64;

/// Types tried for a parameter, in this order.
const TYPES: [&str; 11] = [
    "int",
    "numeric",
    "text",
    "date",
    "timestamptz",
    "interval",
    "boolean",
    "double precision",
    "int[]",
    "text[]",
    "jsonb",
];

/// The place of `text` among them.
const TEXT: usize = 2;

/// A statement on its way to being acceptable.
#[derive(Clone, Debug)]
pub(super) struct Repair {
    pub(super) text: String,
    /// Which of [`TYPES`] each parameter is declared as.
    types: BTreeMap<u32, Tried>,
    pub(super) parameters: u32,
    rewritten: bool,
    /// How many mixtures of types were tried for parameters that are arguments of one call.
    mixed: BTreeMap<Vec<u32>, usize>,
}

/// The types tried for one parameter: from where in [`TYPES`], and how many since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tried {
    first: usize,
    further: usize,
}

impl Tried {
    const fn place(self) -> usize {
        (self.first + self.further) % TYPES.len()
    }

    const fn is_last(self) -> bool {
        self.further + 1 >= TYPES.len()
    }
}

/// What PostgreSQL objected to.
#[derive(Clone, Debug)]
pub(super) struct Objection {
    pub(super) code: String,
    pub(super) message: String,
    /// Offset in bytes into the statement's text.
    pub(super) at: Option<usize>,
}

impl Repair {
    /// Applies the rewrites that need no error to find.
    pub(super) fn new(sql: &str) -> Self {
        let (text, rewritten) = rewrite(sql);
        let parameters = parameters(&text).iter().map(|(number, _)| *number).max().unwrap_or(0);
        Self { text, types: BTreeMap::new(), parameters, rewritten, mixed: BTreeMap::new() }
    }

    pub(super) fn is_repaired(&self) -> bool {
        self.rewritten || !self.types.is_empty()
    }

    /// The types declared, by parameter.
    pub(super) fn declared(&self) -> BTreeMap<u32, &'static str> {
        self.types.iter().map(|(number, place)| (*number, TYPES[place.place()])).collect()
    }

    /// `(int, unknown, text)`, or nothing.
    pub(super) fn type_list(&self) -> String {
        if self.types.is_empty() {
            return String::new();
        }
        let name = |number| self.types.get(&number).map_or("unknown", |tried| TYPES[tried.place()]);
        format!("({})", (1..=self.parameters).map(name).collect::<Vec<_>>().join(", "))
    }

    /// Takes one step, or says why there is none left.
    pub(super) fn step(&mut self, objection: &Objection) -> Result<(), SkipReason> {
        let moved = match &*objection.code {
            "42601" => self.cast_typed_literal(objection),
            "42803" | "42P10" => self.restore_repeated_constants(),
            "42725" | "42883" | "42804" | "42P08" | "42P18" | "42846" | "22P02" | "42809" | "42P22" => {
                self.retype(objection)
            }
            _ => false,
        };
        if moved { Ok(()) } else { Err(refusal(objection)) }
    }

    /// Declares other types for the parameters an objection is about.
    fn retype(&mut self, objection: &Objection) -> bool {
        let (targets, by_name) = self.targets(objection);
        let mut moved = false;
        // The branches of a union say themselves where they differ, and a column's name which one it is.
        if objection.message.contains("text") && !by_name && !objection.message.contains("cannot be matched")
        {
            moved |= self.type_outputs();
        }
        if targets.iter().all(|number| self.types.get(number).is_some_and(|tried| tried.further >= 2))
            && self.mix(&targets)
        {
            return true;
        }
        for number in targets {
            moved |= self.advance(number, &objection.code);
        }
        // Whatever stands beside it was tried: another operand may come from a bare constant further in.
        moved || self.type_outputs() || self.type_arguments()
    }

    /// Gives a parameter its next type; says whether there was one.
    fn advance(&mut self, number: u32, code: &str) -> bool {
        match self.types.get_mut(&number) {
            Some(tried) if tried.is_last() => return false,
            Some(tried) => tried.further += 1,
            // Nothing in the statement restricts it: any type will do.
            None => {
                let first = if code == "42P18" { TEXT } else { 0 };
                self.types.insert(number, Tried { first, further: 0 });
            }
        }
        true
    }

    /// Two or three arguments of a call that were numbers together and texts together may be one of each. Says whether there
    /// was a mixture left.
    fn mix(&mut self, targets: &[u32]) -> bool {
        let mut targets = targets.to_vec();
        targets.sort_unstable();
        targets.dedup();
        if !(2..=3).contains(&targets.len()) {
            return false;
        }
        let kinds =
            |mixture: usize| (0..targets.len() as u32).map(move |place| mixture / 3_usize.pow(place) % 3);
        let tried = self.mixed.entry(targets.clone()).or_default();
        let all = 3_usize.pow(targets.len() as u32);
        // All integers and all texts were tried before.
        let is_new = |mixture: &usize| {
            !kinds(*mixture).all(|kind| kind == 0) && !kinds(*mixture).all(|kind| kind == 1)
        };
        let Some(mixture) = (*tried..all).find(is_new) else { return false };
        *tried = mixture + 1;
        for (number, kind) in targets.iter().zip(kinds(mixture)) {
            let type_at = |place: usize| Tried { first: (place + TYPES.len() - 2) % TYPES.len(), further: 2 };
            match kind {
                0 => _ = self.types.insert(*number, type_at(0)),
                1 => _ = self.types.insert(*number, type_at(TEXT)),
                _ => _ = self.types.remove(number),
            }
        }
        true
    }

    /// A type before a constant, of any kind and origin, is no syntax before a parameter: `uuid $1` becomes `$1::uuid`.
    fn cast_typed_literal(&mut self, objection: &Objection) -> bool {
        let Some(at) = objection.at else { return false };
        let tokens: Vec<Token> = Lexer::new(&self.text, Dialect::Postgres).collect();
        let place = tokens.partition_point(|token| token.end <= at);
        let Some(token) = tokens.get(place).filter(|token| token.kind == TokenKind::Parameter) else {
            return false;
        };
        if (Tokens { text: &self.text, all: &tokens }).is_normal_form(place) {
            let mut text = self.text.clone();
            text.replace_range(token.start..token.end, "nfc");
            *self = Self { rewritten: true, ..Self::new(&renumber(&text)) };
            return true;
        }
        let word = |index: usize| tokens[index].text(&self.text).to_ascii_lowercase();
        let mut first = place;
        // `char(3)`, `numeric(10, 2)`: back to the bracket's beginning.
        if first > 0 && tokens[first - 1].kind == TokenKind::Close {
            while first > 0 && tokens[first - 1].kind != TokenKind::Open {
                first -= 1;
            }
            first = first.saturating_sub(1);
        }
        let is_name = |index: usize| matches!(tokens[index].kind, TokenKind::Word | TokenKind::Quoted);
        if first == 0 || !is_name(first - 1) {
            return false;
        }
        first -= 1;
        let second = word(first);
        if first > 0 && matches!((&*word(first - 1), &*second), ("double", "precision") | (_, "varying")) {
            first -= 1;
        }
        while first > 1 && tokens[first - 1].kind == TokenKind::Dot && is_name(first - 2) {
            first -= 2;
        }
        let name = &self.text[tokens[first].start..tokens[place - 1].end];
        let cast = format!("{}::{name}", token.text(&self.text));
        self.text.replace_range(tokens[first].start..token.end, &cast);
        self.rewritten = true;
        true
    }

    /// The server keeps the constants of an expression that is repeated after GROUP BY or ORDER BY there, and replaces
    /// those of its first occurrence only; then the two are not the same expression any more. They get their constants back.
    fn restore_repeated_constants(&mut self) -> bool {
        let tokens: Vec<Token> = Lexer::new(&self.text, Dialect::Postgres).collect();
        let same = |a: &Token, b: &Token| a.text(&self.text).eq_ignore_ascii_case(b.text(&self.text));
        let is_constant = |token: &Token| matches!(token.kind, TokenKind::Number | TokenKind::Text);
        let mut constants: BTreeMap<u32, String> = BTreeMap::new();
        for list in lists_after_by(&tokens, &self.text) {
            let item = &tokens[list];
            // A constant by itself is the number of a column.
            if item.len() == 1 || !item.iter().any(is_constant) {
                continue;
            }
            for window in tokens.windows(item.len()) {
                let alike = |(a, b): (&Token, &Token)| {
                    same(a, b) || (is_constant(b) && a.kind == TokenKind::Parameter)
                };
                if window.iter().zip(item).all(alike) {
                    for (own, constant) in window.iter().zip(item) {
                        if let Some(number) = self.number(own) {
                            constants.insert(number, constant.text(&self.text).to_owned());
                        }
                    }
                }
            }
        }
        if constants.is_empty() {
            return false;
        }
        let mut text = self.text.clone();
        for (number, token) in parameters(&self.text).into_iter().rev() {
            if let Some(constant) = constants.get(&number) {
                text.replace_range(token.start..token.end, constant);
            }
        }
        // The numbers of the others change with the gaps; their types are found anew.
        *self = Self { rewritten: true, ..Self::new(&renumber(&text)) };
        true
    }

    /// The parameters an objection is about, and whether the name of their column led there.
    fn targets(&self, objection: &Objection) -> (Vec<u32>, bool) {
        if let Some(number) = named(&objection.message) {
            return (vec![number], false);
        }
        let Some(at) = objection.at else { return (Vec::new(), false) };
        let tokens: Vec<Token> = Lexer::new(&self.text, Dialect::Postgres).collect();
        let place = tokens.partition_point(|token| token.end <= at).min(tokens.len().saturating_sub(1));
        let Some(token) = tokens.get(place) else { return (Vec::new(), false) };
        let opens = |t: &Token| t.kind == TokenKind::Open || t.text(&self.text) == "[";
        let found = if token.kind == TokenKind::Word && tokens.get(place + 1).is_some_and(opens) {
            self.inside(&tokens, place + 1)
        } else {
            self.beside(&tokens, place)
        };
        if !found.is_empty() {
            return (found, false);
        }
        let column = Tokens { text: &self.text, all: &tokens }.named_nearby(place);
        if column.is_empty() { (self.nearest(&tokens, place), false) } else { (column, true) }
    }

    fn number(&self, token: &Token) -> Option<u32> {
        parameter(token, &self.text)
    }

    /// The parameters among the arguments of a call whose bracket opens at `open`: its own, and those that decide the type of
    /// a CASE. Those compared with something inside are left alone.
    fn inside(&self, tokens: &[Token], open: usize) -> Vec<u32> {
        let mut depth = 0;
        let mut found = Vec::new();
        for index in open..tokens.len() {
            match tokens[index].text(&self.text) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            let before = tokens[index - 1].text(&self.text).to_ascii_lowercase();
            let leads = matches!(
                before.as_str(),
                "(" | "[" | "," | "then" | "else" | "from" | "for" | "+" | "-" | "*" | "/"
            );
            if let Some(number) = self.number(&tokens[index])
                && leads
            {
                found.push(number);
            }
        }
        found
    }

    /// A bare `$n` in a select list is taken for text, which an operator further out may not accept: the first time that
    /// happens all of them become numbers. Says whether there were any.
    fn type_outputs(&mut self) -> bool {
        let tokens: Vec<Token> = Lexer::new(&self.text, Dialect::Postgres).collect();
        let word = |index: usize| {
            tokens.get(index).map(|t| t.text(&self.text).to_ascii_lowercase()).unwrap_or_default()
        };
        let alone = |index: usize| {
            index > 0
                && matches!(&*word(index - 1), "select" | "distinct" | "returning" | "," | "(" | "[")
                && matches!(
                    &*word(index + 1),
                    "" | "as" | "," | "union" | "intersect" | "except" | "from" | "where" | ")" | "]"
                )
        };
        let inserted = Tokens { text: &self.text, all: &tokens }.inserted();
        let bare: Vec<u32> = tokens
            .iter()
            .enumerate()
            .filter(|(index, _)| alone(*index) && !inserted.contains(index))
            .filter_map(|(_, token)| self.number(token))
            .filter(|number| !self.types.contains_key(number))
            .collect();
        for number in &bare {
            self.types.insert(*number, Tried { first: 0, further: 0 });
        }
        !bare.is_empty()
    }

    /// Objections without a place are about functions that take anything: their bare arguments become text.
    fn type_arguments(&mut self) -> bool {
        let tokens: Vec<Token> = Lexer::new(&self.text, Dialect::Postgres).collect();
        let bare: Vec<u32> = (1..tokens.len().saturating_sub(1))
            .filter(|index| {
                matches!(tokens[index - 1].kind, TokenKind::Open | TokenKind::Comma)
                    && matches!(tokens[index + 1].kind, TokenKind::Close | TokenKind::Comma)
            })
            .filter_map(|index| self.number(&tokens[index]))
            .filter(|number| !self.types.contains_key(number))
            .collect();
        for number in &bare {
            self.types.insert(*number, Tried { first: TEXT, further: 0 });
        }
        !bare.is_empty()
    }

    /// The parameters on either side of an operator, brackets skipped, and the results of a CASE before it.
    fn beside(&self, tokens: &[Token], place: usize) -> Vec<u32> {
        let bracket = |token: &&Token| !matches!(token.kind, TokenKind::Open | TokenKind::Close);
        let before = tokens[..place].iter().rev().find(bracket).and_then(|token| self.number(token));
        let own = self.number(&tokens[place]);
        let after = tokens[place + 1..].iter().find(bracket).and_then(|token| self.number(token));
        let ends_case = place > 0 && tokens[place - 1].text(&self.text).eq_ignore_ascii_case("end");
        let results = if ends_case {
            Tokens { text: &self.text, all: tokens }.case_results(place - 1)
        } else {
            Vec::new()
        };
        results.into_iter().chain(before).chain(own).chain(after).collect()
    }

    fn nearest(&self, tokens: &[Token], place: usize) -> Vec<u32> {
        let distance = |(index, token): (usize, &Token)| {
            self.number(token)
                .filter(|number| self.types.get(number).is_none_or(|tried| !tried.is_last()))
                .map(|number| (index.abs_diff(place), number))
        };
        tokens.iter().enumerate().filter_map(distance).min().map(|(_, number)| number).into_iter().collect()
    }
}

/// The parameter a message names: `could not determine data type of parameter $3`.
fn named(message: &str) -> Option<u32> {
    let rest = message.split_once("parameter $")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn refusal(objection: &Objection) -> SkipReason {
    let message = objection.message.clone();
    match &*objection.code {
        "42P01" | "42703" | "3F000" | "42704" => SkipReason::Missing(message),
        "42501" => SkipReason::PermissionDenied(message),
        _ => SkipReason::NotPlannable(format!("{message} ({})", objection.code)),
    }
}

/// Why a text is not even tried.
pub(super) fn refuse(sql: &str) -> Option<SkipReason> {
    /// AlloyDB's limit; nobody writes such statements by hand, and the shared texts are cut there or earlier.
    const MAX_TEXT: usize = 100 * 1024;
    if sql.contains("<insufficient privilege>") {
        return Some(SkipReason::InsufficientPrivilege);
    }
    if sql.len() > MAX_TEXT || is_cut(sql) {
        return Some(SkipReason::Truncated);
    }
    let mut statements = crate::statements(sql, Dialect::Postgres);
    let first = statements.next()?;
    if statements.next().is_some() {
        return Some(SkipReason::MultipleStatements);
    }
    let mut words = Lexer::new(first, Dialect::Postgres).filter(|token| token.kind != TokenKind::Open);
    let verb = words.next().map(|token| token.text(first).to_ascii_lowercase()).unwrap_or_default();
    let plannable = ["select", "with", "insert", "update", "delete", "merge", "values", "table"];
    (!plannable.contains(&verb.as_str())).then_some(SkipReason::Utility)
}

/// Whether brackets or quotes are left open, as in a text that was cut off.
fn is_cut(sql: &str) -> bool {
    let mut depth = 0_i64;
    let mut open_text = false;
    for token in Lexer::new(sql, Dialect::Postgres) {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth -= 1,
            TokenKind::Text | TokenKind::Quoted => {
                let text = token.text(sql);
                let quote = text.chars().next_back();
                open_text = text.len() < 2 || !matches!(quote, Some('\'' | '"' | '$'));
            }
            _ => {}
        }
    }
    depth > 0 || open_text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_literals_become_casts() {
        assert_eq!(rewrite("select date $1 - interval $2 day").0, "select $1::date - $2::interval");
        assert_eq!(rewrite("select timestamp with time zone $1").0, "select $1::timestamp with time zone");
        assert_eq!(rewrite("select extract($1 from d) + $2").0, "select extract(year from d) + $1");
        assert_eq!(rewrite("select date, $1 from t"), ("select date, $1 from t".to_owned(), false));
    }

    #[test]
    fn what_is_no_single_whole_query_is_refused_by_reason() {
        for (sql, reason) in [
            ("vacuum t", SkipReason::Utility),
            ("call p($1)", SkipReason::Utility),
            ("copy t from stdin", SkipReason::Utility),
            ("set a = $1", SkipReason::Utility),
            ("truncate t", SkipReason::Utility),
            ("select 1; select 2", SkipReason::MultipleStatements),
            ("select ';' from t where a in ($1, ", SkipReason::Truncated),
            ("select 'abc", SkipReason::Truncated),
            ("<insufficient privilege>", SkipReason::InsufficientPrivilege),
        ] {
            assert_eq!(refuse(sql), Some(reason), "{sql}");
        }
        for sql in [
            "select ';' /* ; */ from t;",
            "(select 1)",
            "with a as (select 1) select * from a",
            "merge into t using u on true when matched then do nothing",
        ] {
            assert_eq!(refuse(sql), None, "{sql}");
        }
    }

    #[test]
    fn an_objection_moves_the_parameters_it_is_about() {
        let mut repair = Repair::new("select sum(case when a = $1 then $2 else $3 end), $4 + $5 from t");
        let at = repair.text.find("sum").unwrap();
        let objection = Objection {
            code: "42883".into(),
            message: "function sum(text) does not exist".into(),
            at: Some(at),
        };
        repair.step(&objection).unwrap();
        assert_eq!(repair.declared().into_iter().collect::<Vec<_>>(), [(2, "int"), (3, "int")]);
        let at = repair.text.find('+').unwrap();
        repair.step(&Objection { code: "42725".into(), message: String::new(), at: Some(at) }).unwrap();
        assert_eq!(repair.type_list(), "(unknown, int, int, int, int)");
    }
}

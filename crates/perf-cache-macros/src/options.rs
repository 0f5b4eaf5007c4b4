//! What is in the parentheses of `#[cached(..)]`.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, LitStr, Path, Result, Token, parenthesized, parse_quote, token};

/// The options, read and each checked for itself.
pub(crate) struct Options {
    pub(crate) cache: Expr,
    pub(crate) key: Vec<Ident>,
    pub(crate) tags: Vec<LitStr>,
    /// Where perf-cache is.
    pub(crate) home: Path,
}

#[derive(Default)]
struct Given {
    cache: Option<Expr>,
    key: Option<Vec<Ident>>,
    tags: Option<Vec<LitStr>>,
    home: Option<Path>,
}

/// Tuples have the traits of a key up to this length.
const MAX_KEY: usize = 6;

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut given = Given::default();
        while !input.is_empty() {
            given.option(input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let missing = |message| Error::new(Span::call_site(), message);
        Ok(Self {
            cache: given.cache.ok_or_else(|| {
                missing("missing `cache = \"..\"`: name the static, or the argument, that holds the cache")
            })?,
            key: given.key.ok_or_else(|| {
                missing("missing `key(..)`: name the arguments that identify the value, or write `key()` for none")
            })?,
            tags: given.tags.unwrap_or_default(),
            home: given.home.unwrap_or_else(|| parse_quote!(::perf_cache)),
        })
    }
}

impl Given {
    fn option(&mut self, input: ParseStream<'_>) -> Result<()> {
        let name = input.call(Ident::parse_any)?;
        match name.to_string().as_str() {
            "cache" => once(&mut self.cache, &name, place(input)?),
            "key" => once(&mut self.key, &name, key(&name, input)?),
            "tags" => once(&mut self.tags, &name, tags(&name, input)?),
            "crate" => {
                input.parse::<Token![=]>()?;
                once(&mut self.home, &name, input.call(Path::parse_mod_style)?)
            }
            _ => Err(Error::new(
                name.span(),
                format!("unknown option `{name}`; the options are `cache`, `key`, `tags` and `crate`"),
            )),
        }
    }
}

fn once<T>(slot: &mut Option<T>, name: &Ident, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(name.span(), format!("`{name}` is given twice"))),
    }
}

fn place(input: ParseStream<'_>) -> Result<Expr> {
    input.parse::<Token![=]>()?;
    let place: Expr = if input.peek(LitStr) { input.parse::<LitStr>()?.parse()? } else { input.parse()? };
    if is_place(&place) {
        return Ok(place);
    }
    Err(Error::new_spanned(
        place,
        "`cache` takes a path, such as `USERS`, or a field of an argument, such as `db.users`",
    ))
}

fn is_place(expr: &Expr) -> bool {
    match expr {
        Expr::Path(_) => true,
        Expr::Field(field) => is_place(&field.base),
        Expr::Group(group) => is_place(&group.expr),
        _ => false,
    }
}

fn key(name: &Ident, input: ParseStream<'_>) -> Result<Vec<Ident>> {
    let key: Vec<Ident> = list(name, input, "names of arguments, such as `key(id)`")?;
    for (at, part) in key.iter().enumerate() {
        if key[..at].contains(part) {
            return Err(Error::new(part.span(), format!("`{part}` is in the key already")));
        }
        if at == MAX_KEY {
            return Err(Error::new(part.span(), format!("a key has at most {MAX_KEY} arguments")));
        }
    }
    Ok(key)
}

fn tags(name: &Ident, input: ParseStream<'_>) -> Result<Vec<LitStr>> {
    list(name, input, "format strings, such as `tags(\"org:{org}\")`")
}

/// What is in parentheses after `name`.
fn list<T: Parse>(name: &Ident, input: ParseStream<'_>, takes: &str) -> Result<Vec<T>> {
    let refused = |error: Error| Error::new(error.span(), format!("`{name}` takes {takes}"));
    if !input.peek(token::Paren) {
        return Err(refused(input.error("no parentheses")));
    }
    let content;
    parenthesized!(content in input);
    let items = Punctuated::<T, Token![,]>::parse_terminated(&content).map_err(refused)?;
    Ok(items.into_iter().collect())
}

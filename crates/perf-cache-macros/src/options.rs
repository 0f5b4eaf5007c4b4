//! What is in the parentheses of `#[cached(..)]`.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, LitStr, Path, Result, Token, parenthesized, parse_quote, token};

/// The options, read and each checked for itself.
pub(crate) struct Options {
    pub(crate) cache: Source,
    pub(crate) key: Vec<Ident>,
    pub(crate) tags: Vec<LitStr>,
    /// Where perf-cache is.
    pub(crate) home: Path,
}

/// Where the cache comes from.
pub(crate) enum Source {
    /// It is there.
    Place(Expr),
    /// It is made at the first call: a namespace of a space, with settings of its own or the defaults.
    Namespace { space: Expr, name: LitStr, config: Option<Expr> },
}

#[derive(Default)]
struct Given {
    cache: Option<Expr>,
    space: Option<Expr>,
    namespace: Option<LitStr>,
    config: Option<Expr>,
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
            cache: source(given.cache, given.space, given.namespace, given.config)?,
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
            "space" => once(&mut self.space, &name, place(input)?),
            "namespace" => {
                input.parse::<Token![=]>()?;
                once(&mut self.namespace, &name, input.parse()?)
            }
            "config" => {
                input.parse::<Token![=]>()?;
                let config =
                    if input.peek(LitStr) { input.parse::<LitStr>()?.parse()? } else { input.parse()? };
                once(&mut self.config, &name, config)
            }
            "key" => once(&mut self.key, &name, key(&name, input)?),
            "tags" => once(&mut self.tags, &name, tags(&name, input)?),
            "crate" => {
                input.parse::<Token![=]>()?;
                once(&mut self.home, &name, input.call(Path::parse_mod_style)?)
            }
            _ => Err(Error::new(
                name.span(),
                format!(
                    "unknown option `{name}`; the options are `cache`, `space`, `namespace`, `config`, `key`, `tags` and `crate`"
                ),
            )),
        }
    }
}

/// Either where the cache is, or what it is made of.
fn source(
    cache: Option<Expr>,
    space: Option<Expr>,
    namespace: Option<LitStr>,
    config: Option<Expr>,
) -> Result<Source> {
    match (cache, space, namespace) {
        (Some(cache), None, None) if config.is_none() => Ok(Source::Place(cache)),
        (Some(cache), ..) => Err(Error::new_spanned(
            cache,
            "`cache` names a cache that is there, which has its space, its name and its settings already",
        )),
        (None, Some(space), Some(name)) => Ok(Source::Namespace { space, name, config }),
        (None, Some(space), None) => {
            Err(Error::new_spanned(space, "`space` needs `namespace = \"..\"` beside it"))
        }
        (None, None, Some(name)) => {
            Err(Error::new_spanned(name, "`namespace` needs `space = \"..\"` beside it"))
        }
        (None, None, None) => Err(Error::new(
            Span::call_site(),
            "missing `cache = \"..\"`: name the static, or the argument, that holds the cache; or write `space` and `namespace` to have one made",
        )),
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

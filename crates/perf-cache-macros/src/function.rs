//! What `#[cached]` stands on, and what it refuses.

use proc_macro2::TokenStream;
use syn::spanned::Spanned;
use syn::{
    Attribute, Block, Error, Expr, FnArg, GenericArgument, GenericParam, Generics, Ident, Item, ItemFn, Pat,
    PathArguments, Result, ReturnType, Safety, Signature, Token, Type, Visibility,
};

/// A function that can be cached.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) name: Ident,
    pub(crate) generics: Generics,
    pub(crate) arguments: Vec<Argument>,
    /// `Result<V, E>` as written.
    pub(crate) output: Type,
    pub(crate) value: Type,
    pub(crate) error: Type,
    pub(crate) block: Block,
}

pub(crate) struct Argument {
    pub(crate) mutability: Option<Token![mut]>,
    pub(crate) name: Ident,
    pub(crate) ty: Type,
}

impl Function {
    pub(crate) fn read(item: TokenStream) -> Result<Self> {
        let Item::Fn(ItemFn { attrs, vis, sig, block, .. }) = syn::parse2(item.clone())? else {
            return Err(Error::new_spanned(item, "`#[cached]` stands on an `async fn` with a body"));
        };
        refuse_kind(&sig)?;
        let arguments = sig.inputs.iter().map(Argument::read).collect::<Result<_>>()?;
        refuse_lifetimes(&sig.generics)?;
        let (output, value, error) = result(&sig)?;
        Ok(Self {
            attrs,
            vis,
            name: sig.ident,
            generics: sig.generics,
            arguments,
            output,
            value,
            error,
            block: *block,
        })
    }

    /// The argument that a part of the key names.
    pub(crate) fn argument(&self, name: &Ident) -> Result<&Argument> {
        self.arguments.iter().find(|argument| argument.name == *name).ok_or_else(|| {
            let names: Vec<_> =
                self.arguments.iter().map(|argument| format!("`{}`", argument.name)).collect();
            let there = match names.as_slice() {
                [] => String::from("it has none"),
                names => format!("its arguments are {}", names.join(", ")),
            };
            Error::new(name.span(), format!("`{name}` is no argument of `{}`; {there}", self.name))
        })
    }

    /// The argument that holds the cache, if it is not a static.
    pub(crate) fn holder(&self, cache: &Expr) -> Option<&Argument> {
        match cache {
            Expr::Path(path) => {
                let name = path.path.get_ident()?;
                self.arguments.iter().find(|argument| argument.name == *name)
            }
            Expr::Field(field) => self.holder(&field.base),
            Expr::Group(group) => self.holder(&group.expr),
            _ => None,
        }
    }
}

impl Argument {
    fn read(input: &FnArg) -> Result<Self> {
        let typed = match input {
            FnArg::Typed(typed) => typed,
            FnArg::Receiver(receiver) => {
                return Err(Error::new_spanned(
                    receiver,
                    "`#[cached]` stands on free functions: take what the body needs of `self` as arguments, such as an `Arc`",
                ));
            }
        };
        if let Some(attr) = typed.attrs.first() {
            return Err(Error::new_spanned(attr, "arguments of a cached function have no attributes"));
        }
        let Pat::Ident(pattern) = &*typed.pat else {
            return Err(Error::new_spanned(
                &typed.pat,
                "arguments of a cached function are plain names, such as `id: u64`",
            ));
        };
        if pattern.by_ref.is_some() || pattern.subpat.is_some() {
            return Err(Error::new_spanned(
                pattern,
                "arguments of a cached function are plain names, such as `id: u64`",
            ));
        }
        refuse_references(&typed.ty)?;
        Ok(Self { mutability: pattern.mutability, name: pattern.ident.clone(), ty: (*typed.ty).clone() })
    }
}

fn refuse_kind(sig: &Signature) -> Result<()> {
    if sig.asyncness.is_none() {
        return Err(Error::new_spanned(
            sig.fn_token,
            "a cached function is `async`: its callers wait for one load",
        ));
    }
    if let Some(constness) = &sig.constness {
        return Err(Error::new_spanned(constness, "a cached function cannot be `const`"));
    }
    if let Some(abi) = &sig.abi {
        return Err(Error::new_spanned(abi, "a cached function cannot be `extern`"));
    }
    if let Some(variadic) = &sig.variadic {
        return Err(Error::new_spanned(variadic, "a cached function cannot be variadic"));
    }
    match &sig.safety {
        Safety::Default => Ok(()),
        safety => Err(Error::new(
            safety.span(),
            "a cached function is neither `unsafe` nor `safe`: call what is from its body",
        )),
    }
}

fn refuse_lifetimes(generics: &Generics) -> Result<()> {
    let lifetime = generics.params.iter().find(|parameter| matches!(parameter, GenericParam::Lifetime(_)));
    lifetime.map_or(Ok(()), |lifetime| {
        Err(Error::new_spanned(
            lifetime,
            "a cached function has no lifetime parameters: its arguments are owned",
        ))
    })
}

/// Borrowed arguments cannot go to the task that loads. Types whose lifetime is not written are left to the compiler.
fn refuse_references(ty: &Type) -> Result<()> {
    match ty {
        Type::Reference(reference) => match &reference.lifetime {
            Some(lifetime) if lifetime.ident == "static" => Ok(()),
            _ => Err(Error::new_spanned(
                ty,
                "the body runs in a task of its own, which cannot borrow: pass an owned value, such as an `Arc`",
            )),
        },
        Type::Array(array) => refuse_references(&array.elem),
        Type::Group(group) => refuse_references(&group.elem),
        Type::Paren(paren) => refuse_references(&paren.elem),
        Type::Tuple(tuple) => tuple.elems.iter().try_for_each(refuse_references),
        Type::Path(path) => path.path.segments.iter().try_for_each(|segment| match &segment.arguments {
            PathArguments::AngleBracketed(list) => list.args.iter().try_for_each(|argument| match argument {
                GenericArgument::Type(ty) => refuse_references(ty),
                GenericArgument::Lifetime(lifetime) if lifetime.ident != "static" => Err(Error::new_spanned(
                    lifetime,
                    "the body runs in a task of its own, which cannot borrow: use `'static` or an owned type",
                )),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    }
}

/// The type returned, that of the value and that of the error.
fn result(sig: &Signature) -> Result<(Type, Type, Type)> {
    const WRITE: &str = "a cached function returns `Result<V, E>`, written with both types";
    let ReturnType::Type(_, output) = &sig.output else {
        return Err(Error::new(sig.ident.span(), WRITE));
    };
    if let Type::Path(path) = &**output
        && let Some(last) = path.path.segments.last()
        && last.ident == "Result"
        && let PathArguments::AngleBracketed(list) = &last.arguments
        && list.args.len() == 2
        && let (Some(GenericArgument::Type(value)), Some(GenericArgument::Type(error))) =
            (list.args.first(), list.args.last())
    {
        return Ok(((**output).clone(), value.clone(), error.clone()));
    }
    Err(Error::new_spanned(output, WRITE))
}

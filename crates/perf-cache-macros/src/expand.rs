//! What `#[cached]` writes: the function that asks the cache, and its companions.

use crate::function::{Argument, Function};
use crate::options::{Options, Source};
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, GenericParam, Generics, Ident, Result, Type, parse_quote};

pub(crate) fn cached(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let options: Options = syn::parse2(options)?;
    let function = Function::read(item)?;
    let key = options.key.iter().map(|name| function.argument(name)).collect::<Result<Vec<_>>>()?;
    if let Some(opaque) = key.iter().find(|part| matches!(part.ty, Type::ImplTrait(_))) {
        return Err(Error::new_spanned(
            &opaque.ty,
            "an argument of the key needs a type with a name, not `impl Trait`",
        ));
    }
    let holder = match &options.cache {
        Source::Place(place) => function.holder(place),
        Source::Namespace { space, .. } => {
            if let Some(holder) = function.holder(space) {
                return Err(Error::new_spanned(
                    space,
                    format!(
                        "`{}` is an argument; the space of a cache that is made once is a static",
                        holder.name
                    ),
                ));
            }
            None
        }
    };
    let plan = Plan { holder, key, options: &options, function: &function };
    plan.refuse_generic_namespace()?;
    let (wrapper, companions) = (plan.wrapper(), plan.companions());
    Ok(quote! { #wrapper #companions })
}

struct Plan<'a> {
    options: &'a Options,
    function: &'a Function,
    key: Vec<&'a Argument>,
    holder: Option<&'a Argument>,
}

impl Plan<'_> {
    /// The function that callers see.
    fn wrapper(&self) -> TokenStream {
        let Function { vis, name, generics, arguments, value, error, .. } = self.function;
        let Options { home, tags, .. } = self.options;
        let attrs = self.function.attrs.iter().map(expected_elsewhere);
        let inputs = arguments.iter().map(|Argument { name, ty, .. }| quote!(#name: #ty));
        let names = arguments.iter().map(|argument| &argument.name);
        let turbofish = turbofish(generics);
        let (_, _, bounds) = generics.split_for_impl();
        let (key_type, parts) = (self.key_type(), tuple(self.key.iter().map(|part| &part.name)));
        let number = tags.len();
        let [cache, key, context, labels, load] = ["cache", "key", "context", "tags", "load"].map(own);
        let find = self.cache(&cache, &key_type, &value.to_token_stream());
        // The loader takes over an argument, so the cache in it must be held on its own.
        let hold = self.holder.map(|_| quote!(let #cache = &::core::clone::Clone::clone(#cache);));
        quote! {
            #(#attrs)*
            #vis async fn #name #generics (#(#inputs),*)
                -> ::core::result::Result<#home::Hit<#key_type, #value>, #home::LoadError<#error>>
            #bounds
            {
                #find
                #hold
                let #key: #key_type = #parts;
                #home::Cache::load_with(#cache, &#key, move |#context| {
                    let #parts: #key_type = ::core::clone::Clone::clone(#context.key());
                    let #labels: [#home::Tag; #number] = [#(#home::Tag::from_fmt(::core::format_args!(#tags))),*];
                    let #load = #name::uncached #turbofish (#(#names),*);
                    async move { #load.await.map(|#key| #home::Loaded::new(#key).tags(#labels)) }
                })
                .await
            }
        }
    }

    /// The type of the same name. It has no values, so it takes no name that the function needs; and unlike a module it
    /// sees what is in scope, inside functions too.
    fn companions(&self) -> TokenStream {
        let Function { vis, name, attrs, .. } = self.function;
        let conditions: Vec<_> = attrs.iter().filter(|attr| attr.path().is_ident("cfg")).collect();
        let (uncached, invalidate, made) = (self.uncached(), self.invalidate(), self.made());
        let about = format!("What belongs to the cached function [`{name}`](fn@{name}).");
        quote! {
            #(#conditions)*
            #[doc = #about]
            #[allow(non_camel_case_types, dead_code)]
            #vis enum #name {}

            #(#conditions)*
            #[allow(dead_code, clippy::missing_errors_doc)]
            impl #name {
                #uncached
                #invalidate
                #made
            }
        }
    }

    fn uncached(&self) -> TokenStream {
        let Function { vis, name, generics, arguments, output, block, attrs, .. } = self.function;
        let lints = attrs.iter().filter(|attr| is_lint(attr));
        let inputs = arguments.iter().map(|Argument { mutability, name, ty }| quote!(#mutability #name: #ty));
        let (_, _, bounds) = generics.split_for_impl();
        let about = format!("Runs [`{name}`](fn@{name}) past the cache: nothing is read from it or stored.");
        quote! {
            #[doc = #about]
            ///
            /// # Errors
            /// Those of the function itself.
            #(#lints)*
            #vis async fn uncached #generics (#(#inputs),*) -> #output #bounds #block
        }
    }

    fn invalidate(&self) -> TokenStream {
        let Function { vis, name, generics, arguments, .. } = self.function;
        let home = &self.options.home;
        let taken: Vec<_> = arguments.iter().filter(|argument| self.identifies(argument)).collect();
        let inputs = taken.iter().map(|Argument { name, ty, .. }| quote!(#name: &#ty));
        let generics = kept(generics, &taken);
        let (_, _, bounds) = generics.split_for_impl();
        let cache = own("cache");
        let find = self.cache(&cache, &self.key_type(), &quote!(_));
        let key = match self.key.as_slice() {
            [only] => only.name.to_token_stream(),
            several => {
                let parts = several.iter().map(|part| &part.name);
                quote!(&(#(::core::clone::Clone::clone(#parts)),*))
            }
        };
        let about = format!(
            "Removes what the cache of [`{name}`](fn@{name}) knows of this key, and overtakes its loads."
        );
        quote! {
            #[doc = #about]
            #vis fn invalidate #generics (#(#inputs),*) -> #home::Invalidating #bounds {
                #find
                #home::Cache::invalidate(#cache, #key)
            }
        }
    }

    /// Binds a reference to the cache, through whatever holds it.
    fn cache(&self, name: &Ident, key: &TokenStream, value: &TokenStream) -> TokenStream {
        let Options { home, cache, .. } = self.options;
        let borrowed = match cache {
            // With the place's own span, so that a cache of another type is pointed at.
            Source::Place(place) => quote_spanned!(place.span()=> &#place),
            Source::Namespace { .. } => {
                let function = &self.function.name;
                quote!(#function::cache())
            }
        };
        quote!(let #name: &#home::Cache<#key, #value> = #borrowed;)
    }

    /// The cache that is made at the first call.
    fn made(&self) -> Option<TokenStream> {
        let Source::Namespace { space, name: namespace, config } = &self.options.cache else { return None };
        let (home, Function { vis, name, value, .. }) = (&self.options.home, self.function);
        let key = self.key_type();
        let config = config.as_ref().map(|config| quote_spanned!(config.span()=> .config(#config)));
        let space = quote_spanned!(space.span()=> &#space);
        let about = format!("The cache of [`{name}`](fn@{name}), made at the first call.");
        let failed = format!("the cache of `{name}` cannot be made: {{}}");
        Some(quote! {
            #[doc = #about]
            ///
            /// # Panics
            /// When the space has a cache of this name already, or a setting cannot be used.
            #[allow(clippy::panic)]
            #vis fn cache() -> &'static #home::Cache<#key, #value> {
                static CACHE: ::std::sync::LazyLock<#home::Cache<#key, #value>> = ::std::sync::LazyLock::new(|| {
                    let made = #home::CacheSpace::cache(#space, #namespace)#config.build();
                    made.unwrap_or_else(|invalid| ::core::panic!(#failed, invalid))
                });
                &CACHE
            }
        })
    }

    /// One cache cannot hold values of several types.
    fn refuse_generic_namespace(&self) -> Result<()> {
        let Source::Namespace { name, .. } = &self.options.cache else { return Ok(()) };
        let mut mentioned = Vec::new();
        mention(self.key_type(), &mut mentioned);
        mention(self.function.value.to_token_stream(), &mut mentioned);
        let generic =
            self.function.generics.params.iter().find(|parameter| is_mentioned(parameter, &mentioned));
        generic.map_or(Ok(()), |parameter| {
            let message = format!(
                "the cache of `{}` is one for all `{}`, whose keys and values cannot depend on `{}`",
                name.value(),
                self.function.name,
                parameter.to_token_stream()
            );
            Err(Error::new_spanned(name, message))
        })
    }

    fn key_type(&self) -> TokenStream {
        tuple(self.key.iter().map(|part| &part.ty))
    }

    /// Whether invalidation needs this argument.
    fn identifies(&self, argument: &Argument) -> bool {
        self.key.iter().chain(&self.holder).any(|part| part.name == argument.name)
    }
}

/// A name that no argument can be confused with.
fn own(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// The only one itself, or a tuple.
fn tuple<T: ToTokens>(mut parts: impl ExactSizeIterator<Item = T>) -> TokenStream {
    match (parts.len(), parts.next()) {
        (1, Some(only)) => only.to_token_stream(),
        (_, first) => {
            let parts = first.into_iter().chain(parts);
            quote!((#(#parts),*))
        }
    }
}

fn is_lint(attr: &Attribute) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"].iter().any(|level| attr.path().is_ident(level))
}

/// An attribute as the wrapper has it: what is expected of the body is expected where the body went.
fn expected_elsewhere(attr: &Attribute) -> Attribute {
    match &attr.meta {
        syn::Meta::List(list) if list.path.is_ident("expect") => {
            let lints = &list.tokens;
            parse_quote!(#[allow(#lints)])
        }
        _ => attr.clone(),
    }
}

/// Names the parameters for a call, as some may be in no argument.
fn turbofish(generics: &Generics) -> Option<TokenStream> {
    let names: Vec<_> = generics.params.iter().filter_map(name).collect();
    (!names.is_empty()).then(|| quote!(::<#(#names),*>))
}

fn name(parameter: &GenericParam) -> Option<&Ident> {
    match parameter {
        GenericParam::Type(parameter) => Some(&parameter.ident),
        GenericParam::Const(parameter) => Some(&parameter.ident),
        GenericParam::Lifetime(_) => None,
    }
}

/// The parameters that these arguments mention, those that their bounds mention in turn, and the bounds on no others.
fn kept(generics: &Generics, arguments: &[&Argument]) -> Generics {
    let mut kept = generics.clone();
    let mut mentioned = Vec::new();
    arguments.iter().for_each(|argument| mention(argument.ty.to_token_stream(), &mut mentioned));
    // Each round reaches the bounds of what the one before has found.
    for _ in &generics.params {
        let found = generics.params.iter().filter(|parameter| is_mentioned(parameter, &mentioned));
        let bounds: TokenStream = found.map(ToTokens::to_token_stream).collect();
        mention(bounds, &mut mentioned);
    }
    let gone: Vec<_> =
        generics.params.iter().filter(|parameter| !is_mentioned(parameter, &mentioned)).collect();
    kept.params =
        generics.params.iter().filter(|parameter| is_mentioned(parameter, &mentioned)).cloned().collect();
    if let Some(bounds) = &mut kept.where_clause {
        let on_kept = |bound: &syn::WherePredicate| {
            let mut names = Vec::new();
            mention(bound.to_token_stream(), &mut names);
            !gone.iter().any(|parameter| is_mentioned(parameter, &names))
        };
        bounds.predicates = std::mem::take(&mut bounds.predicates).into_iter().filter(on_kept).collect();
    }
    kept
}

fn is_mentioned(parameter: &GenericParam, names: &[Ident]) -> bool {
    name(parameter).is_some_and(|name| names.contains(name))
}

fn mention(tokens: TokenStream, names: &mut Vec<Ident>) {
    for token in tokens {
        match token {
            TokenTree::Ident(name) => names.push(name),
            TokenTree::Group(group) => mention(group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

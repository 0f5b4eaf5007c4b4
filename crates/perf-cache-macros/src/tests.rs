//! What is refused, in which words, and what is written.

use crate::expand::cached;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{File, ImplItem, Item};

fn refusal(options: TokenStream, item: TokenStream) -> String {
    cached(options, item).unwrap_err().to_string()
}

/// The refusal of a function with usual options.
fn refusal_of(item: TokenStream) -> String {
    refusal(quote!(cache = "USERS", key()), item)
}

/// The refusal of options on a usual function.
fn refusal_for(options: TokenStream) -> String {
    refusal(
        options,
        quote!(
            async fn user(db: Db, id: u64) -> Result<User, DbError> {
                db.user(id).await
            }
        ),
    )
}

fn written(options: TokenStream, item: TokenStream) -> File {
    syn::parse2(cached(options, item).unwrap()).unwrap()
}

/// The wrapper, `uncached` and `invalidate`.
fn signatures(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for item in &file.items {
        match item {
            Item::Fn(function) => found.push(function.sig.to_token_stream().to_string()),
            Item::Impl(block) => found.extend(block.items.iter().filter_map(|item| match item {
                ImplItem::Fn(method) => Some(method.sig.to_token_stream().to_string()),
                _ => None,
            })),
            _ => {}
        }
    }
    found
}

fn same(found: &str, expected: TokenStream) {
    let tight = |text: &str| text.replace(' ', "");
    assert_eq!(tight(found), tight(&expected.to_string()));
}

#[test]
fn options_that_are_missing_unknown_or_twice_are_named() {
    assert!(refusal_for(quote!(key(id))).starts_with("missing `cache = \"..\"`"));
    assert!(refusal_for(quote!(cache = "USERS")).starts_with("missing `key(..)`"));
    assert_eq!(
        refusal_for(quote!(cache = "USERS", key(id), ttl = 5)),
        "unknown option `ttl`; the options are `cache`, `space`, `namespace`, `config`, `key`, `tags` and `crate`"
    );
    assert_eq!(refusal_for(quote!(cache = "USERS", key(id), key(id))), "`key` is given twice");
}

#[test]
fn a_cache_is_named_or_made_and_not_both() {
    let both = "`cache` names a cache that is there, which has its space, its name and its settings already";
    assert_eq!(refusal_for(quote!(cache = "USERS", namespace = "users", key(id))), both);
    assert_eq!(refusal_for(quote!(cache = "USERS", config = CacheConfig::default(), key(id))), both);
    assert_eq!(refusal_for(quote!(space = "SPACE", key(id))), "`space` needs `namespace = \"..\"` beside it");
    assert_eq!(
        refusal_for(quote!(namespace = "users", key(id))),
        "`namespace` needs `space = \"..\"` beside it"
    );
    assert_eq!(
        refusal_for(quote!(space = "db", namespace = "users", key(id))),
        "`db` is an argument; the space of a cache that is made once is a static"
    );
    let generic = quote!(
        async fn f<T: Load>(id: u64) -> Result<T, E> {
            T::load(id).await
        }
    );
    assert_eq!(
        refusal(quote!(space = SPACE, namespace = "users", key(id)), generic),
        "the cache of `users` is one for all `f`, whose keys and values cannot depend on `T : Load`"
    );
}

#[test]
fn options_of_another_form_are_told_theirs() {
    let place = "`cache` takes a path, such as `USERS`, or a field of an argument, such as `db.users`";
    assert_eq!(refusal_for(quote!(cache = "users()", key(id))), place);
    assert_eq!(refusal_for(quote!(cache = 7, key(id))), place);
    for key in [quote!(key = id), quote!(key(id + 1)), quote!(key("id"))] {
        let refused = refusal_for(quote!(cache = "USERS", #key));
        assert_eq!(refused, "`key` takes names of arguments, such as `key(id)`");
    }
    assert_eq!(
        refusal_for(quote!(cache = "USERS", key(id), tags(org))),
        "`tags` takes format strings, such as `tags(\"org:{org}\")`"
    );
}

#[test]
fn a_key_names_arguments_once_each_and_six_at_most() {
    assert_eq!(
        refusal_for(quote!(cache = "USERS", key(name))),
        "`name` is no argument of `user`; its arguments are `db`, `id`"
    );
    assert_eq!(
        refusal(
            quote!(cache = "USERS", key(id)),
            quote!(
                async fn all() -> Result<u8, E> {
                    Ok(1)
                }
            )
        ),
        "`id` is no argument of `all`; it has none"
    );
    assert_eq!(refusal_for(quote!(cache = "USERS", key(id, id))), "`id` is in the key already");
    assert_eq!(
        refusal_for(quote!(cache = "USERS", key(a, b, c, d, e, f, g))),
        "a key has at most 6 arguments"
    );
    assert_eq!(
        refusal(
            quote!(cache = "USERS", key(id)),
            quote!(
                async fn f(id: impl Key) -> Result<u8, E> {
                    Ok(1)
                }
            )
        ),
        "an argument of the key needs a type with a name, not `impl Trait`"
    );
}

#[test]
fn a_function_of_another_kind_is_refused() {
    let refused = [
        (
            quote!(
                fn f() -> Result<u8, E> {
                    Ok(1)
                }
            ),
            "a cached function is `async`: its callers wait for one load",
        ),
        (
            quote!(
                async unsafe fn f() -> Result<u8, E> {
                    Ok(1)
                }
            ),
            "a cached function is neither `unsafe` nor `safe`: call what is from its body",
        ),
        (
            quote!(
                async extern "C" fn f() -> Result<u8, E> {
                    Ok(1)
                }
            ),
            "a cached function cannot be `extern`",
        ),
        (
            quote!(
                struct F;
            ),
            "`#[cached]` stands on an `async fn` with a body",
        ),
        (
            quote!(
                async fn f(&self) -> Result<u8, E> {
                    Ok(1)
                }
            ),
            "`#[cached]` stands on free functions: take what the body needs of `self` as arguments, such as an `Arc`",
        ),
        (
            quote!(
                async fn f<'a>(a: u8) -> Result<u8, E> {
                    Ok(1)
                }
            ),
            "a cached function has no lifetime parameters: its arguments are owned",
        ),
    ];
    for (item, message) in refused {
        assert_eq!(refusal_of(item), message);
    }
}

#[test]
fn what_is_not_a_result_is_refused() {
    let outputs = [
        quote!(),
        quote!(-> User),
        quote!(-> Option<User>),
        quote!(-> io::Result<User>),
        quote!(-> Result<A, B, C>),
    ];
    for output in outputs {
        let refused = refusal_of(quote!(async fn f() #output { todo() }));
        assert_eq!(refused, "a cached function returns `Result<V, E>`, written with both types");
    }
}

#[test]
fn arguments_that_borrow_are_refused_wherever_the_reference_is() {
    for ty in [quote!(&Db), quote!(&mut Db), quote!(Option<&str>), quote!((u8, [&str; 2]))] {
        let refused = refusal_of(quote!(async fn f(db: #ty) -> Result<u8, E> { Ok(1) }));
        assert_eq!(
            refused,
            "the body runs in a task of its own, which cannot borrow: pass an owned value, such as an `Arc`"
        );
    }
    assert!(
        refusal_of(quote!(
            async fn f(db: Db<'_>) -> Result<u8, E> {
                Ok(1)
            }
        ))
        .ends_with("use `'static` or an owned type")
    );
    let owned = quote!(
        async fn f(a: &'static str, b: Arc<dyn Fn(&str)>, c: Cow<'static, str>) -> Result<u8, E> {
            Ok(1)
        }
    );
    assert!(cached(quote!(cache = "USERS", key(a)), owned).is_ok());
}

#[test]
fn arguments_without_a_plain_name_are_refused() {
    let plain = "arguments of a cached function are plain names, such as `id: u64`";
    for pattern in [quote!(_), quote!((a, b)), quote!(ref a), quote!(a @ 1..)] {
        assert_eq!(refusal_of(quote!(async fn f(#pattern: T) -> Result<u8, E> { Ok(1) })), plain);
    }
    assert_eq!(
        refusal_of(quote!(
            async fn f(#[cfg(a)] a: T) -> Result<u8, E> {
                Ok(1)
            }
        )),
        "arguments of a cached function have no attributes"
    );
}

#[test]
fn the_wrapper_returns_a_hit_and_the_companions_take_what_they_need() {
    let file = written(
        quote!(cache = "USERS", key(id), tags("org:{org}")),
        quote!(
            async fn user(db: Db, mut id: u64, org: u32) -> Result<User, DbError> {
                Ok(1)
            }
        ),
    );
    let [wrapper, uncached, invalidate] = &*signatures(&file) else { panic!("three functions") };
    let hit = quote!(::core::result::Result<::perf_cache::Hit<u64, User>, ::perf_cache::LoadError<DbError>>);
    same(wrapper, quote!(async fn user(db: Db, id: u64, org: u32) -> #hit));
    same(uncached, quote!(async fn uncached(db: Db, mut id: u64, org: u32) -> Result<User, DbError>));
    same(invalidate, quote!(fn invalidate(id: &u64) -> ::perf_cache::Invalidating));
}

#[test]
fn invalidation_takes_the_argument_that_holds_the_cache_and_no_parameter_it_has_no_use_for() {
    let file = written(
        quote!(crate = perfkit::cache, cache = db.users, key(id, org)),
        quote!(
            async fn user<D: Has<I>, I, C, const N: usize>(
                id: u64,
                c: C,
                db: D,
                org: u32,
            ) -> Result<[u8; N], E>
            where
                C: Clone,
                D: Send,
            {
                Ok(1)
            }
        ),
    );
    let signatures = signatures(&file);
    same(
        &signatures[2],
        quote!(fn invalidate<D: Has<I>, I>(id: &u64, db: &D, org: &u32) -> perfkit::cache::Invalidating where D: Send),
    );
}

#[test]
fn visibility_documentation_and_conditions_stay_and_lints_follow_the_body() {
    let file = written(
        quote!(cache = USERS, key()),
        quote!(
            /// All.
            #[cfg(unix)]
            #[expect(unused, reason = "r")]
            pub(crate) async fn all() -> Result<u8, E> {
                Ok(1)
            }
        ),
    );
    let [Item::Fn(wrapper), Item::Enum(companions), Item::Impl(block)] = &*file.items else {
        panic!("three items")
    };
    let visible = quote!(pub(crate)).to_string();
    assert_eq!(wrapper.vis.to_token_stream().to_string(), visible);
    assert_eq!(companions.vis.to_token_stream().to_string(), visible);
    let attrs = |attrs: &[syn::Attribute]| {
        attrs.iter().map(|attr| attr.path().to_token_stream().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(attrs(&wrapper.attrs), ["doc", "cfg", "allow"]);
    assert_eq!(attrs(&companions.attrs), ["cfg", "doc", "allow"]);
    assert_eq!(attrs(&block.attrs), ["cfg", "allow"]);
    let ImplItem::Fn(uncached) = &block.items[0] else { panic!("a method") };
    assert!(attrs(&uncached.attrs).contains(&String::from("expect")));
}

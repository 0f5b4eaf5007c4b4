//! The `#[cached]` attribute of perf-cache, which re-exports it behind its feature `macros`.
//!
//! `options` reads what is in the parentheses, `function` what the attribute stands on, `expand` writes the result.

mod expand;
mod function;
mod options;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Puts a cache in front of an `async` function: one run per key however many call, its values kept by the cache's settings.
///
/// `#[cached(cache = "USERS", key(id), tags("org:{org}"))]`
///
/// | option | meaning |
/// |---|---|
/// | `cache = "USERS"` | where the `Cache<K, V>` is, with or without quotes: a static, mostly in a `LazyLock`, or an argument or a field of one (`"db.users"`). Required, unless there is a namespace. |
/// | `space = "SPACE"`, `namespace = "users"` | instead of `cache`: the cache is made at the first call, as this namespace of the `CacheSpace` in a static. |
/// | `config = "CacheConfig::conservative()"` | its settings, an expression. `CacheConfig::default()` by default. |
/// | `key(id)` | the arguments that identify the value. `K` is the type of the only one, the tuple of several (six at most), `()` for none. Required. |
/// | `tags("org:{org}", ..)` | the tags of a value, each a format string over the arguments. None by default. |
/// | `crate = perfkit::cache` | where perf-cache is, for those who reach it through a re-export. `::perf_cache` by default. |
///
/// # What becomes of the function
///
/// An `async fn f(..) -> Result<V, E>` becomes one with the same arguments that returns
/// `Result<Hit<K, V>, LoadError<E>>`. Visibility, documentation, attributes, type parameters and bounds stay. Beside it
/// stands a type without values of the same name and visibility, which has
///
/// - `f::uncached(..)`, the function as it was written: it runs each time, reads no cache and stores nothing;
/// - `f::invalidate(..)`, which removes the value of a key. It takes references to the arguments that `key` and `cache`
///   name, in the function's order, and returns the cache's `Invalidating`;
/// - with `namespace`, `f::cache()`, the cache itself: to be registered, cleared, explained.
///
/// The body is a loader of `Cache::load_with`: it runs in a task of its own, once for all who ask meanwhile, and is not
/// cancelled with its callers. A hit clones neither key nor arguments and makes no tags.
///
/// # What it asks
///
/// - Arguments are moved to that task, hence owned, `Send` and `'static`: pass an `Arc` or a cheaply cloned handle where
///   you would pass a reference. References other than `&'static` are refused.
/// - What is not in the key must not change the value: it is a means (a connection, a deadline) or follows from the key.
/// - Functions that share a cache share its keys, so give each function a cache of its own unless they mean the same values.
/// - `E` has `Display`, and is `Send + Sync + 'static`.
/// - It stands on free functions, also inside other functions; not on methods.
///
/// # Errors
///
/// The function returns `LoadError::Load` for its own errors, which are not stored, and the other variants where the cache
/// has no value for reasons of its own.
///
/// # Cancel safety
///
/// Dropping a call gives up only the waiting.
#[proc_macro_attribute]
pub fn cached(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::cached(options.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

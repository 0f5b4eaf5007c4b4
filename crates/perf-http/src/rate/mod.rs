//! Rate limits by client: GCRA over a bounded table, so that a million strangers cost no more memory than a thousand.

mod config;
mod fields;
mod layer;
mod state;
mod table;

pub use config::{Quota, QuotaConfig, RateLimitConfig};
pub use layer::{RateLimitFuture, RateLimitLayer, RateLimited};
pub use state::{Decision, Key, RateKey, RateLimit, RateLimitBuilder, RateLimitStats, families};

/// How many clients are told apart: 100,000, which takes 5 MB with one quota.
///
/// Beyond it the client nearest to a full bucket is forgotten, which forgives it something and never punishes it.
pub const DEFAULT_MAX_KEYS: usize = 100_000;

/// Most quotas of one limit.
pub const MAX_QUOTAS: usize = 4;

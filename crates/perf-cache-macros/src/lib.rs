//! The #[cached] attribute of perf-cache.

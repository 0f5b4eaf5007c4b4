//! Cache, pool, resilience, metrics and database advice for Rust services, wired together by one configuration.

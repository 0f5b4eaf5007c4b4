//! Breaker, retry, timeout, bulkhead, rate, adaptive concurrency, hedging, degradation, backup and restore.

//! Memory and Redis cache: single flight, tags, coherent invalidation, stale policies.

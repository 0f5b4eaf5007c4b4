use std::hash::{DefaultHasher, Hash, Hasher};

/// How close an endpoint is to a client or key: the highest random weight wins (rendezvous hashing), so that adding or
/// removing an endpoint moves only what belongs to it. Pick the endpoint with the largest rank for affinity.
#[must_use]
pub fn rank(key: impl Hash, endpoint: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    endpoint.hash(&mut hasher);
    hasher.finish()
}

/// The `size` endpoints out of `endpoints` that this client uses, by index: each client another choice, and a choice that
/// changes in at most one member when one endpoint comes or goes (gRPC proposal A68).
#[must_use]
pub fn subset<E: Hash>(client: &impl Hash, endpoints: &[E], size: usize) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..endpoints.len()).collect();
    ranked.sort_by_key(|index| std::cmp::Reverse(rank(client, &endpoints[*index])));
    ranked.truncate(size);
    ranked
}

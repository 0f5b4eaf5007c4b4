/// The share of callers that have to wait for one of `servers` when the load is `load` (arrivals per second times seconds
/// held): Erlang's C formula. 1 when the load is too much for ever.
///
/// ```
/// let waits = perf_pool::sizing::erlang_c(8, 5.0);
/// assert!((waits - 0.167).abs() < 0.001);
/// ```
#[must_use]
pub fn erlang_c(servers: usize, load: f64) -> f64 {
    let count = servers as f64;
    if !load.is_finite() || load >= count {
        return 1.0;
    }
    if load <= 0.0 {
        return 0.0;
    }
    // Erlang's B formula by its recursion, which neither overflows nor loses digits.
    let blocked = (1..=servers).fold(1.0, |blocked, n| load * blocked / (n as f64 + load * blocked));
    blocked / (1.0 - load / count * (1.0 - blocked))
}

//! What comes next: Holt–Winters with a damped trend, which says no when it is no better than a naive guess.

/// A forecast and how good it was on values it had not seen.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Forecast {
    /// The next values.
    pub values: Vec<f64>,
    /// Error on the last values, which it had not seen, relative to the naive guess; below 1.
    pub mase: f64,
    /// Half the width of the band in which nine of ten errors lay.
    pub band: f64,
}

/// Why there is no forecast.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoForecast {
    /// There must be three periods, and at least 20 values.
    #[error("{0} values are too few: a forecast needs three periods and at least 20 values")]
    TooShort(usize),
    /// A naive guess (the value one period ago) is at least as good.
    #[error("the forecast is no better than a naive guess (relative error {0:.2})")]
    NoBetterThanNaive(f64),
    /// A value is not finite.
    #[error("a value is not a number")]
    NotFinite,
}

#[derive(Clone, Copy)]
struct Smoothing {
    level: f64,
    trend: f64,
    season: f64,
}

/// How much of the trend is left after each step: a trend does not last for ever.
const DAMPING: f64 = 0.98;

/// Forecasts the next `horizon` values of a series whose season is `period` values long (1 for none).
///
/// ```
/// let values: Vec<f64> = (0..200).map(|n| f64::from(n) * 0.1 + f64::from(n % 10)).collect();
/// let forecast = perf_metrics::forecast(&values, 10, 5).unwrap();
/// assert!((forecast.values[0] - 20.0).abs() < 1.0 && forecast.mase < 1.0);
/// ```
///
/// # Errors
/// [`NoForecast`] when there are too few values, one is not finite, or the naive guess does as well: an honest "nobody
/// knows" is worth more than a line on a chart.
pub fn forecast(values: &[f64], period: usize, horizon: usize) -> Result<Forecast, NoForecast> {
    let period = period.max(1);
    if values.len() < 20.max(3 * period) {
        return Err(NoForecast::TooShort(values.len()));
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(NoForecast::NotFinite);
    }
    // The last fifth, at most two periods of it, is kept from the fit.
    let unseen = (values.len() / 5).clamp(4, (2 * period).max(8)).min(values.len() / 3);
    let (past, future) = values.split_at(values.len() - unseen);
    let mut best = (f64::INFINITY, Smoothing { level: 0.3, trend: 0.05, season: 0.1 });
    for level in [0.05, 0.2, 0.5, 0.8] {
        for trend in [0.0, 0.05, 0.2] {
            for season in [0.05, 0.2, 0.5] {
                let smoothing = Smoothing { level, trend, season };
                let (_, error) = run(past, period, smoothing, 0);
                if error < best.0 {
                    best = (error, smoothing);
                }
            }
        }
    }
    let (guess, _) = run(past, period, best.1, unseen);
    let errors: Vec<f64> = guess.iter().zip(future).map(|(guess, value)| (guess - value).abs()).collect();
    let naive: f64 = (0..unseen).map(|n| (past[past.len() - period + n % period] - future[n]).abs()).sum();
    let mase = errors.iter().sum::<f64>() / naive.max(f64::MIN_POSITIVE);
    // A series the naive guess gets exactly right needs no forecast.
    if mase >= 1.0 || naive == 0.0 {
        return Err(NoForecast::NoBetterThanNaive(if naive == 0.0 { 1.0 } else { mase }));
    }
    let mut sorted = errors;
    sorted.sort_by(f64::total_cmp);
    let band = sorted[(sorted.len() * 9 / 10).min(sorted.len() - 1)];
    Ok(Forecast { values: run(values, period, best.1, horizon).0, mase, band })
}

/// Smooths `values` and continues them for `horizon` steps; also the mean error of the one-step guesses.
fn run(values: &[f64], period: usize, smoothing: Smoothing, horizon: usize) -> (Vec<f64>, f64) {
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, second) = (mean(&values[..period]), mean(&values[period..2 * period]));
    let mut trend = (second - first) / period as f64;
    // The first period's mean stands in its middle; the trend leads back to its start.
    let middle = (period as f64 - 1.0) / 2.0;
    let mut level = first - trend * (middle + 1.0);
    let above = |(n, value): (usize, &f64)| value - first - trend * (n as f64 - middle);
    let mut season: Vec<f64> =
        if period == 1 { vec![0.0] } else { values[..period].iter().enumerate().map(above).collect() };
    let mut error = 0.0;
    for (n, value) in values.iter().enumerate() {
        let phase = n % period;
        error += (value - (level + DAMPING * trend + season[phase])).abs();
        let before = level;
        level =
            smoothing.level * (value - season[phase]) + (1.0 - smoothing.level) * (level + DAMPING * trend);
        trend = smoothing.trend * (level - before) + (1.0 - smoothing.trend) * DAMPING * trend;
        if period > 1 {
            season[phase] = smoothing.season * (value - level) + (1.0 - smoothing.season) * season[phase];
        }
    }
    let mut damped = 0.0;
    let continued = (0..horizon).map(|step| {
        damped += DAMPING.powi(step as i32 + 1);
        level + damped * trend + season[(values.len() + step) % period]
    });
    (continued.collect(), error / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::Rng;

    #[test]
    fn a_trend_with_a_season_is_continued() {
        let mut rng = Rng::seeded(3);
        let truth = |n: usize| 50.0 + n as f64 * 0.2 + 10.0 * (n as f64 / 24.0 * std::f64::consts::TAU).sin();
        let values: Vec<f64> = (0..240).map(|n| truth(n) + rng.unit()).collect();
        let forecast = forecast(&values, 24, 12).unwrap();
        for (step, value) in forecast.values.iter().enumerate() {
            assert!((value - truth(240 + step) - 0.5).abs() < 3.0, "{step}: {value}");
        }
        assert!(forecast.mase < 0.9 && forecast.band > 0.0);
    }

    #[test]
    fn a_random_walk_is_not_forecast_and_neither_is_a_constant() {
        let mut rng = Rng::seeded(9);
        let mut refused = 0;
        for _ in 0..20 {
            let mut at = 0.0;
            let walk: Vec<f64> = (0..200)
                .map(|_| {
                    at += rng.unit() - 0.5;
                    at
                })
                .collect();
            refused += usize::from(matches!(forecast(&walk, 1, 5), Err(NoForecast::NoBetterThanNaive(_))));
        }
        assert!(refused >= 8, "{refused}");
        assert_eq!(forecast(&[3.0; 50], 1, 5), Err(NoForecast::NoBetterThanNaive(1.0)));
        assert_eq!(forecast(&[3.0; 19], 1, 5), Err(NoForecast::TooShort(19)));
        assert_eq!(forecast(&[f64::NAN; 50], 1, 5), Err(NoForecast::NotFinite));
    }
}

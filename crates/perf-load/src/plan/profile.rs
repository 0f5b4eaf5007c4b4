//! How the level of load (requests per second, or users) moves over time: piecewise linear.

use perf_core::time::Duration;

/// One piece of a plan: the level moves linearly, or jumps and stays.
///
/// ```
/// use perf_load::Stage;
/// use std::time::Duration;
///
/// let morning = [
///     Stage::ramp(2_000.0, Duration::from_secs(30)),
///     Stage::hold(2_000.0, Duration::from_secs(300)),
///     Stage::hold(6_000.0, Duration::from_secs(10)),
/// ];
/// assert_eq!(morning[2].length(), Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    pub(crate) from: Option<f64>,
    pub(crate) to: f64,
    pub(crate) length: Duration,
}

impl Stage {
    /// Moves linearly from the level reached so far (0 at the start) to `to`.
    #[must_use]
    pub const fn ramp(to: f64, length: Duration) -> Self {
        Self { from: None, to, length }
    }

    /// Jumps to `level` and stays there. A step, a soak and a spike are all of this kind.
    #[must_use]
    pub const fn hold(level: f64, length: Duration) -> Self {
        Self { from: Some(level), to: level, length }
    }

    /// How long it lasts.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }
}

/// A stage with its place in time and in the integral of the level.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: f64,
    length: f64,
    from: f64,
    to: f64,
    area_before: f64,
}

impl Piece {
    fn slope(&self) -> f64 {
        (self.to - self.from) / self.length
    }

    fn area(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.length
    }

    /// The time since the start of the piece at which its integral reaches `area`. This form of the quadratic's root
    /// loses no digits when the slope is small.
    fn time_of(&self, area: f64) -> f64 {
        let discriminant = (self.from * self.from + 2.0 * self.slope() * area).max(0.0);
        let divisor = self.from + discriminant.sqrt();
        // The divisor is zero only at the foot of a ramp from zero, where the area is zero, too.
        if divisor > 0.0 { (2.0 * area / divisor).min(self.length) } else { 0.0 }
    }

    fn end(&self) -> f64 {
        self.start + self.length
    }
}

/// The level as a function of time.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pieces: Vec<Piece>,
    length: Duration,
}

impl Profile {
    pub(crate) fn new(stages: &[Stage]) -> Self {
        let (mut pieces, mut level, mut area, mut at) = (Vec::new(), 0.0, 0.0, Duration::ZERO);
        for stage in stages.iter().filter(|stage| !stage.length.is_zero()) {
            let piece = Piece {
                start: at.as_secs_f64(),
                length: stage.length.as_secs_f64(),
                from: stage.from.unwrap_or(level),
                to: stage.to,
                area_before: area,
            };
            area += piece.area();
            at = at.saturating_add(stage.length);
            level = stage.to;
            pieces.push(piece);
        }
        Self { pieces, length: at }
    }

    /// How long the whole plan lasts.
    pub(crate) const fn length(&self) -> Duration {
        self.length
    }

    /// The highest level reached.
    pub(crate) fn peak(&self) -> f64 {
        self.pieces.iter().fold(0.0, |peak, piece| peak.max(piece.from).max(piece.to))
    }

    #[cfg(test)]
    /// The integral of the level over the whole plan: for rates, how many requests are planned.
    pub(crate) fn area(&self) -> f64 {
        self.pieces.last().map_or(0.0, |piece| piece.area_before + piece.area())
    }

    /// The level at a time; 0 outside the plan.
    pub(crate) fn level(&self, at: Duration) -> f64 {
        let at = at.as_secs_f64();
        let next = self.pieces.partition_point(|piece| piece.start <= at);
        match next.checked_sub(1).map(|index| self.pieces[index]) {
            Some(piece) if at < piece.end() => piece.from + piece.slope() * (at - piece.start),
            _ => 0.0,
        }
    }

    /// The time at which the integral reaches `area`, or `None` when it never does.
    pub(crate) fn time_of_area(&self, area: f64) -> Option<Duration> {
        let index = self.pieces.partition_point(|piece| piece.area_before + piece.area() <= area);
        let piece = self.pieces.get(index)?;
        let seconds = piece.start + piece.time_of((area - piece.area_before).max(0.0));
        Some(Duration::from_secs_f64(seconds))
    }

    /// The first time from `after` on at which the level is above `threshold`, or `None` when it never is again.
    pub(crate) fn next_above(&self, threshold: f64, after: Duration) -> Option<Duration> {
        if self.level(after) > threshold {
            return Some(after);
        }
        let after = after.as_secs_f64();
        self.pieces.iter().filter(|piece| piece.end() > after).find_map(|piece| {
            let begin = piece.start.max(after);
            let level = piece.from + piece.slope() * (begin - piece.start);
            if level > threshold {
                return Some(Duration::from_secs_f64(begin));
            }
            // A nanosecond past the crossing, where the level is above the threshold and not equal to it.
            (piece.to > threshold).then(|| {
                let crossing = piece.start + (threshold - piece.from) / piece.slope();
                Duration::from_secs_f64(crossing.max(begin)) + Duration::from_nanos(1)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_ramp_starts_where_the_last_stage_ended() {
        let profile = Profile::new(&[
            Stage::ramp(100.0, secs(10)),
            Stage::hold(50.0, secs(10)),
            Stage::ramp(0.0, secs(10)),
        ]);
        let levels: Vec<f64> = [0, 5, 10, 19, 25, 30].map(|at| profile.level(secs(at))).to_vec();
        assert_eq!(levels, [0.0, 50.0, 50.0, 50.0, 25.0, 0.0]);
        assert_eq!((profile.area(), profile.peak(), profile.length()), (1250.0, 100.0, secs(30)));
    }

    #[test]
    fn a_user_joins_when_the_level_passes_its_number() {
        let profile = Profile::new(&[Stage::ramp(10.0, secs(10)), Stage::hold(2.0, secs(5))]);
        assert_eq!(profile.next_above(0.0, Duration::ZERO).unwrap(), Duration::from_nanos(1));
        assert_eq!(profile.next_above(4.0, secs(1)).unwrap(), secs(4) + Duration::from_nanos(1));
        assert_eq!(profile.next_above(1.0, secs(12)), Some(secs(12)));
        assert_eq!(profile.next_above(4.0, secs(12)), None);
    }

    proptest! {
        #[test]
        fn the_inverse_of_the_integral_is_its_inverse(
            levels in prop::collection::vec((0.0..5_000.0_f64, 1..120_u64, any::<bool>()), 1..6),
            share in 0.0..0.999_f64,
        ) {
            let stages: Vec<Stage> = levels.iter().map(|&(level, length, jump)| {
                if jump { Stage::hold(level, secs(length)) } else { Stage::ramp(level, secs(length)) }
            }).collect();
            let profile = Profile::new(&stages);
            let area = profile.area() * share;
            prop_assume!(profile.area() > 1.0);
            let at = profile.time_of_area(area).unwrap().as_secs_f64();
            // The integral up to `at`, by summing many small rectangles.
            let steps = 4_000;
            let width = at / f64::from(steps);
            let sum: f64 = (0..steps)
                .map(|step| profile.level(Duration::from_secs_f64((f64::from(step) + 0.5) * width)) * width)
                .sum();
            prop_assert!((sum - area).abs() <= 1.0 + 5e-3 * area, "{sum} for {area}");
        }
    }
}

//! Line charts as SVG text: no script, no network, sharp in print.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// More points than this per line cannot be told apart at this width.
const MAX_POINTS: usize = 430;

/// A line of a chart.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// The class that gives it its colour.
    pub(super) class: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A mark on the horizontal axis.
pub(super) type Tick = (f64, String);

/// A chart with a linear vertical axis from zero.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<Tick>,
    pub(super) lines: Vec<Line<'a>>,
    /// A part of the horizontal axis that is shaded: the warm-up.
    pub(super) shaded: Option<(f64, f64)>,
}

impl Chart<'_> {
    pub(super) fn svg(&self) -> String {
        let highest =
            self.lines.iter().flat_map(|line| &line.points).fold(0.0_f64, |top, (_, y)| top.max(*y));
        let top = nice(highest);
        let x = |value: f64| {
            let span = (self.to - self.from).max(f64::MIN_POSITIVE);
            LEFT + ((value - self.from) / span).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
        };
        let y = |value: f64| HEIGHT - BOTTOM - (value / top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
        let title = self.title;
        let mut svg = format!(
            "<figure><figcaption>{title}, {}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">",
            self.unit
        );
        // Writing to a string cannot fail.
        if let Some((from, to)) = self.shaded {
            let (left, right) = (x(from), x(to));
            let _ = write!(
                svg,
                "<rect class=\"shade\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>warm-up, not counted</title></rect>",
                right - left,
                HEIGHT - TOP - BOTTOM
            );
        }
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let at = y(value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                number(value)
            );
        }
        for (at, label) in &self.ticks {
            let _ = write!(
                svg,
                "<text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                x(*at),
                HEIGHT - 12.0
            );
        }
        for line in &self.lines {
            let points: String = thin(&line.points)
                .iter()
                .map(|(at, value)| format!("{:.1},{:.1} ", x(*at), y(*value)))
                .collect();
            let _ = write!(
                svg,
                "<polyline class=\"{}\" points=\"{}\"><title>{}</title></polyline>",
                line.class,
                points.trim_end(),
                line.name
            );
        }
        svg.push_str("</svg><p class=\"legend\">");
        for line in &self.lines {
            let _ = write!(svg, "<span class=\"key {}\">{}</span>", line.class, line.name);
        }
        svg.push_str("</p></figure>");
        svg
    }
}

/// Keeps the highest point of each group, so that no peak is lost.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    points
        .chunks(group)
        .filter_map(|group| group.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
        .collect()
}

/// The next of 1, 2, 4, 5, 8, 10 times a power of ten: each divides into four readable steps.
fn nice(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let magnitude = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 4.0, 5.0, 8.0].into_iter().find(|factor| factor * magnitude >= value * 0.999_999);
    factor.unwrap_or(10.0) * magnitude
}

/// A number with at most three digits after a leading one, in plain form.
pub(super) fn number(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_on_readable_numbers() {
        let ends = [0.0, 0.7, 1.0, 3.1, 42.0, 99.0, 1_234.0].map(nice);
        assert_eq!(ends.map(number), ["1", "0.8", "1", "4", "50", "100", "2000"]);
    }

    #[test]
    fn thinning_loses_no_peak() {
        let mut points: Vec<(f64, f64)> = (0..7_200).map(|n| (f64::from(n), 1.0)).collect();
        points[4_321].1 = 99.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= MAX_POINTS);
        assert!(thinned.contains(&(4_321.0, 99.0)));
    }

    #[test]
    fn nothing_to_draw_is_an_empty_chart() {
        let chart = Chart {
            title: "t",
            unit: "ms",
            from: 0.0,
            to: 0.0,
            ticks: Vec::new(),
            lines: vec![Line { name: "a", class: "a", points: Vec::new() }],
            shaded: None,
        };
        let svg = chart.svg();
        assert!(svg.contains("<svg") && !svg.contains("NaN"), "{svg}");
    }
}

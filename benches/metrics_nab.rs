//! The anomaly detector on the Numenta Anomaly Benchmark's layout: `data/<group>/<file>.csv`, `labels/combined_windows.json`.
//!
//! The folder is `PERFKIT_NAB`, by default `../shared/data/nab`. Scores are NAB's: one threshold for the whole corpus, chosen
//! with hindsight as NAB does, and beside it the score and the alarms at the threshold we ship.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use perf_core::time::{self, Duration};
use perf_metrics::{Detector, DetectorConfig};
use perfkit_benches::{CountingAllocator, allocations_during};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A file of the corpus and its labelled windows.
struct Series {
    name: String,
    at: Vec<u64>,
    values: Vec<f64>,
    windows: Vec<(usize, usize)>,
}

/// What a detector said about a file.
struct Answers {
    scores: Vec<f64>,
    onsets: Vec<usize>,
}

/// A profile: the weights of a false alarm and of a missed window.
const PROFILES: [(&str, f64, f64); 3] =
    [("standard", 0.11, 1.0), ("low_fp", 0.22, 1.0), ("low_fn", 0.11, 2.0)];

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn main() {
    let root =
        std::env::var_os("PERFKIT_NAB").map_or_else(|| PathBuf::from("../shared/data/nab"), PathBuf::from);
    let root = if root.is_dir() { root } else { Path::new("..").join(root) };
    if !root.is_dir() {
        println!("metrics_nab: no corpus in {}; set PERFKIT_NAB", root.display());
        return;
    }
    let corpus = load(&root);
    let points: usize = corpus.iter().map(|series| series.values.len()).sum();
    let began = time::now();
    let answers: Vec<Answers> = corpus.iter().map(answers).collect();
    let taken = time::now().saturating_duration_since(began);
    println!(
        "metrics_nab files={} points={points} ns/point={}",
        corpus.len(),
        taken.as_nanos() / points as u128
    );
    for (profile, false_alarm, missed) in PROFILES {
        let score = |threshold| normalised(&corpus, &answers, threshold, false_alarm, missed);
        let (best, threshold) = thresholds(&answers)
            .into_iter()
            .map(|threshold| (score(threshold), threshold))
            .fold((f64::MIN, 0.0), |best, next| if next.0 > best.0 { next } else { best });
        // A score of one half is the shipped threshold.
        println!("metrics_nab {profile} best={best:.1} threshold={threshold:.3} shipped={:.1}", score(0.5));
    }
    alarms(&corpus, &answers);
    memory(&corpus);
}

/// However many values come, the detector allocates nothing after it was made.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn memory(corpus: &[Series]) {
    let mut detector = Detector::new(DetectorConfig::default()).expect("the defaults are valid");
    let count = allocations_during(|| {
        for series in corpus {
            for (at, value) in series.at.iter().zip(&series.values) {
                std::hint::black_box(detector.observe(*value, Duration::from_secs(*at)));
            }
        }
    });
    println!("metrics_nab allocations={count} bytes={} and 768 for the phases", size_of::<Detector>());
    assert_eq!(count, 0);
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn alarms(corpus: &[Series], answers: &[Answers]) {
    for (series, answers) in corpus.iter().zip(answers).filter(|(series, _)| series.windows.is_empty()) {
        let weeks = (series.at[series.at.len() - 1] - series.at[0]) as f64 / 604_800.0;
        let per_week = answers.onsets.len() as f64 / weeks;
        println!("metrics_nab alarms/week={per_week:.2} {}", series.name);
        assert!(per_week <= 1.0, "{}: {per_week} alarms a week", series.name);
    }
}

fn answers(series: &Series) -> Answers {
    let mut detector = Detector::new(DetectorConfig::default()).expect("the defaults are valid");
    let (mut scores, mut onsets) = (Vec::with_capacity(series.values.len()), Vec::new());
    for (position, (at, value)) in series.at.iter().zip(&series.values).enumerate() {
        let seen = detector.observe(*value, Duration::from_secs(*at));
        scores.push(seen.score);
        if seen.onset.is_some() {
            onsets.push(position);
        }
    }
    Answers { scores, onsets }
}

/// Thresholds worth trying: every score of the strongest few hundred, and a sample of the rest.
fn thresholds(answers: &[Answers]) -> Vec<f64> {
    let mut scores: Vec<f64> = answers.iter().flat_map(|a| &a.scores).copied().filter(|s| *s > 0.0).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    let (strong, rest) = scores.split_at(scores.len().min(500));
    strong.iter().chain(rest.iter().step_by(rest.len() / 300 + 1)).copied().collect()
}

fn sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

fn normalised(corpus: &[Series], answers: &[Answers], threshold: f64, false_alarm: f64, missed: f64) -> f64 {
    let windows: usize = corpus.iter().map(|series| series.windows.len()).sum();
    let pairs = corpus.iter().zip(answers);
    let raw: f64 = pairs.map(|(series, a)| raw(series, &a.scores, threshold, false_alarm, missed)).sum();
    let worst = -missed * windows as f64;
    100.0 * (raw - worst) / (windows as f64 - worst)
}

fn raw(series: &Series, scores: &[f64], threshold: f64, false_alarm: f64, missed: f64) -> f64 {
    let probation = (0.15 * series.values.len().min(5_000) as f64).floor() as usize;
    let mut windows = vec![-missed; series.windows.len()];
    let mut penalty = 0.0;
    for at in (probation..scores.len()).filter(|at| scores[*at] >= threshold) {
        if let Some(hit) = series.windows.iter().position(|(first, last)| (*first..=*last).contains(&at)) {
            let (first, last) = series.windows[hit];
            let position = -((last - at + 1) as f64) / (last - first + 1) as f64;
            windows[hit] = windows[hit].max(sigmoid(position) / sigmoid(-1.0));
        } else {
            let before = series.windows.iter().rfind(|(_, last)| *last < at);
            let past =
                before.map_or(f64::INFINITY, |(first, last)| (at - last) as f64 / (last - first) as f64);
            penalty += false_alarm * sigmoid(past);
        }
    }
    windows.iter().sum::<f64>() + penalty
}

fn load(root: &Path) -> Vec<Series> {
    let labels = std::fs::read_to_string(root.join("labels/combined_windows.json")).expect("labels");
    let mut corpus = Vec::new();
    for (name, dates) in windows(&labels) {
        let Ok(text) = std::fs::read_to_string(root.join("data").join(&name)) else { continue };
        let rows = text.lines().skip(1).filter_map(|line| line.split_once(','));
        let (at, values): (Vec<u64>, Vec<f64>) =
            rows.map(|(at, value)| (seconds(at), value.trim().parse::<f64>().expect("a number"))).unzip();
        let place = |[first, last]: &[u64; 2]| {
            let first = at.iter().position(|at| at >= first).expect("a window lies in its file");
            (first, at.iter().rposition(|at| at <= last).expect("a window lies in its file"))
        };
        let windows = dates.iter().map(place).collect();
        corpus.push(Series { name, at, values, windows });
    }
    corpus
}

/// The labels: strings only, a file's name before the pairs of its dates.
fn windows(json: &str) -> BTreeMap<String, Vec<[u64; 2]>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut file = String::new();
    for text in json.split('"').skip(1).step_by(2) {
        if text.ends_with(".csv") {
            text.clone_into(&mut file);
            found.entry(file.clone()).or_default();
        } else {
            found.entry(file.clone()).or_default().push(seconds(text));
        }
    }
    let pairs = |dates: Vec<u64>| dates.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
    found.into_iter().map(|(file, dates)| (file, pairs(dates))).collect()
}

/// Seconds since 1970 of `2014-04-01 00:05:00`.
fn seconds(date: &str) -> u64 {
    let number = |from: usize, to: usize| date[from..to].parse::<u64>().expect("a date");
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Counting years from March puts the leap day last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19)
}

use perf_core::time::Instant;

/// Something that is wrong, with all that is needed to believe it and to act on it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Finding {
    /// A stable name: `slow_endpoint:/orders`.
    pub id: String,
    /// One line.
    pub title: String,
    /// How bad it is, from 0 to 1.
    pub severity: f64,
    /// How many points of 100 it costs at its worst.
    pub weight: f64,
    /// The numbers it rests on.
    pub evidence: Vec<String>,
    /// What it does to users or machines.
    pub impact: String,
    /// What to do.
    pub action: String,
    /// How to see that it helped.
    pub verify: String,
}

/// What an examiner saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examination {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many things it looked at and had enough data to judge.
    pub judged: usize,
}

/// Looks at one side of the host.
pub trait Examiner: Send + Sync {
    /// Looks. Must not block.
    fn examine(&self, now: Instant) -> Examination;
}

/// A line of the score.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Deduction {
    /// The finding.
    pub finding: String,
    /// The points it cost: its weight times its severity.
    pub points: f64,
}

/// All findings, the worst first, and the score.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Diagnosis {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many things were judged; an empty list of findings says nothing without it.
    pub judged: usize,
    /// 100 − Σ deductions, at least 0; absent when nothing could be judged.
    pub score: Option<f64>,
    /// Where the missing points went.
    pub deductions: Vec<Deduction>,
}

/// Asks every examiner and adds up.
///
/// The score is monotone: a worse severity, or one more finding, never raises it.
///
/// ```
/// let diagnosis = perf_metrics::diagnose(&[], perf_core::time::now());
/// assert_eq!(diagnosis.score, None); // Nothing was judged, so there is nothing to score.
/// ```
#[must_use]
pub fn diagnose(examiners: &[&dyn Examiner], now: Instant) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    for examiner in examiners {
        let seen = examiner.examine(now);
        diagnosis.judged += seen.judged;
        diagnosis.findings.extend(seen.findings);
    }
    let points = |finding: &Finding| finding.weight.max(0.0) * finding.severity.clamp(0.0, 1.0);
    diagnosis.findings.sort_by(|a, b| points(b).total_cmp(&points(a)).then_with(|| a.id.cmp(&b.id)));
    let deduction = |finding: &Finding| Deduction { finding: finding.id.clone(), points: points(finding) };
    diagnosis.deductions = diagnosis.findings.iter().map(deduction).collect();
    let lost: f64 = diagnosis.deductions.iter().map(|deduction| deduction.points).sum();
    diagnosis.score = (diagnosis.judged > 0).then(|| (100.0 - lost).max(0.0));
    diagnosis
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::time;
    use proptest::prelude::*;

    struct Fixed(Vec<(f64, f64)>);

    impl Examiner for Fixed {
        fn examine(&self, _: Instant) -> Examination {
            let finding = |(n, (severity, weight)): (usize, &(f64, f64))| Finding {
                id: n.to_string(),
                title: String::new(),
                severity: *severity,
                weight: *weight,
                evidence: Vec::new(),
                impact: String::new(),
                action: String::new(),
                verify: String::new(),
            };
            Examination { findings: self.0.iter().enumerate().map(finding).collect(), judged: 1 }
        }
    }

    fn score(findings: Vec<(f64, f64)>) -> f64 {
        diagnose(&[&Fixed(findings)], time::now()).score.unwrap()
    }

    proptest! {
        #[test]
        fn a_worse_state_never_scores_higher(
            findings in prop::collection::vec((0.0..1.0_f64, 0.0..40.0_f64), 1..6), at in 0..6_usize, more in 0.0..1.0_f64
        ) {
            let before = score(findings.clone());
            prop_assert!((0.0..=100.0).contains(&before));
            let mut worse = findings;
            let at = at % worse.len();
            worse[at].0 = (worse[at].0 + more).min(1.0);
            prop_assert!(score(worse.clone()) <= before);
            worse.push((more, 10.0));
            prop_assert!(score(worse) <= before);
        }

        #[test]
        fn the_deductions_add_up_to_the_missing_points(findings in prop::collection::vec((0.0..1.0_f64, 0.0..20.0_f64), 0..4)) {
            let diagnosis = diagnose(&[&Fixed(findings)], time::now());
            let lost: f64 = diagnosis.deductions.iter().map(|d| d.points).sum();
            prop_assert!((diagnosis.score.unwrap() - (100.0 - lost)).abs() < 1e-9);
        }
    }
}

use super::diagnosis::{Examination, Examiner, Finding};
use crate::alert::{AlertState, Alerts, Severity};
use crate::endpoint::Endpoints;
use crate::leak::Leak;
use perf_core::time::Instant;
use perf_core::{Registry, Status};
use std::sync::{Arc, Mutex, PoisonError};

/// Finds alerts that fire.
#[derive(Clone, Debug)]
pub struct AlertsExaminer(pub Alerts);

impl Examiner for AlertsExaminer {
    fn examine(&self, _: Instant) -> Examination {
        let views = self.0.views();
        let judged = views.iter().filter(|view| view.value.is_some()).count();
        let firing = views.iter().filter(|view| view.state == AlertState::Firing);
        let finding = |view: &crate::AlertView| Finding {
            id: format!("alert:{}", view.name),
            title: if view.summary.is_empty() {
                format!("`{}` fires", view.name)
            } else {
                view.summary.clone()
            },
            severity: if view.flapping { 0.5 } else { 1.0 },
            weight: match view.severity {
                Severity::Page => 30.0,
                Severity::Ticket => 10.0,
                Severity::Info => 2.0,
            },
            evidence: view.value.map(|value| format!("value {value}")).into_iter().collect(),
            impact: "what the alert was written for".to_owned(),
            action: format!("follow the runbook of `{}`", view.name),
            verify: "the alert resolves".to_owned(),
        };
        Examination { findings: firing.map(finding).collect(), judged }
    }
}

/// Finds components that are not up.
#[derive(Clone, Debug)]
pub struct ComponentsExaminer(pub Registry);

impl Examiner for ComponentsExaminer {
    fn examine(&self, _: Instant) -> Examination {
        let components = self.0.components();
        let healths: Vec<_> =
            components.iter().map(|component| (component.id(), component.health())).collect();
        let judged = healths.iter().filter(|(_, health)| health.status() != Status::Unknown).count();
        let troubled =
            healths.iter().filter(|(_, health)| matches!(health.status(), Status::Down | Status::Degraded));
        let finding = |(id, health): &(perf_core::ComponentId, perf_core::Health)| Finding {
            id: format!("component:{}/{}", id.kind(), id.name()),
            title: format!("{id} is {}", health.status().as_str()),
            severity: if health.status() == Status::Down { 1.0 } else { 0.4 },
            weight: 20.0,
            evidence: vec![health.reason().to_owned()],
            impact: "calls through it fail or are slower".to_owned(),
            action: format!("look at {id}: {}", health.reason()),
            verify: "its health is up".to_owned(),
        };
        Examination { findings: troubled.map(finding).collect(), judged }
    }
}

/// Finds endpoints that are slow or fail.
#[derive(Clone, Debug)]
pub struct EndpointsExaminer(pub Arc<Endpoints>);

impl EndpointsExaminer {
    /// Share of failed calls from which an endpoint is a finding.
    const ERROR_SHARE: f64 = 0.01;
}

impl Examiner for EndpointsExaminer {
    fn examine(&self, now: Instant) -> Examination {
        let reports = self.0.report(now);
        let load: f64 = reports.iter().map(|report| report.load).sum();
        let mut seen = Examination {
            judged: reports.iter().filter(|r| r.time.count >= 20).count(),
            ..Default::default()
        };
        for report in reports.iter().filter(|report| report.time.count >= 20) {
            let share = if load > 0.0 { report.load / load } else { 0.0 };
            let rate = format!("{:.1} calls/s, {:.0} % of all time", report.rate, share * 100.0);
            if let Some(limit) = report.slow {
                seen.findings.push(Finding {
                    id: format!("slow_endpoint:{}", report.endpoint),
                    title: format!("{} is slow", report.endpoint),
                    // What takes most of the time is worth most.
                    severity: (0.3 + 0.7 * share).min(1.0),
                    weight: 20.0,
                    evidence: vec![
                        format!("the {limit} is above its threshold"),
                        rate.clone(),
                        quantiles(report),
                    ],
                    impact: format!("{:.2} s of work a second", report.load),
                    action: "cache its answer, or look at its slowest queries".to_owned(),
                    verify: format!("the {limit} of {} falls below its threshold", report.endpoint),
                });
            }
            if let Some(errors) = report.error_share.filter(|share| *share >= Self::ERROR_SHARE) {
                seen.findings.push(Finding {
                    id: format!("failing_endpoint:{}", report.endpoint),
                    title: format!("{:.1} % of the calls of {} fail", errors * 100.0, report.endpoint),
                    severity: (errors * 5.0).min(1.0),
                    weight: 30.0,
                    evidence: vec![format!("error share {errors:.4}"), rate],
                    impact: "users see errors".to_owned(),
                    action: "look at the last errors of this endpoint and at what it depends on".to_owned(),
                    verify: format!("the error share of {} falls below 1 %", report.endpoint),
                });
            }
        }
        seen
    }
}

fn quantiles(report: &crate::EndpointReport) -> String {
    let ms = |quantile: Option<crate::QuantileView>| {
        quantile.map_or_else(|| "unknown".to_owned(), |quantile| format!("{:.1} ms", quantile.value * 1e3))
    };
    format!("p50 {}, p95 {}, p99 {}", ms(report.time.p50), ms(report.time.p95), ms(report.time.p99))
}

/// Finds leaks that somebody looked for: keeps the last verdicts.
#[derive(Debug, Default)]
pub struct LeakExaminer(Mutex<(Vec<Leak>, usize)>);

impl LeakExaminer {
    /// Replaces the verdicts: those that leak, and how many resources were looked at.
    pub fn set(&self, leaks: Vec<Leak>, looked_at: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (leaks, looked_at);
    }
}

impl Examiner for LeakExaminer {
    fn examine(&self, _: Instant) -> Examination {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let finding = |leak: &Leak| Finding {
            id: format!("leak:{:?}", leak.class).to_lowercase(),
            title: format!("{:?} grows and does not level off", leak.resource),
            severity: leak
                .time_to_limit
                .map_or(0.5, |left| (1.0 - left.as_secs_f64() / 604_800.0).clamp(0.3, 1.0)),
            weight: 25.0,
            evidence: vec![
                format!(
                    "{:.3e} an hour, between {:.3e} and {:.3e}",
                    leak.slope, leak.bounds.0, leak.bounds.1
                ),
                format!("p = {:.1e}", leak.p),
            ],
            impact: match leak.time_to_limit {
                Some(left) => format!("the limit is reached in {:.1} hours", left.as_secs_f64() / 3_600.0),
                None => "it grows without a known limit".to_owned(),
            },
            action: format!("find what is kept: the class is {:?}", leak.class),
            verify: "the slope is no longer significant after the next deployment".to_owned(),
        };
        Examination { findings: state.0.iter().map(finding).collect(), judged: state.1 }
    }
}

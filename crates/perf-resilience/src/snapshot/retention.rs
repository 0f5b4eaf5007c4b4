use super::manifest::Manifest;
use std::collections::BTreeSet;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Which snapshots are kept: the newest few, and the newest of each of the last days, weeks and months. The newest one
/// that was verified and the newest one that was rehearsed are always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Retention {
    /// The newest so many.
    pub last: usize,
    /// One for each of so many days.
    pub daily: usize,
    /// One for each of so many weeks.
    pub weekly: usize,
    /// One for each of so many spans of thirty days.
    pub monthly: usize,
}

impl Default for Retention {
    /// The last 3, 7 days, 4 weeks, 6 months.
    fn default() -> Self {
        Self { last: 3, daily: 7, weekly: 4, monthly: 6 }
    }
}

impl Retention {
    /// The ids of those that may go, oldest first. `manifests` are in order, oldest first.
    pub(super) fn superfluous(&self, manifests: &[Manifest]) -> Vec<String> {
        let mut kept: BTreeSet<&str> =
            manifests.iter().rev().take(self.last).map(|m| m.id.as_str()).collect();
        for (span, count) in [(DAY_MS, self.daily), (7 * DAY_MS, self.weekly), (30 * DAY_MS, self.monthly)] {
            let mut spans = BTreeSet::new();
            for manifest in manifests.iter().rev() {
                let known = spans.contains(&(manifest.started_ms / span));
                if !known && spans.len() < count {
                    spans.insert(manifest.started_ms / span);
                    kept.insert(&manifest.id);
                }
            }
        }
        let newest = |known: fn(&&Manifest) -> bool| manifests.iter().rev().find(known);
        for good in [newest(|m| m.verified_ms.is_some()), newest(|m| m.drill.is_some())].into_iter().flatten()
        {
            kept.insert(&good.id);
        }
        manifests.iter().filter(|m| !kept.contains(m.id.as_str())).map(|m| m.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn manifest(day: u64, hour: u64, verified: bool) -> Manifest {
        let started_ms = day * DAY_MS + hour * 3_600_000;
        Manifest {
            id: format!("{started_ms:013}"),
            kind: String::new(),
            target: String::new(),
            started_ms,
            finished_ms: started_ms,
            versions: BTreeMap::new(),
            files: Vec::new(),
            counts: BTreeMap::new(),
            wrapped: None,
            verified_ms: verified.then_some(started_ms),
            drill: None,
            seal: String::new(),
        }
    }

    #[test]
    fn the_newest_of_each_day_stays() {
        let all: Vec<_> =
            (0..5).flat_map(|day| [manifest(day, 1, false), manifest(day, 13, false)]).collect();
        let retention = Retention { last: 1, daily: 3, weekly: 0, monthly: 0 };
        let gone = retention.superfluous(&all);
        let kept: Vec<_> =
            all.iter().filter(|m| !gone.contains(&m.id)).map(|m| m.started_ms / 3_600_000).collect();
        assert_eq!(kept, [2 * 24 + 13, 3 * 24 + 13, 4 * 24 + 13]);
    }

    #[test]
    fn the_last_rehearsed_one_stays_so_that_the_next_rehearsal_is_not_due_at_once() {
        let mut all = [manifest(0, 0, true), manifest(50, 0, true), manifest(100, 0, true)];
        all[0].drill = Some(super::super::Drill { at_ms: 0, restore_ms: 1, age_ms: 0 });
        let retention = Retention { last: 1, daily: 0, weekly: 0, monthly: 0 };
        assert_eq!(retention.superfluous(&all), [all[1].id.clone()]);
    }

    #[test]
    fn the_last_verified_one_stays_whatever_its_age() {
        let all = [manifest(0, 0, true), manifest(50, 0, false), manifest(100, 0, false)];
        let retention = Retention { last: 1, daily: 0, weekly: 0, monthly: 0 };
        assert_eq!(retention.superfluous(&all), [all[1].id.clone()]);
    }
}

//! Checks answers against the database, by version.
//!
//! Every placed order returns the new versions of what it changed, and the [`Ledger`] remembers the highest version that
//! any client has been told of. An answer whose version is lower than the ledger's when its request was *sent* is stale.
//! An answer whose version is the database's own must have the database's content; otherwise it is wrong. An answer that
//! was overtaken by a newer version before it could be compared is counted as checked for staleness only.

use crate::queries::Backend;
use crate::shop::{Answer, Content, Page, ShopError};
use perfkit::dbopt::QueryStats;
use sqlx::Connection;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Answers waiting to be compared; more than this are counted as not checked rather than slow the traffic down.
const QUEUE: usize = 20_000;

/// Contents kept to compare equal versions with, so that a check costs one look-up of the version.
const REMEMBERED: usize = 50_000;

/// The highest version of each scope that a client has been told of.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<String, i64>>);

impl Ledger {
    /// What an answer to a request sent now must have reached.
    pub fn floor(&self, page: &Page) -> i64 {
        self.lock().get(&page.scope()).copied().unwrap_or(0)
    }

    /// Takes in what a receipt says.
    pub fn raise(&self, versions: Vec<(String, i64)>) {
        let mut known = self.lock();
        for (scope, version) in versions {
            let highest = known.entry(scope).or_insert(version);
            *highest = version.max(*highest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the checks found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Findings {
    /// Sampled answers that were checked.
    pub checked: u64,
    /// Of those, answers whose content was compared with the database at the same version.
    pub compared: u64,
    /// Answers that differ from the database at their version.
    pub wrong: u64,
    /// Answers older than what a client had been told before asking.
    pub stale: u64,
    /// Sampled answers that were not checked because the queue was full.
    pub unchecked: u64,
    /// The first wrong or stale answers, for people.
    pub examples: Vec<String>,
}

struct Sample {
    page: Page,
    floor: i64,
    body: Vec<u8>,
}

/// Compares sampled answers on a thread of its own.
pub struct Checker {
    queue: mpsc::SyncSender<Sample>,
    unchecked: Arc<AtomicU64>,
    thread: JoinHandle<Result<Findings, sqlx::Error>>,
}

/// The part of a [`Checker`] that the traffic holds.
#[derive(Clone)]
pub struct Samples {
    queue: mpsc::SyncSender<Sample>,
    unchecked: Arc<AtomicU64>,
}

impl Samples {
    /// Hands over an answer to compare: the plain JSON bytes, and the ledger's floor when the request was sent.
    pub fn submit(&self, page: Page, floor: i64, body: Vec<u8>) {
        if self.queue.try_send(Sample { page, floor, body }).is_err() {
            self.unchecked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Checker {
    /// Starts comparing against the database behind `options`.
    pub fn start<B: Backend>(options: <B::Connection as Connection>::Options) -> std::io::Result<Self> {
        let (queue, samples) = mpsc::sync_channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("checker".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut connection = <B::Connection as Connection>::connect_with(&options).await?;
                let mut comparison = Comparison {
                    findings: Findings::default(),
                    remembered: HashMap::new(),
                    stats: QueryStats::new("checker", B::DIALECT),
                };
                while let Ok(sample) = samples.recv() {
                    comparison.check::<B>(&mut connection, sample).await?;
                }
                connection.close().await?;
                Ok(comparison.findings)
            })
        })?;
        Ok(Self { queue, unchecked: Arc::default(), thread })
    }

    pub fn samples(&self) -> Samples {
        Samples { queue: self.queue.clone(), unchecked: Arc::clone(&self.unchecked) }
    }

    /// Compares what is left and returns the findings. Every [`Samples`] must have been dropped.
    pub fn finish(self) -> Result<Findings, sqlx::Error> {
        drop(self.queue);
        let mut findings = match self.thread.join() {
            Ok(findings) => findings?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        findings.unchecked = self.unchecked.load(Ordering::Relaxed);
        Ok(findings)
    }
}

/// The database's view of an answer.
enum Truth {
    /// The database is at the answer's version, with this content.
    Content(Content),
    /// The answer has been overtaken.
    Newer,
    /// The answer claims a version the database has not reached.
    Older,
    /// There is no such page.
    Missing,
}

struct Comparison {
    findings: Findings,
    remembered: HashMap<Page, (i64, Content)>,
    stats: QueryStats,
}

impl Comparison {
    async fn check<B: Backend>(
        &mut self,
        connection: &mut B::Connection,
        sample: Sample,
    ) -> Result<(), sqlx::Error> {
        self.findings.checked += 1;
        let Ok(answer) = serde_json::from_slice::<Answer>(&sample.body) else {
            self.note_wrong(&sample.page, "the body is not an answer");
            return Ok(());
        };
        if answer.version < sample.floor {
            self.findings.stale += 1;
            self.note(format!("stale {}: version {} after {}", sample.page, answer.version, sample.floor));
        }
        match self.truth::<B>(connection, &sample.page, answer.version).await? {
            Truth::Content(content) => {
                self.findings.compared += 1;
                if content != answer.content {
                    self.note_wrong(&sample.page, "the content differs from the database");
                }
            }
            Truth::Newer => {}
            Truth::Older => self.note_wrong(&sample.page, "a version from the future"),
            Truth::Missing => self.note_wrong(&sample.page, "the database has no such page"),
        }
        Ok(())
    }

    /// What the database says of a page at the version `wanted`.
    async fn truth<B: Backend>(
        &mut self,
        connection: &mut B::Connection,
        page: &Page,
        wanted: i64,
    ) -> Result<Truth, sqlx::Error> {
        // One snapshot for version and content: the shop keeps writing meanwhile.
        let mut snapshot = connection.begin_with(B::SNAPSHOT).await?;
        let version = B::version(&mut snapshot, &self.stats, page).await?;
        let truth = match version.cmp(&wanted) {
            std::cmp::Ordering::Less => Truth::Older,
            std::cmp::Ordering::Greater => Truth::Newer,
            std::cmp::Ordering::Equal => match self.remembered.get(page).filter(|(at, _)| *at == version) {
                Some((_, content)) => Truth::Content(content.clone()),
                None => match B::page(&mut snapshot, &self.stats, page).await {
                    Ok(answer) => self.remember(page, answer),
                    Err(ShopError::Database(error)) => return Err(error),
                    Err(_) => Truth::Missing,
                },
            },
        };
        snapshot.rollback().await?;
        Ok(truth)
    }

    fn remember(&mut self, page: &Page, answer: Answer) -> Truth {
        if self.remembered.len() >= REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(page.clone(), (answer.version, answer.content.clone()));
        Truth::Content(answer.content)
    }

    fn note_wrong(&mut self, page: &Page, why: &str) {
        self.findings.wrong += 1;
        self.note(format!("wrong {page}: {why}"));
    }

    fn note(&mut self, example: String) {
        if self.findings.examples.len() < 10 {
            self.findings.examples.push(example);
        }
    }
}

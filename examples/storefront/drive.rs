//! The phases: generate, before, after, compare.

use crate::args::{Args, Serve};
use crate::chaos::Position;
use crate::check::{Checker, Ledger};
use crate::child::{Ask, Numbers, Service};
use crate::place::{Place, Side};
use crate::queries::{Postgres, Sqlite};
use crate::report::{Chaos, Effect, Open, Report, Run, Step};
use crate::traffic::{Catalogue, Users};
use perf_load::{Arrivals, Load, RunReport, Target};
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

type Failure = Box<dyn Error + Send + Sync>;

/// How long the database is stalled, and then gone, under `--chaos`.
const STALL: Duration = Duration::from_secs(3);
const OUTAGE: Duration = Duration::from_secs(3);
/// How long all is well before, and half as long as it is again after.
const LEAD: Duration = Duration::from_secs(2);

/// What is left when the table has been printed.
pub struct Ended {
    /// Whether every answer was right.
    pub clean: bool,
    /// The second service, still serving, and the databases it serves from.
    still: Option<(Service, Place)>,
}

impl Ended {
    /// Serves the live page until Ctrl-C, and ends.
    pub async fn linger(self) -> Result<bool, Failure> {
        let Some((service, _place)) = self.still else { return Ok(self.clean) };
        say(&format!("the shop is still served at http://{}", service.ready.shop));
        if let Some(page) = &service.ready.page {
            say(&format!("live page: {page}"));
        }
        say("Ctrl-C ends both");
        tokio::signal::ctrl_c().await?;
        service.stop().await?;
        Ok(self.clean)
    }
}

/// Runs everything up to the table.
pub async fn run(args: &Args) -> Result<Ended, Failure> {
    for path in args.json.iter().chain(&args.html) {
        writable(path)?;
    }
    free(args.page_port)?;
    let place = Place::new(args)?;
    place.generate(args.scale).await?;
    let catalogue = Arc::new(Catalogue::new(args.scale));
    let session = Session { args, place: &place, catalogue };

    let mut service = session.start(Side::Before).await?;
    eprintln!("before: plain service at http://{}", service.ready.shop);
    let (before, before_open) = session.measure(&mut service, Side::Before).await?;
    service.ask::<()>(&Ask::Workload(place.workload())).await?;
    let before_chaos = session.chaos_if_asked(&mut service, Side::Before).await?;
    service.stop().await?;

    let mut service = session.start(Side::After).await?;
    eprintln!("after: the same service through perfkit at http://{}", service.ready.shop);
    let (after, after_open) = session.measure(&mut service, Side::After).await?;
    let after_chaos = session.chaos_if_asked(&mut service, Side::After).await?;
    let chaos = before_chaos.zip(after_chaos).map(|((before, _), (after, effect))| Chaos {
        stall_seconds: STALL.as_secs(),
        outage_seconds: OUTAGE.as_secs(),
        before,
        after,
        effect,
    });

    let mut report = Report {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: machine(),
        database: place.database().to_owned(),
        scale: args.scale,
        users: args.users,
        seconds: args.seconds,
        seed: args.seed,
        before,
        after,
        open: Open { rate: args.rate, before: before_open, after: after_open },
        indexes: service.ready.indexes.clone(),
        chaos,
        checked: 0,
        compared: 0,
        wrong: 0,
        stale: 0,
    };
    report.sum_findings();
    say(&report.table());
    if let Some(path) = &args.json {
        report.write_json(path)?;
    }
    if let Some(path) = &args.html {
        report.write_html(path)?;
    }
    let clean = report.is_clean();
    if args.once {
        service.stop().await?;
        return Ok(Ended { clean, still: None });
    }
    Ok(Ended { clean, still: Some((service, place)) })
}

struct Session<'a> {
    args: &'a Args,
    place: &'a Place,
    catalogue: Arc<Catalogue>,
}

impl Session<'_> {
    async fn start(&self, side: Side) -> Result<Service, Failure> {
        let perfkit = side == Side::After;
        let serve = Serve {
            perfkit,
            url: self.place.url(side),
            shared: self.args.redis.clone().filter(|_| perfkit),
            workload: perfkit.then(|| self.place.workload()),
            page: self.args.page_port,
        };
        Ok(Service::start(&serve).await?)
    }

    /// Warm-up, closed phase, open phase. All share one ledger: what was written in one must be seen in the next.
    async fn measure(&self, service: &mut Service, side: Side) -> Result<(Run, Run), Failure> {
        let ledger = Arc::new(Ledger::default());
        let seconds = Duration::from_secs(self.args.seconds);
        let closed = || Load::closed(self.args.users as usize);
        if self.args.warm_up > 0 {
            let warm_up = closed().duration(Duration::from_secs(self.args.warm_up)).seed(self.args.seed ^ 1);
            self.phase(service, side, &ledger, warm_up, "warm-up").await?;
        }
        let load = closed().duration(seconds).seed(self.args.seed);
        let run = self.phase(service, side, &ledger, load, "closed phase").await?;
        let load = Load::open(Arrivals::Poisson)
            .rate(f64::from(self.args.rate))
            .duration(seconds)
            .seed(self.args.seed ^ 2);
        let open = self.phase(service, side, &ledger, load, "open phase").await?;
        Ok((run, open))
    }

    async fn phase(
        &self,
        service: &mut Service,
        side: Side,
        ledger: &Arc<Ledger>,
        load: Load,
        name: &str,
    ) -> Result<Run, Failure> {
        eprintln!("{}: {name} ...", side.name());
        let checker = self.checker(side)?;
        let users = {
            let (catalogue, ledger, samples) =
                (Arc::clone(&self.catalogue), Arc::clone(ledger), checker.samples());
            move |_| Users::new(Arc::clone(&catalogue), Arc::clone(&ledger), samples.clone())
        };
        let earlier = service.numbers().await?;
        let target: Target = format!("http://{}", service.ready.shop).parse()?;
        let outcome = load.run(&target, users).await?;
        let numbers = service.numbers().await?.since(earlier);
        let findings = tokio::task::spawn_blocking(move || checker.finish()).await??;
        Ok(Run { findings, ..summary(&outcome, numbers, side) })
    }

    fn checker(&self, side: Side) -> Result<Checker, Failure> {
        Ok(match self.place.postgres_options(side) {
            Some(options) => Checker::start::<Postgres>(options)?,
            None => Checker::start::<Sqlite>(self.place.sqlite_options(side))?,
        })
    }

    async fn chaos_if_asked(
        &self,
        service: &mut Service,
        side: Side,
    ) -> Result<Option<(Run, Effect)>, Failure> {
        if self.args.chaos { self.chaos(service, side).await.map(Some) } else { Ok(None) }
    }

    /// The closed load again, while the database first hangs and then is gone: the same faults at the same moments for
    /// both ways to serve the shop.
    async fn chaos(&self, service: &mut Service, side: Side) -> Result<(Run, Effect), Failure> {
        let ledger = Arc::new(Ledger::default());
        let load = Load::closed(self.args.users as usize)
            .duration(LEAD + STALL + OUTAGE + LEAD * 2)
            .seed(self.args.seed ^ 3);
        eprintln!("{}: chaos ...", side.name());
        let checker = self.checker(side)?;
        let users = {
            let (catalogue, ledger, samples) =
                (Arc::clone(&self.catalogue), Arc::clone(&ledger), checker.samples());
            move |_| Users::new(Arc::clone(&catalogue), Arc::clone(&ledger), samples.clone())
        };
        let earlier = service.numbers().await?;
        let target: Target = format!("http://{}", service.ready.shop).parse()?;
        let faults = async {
            tokio::time::sleep(LEAD).await;
            service.ask::<()>(&Ask::Valve(Position::Stalled)).await?;
            tokio::time::sleep(STALL).await;
            service.ask::<()>(&Ask::Valve(Position::Gone)).await?;
            tokio::time::sleep(OUTAGE).await;
            service.ask::<()>(&Ask::Valve(Position::Open)).await?;
            Ok::<(), Failure>(())
        };
        let (outcome, faulted) = tokio::join!(load.run(&target, users), faults);
        faulted?;
        let numbers = service.numbers().await?.since(earlier);
        let findings = tokio::task::spawn_blocking(move || checker.finish()).await??;
        let run = Run { findings, ..summary(&outcome?, numbers, side) };
        Ok((run, Effect::of(&numbers)))
    }
}

/// One phase as the report shows it.
fn summary(outcome: &RunReport, numbers: Numbers, side: Side) -> Run {
    let (total, response) = (&outcome.total, &outcome.total.response);
    let db_ms_total = numbers.db_nanos as f64 / 1e6;
    let requests = total.requests.max(1) as f64;
    let reads = numbers.hits + numbers.misses;
    let quantiles = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999];
    Run {
        mean_ms: response.mean_ms,
        p50_ms: response.p50_ms,
        p95_ms: response.p95_ms,
        p99_ms: response.p99_ms,
        max_ms: response.max_ms,
        rps: total.rps,
        requests: total.requests,
        errors: total.errors,
        db_queries: numbers.db_queries,
        db_ms_total,
        db_ms_per_request: db_ms_total / requests,
        bytes_sent: total.bytes_received,
        bytes_per_request: total.bytes_received as f64 / requests,
        peak_rss_mb: numbers.peak_rss_kb as f64 / 1024.0,
        hit_ratio: (side == Side::After && reads > 0).then(|| numbers.hits as f64 / reads as f64),
        errors_by_kind: outcome.errors.iter().map(|error| (error.kind.to_string(), error.count)).collect(),
        steps: outcome.steps.iter().map(step).collect(),
        quantiles: quantiles.iter().map(|q| (*q, response.quantile_ms(*q))).collect(),
        findings: Default::default(),
    }
}

fn step(step: &perf_load::StepReport) -> Step {
    Step {
        name: step.name.clone(),
        requests: step.requests,
        mean_ms: step.response.mean_ms,
        p50_ms: step.response.p50_ms,
        p99_ms: step.response.p99_ms,
    }
}

/// Says something to whoever listens; a reader that went away (`| head`) is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Fails early when the result could not be written late.
fn writable(path: &std::path::Path) -> Result<(), Failure> {
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let probe = parent.join(format!(".perfkit-storefront-{}", std::process::id()));
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Fails early when the live page could not be served late.
fn free(port: u16) -> Result<(), Failure> {
    match std::net::TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot listen on 127.0.0.1:{port}: {error}").into()),
    }
}

/// The processor and the system, for the report.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {}, {}", model.unwrap_or("unknown processor"), std::env::consts::OS)
}

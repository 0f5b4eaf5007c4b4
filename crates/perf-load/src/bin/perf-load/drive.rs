use crate::args::{ArrivalsArg, HttpArgs};
use crate::exit::Exit;
use crate::say;
use crate::template::Template;
use perf_load::{
    Arrivals, Error, Format, Load, Method, Overflow, Progress, Request, RunReport, Scenario, Stage,
    StopHandle, User, Verdict, check_writable,
};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Runs one load test and writes its results.
pub(crate) async fn http(args: HttpArgs) -> Result<Exit, Error> {
    let target = args.target()?;
    let outputs = outputs(&args);
    for (_, path) in &outputs {
        check_writable(path)?;
    }
    let plan = plan(&args);
    let template = Arc::new(template(&args, target.path())?);
    let run = plan.start(&target, move |_| FromTemplate::new(Arc::clone(&template))).await?;
    let stop = run.stop_handle();
    let mut report = {
        let watched = watch(stop.clone(), args.quiet);
        tokio::select! {
            report = run.report() => report?,
            never = watched => match never {},
        }
    };
    let kept = report.expect(&args.expect);
    print(&report);
    for (format, path) in &outputs {
        report.write(*format, path)?;
    }
    Ok(match (report.interrupted, report.health.verdict, kept) {
        (true, _, _) => Exit::Interrupted,
        (_, Verdict::Invalid, _) => Exit::Invalid,
        (_, _, false) => Exit::Missed,
        _ => Exit::Passed,
    })
}

fn plan(args: &HttpArgs) -> Load {
    let (load, level) = match (args.rate, args.users) {
        (Some(rate), _) => {
            let arrivals = match args.arrivals {
                ArrivalsArg::Poisson => Arrivals::Poisson,
                ArrivalsArg::Constant => Arrivals::Constant,
            };
            (Load::open(arrivals).rate(rate), rate)
        }
        (None, users) => {
            let users = users.unwrap_or(0);
            (Load::closed(users), users as f64)
        }
    };
    let mut load = load
        .duration(args.length)
        .warmup(args.ramp.saturating_add(args.warmup))
        .seed(args.seed)
        .threads(args.threads)
        .timeout(args.timeout)
        .connect_timeout(args.connect_timeout)
        .keep_alive(!args.no_keep_alive)
        .overflow(if args.drop { Overflow::Drop } else { Overflow::Queue });
    if let Some(most) = args.max_in_flight {
        load = load.max_in_flight(most);
    }
    if !args.ramp.is_zero() {
        let hold = args.warmup.saturating_add(args.length);
        load = load.stage(Stage::ramp(level, args.ramp)).stage(Stage::hold(level, hold));
    }
    load
}

/// What every request is made from.
struct Parts {
    path: Template,
    method: Method,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    think: Duration,
}

fn template(args: &HttpArgs, path: &str) -> Result<Parts, Error> {
    let body = match (&args.body, &args.body_file) {
        (Some(body), _) => body.clone().into_bytes(),
        (None, Some(file)) => {
            std::fs::read(file).map_err(|source| Error::File { path: file.display().to_string(), source })?
        }
        (None, None) => Vec::new(),
    };
    let method = args.method.unwrap_or(if body.is_empty() { Method::Get } else { Method::Post });
    let (path, headers, think) = (Template::new(path), args.header.clone(), args.think);
    Ok(Parts { path, method, headers, body, think })
}

struct FromTemplate {
    parts: Arc<Parts>,
    path: String,
}

impl FromTemplate {
    const fn new(parts: Arc<Parts>) -> Self {
        Self { parts, path: String::new() }
    }
}

impl Scenario for FromTemplate {
    fn next(&mut self, user: &mut User, request: &mut Request) {
        self.parts.path.fill(user.rng(), &mut self.path);
        request.method(self.parts.method, &self.path).body(&self.parts.body);
        for (name, value) in &self.parts.headers {
            request.header(name, value);
        }
    }

    fn think(&mut self, _: &mut User) -> Duration {
        self.parts.think
    }
}

fn outputs(args: &HttpArgs) -> Vec<(Format, PathBuf)> {
    let all = [
        (Format::Json, &args.json),
        (Format::Html, &args.html),
        (Format::Hgrm, &args.hgrm),
        (Format::Hlog, &args.hlog),
        (Format::Junit, &args.junit),
    ];
    all.into_iter().filter_map(|(format, path)| path.clone().map(|path| (format, path))).collect()
}

fn print(report: &RunReport) {
    let mut text = report.to_string();
    for checked in &report.expectations {
        let word = if checked.kept { "kept" } else { "NOT KEPT" };
        text.push_str(&format!("{word:>10} {}  (measured {})\n", checked.expectation, checked.actual));
    }
    say(&text);
}

/// Shows a line per second, and stops the run at a signal: the first awaits the answers, the second does not.
async fn watch(stop: StopHandle, quiet: bool) -> std::convert::Infallible {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    let (mut before, mut signals) = (stop.progress(), Signals::new());
    loop {
        tokio::select! {
            _ = tick.tick(), if !quiet => {
                let now = stop.progress();
                show(&before, &now);
                before = now;
            }
            () = signals.next() => {
                let _ = writeln!(std::io::stderr(), "stopping; a second signal does not wait for answers");
                stop.stop();
            }
        }
    }
}

fn show(before: &Progress, now: &Progress) {
    let seconds = (now.elapsed.saturating_sub(before.elapsed)).as_secs_f64().max(1e-3);
    let rate = (now.finished - before.finished) as f64 / seconds;
    let phase = if now.warming_up { "  warm-up" } else { "" };
    // Progress is a courtesy: without a terminal nothing is lost.
    let _ = writeln!(
        std::io::stderr(),
        "{:>6.0} s of {:.0} s  {rate:>9.0}/s  {:>6} in flight  {:>7} errors{phase}",
        now.elapsed.as_secs_f64(),
        now.length.as_secs_f64(),
        now.in_flight,
        now.failed
    );
}

/// The signals that end a run early. Made once, so that no signal falls between two waits.
#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    /// Where signals cannot be watched, the system's own way of ending a program remains.
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        Self(kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect())
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

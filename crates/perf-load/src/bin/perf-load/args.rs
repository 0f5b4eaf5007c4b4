use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use perf_core::duration;
use perf_load::{Expectations, Method, Target};
use std::path::PathBuf;
use std::time::Duration;

/// A load tester that counts latency from the planned instant and judges itself.
#[derive(Debug, Parser)]
#[command(name = "perf-load", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 passed, 1 an expectation was not kept or the second run is worse, 2 usage, 3 the run is invalid, \
4 the target is unreachable at the start, 5 the generator or a file failed, 130 interrupted with a partial report";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Drive an HTTP/1.1 target.
    Http(Box<HttpArgs>),
    /// Measure servers whose answers are known, and compare.
    Selftest {
        /// How long each of the five cases runs.
        #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
        length: Duration,
    },
    /// Compare two reports written with --json.
    Compare {
        /// The report before the change.
        before: PathBuf,
        /// The report after it.
        after: PathBuf,
        /// Changes below this many per cent do not matter.
        #[arg(long, value_name = "PERCENT", default_value_t = 3.0, value_parser = percent)]
        min_effect: f64,
        /// Print the comparison as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("load").required(true).args(["rate", "users"]))]
pub(crate) struct HttpArgs {
    /// The target, such as http://127.0.0.1:8080/items/{1..500}; {1..500} becomes a random number in that range.
    pub(crate) url: String,
    /// Requests per second of an open load, such as 800 or 2k.
    #[arg(long, short, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Users of a closed load, each waiting for its answer.
    #[arg(long, short)]
    pub(crate) users: Option<usize>,
    /// How long to measure.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub(crate) length: Duration,
    /// Reach the level over this time first; not measured.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration::parse)]
    pub(crate) ramp: Duration,
    /// Stay at the level for this time before measuring.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration::parse)]
    pub(crate) warmup: Duration,
    /// How the requests of an open load are spread.
    #[arg(long, value_enum, default_value = "poisson")]
    pub(crate) arrivals: ArrivalsArg,
    /// What the run must keep to, such as 'p99<300ms, errors<0.1%, valid'.
    #[arg(long, short, value_name = "LIMITS", default_value = "")]
    pub(crate) expect: Expectations,
    /// The request method; POST when there is a body.
    #[arg(long, short = 'X', value_parser = method)]
    pub(crate) method: Option<Method>,
    /// A header, such as 'accept: text/html'; may be repeated.
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    pub(crate) header: Vec<(String, String)>,
    /// The request body.
    #[arg(long, short = 'd', conflicts_with = "body_file")]
    pub(crate) body: Option<String>,
    /// A file with the request body.
    #[arg(long, value_name = "FILE")]
    pub(crate) body_file: Option<PathBuf>,
    /// Think time of each user of a closed load.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration::parse)]
    pub(crate) think: Duration,
    /// The limit on one request.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,
    /// The limit on making a connection.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    pub(crate) connect_timeout: Duration,
    /// The most requests in flight.
    #[arg(long, value_name = "REQUESTS")]
    pub(crate) max_in_flight: Option<usize>,
    /// Drop requests that are due while the most are in flight, instead of letting them wait.
    #[arg(long)]
    pub(crate) drop: bool,
    /// A new connection for every request.
    #[arg(long)]
    pub(crate) no_keep_alive: bool,
    /// The generator's threads.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Determines the schedule and every random number.
    #[arg(long, default_value_t = perf_load::DEFAULT_SEED)]
    pub(crate) seed: u64,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as a page that loads nothing.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write HdrHistogram's percentile table.
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Write HdrHistogram's interval log.
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Write the expectations as JUnit test cases.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// No line per second on standard error.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl HttpArgs {
    pub(crate) fn target(&self) -> Result<Target, perf_load::Error> {
        self.url.parse()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ArrivalsArg {
    Poisson,
    Constant,
}

fn rate(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.trim().to_ascii_lowercase() {
        text if text.ends_with('k') => (text.trim_end_matches('k').to_owned(), 1e3),
        text if text.ends_with('m') => (text.trim_end_matches('m').to_owned(), 1e6),
        text => (text, 1.0),
    };
    let value = digits.trim_end().parse::<f64>().ok().map(|value| value * factor);
    value
        .filter(|value| value.is_finite() && *value > 0.0)
        .ok_or_else(|| "write a number such as 800 or 2k".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let value = text.trim().trim_end_matches('%').trim_end().parse::<f64>().ok();
    value
        .filter(|value| (0.0..=100.0).contains(value))
        .ok_or_else(|| "write a number from 0 to 100".to_owned())
}

fn method(text: &str) -> Result<Method, String> {
    Method::from_name(text)
        .ok_or_else(|| "GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS are known".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn rates_have_suffixes() {
        assert_eq!([rate("800"), rate("2k"), rate("1.5 M")], [Ok(800.0), Ok(2_000.0), Ok(1.5e6)]);
        for text in ["", "k", "-1", "0", "inf", "fast"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_or_a_number_of_users_is_needed_and_not_both() {
        let parse = |text: &str| Args::try_parse_from(text.split(' ')).is_ok();
        assert!(parse("perf-load http http://a --rate 5"));
        assert!(!parse("perf-load http http://a"));
        assert!(!parse("perf-load http http://a --rate 5 --users 5"));
        assert!(!parse("perf-load http http://a --rate 5 --expect p99<fast"));
        assert!(!parse("perf-load http http://a --rate 5 -H nonsense"));
    }
}

use crate::judge::{Again, Verdict};
use perf_core::Outcome;
use sqlx::Error;

/// Knows [`sqlx::Error`]: serialisation failures and deadlocks were rolled back and may always be tried again, a violated
/// constraint or a missing row says nothing about the database, too many connections is overload, and a lost connection
/// is a failure that only operations that may be done twice survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SqlxErrors;

fn verdict(error: &Error) -> Verdict {
    match error {
        Error::Database(error) => error.code().map_or(Verdict::of(Outcome::Failure), |code| by_code(&code)),
        Error::Io(error) => super::io::verdict(error),
        Error::PoolTimedOut => Verdict::of(Outcome::Overload).again(Again::Always),
        Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => Verdict::of(Outcome::Failure),
        Error::PoolClosed => Verdict::of(Outcome::Failure).again(Again::No),
        // What remains are mistakes in the query, in the types, or rows that are not there.
        _ => Verdict::of(Outcome::Ignored),
    }
}

/// SQLSTATE has five characters; SQLite's result codes are plain numbers.
fn by_code(code: &str) -> Verdict {
    if let Ok(number) = code.parse::<u32>()
        && code.len() < 5
    {
        return by_sqlite_code(number);
    }
    let rolled_back = Verdict::of(Outcome::Ignored).again(Again::Always);
    match code {
        "40001" | "40P01" => rolled_back,
        // Cannot connect now, too many connections, connection could not be made: nothing was sent.
        "57P03" | "08001" | "08004" => Verdict::of(Outcome::Failure).again(Again::Always),
        "53300" => Verdict::of(Outcome::Overload).again(Again::Always),
        _ => match &code[..2] {
            "08" | "57" | "58" | "XX" => Verdict::of(Outcome::Failure),
            "53" => Verdict::of(Outcome::Overload),
            "55" | "40" => Verdict::of(Outcome::Ignored).again(Again::IfIdempotent),
            _ => Verdict::of(Outcome::Ignored),
        },
    }
}

/// The primary code is the low byte of an extended one.
fn by_sqlite_code(code: u32) -> Verdict {
    match code & 0xFF {
        // Busy and locked: the statement was not carried out.
        5 | 6 => Verdict::of(Outcome::Overload).again(Again::Always),
        // Input and output, corrupt, cannot open, protocol, not a database, no memory.
        7 | 10 | 11 | 14 | 15 | 26 => Verdict::of(Outcome::Failure),
        13 | 8 => Verdict::of(Outcome::Failure).again(Again::No),
        _ => Verdict::of(Outcome::Ignored),
    }
}

super::knows!(SqlxErrors, Error, verdict);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_postgres_mean_what_its_manual_says() {
        for (code, outcome, again) in [
            ("40001", Outcome::Ignored, Again::Always),
            ("40P01", Outcome::Ignored, Again::Always),
            ("23505", Outcome::Ignored, Again::No),
            ("42P01", Outcome::Ignored, Again::No),
            ("53300", Outcome::Overload, Again::Always),
            ("53200", Outcome::Overload, Again::IfIdempotent),
            ("57P01", Outcome::Failure, Again::IfIdempotent),
            ("57P03", Outcome::Failure, Again::Always),
            ("08006", Outcome::Failure, Again::IfIdempotent),
        ] {
            let found = by_code(code);
            assert_eq!((found.outcome, found.again), (outcome, again), "{code}");
        }
    }

    #[test]
    fn codes_of_sqlite_mean_what_its_manual_says() {
        for (code, outcome, again) in [
            ("5", Outcome::Overload, Again::Always),
            ("517", Outcome::Overload, Again::Always),
            ("2067", Outcome::Ignored, Again::No),
            ("13", Outcome::Failure, Again::No),
            ("522", Outcome::Failure, Again::IfIdempotent),
        ] {
            let found = by_code(code);
            assert_eq!((found.outcome, found.again), (outcome, again), "{code}");
        }
    }

    #[test]
    fn errors_without_a_code_are_told_apart() {
        assert_eq!(verdict(&Error::RowNotFound).outcome, Outcome::Ignored);
        assert_eq!(verdict(&Error::PoolTimedOut).again, Again::Always);
        let reset = Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(verdict(&reset), Verdict::of(Outcome::Failure));
    }
}

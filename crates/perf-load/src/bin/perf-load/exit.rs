use perf_load::Error;
use std::process::ExitCode;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: the run is valid and every expectation was kept.
    Passed,
    /// 1: an expectation was not kept.
    Missed,
    /// 2: the command cannot be carried out as it stands. clap uses the same code.
    Usage,
    /// 3: the run is invalid, or the self-test found a wrong number.
    Invalid,
    /// 4: nothing answered at the target when the run was to start.
    Unreachable,
    /// 5: the generator failed, or results could not be written or read.
    Failed,
    /// 130: interrupted; the report covers what was measured.
    Interrupted,
}

impl Exit {
    pub(crate) const fn of(error: &Error) -> Self {
        if error.is_usage() {
            Self::Usage
        } else if error.is_unreachable() {
            Self::Unreachable
        } else {
            Self::Failed
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Passed => 0,
            Exit::Missed => 1,
            Exit::Usage => 2,
            Exit::Invalid => 3,
            Exit::Unreachable => 4,
            Exit::Failed => 5,
            Exit::Interrupted => 130,
        })
    }
}

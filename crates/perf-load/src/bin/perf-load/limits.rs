/// Allows the program as many open files as the system permits it: each connection is one, and the usual soft limit of 1,024 is
/// there for programs that use `select`. What is still too few shows in the report as `generator_fd`.
pub(crate) fn raise_open_files() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Refused or not, the run goes on with the limit it has.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

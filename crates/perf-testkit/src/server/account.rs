//! The account a server runs as when the tests run as root.

use super::ServerError;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A user and its group, by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// The account to use for `binary`: `name` when the tests run as root, otherwise none, which means the tests' own.
    pub(crate) fn unless_unprivileged(
        binary: &'static str,
        name: &'static str,
    ) -> Result<Option<Self>, ServerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let table =
            fs::read_to_string("/etc/passwd").map_err(ServerError::io(|| "could not read /etc/passwd"))?;
        let account = table.lines().find_map(|line| Self::parse(line, name));
        account.map(Some).ok_or(ServerError::MissingAccount { binary, account: name })
    }

    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Self { user, group })
    }

    /// Lets `command` run under this account, without the groups of root.
    pub(crate) fn apply(self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }

    /// Gives one file or directory to the account.
    pub(crate) fn own(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::lchown(path, Some(self.user), Some(self.group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_account_table_is_understood() {
        let line = "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        let account = Account::parse(line, "postgres").unwrap();
        assert_eq!((account.user, account.group), (101, 104));
        assert!(Account::parse(line, "post").is_none());
        assert!(Account::parse("broken", "broken").is_none());
    }
}

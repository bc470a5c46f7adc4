//! A withlock in a command of another.
//!
//! It keeps its locks where the outer one does, or refuses. The outer one holds its URL in a file in
//! memory, and names that file to the command: `WITHLOCK_URL_FILE=/proc/PID/fd/N`. So the password is
//! neither in the command's environment nor in a file that the command has open: it stays with the outer
//! withlock, where no other user can read it, nor a program that was started by the command and
//! has become another user; and it is gone when the outer one has ended. `WITHLOCK_PLACE` says the same
//! without secrets, for people, and to see that the file is still the one that was meant.

use crate::role::GUARDIAN;
use crate::source::FILE;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{getpid, getppid};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// The environment variable that says where the lock is kept, without secrets.
pub(crate) const PLACE: &str = "WITHLOCK_PLACE";

/// What the link to such a file begins with.
const LINK: &str = "/memfd:withlock-url";

/// What is handed down to a withlock in the command, as long as this is kept.
pub(crate) struct Handed {
    file: File,
    place: String,
}

impl Handed {
    pub(crate) fn new(url: &str, place: &str) -> io::Result<Self> {
        let mut file = File::from(memfd_create("withlock-url", MemfdFlags::CLOEXEC)?);
        file.write_all(url.as_bytes())?;
        Ok(Self { file, place: place.to_string() })
    }

    /// For the command's environment.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let (pid, number) = (getpid().as_raw_nonzero(), self.file.as_raw_fd());
        [(FILE, format!("/proc/{pid}/fd/{number}")), (PLACE, self.place.clone())]
    }
}

/// The withlock that a URL's file belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outer(u32);

impl Outer {
    /// If it is a file as [`Handed`] names them.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let (pid, number) = path.to_str()?.strip_prefix("/proc/")?.split_once("/fd/")?;
        number.parse::<u32>().ok()?;
        pid.parse().ok().map(Self)
    }

    /// Whether what has that name now is such a file.
    pub(crate) fn is_there(&self, path: &Path) -> bool {
        path.read_link().is_ok_and(|link| link.to_string_lossy().starts_with(LINK))
    }

    /// What to say if it is not, or leads elsewhere.
    pub(crate) fn silent(&self) -> String {
        let Self(pid) = self;
        format!(
            "the withlock around this one (process {pid}) does not tell where it keeps its locks: it has \
             ended, or is another user's; name the place by --db or WITHLOCK_URL"
        )
    }
}

/// What to say if this process runs in a command of a withlock: sudo or env may have dropped the
/// variables, but the guardian is among our ancestors all the same. A withlock that knew of none of that
/// would go to this user's own file.
pub(crate) fn astray() -> Option<String> {
    let mut pid = getppid().map(|pid| pid.as_raw_nonzero().to_string())?;
    // The first process has no parent.
    while pid != "0" {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let line = read("cmdline")?;
        let mut words = line.split(|byte| *byte == 0).skip(1);
        if words.next() == Some(GUARDIAN.as_bytes()) {
            let outer = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
            return Some(format!(
                "the withlock around this one (process {outer}) keeps its locks somewhere, but its \
                 environment was dropped on the way: keep {FILE} and {PLACE}, or name the place by --db or a file"
            ));
        }
        let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
        pid = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_string();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_handed_down_are_known_by_their_name() {
        assert_eq!(Outer::of(Path::new("/proc/12/fd/3")), Some(Outer(12)));
        for path in
            ["/proc/self/fd/3", "/proc/12/fd/x", "/dev/fd/3", "/run/secrets/url", "/proc/12"]
        {
            assert_eq!(Outer::of(Path::new(path)), None, "{path}");
        }
    }
}

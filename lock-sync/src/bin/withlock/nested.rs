//! A withlock inside another withlock's command.
//!
//! The inner withlock keeps its locks in the outer one's place, or refuses. The outer one writes its URL to a
//! file in memory, and names that file to the command: `WITHLOCK_URL_FILE=/proc/PID/fd/N`. So the password is
//! neither in the command's environment nor in a file that the command has open. It stays with the outer
//! withlock: no other user can read it, nor can a program that the command started and that has become
//! another user. It is gone when the outer withlock ends. `WITHLOCK_PLACE` names the same place without
//! secrets, for people, and lets the inner withlock check that the file is still the one that was meant.

use crate::child::NAME;
use crate::command::PERMIT;
use crate::role::GUARDIAN;
use crate::source::FILE;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{getpid, getppid};
use std::env::vars_os;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The environment variable that says where the lock is kept, without secrets.
pub(crate) const PLACE: &str = "WITHLOCK_PLACE";

/// The beginning of the kernel's name for such a file.
const LINK: &str = "/memfd:withlock-url";

/// The URL's file for a withlock inside the command. It exists as long as this value.
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

    /// The variables for the command's environment.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let (pid, number) = (getpid().as_raw_nonzero(), self.file.as_raw_fd());
        [(FILE, format!("/proc/{pid}/fd/{number}")), (PLACE, self.place.clone())]
    }
}

/// The process id of the withlock that a URL's file belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outer(u32);

impl Outer {
    /// Reads a path as [`Handed`] writes it. `None` for any other path.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let (pid, number) = path.to_str()?.strip_prefix("/proc/")?.split_once("/fd/")?;
        number.parse::<u32>().ok()?;
        pid.parse().ok().map(Self)
    }

    /// True if the path leads to such a file now.
    pub(crate) fn is_there(&self, path: &Path) -> bool {
        path.read_link().is_ok_and(|link| link.to_string_lossy().starts_with(LINK))
    }

    /// The environment that it was started with; empty if that cannot be read.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let read = std::fs::read(format!("/proc/{}/environ", self.0)).unwrap_or_default();
        let pair = |one: &[u8]| {
            let at = one.iter().position(|byte| *byte == b'=')?;
            let [name, value] = [&one[..at], &one[at + 1..]].map(OsStr::from_bytes);
            Some((name.to_os_string(), value.to_os_string()))
        };
        read.split(|byte| *byte == 0).filter_map(pair).collect()
    }

    /// The error if the file is gone.
    pub(crate) fn silent(&self) -> String {
        self.because(
            "it has ended, belongs to another user, or is in another container or namespace",
        )
    }

    /// The error if the file names another place. Variables that complete its URL may have changed, or it is
    /// another withlock's.
    pub(crate) fn elsewhere(&self) -> String {
        self.because("it has ended, or a variable such as PGHOST has another value here")
    }

    fn because(&self, reason: &str) -> String {
        let Self(pid) = self;
        format!(
            "the outer withlock (process {pid}) does not say where it keeps its locks, because {reason}: \
             name the place with --db or WITHLOCK_URL"
        )
    }
}

/// The locks of the withlocks around this one that have them in the same place and live. Permits are not meant: others have
/// some, too.
pub(crate) fn held_around(place: &str) -> Vec<String> {
    let mut held = Vec::new();
    let mut here: Vec<(OsString, OsString)> = vars_os().collect();
    // Each of them has been started by the next, as far as their environments are to be believed.
    for _ in 0..MOST_AROUND {
        let of =
            |name: &str| here.iter().find(|(is, _)| is == name).map(|(_, value)| value.clone());
        let Some(file) = of(FILE).map(PathBuf::from) else { break };
        let Some(outer) = Outer::of(&file).filter(|outer| outer.is_there(&file)) else { break };
        if of(PLACE).is_some_and(|found| found == place) && of(PERMIT).is_none() {
            held.extend(of(NAME).and_then(|name| name.into_string().ok()));
        }
        here = outer.environment();
    }
    held
}

/// More are not looked at.
const MOST_AROUND: usize = 32;

/// The error for a process inside a withlock's command that lacks the variables. sudo or env may have dropped
/// them, but the guardian is still among our ancestors. Without this check, the inner withlock would use this
/// user's own file.
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
                "this command belongs to an outer withlock (process {outer}), but sudo, env or the like dropped \
                 the variables that name its place: keep {FILE} and {PLACE}, or name the place with --db or a file"
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

    #[test]
    fn a_number_that_another_file_has_now_is_not_the_outer_file() {
        let other = std::fs::File::open("/dev/null").expect("open");
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.as_raw_fd());
        let outer = Outer::of(Path::new(&path)).expect("of that form");
        assert!(!outer.is_there(Path::new(&path)));
    }
}

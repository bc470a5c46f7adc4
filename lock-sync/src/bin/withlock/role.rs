//! The roles in which withlock starts itself; see [`child`](crate::child).

use crate::{command, guardian};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use std::env::ArgsOs;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The first argument of a withlock that has another role. The parent's process id follows.
pub(crate) const GUARDIAN: &str = "--guard-the-command-of";
pub(crate) const COMMAND: &str = "--become-the-command-of";

/// Exit codes, as shells have them.
pub(crate) const CANNOT_EXECUTE: u8 = 126;
pub(crate) const NOT_FOUND: u8 = 127;
pub(crate) const KILLED: u8 = 128 + 9;

/// A command that starts this program in another role. `numbers` are read there by [`numbers`], and `command`
/// follows them.
pub(crate) fn starter<const N: usize>(
    role: &str,
    numbers: [i32; N],
    command: &[OsString],
) -> Command {
    let mut starter = Command::new("/proc/self/exe");
    let parent = getpid().as_raw_nonzero().to_string();
    starter.arg0("withlock").arg(role).arg(parent);
    starter.args(numbers.map(|number| number.to_string())).args(command);
    starter
}

/// Checks that this process finds itself in `/proc`, through which it starts its roles and they open its pipes.
pub(crate) fn check_proc() -> Result<(), String> {
    let own = getpid().as_raw_nonzero().to_string();
    match std::fs::read_link("/proc/self") {
        Ok(found) if found.as_os_str() == own.as_str() => Ok(()),
        Ok(_) => {
            let what = "/proc is that of another PID namespace";
            Err(format!("{what}: mount this one's, as with unshare --mount-proc"))
        }
        Err(error) => Err(format!("/proc, which withlock needs, is not there: mount it ({error})")),
    }
}

/// Plays the role that this process was started in. `None` if it was started by a user.
pub(crate) fn played() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let play: fn(Parent, ArgsOs) -> Option<ExitCode> = match args.nth(1)?.to_str()? {
        GUARDIAN => guardian::play,
        COMMAND => command::play,
        _ => return None,
    };
    let parent = Parent(args.next()?);
    play(parent, args)
}

/// Reads the next arguments as numbers.
pub(crate) fn numbers<const N: usize>(args: &mut ArgsOs) -> Option<[i32; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = args.next()?.to_str()?.parse().ok()?;
    }
    Some(numbers)
}

/// The process that started this one.
pub(crate) struct Parent(OsString);

impl Parent {
    /// Has the kernel send `signal` when the parent dies. `None` if the kernel refuses, or the parent has
    /// died already.
    pub(crate) fn watched(self, signal: Signal) -> Option<Self> {
        set_parent_process_death_signal(Some(signal)).ok()?;
        // The parent may have died before the kernel was asked.
        (!self.has_died()).then_some(self)
    }

    pub(crate) fn has_died(&self) -> bool {
        getppid().map(|pid| pid.as_raw_nonzero().to_string().into()).as_ref() != Some(&self.0)
    }

    /// Opens a file that the parent has open under this number.
    pub(crate) fn open(&self, options: &OpenOptions, number: i32) -> io::Result<File> {
        let opened = options.open(format!("/proc/{}/fd/{number}", self.0.to_string_lossy()));
        opened.map_err(|error| match error.kind() {
            // The kernel hides the processes of a file from those who may not read it.
            io::ErrorKind::PermissionDenied => {
                let why = "this user must be able to read withlock's file, not only to execute it";
                io::Error::new(error.kind(), format!("{error}: {why} (chmod +r)"))
            }
            _ => error,
        })
    }
}

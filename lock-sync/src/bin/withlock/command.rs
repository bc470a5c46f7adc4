//! The process that becomes the command.

use crate::place::shown;
use crate::report::say;
use crate::role::{CANNOT_EXECUTE, KILLED, NOT_FOUND, Parent, numbers};
use rustix::process::{Pid, Signal, setpgid};
use std::env::ArgsOs;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The environment variable with the fence in it.
const FENCE: &str = "WITHLOCK_FENCE";

/// Waits until the lock is held, and becomes the command. The guardian tells the fence and the process
/// group, by which it may begin; and if it dies, so does the command.
pub(crate) fn play(parent: Parent, mut args: ArgsOs) -> Option<ExitCode> {
    let [go] = numbers(&mut args)?;
    let words: Vec<OsString> = args.collect();
    let Some(parent) = parent.watched(Signal::KILL) else { return Some(ExitCode::from(KILLED)) };
    let fence = parent.open(File::options().read(true), go).and_then(begun);
    Some(match fence {
        Ok(Some(fence)) => become_command(&words, &fence),
        // It is not to be.
        Ok(None) => ExitCode::from(KILLED),
        Err(error) => {
            say!("{}: it cannot begin: {error}", shown(&words));
            ExitCode::from(CANNOT_EXECUTE)
        }
    })
}

/// The fence of the lock that is held, and we are in the group; or there will be none.
fn begun(mut go: File) -> io::Result<Option<String>> {
    let mut told = String::new();
    go.read_to_string(&mut told)?;
    let Some((fence, group)) = told.split_once(' ') else { return Ok(None) };
    if let Some(group) = group.parse().ok().and_then(Pid::from_raw) {
        setpgid(None, Some(group))?;
    }
    Ok(Some(fence.to_string()))
}

/// Returns only if that is not possible.
fn become_command(words: &[OsString], fence: &str) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else {
        return ExitCode::from(NOT_FOUND);
    };
    let error = Command::new(program).args(arguments).env(FENCE, fence).exec();
    let (code, reason) = match error.kind() {
        io::ErrorKind::NotFound => (NOT_FOUND, "not found".to_string()),
        _ => (CANNOT_EXECUTE, error.to_string()),
    };
    say!("{}: {reason}", shown(words));
    ExitCode::from(code)
}

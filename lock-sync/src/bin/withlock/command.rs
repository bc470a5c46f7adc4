//! The process that becomes the command.

use crate::place::shown;
use crate::report::{printable, say};
use crate::role::{CANNOT_EXECUTE, KILLED, NOT_FOUND, Parent, numbers};
use crate::run::FAILED;
use crate::{signals, writer};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, setpgid};
use std::env::ArgsOs;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The environment variable with the fence in it.
const FENCE: &str = "WITHLOCK_FENCE";
/// The one with the number of the permit in it.
pub(crate) const PERMIT: &str = "WITHLOCK_PERMIT";

/// Waits until the lock is held, and becomes the command. The guardian sends the fence and the process group
/// when the command may begin. If the guardian dies, the kernel kills this process.
pub(crate) fn play(parent: Parent, mut args: ArgsOs) -> Option<ExitCode> {
    let [go] = numbers(&mut args)?;
    let words: Vec<OsString> = args.collect();
    let Some(parent) = parent.watched(Signal::KILL) else { return Some(ExitCode::from(KILLED)) };
    let begun = parent.open(File::options().read(true), go).and_then(begun);
    Some(match begun {
        Ok(Some(begun)) => become_command(&words, &begun),
        // The guardian ended first: the command must not start.
        Ok(None) => ExitCode::from(KILLED),
        Err(error) => {
            writer::start();
            say!("{}: its process cannot be prepared: {error}", shown(&words));
            ExitCode::from(FAILED)
        }
    })
}

/// The guardian's word to begin.
struct Begun {
    fence: String,
    /// The number of a semaphore's permit, or 0.
    permit: String,
}

/// Waits for the guardian, and enters the process group. Returns `None` if the command must not start.
fn begun(mut go: File) -> io::Result<Option<Begun>> {
    let mut told = String::new();
    go.read_to_string(&mut told)?;
    let [fence, permit, group] = told.split(' ').collect::<Vec<_>>()[..] else { return Ok(None) };
    if let Some(group) = group.parse().ok().and_then(Pid::from_raw) {
        setpgid(None, Some(group))?;
    }
    Ok(Some(Begun { fence: fence.to_string(), permit: permit.to_string() }))
}

/// Executes the command. Returns only on failure, with the exit code.
fn become_command(words: &[OsString], begun: &Begun) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else {
        return ExitCode::from(NOT_FOUND);
    };
    let mut error = begun.told(Command::new(program).args(arguments)).exec();
    if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error())
        && let Some(file) = find(program)
    {
        // A script that names no interpreter is the shell's. glibc sees to that itself; musl does not.
        error = begun.told(Command::new("/bin/sh").arg(file).args(arguments)).exec();
    }
    signals::let_writes_to_closed_pipes_fail();
    // The lock is held until this process ends, also if standard error is a pipe that nobody reads.
    writer::start();
    let (code, reason) = why(program, &error);
    say!("{}: {reason}", shown(words));
    ExitCode::from(code)
}

impl Begun {
    /// Puts into the command's environment what it may want to know of the grant.
    fn told<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(FENCE, &self.fence);
        match self.permit.as_str() {
            // One of a withlock around this one is not this one's.
            "0" => command.env_remove(PERMIT),
            permit => command.env(PERMIT, permit),
        }
    }
}

/// The exit code that shells use for a failed exec, and the reason in words.
fn why(program: &OsStr, error: &io::Error) -> (u8, String) {
    let found = find(program);
    match (error.kind(), found) {
        (io::ErrorKind::NotFound, None) => (NOT_FOUND, "not found".to_string()),
        (io::ErrorKind::NotFound, Some(file)) => (
            CANNOT_EXECUTE,
            match interpreter(&file) {
                Some(name) if name.ends_with('\r') => {
                    format!(
                        "its first line, #!{}, ends with a carriage return, as on Windows: remove it",
                        printable(name.trim_end())
                    )
                }
                Some(name) => {
                    format!("the interpreter {} in its first line does not exist", printable(name))
                }
                None => "the file exists, but the loader that it needs does not".to_string(),
            },
        ),
        (_, Some(file)) if file.is_dir() => (CANNOT_EXECUTE, "is a directory".to_string()),
        (io::ErrorKind::PermissionDenied, Some(file)) if is_executable(&file) => (
            CANNOT_EXECUTE,
            match interpreter(&file) {
                Some(name) => {
                    let name = printable(name);
                    format!("the interpreter {name} in its first line cannot be executed: {error}")
                }
                None => error.to_string(),
            },
        ),
        (io::ErrorKind::PermissionDenied, Some(_)) => {
            (CANNOT_EXECUTE, format!("{error}: the file is not executable; run chmod +x"))
        }
        _ => (CANNOT_EXECUTE, error.to_string()),
    }
}

/// The file that a program's name stands for.
fn find(program: &OsStr) -> Option<PathBuf> {
    if program.is_empty() {
        return None;
    }
    if program.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(|file| file.exists());
    }
    let path = std::env::var_os("PATH")?;
    let files = || std::env::split_paths(&path).map(|folder| folder.join(program));
    files().find(|file| is_executable(file)).or_else(|| files().find(|file| file.is_file()))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && access(file, Access::EXEC_OK).is_ok()
}

/// The interpreter in the first line of a script.
fn interpreter(file: &Path) -> Option<String> {
    let mut first = Vec::new();
    File::open(file).ok()?.take(256).read_to_end(&mut first).ok()?;
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim_matches([' ', '\t']);
    line.split([' ', '\t']).next().filter(|name| !name.is_empty()).map(str::to_string)
}

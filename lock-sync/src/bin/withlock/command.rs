//! The process that becomes the command.

use crate::place::shown;
use crate::report::{printable, say};
use crate::role::{CANNOT_EXECUTE, KILLED, NOT_FOUND, Parent, numbers};
use rustix::fs::{Access, access};
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
    let (code, reason) = why(program, &error);
    say!("{}: {reason}", shown(words));
    ExitCode::from(code)
}

/// Why a program could not be executed, with the exit code that shells have for that.
fn why(program: &OsStr, error: &io::Error) -> (u8, String) {
    let found = find(program);
    match (error.kind(), found) {
        (io::ErrorKind::NotFound, None) => (NOT_FOUND, "not found".to_string()),
        (io::ErrorKind::NotFound, Some(file)) => (
            CANNOT_EXECUTE,
            match interpreter(&file) {
                Some(name) if name.ends_with('\r') => {
                    format!(
                        "its first line, #!{}, ends as lines do on Windows",
                        printable(name.trim_end())
                    )
                }
                Some(name) => {
                    format!("its interpreter {} (see its first line) is missing", printable(name))
                }
                None => "it is there, but not the loader or a library that it needs".to_string(),
            },
        ),
        (_, Some(file)) if file.is_dir() => (CANNOT_EXECUTE, "is a directory".to_string()),
        (io::ErrorKind::PermissionDenied, Some(file)) if is_executable(&file) => (
            CANNOT_EXECUTE,
            match interpreter(&file) {
                Some(name) => {
                    format!("its interpreter {} cannot be executed: {error}", printable(name))
                }
                None => error.to_string(),
            },
        ),
        (io::ErrorKind::PermissionDenied, Some(_)) => {
            (CANNOT_EXECUTE, format!("{error}: it is not executable (chmod +x)"))
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

/// What the first line of a script names.
fn interpreter(file: &Path) -> Option<String> {
    let mut first = Vec::new();
    File::open(file).ok()?.take(256).read_to_end(&mut first).ok()?;
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim_matches([' ', '\t']);
    line.split([' ', '\t']).next().filter(|name| !name.is_empty()).map(str::to_string)
}

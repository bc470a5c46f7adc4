//! The command's process.
//!
//! It must not outlive withlock: when withlock is killed, the kernel kills it (`PR_SET_PDEATHSIG`).
//! Only a process itself can ask for that, between its start and the command's; so withlock starts
//! itself, and that process asks, then becomes the command.

use crate::report::say;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, kill_process_group,
    set_parent_process_death_signal, waitid,
};
use std::ffi::OsString;
use std::io::{self, IsTerminal, stdin};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};

/// Stops this process, as the terminal's stop key would, until it is told to go on.
pub(crate) fn stop_self() {
    let _ = kill_process(getpid(), Signal::STOP);
}

/// The first argument of a withlock that is to become the command. The parent's process id
/// follows, then the command.
const BECOME: &str = "--become-the-command-of";
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// A running command.
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    /// Its own process group. At a terminal it stays in the terminal's group instead, with us: else
    /// it could not read from it, and the keys for interrupt and stop would not reach it.
    group: bool,
}

impl Running {
    /// Starts the command. To be called on the main thread: the kernel takes the death of the
    /// *thread* that started a process for the death of its parent.
    pub(crate) fn start(
        command: &[OsString],
        environment: &[(&str, String)],
        hidden: &[&str],
    ) -> io::Result<Self> {
        let group = !stdin().is_terminal();
        let own_pid = getpid().as_raw_nonzero().to_string();
        let mut starter = Command::new("/proc/self/exe");
        starter.arg(BECOME).arg(own_pid).args(command);
        for name in hidden {
            starter.env_remove(name);
        }
        starter.envs(environment.iter().map(|(name, value)| (name, value)));
        if group {
            starter.process_group(0);
        }
        let child = starter.spawn()?;
        let pid = Pid::from_child(&child);
        Ok(Self { child, pid, group })
    }

    /// Whether it has ended. Its process id stays taken until it is [`reap`](Self::reap)ed.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), look)?.is_some())
    }

    /// Waits for its end, and says how it ended.
    pub(crate) fn reap(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Sends it a signal, and all that it started and that is still in its group.
    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended meanwhile; then there is nobody to tell.
        let _ = if self.group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
    }

    /// Whether the terminal sends it what its keys mean, so that we need not.
    pub(crate) fn shares_terminal(&self) -> bool {
        !self.group
    }
}

/// A child's exit code, as shells report it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// What this process is to become, if it is such a one: the parent's process id, and the command.
pub(crate) fn requested() -> Option<(OsString, Vec<OsString>)> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != BECOME {
        return None;
    }
    Some((args.next()?, args.collect()))
}

pub(crate) fn become_command((parent, command): (OsString, Vec<OsString>)) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(NOT_FOUND);
    };
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    // withlock may have died before the kernel was asked.
    let orphaned = getppid().map(|pid| pid.as_raw_nonzero().to_string().into()) != Some(parent);
    if asked.is_err() || orphaned {
        return ExitCode::from(128 + 9);
    }
    let error = Command::new(program).args(arguments).exec();
    let (code, reason) = match error.kind() {
        io::ErrorKind::NotFound => (NOT_FOUND, "not found".to_string()),
        _ => (CANNOT_EXECUTE, error.to_string()),
    };
    say!("{}: {reason}", program.to_string_lossy());
    ExitCode::from(code)
}

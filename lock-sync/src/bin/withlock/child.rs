//! The command's processes.
//!
//! They must not outlive withlock. The kernel tells a process that its parent has died
//! (`PR_SET_PDEATHSIG`), but only one that has asked for it, between its start and the command's. So
//! withlock starts itself, twice:
//!
//! ```text
//!   withlock
//!      └─ the guard      leads the command's process group; if withlock dies, it kills the group
//!           └─ the command   first asks to be killed when the guard dies, then becomes the command
//! ```
//!
//! In a terminal's foreground there is no guard: the command stays in the terminal's group with us, else it could
//! not read from it, and the keys for interrupt and stop would not reach it.

use crate::report::{printable, say};
use crate::signals;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgrp, getpid, getppid, kill_process, kill_process_group,
    set_parent_process_death_signal, waitid,
};
use rustix::termios::tcgetpgrp;
use std::ffi::OsString;
use std::io::{self, IsTerminal, stdin};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Stops this process, as the terminal's stop key would, until it is told to go on.
pub(crate) fn stop_self() {
    let _ = kill_process(getpid(), Signal::STOP);
}

/// The first argument of a withlock that has another role. The parent's process id follows, then
/// the command.
const COMMAND: &str = "--become-the-command-of";
const GUARD: &str = "--guard-the-command-of";
/// What the guard asks to be told of its parent's death by: a signal that has no other use.
const ORPHANED: Signal = Signal::POWER;
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
const KILLED: u8 = 128 + 9;

/// A running command.
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    /// Whether there is a group of its own, which the guard leads.
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
        let group = !(stdin().is_terminal() || in_foreground());
        let mut starter = again(if group { GUARD } else { COMMAND }, command);
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

/// Whether we are what a terminal's keys reach: then the command may want to read from it, whatever
/// its standard input is.
fn in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

/// A child's exit code, as shells report it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// This very program in another role.
fn again(role: &str, command: &[OsString]) -> Command {
    let mut starter = Command::new("/proc/self/exe");
    starter.arg(role).arg(getpid().as_raw_nonzero().to_string()).args(command);
    starter
}

/// What a withlock is that was started by another.
pub(crate) struct Role {
    guard: bool,
    parent: OsString,
    command: Vec<OsString>,
}

/// The role that this process was started for, if it was.
pub(crate) fn requested() -> Option<Role> {
    let mut args = std::env::args_os().skip(1);
    let role = args.next()?;
    if role != COMMAND && role != GUARD {
        return None;
    }
    Some(Role { guard: role == GUARD, parent: args.next()?, command: args.collect() })
}

impl Role {
    pub(crate) fn play(self) -> ExitCode {
        let signal = if self.guard { ORPHANED } else { Signal::KILL };
        // withlock may have died before the kernel was asked.
        if set_parent_process_death_signal(Some(signal)).is_err() || self.orphaned() {
            return ExitCode::from(KILLED);
        }
        let done = if self.guard { self.guard() } else { Err(self.become_command()) };
        done.unwrap_or_else(|code| code)
    }

    fn orphaned(&self) -> bool {
        getppid().map(|pid| pid.as_raw_nonzero().to_string().into()).as_ref() != Some(&self.parent)
    }

    /// Starts the command and waits for its end, or for withlock's.
    fn guard(&self) -> Result<ExitCode, ExitCode> {
        let failed = |error: io::Error| {
            say!("the command cannot be guarded: {error}");
            ExitCode::from(CANNOT_EXECUTE)
        };
        let (sender, signals) = channel();
        // Signals to the group reach the command without our help; here they must only not kill.
        let notice = move |_| {
            let _ = sender.send(());
        };
        signals::watch(&[ORPHANED.as_raw()], notice).map_err(failed)?;
        let mut child = again(COMMAND, &self.command).spawn().map_err(failed)?;
        loop {
            if self.orphaned() {
                let _ = kill_process_group(getpid(), Signal::KILL);
            }
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(ExitCode::from(exit_code(status)));
            }
            let _ = signals.recv_timeout(Duration::from_secs(1));
        }
    }

    /// Returns only if that is not possible.
    fn become_command(&self) -> ExitCode {
        let Some((program, arguments)) = self.command.split_first() else {
            return ExitCode::from(NOT_FOUND);
        };
        let error = Command::new(program).args(arguments).exec();
        let (code, reason) = match error.kind() {
            io::ErrorKind::NotFound => (NOT_FOUND, "not found".to_string()),
            _ => (CANNOT_EXECUTE, error.to_string()),
        };
        say!("{}: {reason}", printable(program));
        ExitCode::from(code)
    }
}

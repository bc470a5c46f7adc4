//! The process between withlock and the command, and the one that becomes the command; see
//! [`child`](crate::child).
//!
//! The guardian knows the lease's deadline and goes by its own clock. It needs nobody to end the
//! command in time: not withlock, which may be stopped or dead, and not the server.

use crate::child::exit_code;
use crate::ending::{Ending, OnLost};
use crate::report::{printable, say};
use crate::signals;
use clap::ValueEnum;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, kill_process_group,
    set_parent_process_death_signal, waitid,
};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// The first argument of a withlock that has another role. The parent's process id follows.
const COMMAND: &str = "--become-the-command-of";
const GUARDIAN: &str = "--guard-the-command-of";
/// What the guardian asks to be told of its parent's death by: a signal that has no other use.
const ORPHANED: Signal = Signal::POWER;
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
const KILLED: u8 = 128 + 9;

/// What the guardian is told at its start.
pub(crate) struct Charge {
    /// The numbers of withlock's files to read orders from, and to report to.
    pub(crate) orders: i32,
    pub(crate) reports: i32,
    /// The process group that the command is to be in; 0 is a new one.
    pub(crate) group: i32,
    pub(crate) ending: Ending,
    /// Since boot: until when the lock is certainly held.
    pub(crate) until: Duration,
}

/// The time since boot, also that of sleep.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let part = |number| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}

/// What starts the guardian.
pub(crate) fn starter(charge: &Charge, command: &[OsString]) -> Command {
    let on_lost = charge.ending.on_lost.to_possible_value();
    let on_lost = on_lost.as_ref().map_or("term", |value| value.get_name()).to_string();
    let words = [
        charge.orders.to_string(),
        charge.reports.to_string(),
        charge.group.to_string(),
        on_lost,
        charge.ending.grace.as_nanos().to_string(),
        charge.until.as_nanos().to_string(),
    ];
    let mut starter = again(GUARDIAN);
    starter.args(words).args(command);
    starter
}

/// This very program in another role.
fn again(role: &str) -> Command {
    let mut starter = Command::new("/proc/self/exe");
    starter.arg0("withlock").arg(role).arg(getpid().as_raw_nonzero().to_string());
    starter
}

/// What a withlock is that was started by another.
pub(crate) struct Role {
    parent: OsString,
    charge: Option<Charge>,
    command: Vec<OsString>,
}

/// The role that this process was started for, if it was.
pub(crate) fn requested() -> Option<Role> {
    let mut args = std::env::args_os().skip(1);
    let role = args.next()?;
    if role != COMMAND && role != GUARDIAN {
        return None;
    }
    let parent = args.next()?;
    let charge = if role == GUARDIAN { Some(charge(&mut args)?) } else { None };
    Some(Role { parent, charge, command: args.collect() })
}

fn charge(args: &mut impl Iterator<Item = OsString>) -> Option<Charge> {
    let mut word = || args.next()?.into_string().ok();
    let span = |text: String| text.parse().ok().map(Duration::from_nanos);
    Some(Charge {
        orders: word()?.parse().ok()?,
        reports: word()?.parse().ok()?,
        group: word()?.parse().ok()?,
        ending: Ending { on_lost: OnLost::from_str(&word()?, false).ok()?, grace: span(word()?)? },
        until: span(word()?)?,
    })
}

impl Role {
    pub(crate) fn play(self) -> ExitCode {
        let signal = if self.charge.is_some() { ORPHANED } else { Signal::KILL };
        // The parent may have died before the kernel was asked.
        if set_parent_process_death_signal(Some(signal)).is_err() || self.orphaned() {
            return ExitCode::from(KILLED);
        }
        match &self.charge {
            Some(charge) => self.guard(charge).unwrap_or_else(|error| {
                say!("the command cannot be guarded: {error}");
                ExitCode::from(CANNOT_EXECUTE)
            }),
            None => become_command(&self.command),
        }
    }

    fn orphaned(&self) -> bool {
        getppid().map(|pid| pid.as_raw_nonzero().to_string().into()).as_ref() != Some(&self.parent)
    }

    /// Starts the command and sees to its end.
    fn guard(&self, charge: &Charge) -> io::Result<ExitCode> {
        let parent = self.parent.to_string_lossy();
        let file = |number: i32| format!("/proc/{parent}/fd/{number}");
        let orders = File::open(file(charge.orders))?;
        let reports = File::options().write(true).open(file(charge.reports))?;
        let (sender, news) = channel();
        let notice = sender.clone();
        // Whatever else comes is meant for the command, and withlock passes it on.
        signals::watch(&[ORPHANED.as_raw()], move |_| drop(notice.send(News::Look)))?;
        std::thread::Builder::new()
            .name("orders".to_string())
            .spawn(move || listen(orders, &sender))?;
        let mut starter = again(COMMAND);
        let child = starter.args(&self.command).process_group(charge.group).spawn()?;
        let pid = Pid::from_child(&child);
        let ward = Ward { child, pid, group: charge.group == 0, reports, stopped: None };
        ward.watch(charge, &news, || self.orphaned())
    }
}

enum News {
    /// Something has happened: look whether the command, or withlock, has ended.
    Look,
    /// There will be no more orders.
    Gone,
    Until(Duration),
    Signal(Signal),
}

/// Reads orders until withlock has gone.
fn listen(orders: File, sender: &Sender<News>) {
    for line in BufReader::new(orders).lines() {
        let Ok(line) = line else { break };
        let news = match line.split_once(' ') {
            Some(("until", time)) => {
                time.parse().ok().map(|time| News::Until(Duration::from_nanos(time)))
            }
            Some(("signal", number)) => {
                number.parse().ok().and_then(Signal::from_named_raw).map(News::Signal)
            }
            _ => None,
        };
        if news.is_some_and(|news| sender.send(news).is_err()) {
            return;
        }
    }
    let _ = sender.send(News::Gone);
}

/// The command, as its guardian sees it.
struct Ward {
    child: Child,
    pid: Pid,
    /// Whether it leads a group of its own.
    group: bool,
    reports: File,
    /// What it got because of the lease.
    stopped: Option<Signal>,
}

impl Ward {
    fn watch(
        mut self,
        charge: &Charge,
        news: &Receiver<News>,
        orphaned: impl Fn() -> bool,
    ) -> io::Result<ExitCode> {
        let (ending, mut until) = (charge.ending, charge.until);
        let mut alone = false;
        loop {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if waitid(WaitId::Pid(self.pid), look)?.is_some() {
                if self.stopped.is_some() && self.group {
                    // What it started must not outlive the lease either.
                    self.signal(Signal::KILL);
                }
                return Ok(ExitCode::from(exit_code(self.child.wait()?)));
            }
            alone = alone || orphaned();
            let remaining = if alone { Duration::ZERO } else { until.saturating_sub(now()) };
            let due = if alone { Some(Signal::KILL) } else { ending.due(remaining) };
            match due {
                Some(signal) if self.stopped != due && self.stopped != Some(Signal::KILL) => {
                    self.stop(signal);
                }
                _ => {}
            }
            // Timers do not count suspended time: look now and then.
            let most = Duration::from_secs(1);
            let nap = if alone || remaining.is_zero() { most } else { ending.next(remaining) };
            match news.recv_timeout(nap.clamp(Duration::from_millis(1), most)) {
                Ok(News::Gone) => alone = true,
                Ok(News::Until(time)) => until = time,
                Ok(News::Signal(signal)) => self.signal(signal),
                Ok(News::Look) | Err(_) => {}
            }
        }
    }

    /// Ends it because of the lease. First of all it is reported: the command may end at once, and
    /// withlock must know why.
    fn stop(&mut self, signal: Signal) {
        let _ = self.reports.write_all(b"stopped\n");
        self.stopped = Some(signal);
        self.signal(signal);
    }

    fn signal(&self, signal: Signal) {
        // It may have ended meanwhile; then there is nobody to tell.
        let _ = if self.group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
    }
}

/// Returns only if that is not possible.
fn become_command(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
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

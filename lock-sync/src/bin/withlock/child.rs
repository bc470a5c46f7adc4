//! The command's processes.
//!
//! They must outlive neither withlock nor the lease, also when withlock is stopped or killed. The
//! kernel tells a process that its parent has died (`PR_SET_PDEATHSIG`), but only one that has asked
//! for it, between its start and the command's. So withlock starts itself, twice:
//!
//! ```text
//!   withlock           takes and renews the lock; tells the guardian each new deadline
//!      └─ the guardian    in a process group of its own: ends the command's group by the
//!         │               deadline, and when withlock dies
//!         └─ the command     asks to be killed when the guardian dies, waits until the lock is held,
//!                            then becomes the command
//! ```
//!
//! Both are started before the lock is asked for, and are ready when it is granted.
//!
//! The command leads a process group, which gets the signals. In a terminal's foreground it stays in
//! the terminal's group with us, else it could not read from it, and the keys for interrupt and stop
//! would not reach it; then signals are for the command alone.

use crate::ending::Ending;
use crate::guardian::{Lease, Order, Report, now};
use crate::nested::Handed;
use crate::role::{GUARDIAN, starter};
use crate::source::URL;
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, getpid, kill_process, waitid};
use rustix::termios::tcgetpgrp;
use std::ffi::OsString;
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read, Write, stdin};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// A deadline that is later by less is not worth telling.
const NEWS: Duration = Duration::from_millis(5);

/// The environment variable with the lock's name in it.
const NAME: &str = "WITHLOCK_NAME";

/// Stops this process, as the terminal's stop key would, until it is told to go on.
pub(crate) fn stop_self() {
    let _ = kill_process(getpid(), Signal::STOP);
}

/// The command's processes, seen through the guardian. They end with this.
pub(crate) struct Running {
    guardian: Child,
    pid: Pid,
    /// Closed, it has the guardian end the command.
    orders: Option<PipeWriter>,
    /// What the pipe had no room for: it is full if somebody has stopped the guardian for ages.
    unsent: Vec<u8>,
    reports: PipeReader,
    /// The other ends. The guardian opens them by way of the kernel's list of our files.
    _kept: (PipeReader, PipeWriter),
    /// Since boot: the deadline that the guardian knows. Nothing before the command has begun.
    told: Option<Duration>,
    shares_terminal: bool,
}

impl Running {
    /// Starts what becomes the command when it is to [`begin`](Self::begin). To be called on the main
    /// thread: the kernel takes the death of the *thread* that started a process for the death of its
    /// parent.
    pub(crate) fn start(command: &[OsString], name: &str, handed: &Handed) -> io::Result<Self> {
        let (hears, orders) = io::pipe()?;
        let (reports, tells) = io::pipe()?;
        // A guardian that does not read must not keep us from anything.
        ioctl_fionbio(&orders, true)?;
        ioctl_fionbio(&reports, true)?;
        let files = [hears.as_raw_fd(), tells.as_raw_fd()];
        let mut starter = starter(GUARDIAN, files, command);
        starter.env_remove(URL).envs(handed.variables());
        let guardian = starter.env(NAME, name).process_group(0).spawn()?;
        let pid = Pid::from_child(&guardian);
        let kept = (hears, tells);
        let (orders, unsent, told, shares_terminal) = (Some(orders), Vec::new(), None, false);
        Ok(Self { guardian, pid, orders, unsent, reports, _kept: kept, told, shares_terminal })
    }

    /// The lock is held, under this fence, and certainly for `remaining` if nothing else is heard: has
    /// the command begin, as soon as that leaves it time to run.
    pub(crate) fn begin(&mut self, fence: u64, ending: Ending, remaining: Duration) {
        self.shares_terminal = stdin().is_terminal() || in_foreground();
        let group = if self.shares_terminal { getpgrp().as_raw_nonzero().get() } else { 0 };
        let until = now().saturating_add(remaining);
        self.told = Some(until);
        self.tell(&Order::Begin { fence, group, lease: Lease { ending, until } });
    }

    /// Whether it has ended. Its process id stays taken until it is [`reap`](Self::reap)ed.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), look)?.is_some())
    }

    /// Waits for its end, and says how it ended, and what the lease did to it.
    pub(crate) fn reap(&mut self) -> io::Result<(ExitStatus, Report)> {
        let status = self.guardian.wait()?;
        let mut report = [0];
        let bytes = self.reports.read(&mut report).unwrap_or(0);
        Ok((status, Report::read(&report[..bytes])))
    }

    /// Tells that the lock is certainly held for `remaining` more.
    pub(crate) fn may_run(&mut self, remaining: Duration) {
        self.send();
        let until = if remaining.is_zero() { Duration::ZERO } else { now() + remaining };
        let is_news = |told: Duration| until.is_zero() != told.is_zero() || until > told + NEWS;
        // To a guardian that does not read, the newest deadline is told when it does.
        if self.unsent.is_empty() && self.told.is_some_and(is_news) {
            self.told = Some(until);
            self.tell(&Order::Until(until));
        }
    }

    /// Has it get a signal, and all that it started and that is still in its group.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.tell(&Order::Signal(signal));
    }

    /// For a guardian that should have ended the command and has not: somebody may have stopped it.
    pub(crate) fn wake_guardian(&self) {
        let _ = kill_process(self.pid, Signal::CONT);
    }

    /// If even that does not help: the kernel kills the command with its guardian.
    pub(crate) fn kill_guardian(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// Whether the terminal sends it what its keys mean, so that we need not.
    pub(crate) fn shares_terminal(&self) -> bool {
        self.shares_terminal
    }

    /// Without waiting for a guardian that does not read.
    fn tell(&mut self, order: &Order) {
        self.unsent.extend(order.to_string().into_bytes());
        self.send();
    }

    fn send(&mut self) {
        let Some(orders) = &mut self.orders else { return };
        while !self.unsent.is_empty() {
            match orders.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for Running {
    /// A command that has not begun is not to be; and none outlives this.
    fn drop(&mut self) {
        if self.guardian.try_wait().is_ok_and(|ended| ended.is_none()) {
            // However full it is, the guardian sees its end.
            self.orders = None;
            // Somebody may have stopped it.
            self.wake_guardian();
            let _ = self.guardian.wait();
        }
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

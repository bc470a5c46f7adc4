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
use crate::guardian::now;
use crate::nested::Handed;
use crate::order::{Lease, Order, Report};
use crate::report::say;
use crate::role::{GUARDIAN, starter};
use crate::source::URL;
use crate::{group, terminal};
use lock_sync::Guard;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The guardian is not told of a deadline that is later by less than this.
const NEWS: Duration = Duration::from_millis(5);

/// The environment variable with the lock's name in it.
pub(crate) const NAME: &str = "WITHLOCK_NAME";

/// The command's processes, seen through the guardian. Dropping it ends them.
pub(crate) struct Running {
    guardian: Child,
    pid: Pid,
    /// The pipe to the guardian. If it is closed, the guardian ends the command.
    orders: Option<PipeWriter>,
    /// Bytes of orders for which the pipe had no room, because the guardian has been stopped for a long time.
    unsent: Vec<u8>,
    reports: PipeReader,
    /// The part of them that was read: the process id of the command, and what the guardian did to it.
    reported: Vec<u8>,
    /// The guardian's ends of both pipes. It opens them through `/proc/PID/fd`.
    _kept: (PipeReader, PipeWriter),
    /// The deadline that the guardian was told last, as time since boot. `None` before the command begins.
    told: Option<Duration>,
    shares_terminal: bool,
}

impl Running {
    /// Starts the process that becomes the command at [`begin`](Self::begin). Call it on the main thread: for
    /// the kernel, a process has lost its parent when the *thread* that started it ends.
    pub(crate) fn start(command: &[OsString], name: &str, handed: &Handed) -> io::Result<Self> {
        let (hears, orders) = io::pipe()?;
        let (reports, tells) = io::pipe()?;
        // A guardian that does not read must not block us.
        ioctl_fionbio(&orders, true)?;
        ioctl_fionbio(&reports, true)?;
        let files = [hears.as_raw_fd(), tells.as_raw_fd()];
        let mut starter = starter(GUARDIAN, files, command);
        starter.env_remove(URL).envs(handed.variables());
        let guardian = starter.env(NAME, name).process_group(0).spawn()?;
        let pid = Pid::from_child(&guardian);
        let kept = (hears, tells);
        let (orders, told, shares_terminal) = (Some(orders), None, false);
        let (unsent, reported) = (Vec::new(), Vec::new());
        Ok(Self {
            guardian,
            pid,
            orders,
            unsent,
            reports,
            reported,
            _kept: kept,
            told,
            shares_terminal,
        })
    }

    /// Starts the command under the guard, as soon as it has time to run: `remaining` from now.
    pub(crate) fn begin(&mut self, guard: &Guard, ending: Ending, remaining: Duration) {
        let (fence, permit) = (guard.fence().get(), guard.permit().unwrap_or_default());
        let shared = terminal::shared_group();
        self.shares_terminal = shared.is_some();
        let group = shared.unwrap_or_default();
        let until = now().saturating_add(remaining);
        self.told = Some(until);
        self.tell(&Order::Begin { fence, permit, group, lease: Lease { ending, until } });
    }

    /// True if the guardian has ended. Its process id stays taken until [`reap`](Self::reap).
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), look)?.is_some())
    }

    /// Waits for the guardian's end, and says why if it could not prepare the command. Returns the command's exit status and
    /// the guardian's report.
    pub(crate) fn reap(&mut self) -> io::Result<(ExitStatus, Report)> {
        let status = self.guardian.wait()?;
        if let (None, why @ [_, ..]) = self.reports() {
            say!("{}", String::from_utf8_lossy(why));
        }
        Ok((status, self.report()))
    }

    /// The guardian's report up to now.
    pub(crate) fn report(&mut self) -> Report {
        match self.reports() {
            (Some(_), report) => Report::read(report),
            (None, _) => Report::None,
        }
    }

    /// The process id of the command, and the guardian's report up to now. If there is no command, the report is the reason.
    fn reports(&mut self) -> (Option<Pid>, &[u8]) {
        let mut news = [0; 16];
        while let Ok(bytes @ 1..) = self.reports.read(&mut news) {
            self.reported.extend(&news[..bytes]);
        }
        match self.reported.split_first_chunk() {
            Some((id, report)) => (Pid::from_raw(i32::from_ne_bytes(*id)), report),
            None => (None, &[]),
        }
    }

    /// Kills the processes of the command's group, if it has one of its own, after the guardian was killed: the kernel has
    /// killed the command only. Waits until they are gone, `at_most` for so long. Returns false if some may be left.
    pub(crate) fn kill_group(&mut self, at_most: Duration) -> bool {
        let Some(group) = self.reports().0.filter(|_| !self.shares_terminal) else { return true };
        let until = Instant::now() + at_most;
        loop {
            match kill_process_group(group, Signal::KILL) {
                Err(Errno::SRCH) => return true,
                Ok(()) if Instant::now() < until => sleep(Duration::from_millis(1)),
                // They are another user's.
                Ok(()) | Err(_) => return false,
            }
        }
    }

    /// Tells the guardian that the lock is certainly held for `remaining` from now.
    pub(crate) fn may_run(&mut self, remaining: Duration) {
        self.send();
        let until = if remaining.is_zero() { Duration::ZERO } else { now() + remaining };
        let is_news = |told: Duration| until.is_zero() != told.is_zero() || until > told + NEWS;
        // While the pipe is full, newer deadlines wait. The next call sends the newest.
        if self.unsent.is_empty() && self.told.is_some_and(is_news) {
            self.told = Some(until);
            self.tell(&Order::Until(until));
        }
    }

    /// Sends a signal to the command, and to the processes of its group.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.tell(&Order::Signal(signal));
    }

    /// Stops the command once it has stopped by itself, or `at_most` later: an editor, say, puts the terminal in order
    /// first.
    pub(crate) fn stop(&mut self, at_most: Duration) {
        if !self.shares_terminal {
            self.signal(Signal::TSTP);
        }
        let until = Instant::now() + at_most;
        let command = self.reports().0;
        while command.is_some_and(group::runs) && Instant::now() < until {
            sleep(Duration::from_millis(1));
        }
        self.signal(Signal::STOP);
    }

    /// Continues a guardian that someone has stopped: it could neither end the command nor tell of its end.
    pub(crate) fn wake_guardian(&self) {
        let _ = kill_process(self.pid, Signal::CONT);
    }

    /// Kills a guardian that cannot be continued. The kernel then kills the command.
    pub(crate) fn kill_guardian(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// True if the terminal sends the signals of its keys to the command, so that withlock must not pass them
    /// on.
    pub(crate) fn shares_terminal(&self) -> bool {
        self.shares_terminal
    }

    /// Sends an order, without waiting for a guardian that does not read.
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
    /// Ends the command, or keeps it from starting.
    fn drop(&mut self) {
        if self.guardian.try_wait().is_ok_and(|ended| ended.is_none()) {
            // The guardian sees the end of the pipe even if the pipe is full.
            self.orders = None;
            // Someone may have stopped the guardian.
            self.wake_guardian();
            let _ = self.guardian.wait();
        }
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

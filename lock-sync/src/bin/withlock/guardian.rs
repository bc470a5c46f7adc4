//! The process between withlock and the command; see [`child`](crate::child).
//!
//! The guardian knows the lease's deadline and reads the clock itself. To end the command in time, it needs
//! neither withlock, which may be stopped or dead, nor the server.

use crate::child::exit_code;
use crate::group::Group;
use crate::inbox::Inbox;
use crate::order::{Lease, Order, Report};
use crate::place::shown;
use crate::report::{missing, say};
use crate::role::{COMMAND, KILLED, Parent, numbers, starter};
use crate::run::FAILED;
use crate::{signals, writer};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use rustix::time::{ClockId, clock_gettime};
use std::env::ArgsOs;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitCode};
use std::thread::sleep;
use std::time::Duration;

/// The signal that the kernel sends the guardian when withlock dies. It has no other use.
const ORPHANED: Signal = Signal::POWER;

/// The time since boot, including suspended time.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let part = |number| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}

/// Starts the process that becomes the command, and ends it in time. `files` are withlock's file numbers, to
/// read orders from and to report to.
pub(crate) fn play(parent: Parent, mut args: ArgsOs) -> Option<ExitCode> {
    let files = numbers(&mut args)?;
    let words: Vec<OsString> = args.collect();
    // Without its name, lists of processes call it "exe". A name like withlock's would end it with `pkill withlock`.
    let _ = std::fs::write("/proc/self/comm", "lock-guardian");
    let Some(parent) = parent.watched(ORPHANED) else { return Some(ExitCode::from(KILLED)) };
    let failed =
        |error| format!("the guardian process of {} failed: {}", shown(&words), missing(&error));
    let ended = match prepare(&parent, files, &words) {
        Ok((ward, inbox)) => ward.watch(inbox, || parent.has_died()).map_err(failed),
        Err(error) => give_up(&parent, files, failed(error)),
    };
    Some(ended.unwrap_or_else(|why| {
        writer::start();
        say!("{why}");
        ExitCode::from(FAILED)
    }))
}

/// Leaves it to withlock to say why there is no command. withlock may lack the same, and then only one of the two may speak.
fn give_up(parent: &Parent, [_, reports]: [i32; 2], why: String) -> Result<ExitCode, String> {
    let report = [&Report::NO_COMMAND.to_ne_bytes(), why.as_bytes()].concat();
    let reports = parent.open(File::options().write(true), reports);
    match reports.and_then(|mut reports| reports.write_all(&report)) {
        Ok(()) => Ok(ExitCode::from(FAILED)),
        Err(_) => Err(why),
    }
}

/// Starts the process that becomes the command, and opens what its guardian needs.
fn prepare(parent: &Parent, files: [i32; 2], words: &[OsString]) -> io::Result<(Ward, Inbox)> {
    let (waits, go) = io::pipe()?;
    // Until the command begins, its process has a group of its own, so that the terminal's keys do not reach
    // it.
    let mut starter = starter(COMMAND, [waits.as_raw_fd()], words);
    let mut child = starter.process_group(0).spawn()?;
    let (inbox, mut reports) = open(parent, files).inspect_err(|_| {
        let _ = child.kill().and_then(|()| child.wait());
    })?;
    let pid = Pid::from_child(&child);
    let _ = reports.write_all(&pid.as_raw_nonzero().get().to_ne_bytes());
    let ward = Ward {
        child,
        pid,
        group: true,
        go: Go::Waiting(go),
        _kept: waits,
        lease: None,
        reports,
        stopped: None,
        rest: None,
    };
    Ok((ward, inbox))
}

/// Opens withlock's two files, and begins to receive signals.
fn open(parent: &Parent, [orders, reports]: [i32; 2]) -> io::Result<(Inbox, File)> {
    let orders = parent.open(File::options().read(true), orders)?;
    let reports = parent.open(File::options().write(true), reports)?;
    let (inbox, mut rings) = Inbox::new(orders)?;
    // All other signals are meant for the command, and withlock passes them on. If there is no room for another ring, the
    // last one was not heard yet.
    signals::watch(&[ORPHANED.as_raw()], move |_| drop(rings.write(&[0])))?;
    Ok((inbox, reports))
}

/// The command, as its guardian sees it.
struct Ward {
    child: Child,
    pid: Pid,
    /// True if the command leads a process group of its own.
    group: bool,
    go: Go,
    /// The other end of its pipe. The command's process opens it through `/proc/PID/fd`.
    _kept: PipeReader,
    /// The lease. `None` until withlock holds the lock.
    lease: Option<Lease>,
    reports: File,
    /// The last signal that the command got because of the lease.
    stopped: Option<Signal>,
    /// The processes that it started, once TERM has ended the command itself.
    rest: Option<Group>,
}

/// The state of the command's process.
enum Go {
    /// It waits at the other end of the pipe for its fence and group.
    Waiting(PipeWriter),
    /// It gets this text, its fence and group, as soon as the lease leaves it time to run.
    Ordered(PipeWriter, String),
    Gone,
}

/// Longest sleep. Timers do not count suspended time, so the guardian reads the clock now and then.
const NAP: Duration = Duration::from_secs(1);
/// Longest sleep while processes that the command started clean up: nobody tells of their end.
const REST: Duration = Duration::from_millis(10);
/// Longest time that a process takes to die of KILL. One that waits for a disk may take longer.
const GONE: Duration = Duration::from_secs(1);

impl Ward {
    fn watch(mut self, mut inbox: Inbox, orphaned: impl Fn() -> bool) -> io::Result<ExitCode> {
        let mut alone = false;
        loop {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if waitid(WaitId::Pid(self.pid), look)?.is_some() && !self.is_cleaning_up() {
                if self.stopped.is_some() && self.group {
                    self.end_rest();
                }
                return Ok(ExitCode::from(exit_code(self.child.wait()?)));
            }
            alone = alone || inbox.is_closed() || orphaned();
            let (mut due, mut nap) = self.due(alone);
            if due.is_some() {
                // It may have been stopped meanwhile, and then there may be a newer deadline.
                inbox.read(Duration::ZERO)?.into_iter().for_each(|order| self.hear(order));
                (due, nap) = self.due(alone);
            }
            if let Some(signal) = due {
                self.stop(signal);
            }
            let longest = if self.rest.is_some() { REST } else { NAP };
            let nap = nap.clamp(Duration::from_millis(1), longest);
            inbox.read(nap)?.into_iter().for_each(|order| self.hear(order));
        }
    }

    /// True if the command has ended after TERM, and processes that it started have not: KILL is still to come.
    fn is_cleaning_up(&mut self) -> bool {
        let pid = self.pid;
        self.group
            && self.stopped == Some(Signal::TERM)
            && self.rest.get_or_insert_with(|| Group::of(pid)).has_members()
    }

    /// Kills the processes that the command started, which must not outlive the lease either, and waits until they are gone:
    /// withlock then releases the lock. Another user's stay.
    fn end_rest(&self) {
        let (mut rest, until) = (Group::of(self.pid), now() + GONE);
        while self.signal(Signal::KILL).is_ok() && rest.has_members() && now() < until {
            sleep(Duration::from_millis(1));
        }
    }

    fn hear(&mut self, order: Order) {
        match order {
            Order::Begin { fence, permit, group, lease } => {
                self.lease = Some(lease);
                self.group = group == 0;
                self.go = match std::mem::replace(&mut self.go, Go::Gone) {
                    Go::Waiting(go) => Go::Ordered(go, format!("{fence} {permit} {group}")),
                    go => go,
                };
            }
            Order::Until(until) => {
                // A renewal gives what is left of a command that has ended no more time.
                let most = if self.rest.is_some() { self.lease } else { None };
                let until = most.map_or(until, |lease| until.min(lease.until));
                self.lease = self.lease.map(|lease| Lease { until, ..lease });
            }
            Order::Signal(signal) => drop(self.signal(signal)),
        }
    }

    /// The signal that is due and was not sent, and the time until the next decision. Starts the command if it may begin.
    fn due(&mut self, alone: bool) -> (Option<Signal>, Duration) {
        let (due, nap) = if alone { (Some(Signal::KILL), NAP) } else { self.due_by_the_lease() };
        let sent = self.stopped == due || self.stopped == Some(Signal::KILL);
        (due.filter(|_| !sent), nap)
    }

    fn due_by_the_lease(&mut self) -> (Option<Signal>, Duration) {
        let Some(Lease { ending, until }) = self.lease else { return (None, NAP) };
        let remaining = until.saturating_sub(now());
        let nap = if remaining.is_zero() { NAP } else { ending.next(remaining) };
        match std::mem::replace(&mut self.go, Go::Gone) {
            Go::Gone => (ending.due(remaining), nap),
            Go::Ordered(mut go, told) if ending.may_begin(remaining) => {
                // If the process has ended, nobody reads this. The next look at the process shows that.
                let _ = go.write_all(told.as_bytes());
                (None, nap)
            }
            // The next renewal may leave enough time. Without one, the command never starts.
            go => {
                self.go = go;
                let over = remaining.is_zero().then_some(Signal::KILL);
                (over, if remaining.is_zero() { NAP } else { remaining })
            }
        }
    }

    /// Ends the command because of the lease. The report comes first: the command may end at once, and
    /// withlock must know the reason.
    fn stop(&mut self, signal: Signal) {
        let report = if matches!(self.go, Go::Gone) { Report::STOPPED } else { Report::NOT_BEGUN };
        let _ = self.reports.write_all(&[report]);
        self.stopped = Some(signal);
        if self.signal(signal) == Err(Errno::PERM) {
            let _ = self.reports.write_all(&[Report::POWERLESS]);
        }
    }

    /// Any error but a missing right means that the command has ended meanwhile.
    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        if self.group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::{Ending, OnLost};
    use std::os::fd::OwnedFd;

    /// In a namespace whose machine was suspended for eleven days.
    #[test]
    fn suspended_time_counts() {
        const INSIDE: &str = "LOCK_TEST_SUSPENDED";
        if std::env::var_os(INSIDE).is_some() {
            let running = u64::try_from(clock_gettime(ClockId::Monotonic).tv_sec);
            let running = Duration::from_secs(running.expect("positive"));
            assert!(now() > running + Duration::from_secs(900_000), "{:?}", now());
            return;
        }
        let own = std::env::current_exe().expect("there is one");
        let status = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--time", "--boottime", "1000000", "--"])
            .arg(own)
            .args(["--exact", "guardian::tests::suspended_time_counts"])
            .env(INSIDE, "1")
            .status();
        assert!(status.expect("util-linux").success());
    }

    /// A guardian's end of a command that ends by itself, and the pipes that withlock and signals write to.
    fn ward(lease: Option<Lease>) -> (Ward, Inbox, [PipeWriter; 2]) {
        let (reads, go) = io::pipe().expect("a pipe");
        let kept = reads.try_clone().expect("cloned");
        let child = std::process::Command::new("sh")
            .args(["-c", "cat >/dev/null; sleep 0.2; exit 7"])
            .stdin(reads)
            .process_group(0)
            .spawn()
            .expect("started");
        let pid = Pid::from_child(&child);
        let reports = File::options().write(true).open("/dev/null").expect("opened");
        let go = if lease.is_some() { Go::Gone } else { Go::Waiting(go) };
        let ward = Ward {
            child,
            pid,
            group: true,
            go,
            _kept: kept,
            lease,
            reports,
            stopped: None,
            rest: None,
        };
        let (orders, writes) = io::pipe().expect("a pipe");
        let (inbox, rings) = Inbox::new(File::from(OwnedFd::from(orders))).expect("a pipe");
        (ward, inbox, [writes, rings])
    }

    const HOUR: Duration = Duration::from_secs(3600);
    const ENDING: Ending = Ending { on_lost: OnLost::Term, grace: Duration::ZERO };

    #[track_caller]
    fn ends_by_itself(ward: Ward, inbox: Inbox) {
        let code = ward.watch(inbox, || false).expect("watched");
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(7)));
    }

    /// A guardian that was busy, or stopped, finds the deadline that has passed, and after it the one that counts.
    #[test]
    fn the_last_deadline_that_is_known_decides() {
        let (ward, inbox, [mut writes, _rings]) = ward(None);
        let lease = Lease { ending: ENDING, until: Duration::ZERO };
        for order in [
            Order::Begin { fence: 1, permit: 0, group: 0, lease },
            Order::Until(now()),
            Order::Until(now() + HOUR),
        ] {
            writes.write_all(order.to_string().as_bytes()).expect("written");
        }
        ends_by_itself(ward, inbox);
    }

    /// It was stopped before it read the later one.
    #[test]
    fn a_deadline_that_has_passed_does_not_count_if_a_later_one_was_written() {
        let (ward, inbox, [mut writes, _rings]) =
            ward(Some(Lease { ending: ENDING, until: now() }));
        let later = Order::Until(now() + HOUR).to_string();
        writes.write_all(later.as_bytes()).expect("written");
        ends_by_itself(ward, inbox);
    }

    /// The lock would be held for what it left behind. A loss takes the time away, as ever.
    #[test]
    fn a_renewal_gives_no_more_time_to_what_an_ended_command_has_started() {
        let (mut ward, ..) = ward(Some(Lease { ending: ENDING, until: HOUR }));
        ward.stopped = Some(Signal::TERM);
        assert!(ward.is_cleaning_up());
        for (until, then) in [(2 * HOUR, HOUR), (Duration::ZERO, Duration::ZERO)] {
            ward.hear(Order::Until(until));
            assert_eq!(ward.lease.map(|lease| lease.until), Some(then));
        }
        ward.child.wait().expect("ended");
    }
}

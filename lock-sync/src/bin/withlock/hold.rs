//! What happens while the lock is held.

use crate::child::{Running, exit_code, stop_self};
use crate::ending::{Ending, OnLost};
use crate::guardian::Report;
use crate::report::{Level, say, seconds};
use crate::signals;
use lock_sync::{Guard, Locks, ReleaseError};
use rustix::process::Signal;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

pub(crate) const LOST: u8 = 123;

/// How soon the guardian of a command that has little time is told that it has more.
const SOON: Duration = Duration::from_millis(20);

/// How the lock is held.
pub(crate) struct Hold<'a> {
    pub(crate) locks: &'a Locks,
    pub(crate) ending: Ending,
    /// At least until then, if that was asked for.
    pub(crate) until: Option<Instant>,
    pub(crate) level: Level,
    /// Signals, and [`signals::CHILD`] when there is something to look at.
    pub(crate) events: Receiver<i32>,
}

/// How the command ended.
struct Watched {
    status: ExitStatus,
    /// The lease's part in it.
    report: Report,
    /// Whether somebody wanted it to end.
    told_to_end: bool,
    /// Whether a loss was seen, and told of, while it ran.
    told_lost: bool,
}

impl Hold<'_> {
    /// Has the command run under the guard, frees the lock, and says what to exit with.
    pub(crate) fn run(&self, guard: Guard, mut running: Running) -> Result<u8, String> {
        running.begin(guard.fence().get(), self.ending, guard.remaining());
        let Watched { status, report, told_to_end, told_lost } =
            self.watch(&mut running, &guard)?;
        let stopped = report != Report::None;
        let lost = stopped || !guard.is_held();
        if !lost && !told_to_end {
            self.keep(&guard, exit_code(status));
        }
        let (name, failure) = (guard.name().clone(), guard.last_failure());
        let (why, unconfirmed) = match guard.release() {
            Err(ReleaseError::Lost(reason)) => (Some(reason.to_string()), None),
            Err(error) => (None, Some(error)),
            Ok(()) => (None, None),
        };
        let ignores = self.ending.on_lost == OnLost::Ignore;
        // A loss that is ignored is told all the same, once, also if the command has ended meanwhile.
        let known = ignores && (told_lost || self.level == Level::Quiet);
        // A loss after the command's end, while the lock was only kept, harmed nobody.
        let kept_only = !lost && self.until.is_some();
        if report != Report::NotBegun && (known || kept_only || !(stopped || why.is_some())) {
            if let (Some(error), true) = (unconfirmed, self.level != Level::Quiet) {
                say!("{:?}: {error}", name.as_str());
            }
            return Ok(exit_code(status));
        }
        // It was stopped while the lock was still held: that had no reason yet.
        let why = why.unwrap_or_else(|| {
            let last = failure.map_or_else(String::new, |last| format!(" (last error: {last})"));
            format!("it could not be renewed in time{last}")
        });
        let what = match report {
            Report::None => "the command had ended just then",
            Report::Stopped => "the command was stopped",
            Report::NotBegun => "the command was not started",
        };
        say!("the lock {:?} was lost ({why}); {what}", name.as_str());
        Ok(if ignores && report == Report::None { exit_code(status) } else { LOST })
    }

    /// Waits for the command's end.
    fn watch(&self, running: &mut Running, guard: &Guard) -> Result<Watched, String> {
        // Short enough that the guardian learns of a renewal long before the old deadline.
        let nap = (guard.valid_for() / 8).clamp(Duration::from_millis(1), Duration::from_secs(1));
        let (mut lost_at, mut told_to_end) = (None, false);
        loop {
            if running.has_ended().map_err(|error| error.to_string())? {
                let (status, report) = running.reap().map_err(|error| error.to_string())?;
                let told_lost = lost_at.is_some();
                return Ok(Watched { status, report, told_to_end, told_lost });
            }
            let remaining = guard.remaining();
            running.may_run(remaining);
            // A command that was not begun for want of time waits for a renewal.
            let nap = if self.ending.may_begin(remaining) { nap } else { nap.min(SOON) };
            if let Some(reason) = guard.lost() {
                match (lost_at, self.ending.on_lost) {
                    (None, OnLost::Ignore) if self.level != Level::Quiet => {
                        let name = guard.name().as_str();
                        say!("the lock {name:?} was lost ({reason}); the command runs on");
                    }
                    (_, OnLost::Ignore) => {}
                    (Some(at), _) if Instant::now() >= at + guard.valid_for() / 10 => {
                        running.kill_guardian();
                    }
                    _ => running.wake_guardian(),
                }
                lost_at.get_or_insert_with(Instant::now);
            }
            let event = self.events.recv_timeout(nap);
            told_to_end |= event.is_ok_and(|signal| signals::ENDING.contains(&signal));
            match event {
                Ok(signals::CHILD) | Err(RecvTimeoutError::Timeout) => {}
                Ok(signals::STOP) => {
                    running.signal(Signal::STOP);
                    self.locks.between_requests(stop_self);
                }
                Ok(key) if running.shares_terminal() && signals::KEYS.contains(&key) => {}
                Ok(signal) => {
                    if let Some(signal) = Signal::from_named_raw(signal) {
                        running.signal(signal);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("signals are no longer watched".to_string());
                }
            }
        }
    }

    /// Keeps the lock after the command's end for as long as was asked for. A signal that would end
    /// us ends this, and so does a loss.
    fn keep(&self, guard: &Guard, code: u8) {
        let Some(until) = self.until else { return };
        let left = || until.saturating_duration_since(Instant::now());
        if !left().is_zero() && self.level == Level::Verbose {
            say!(
                "the command has ended with {code}; keeping {:?} for {}",
                guard.name().as_str(),
                seconds(left())
            );
        }
        while !left().is_zero() && guard.is_held() {
            match self.events.recv_timeout(left().min(Duration::from_secs(1))) {
                Ok(signals::STOP) => self.locks.between_requests(stop_self),
                Ok(signal) if signals::ENDING.contains(&signal) => {
                    if self.level != Level::Quiet {
                        say!(
                            "the lock {:?} is freed {} early",
                            guard.name().as_str(),
                            seconds(left())
                        );
                    }
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                _ => {}
            }
        }
    }
}

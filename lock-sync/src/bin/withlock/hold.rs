//! The time in which the lock is held.

use crate::child::{Running, exit_code};
use crate::ending::{Ending, OnLost};
use crate::order::Report;
use crate::release::{Released, release};
use crate::report::{Level, say, seconds_left};
use crate::signals::Came;
use crate::stage::Signalled;
use crate::terminal;
use lock_sync::{Guard, Locks, ReleaseError};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

pub(crate) const LOST: u8 = 123;

/// Longest delay before the guardian of a command that has not started is told of a renewal.
const SOON: Duration = Duration::from_millis(20);
/// How long a command may take to stop by itself at the stop key.
const TO_STOP: Duration = Duration::from_secs(1);

const CUT: &str =
    "a signal ended withlock before the server had confirmed the release; the lease ends by itself";

/// The settings of a hold.
pub(crate) struct Hold<'a> {
    pub(crate) locks: &'a Locks,
    /// True if withlock runs the command again after a loss.
    pub(crate) leader: bool,
    pub(crate) ending: Ending,
    /// The end of `--min-hold`, if it was given.
    pub(crate) until: Option<Instant>,
    /// The end of `--max-hold`, if it was given.
    pub(crate) latest: Option<Instant>,
    pub(crate) level: Level,
    pub(crate) signalled: &'a Signalled,
}

/// The consequence of a hold.
pub(crate) enum Next {
    /// withlock ends with this code.
    Exit(u8),
    /// A leader whose command was stopped, or not started, stands by again.
    StandBy,
}

/// The end of the command.
struct Watched {
    status: ExitStatus,
    /// The guardian's report.
    report: Report,
    /// True if withlock got a signal that ends the command.
    told_to_end: bool,
    /// True if withlock got a signal after which no command is run again.
    final_signal: bool,
    /// True if a loss was noticed and reported while the command ran.
    told_lost: bool,
}

impl Hold<'_> {
    /// Runs the command under the guard, and releases the lock. Returns what follows.
    pub(crate) fn run(&self, mut guard: Guard, mut running: Running) -> Result<Next, String> {
        if terminal::is_beyond() && self.level != Level::Quiet {
            say!(
                "the command cannot read from this terminal, which belongs to a session outside of this PID namespace: \
                 start withlock by setsid --ctty"
            );
        }
        running.begin(&guard, self.ending, self.remaining(&guard));
        let Watched { status, report, told_to_end, final_signal, told_lost } =
            self.watch(&mut running, &guard)?;
        let stopped = match report {
            Report::None => false,
            // It got no signal, and the lock may have been renewed since.
            Report::Powerless => !guard.is_held() || self.is_over(),
            Report::Stopped | Report::NotBegun => true,
        };
        let over = stopped && guard.is_held() && self.is_over();
        let lost = stopped || !guard.is_held();
        // The command that `--max-hold` ended has had the lock, which is kept for the others as after any command.
        if (lost && !over) || told_to_end {
            guard.cancel_keep();
        } else {
            self.keep(&guard, exit_code(status));
        }
        let (name, lost_lock) = (guard.name().clone(), named(&guard));
        let failure = guard.last_failure();
        let (why, unconfirmed) = match release(guard, self.locks, self.signalled) {
            Released::Ended(Err(ReleaseError::Lost(reason))) => (Some(reason.to_string()), None),
            Released::Ended(Err(error)) => (None, Some(error.to_string())),
            Released::Ended(Ok(())) => (None, None),
            Released::Cut => (None, Some(CUT.to_string())),
        };
        let stands_by = self.leader && stopped && !final_signal;
        let then = if stands_by { "; it stands by again" } else { "" };
        let next = |code| if stands_by { Next::StandBy } else { Next::Exit(code) };
        if over {
            let name = name.as_str();
            let had = format!("the command had {name:?} for --max-hold");
            let what = match report {
                Report::NotBegun => {
                    format!("{name:?}: --max-hold was over before the command could start")
                }
                Report::Powerless => {
                    format!("{had}, and withlock may not stop another user's command")
                }
                _ => format!("{had}, so withlock stopped it"),
            };
            say!("{what}{then}");
            return Ok(next(LOST));
        }
        let ignores = self.ending.on_lost == OnLost::Ignore;
        // An ignored loss is reported once, even if the command has ended by then.
        let known = ignores && (told_lost || self.level == Level::Quiet);
        // A loss during `--min-hold` came after the command's end, so it did no harm.
        let kept_only = !lost && self.until.is_some();
        if report != Report::NotBegun && (known || kept_only || !(stopped || why.is_some())) {
            if let (Some(error), true) = (unconfirmed, self.level != Level::Quiet) {
                say!("{:?}: {error}", name.as_str());
            }
            return Ok(Next::Exit(exit_code(status)));
        }
        // The guardian stopped the command before the lock was lost, so the guard has no reason yet.
        let why = why.unwrap_or_else(|| {
            let last = failure.map_or_else(String::new, |last| format!(" (last error: {last})"));
            format!("no renewal was confirmed in time{last}")
        });
        let what = match report {
            Report::None => "and the command had ended before withlock noticed",
            Report::Stopped => "so withlock stopped the command",
            Report::NotBegun => "so withlock did not start the command",
            Report::Powerless => {
                "and withlock may not stop another user's command, which has ended by now"
            }
        };
        say!("{lost_lock} was lost, {what}: {why}{then}");
        Ok(next(if ignores && report == Report::None { exit_code(status) } else { LOST }))
    }

    /// For how long the command may still run: while the lock is certainly held, and until the end of `--max-hold`.
    fn remaining(&self, guard: &Guard) -> Duration {
        let left = self.latest.map(|at| at.saturating_duration_since(Instant::now()));
        guard.remaining().min(left.unwrap_or(Duration::MAX))
    }

    /// True if it is `--max-hold` that ends the command.
    fn is_over(&self) -> bool {
        self.latest.is_some_and(|at| at <= Instant::now() + self.ending.grace)
    }

    /// Waits for the command's end.
    fn watch(&self, running: &mut Running, guard: &Guard) -> Result<Watched, String> {
        // The guardian must learn of a renewal long before the old deadline.
        let nap = (guard.valid_for() / 8).clamp(Duration::from_millis(1), Duration::from_secs(1));
        let (mut lost_at, mut told_to_end, mut final_signal) = (None, false, false);
        let (mut killed, mut told_powerless) = (false, false);
        loop {
            if running.has_ended().map_err(|error| error.to_string())? {
                let (status, report) = running.reap().map_err(|error| error.to_string())?;
                let report =
                    if killed && report == Report::None { Report::Stopped } else { report };
                if let Some(signal) = status.signal() {
                    let gone = running.kill_group(guard.remaining());
                    let and =
                        if gone { "and the command with it" } else { "but not all of the command" };
                    if !killed || !gone {
                        say!("the guardian process was killed by signal {signal}, {and}");
                    }
                }
                let told_lost = lost_at.is_some();
                // Some may have come just before the end.
                let last: Vec<Came> = self.signalled.events.try_iter().collect();
                told_to_end |= last.iter().any(|came| came.ends());
                final_signal |= last.iter().any(|came| came.is_final());
                return Ok(Watched { status, report, told_to_end, final_signal, told_lost });
            }
            let remaining = self.remaining(guard);
            running.may_run(remaining);
            let is_over = guard.is_held() && self.is_over();
            if is_over && running.report() == Report::Powerless && !told_powerless {
                told_powerless = true;
                let name = guard.name().as_str();
                say!(
                    "--max-hold is over, but the command keeps {name:?}, for it is another user's"
                );
            }
            // A command that has not started for lack of time waits for a renewal.
            let nap = if self.ending.may_begin(remaining) { nap } else { nap.min(SOON) };
            if let Some(reason) = guard.lost_reason() {
                match (lost_at, self.ending.on_lost) {
                    (None, OnLost::Ignore) if self.level != Level::Quiet => {
                        let lock = named(guard);
                        say!("{lock} was lost, but the command keeps running: {reason}");
                    }
                    (_, OnLost::Ignore) => {}
                    (Some(_), _) if running.report() == Report::Powerless => {
                        if !std::mem::replace(&mut told_powerless, true) {
                            let lock = named(guard);
                            say!(
                                "{lock} was lost, but the command keeps running, for it is another user's: {reason}"
                            );
                        }
                    }
                    (Some(at), _) if Instant::now() >= at + guard.valid_for() / 10 => {
                        running.kill_guardian();
                        killed = true;
                    }
                    _ => running.wake_guardian(),
                }
                lost_at.get_or_insert_with(Instant::now);
            }
            let event = self.signalled.events.recv_timeout(nap);
            if event.is_ok_and(Came::ends) {
                told_to_end = true;
                running.wake_guardian();
            }
            final_signal |= event.is_ok_and(Came::is_final);
            match event {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(came) if came.is_a_look() => {}
                Ok(came) if came.stops() => {
                    running.stop(TO_STOP.min(remaining / 4));
                    self.stop();
                }
                // The command has it from the terminal.
                Ok(came) if running.shares_terminal() && came.from_terminal => {}
                Ok(came) => {
                    if let Some(signal) = Signal::from_named_raw(came.signal) {
                        running.signal(signal);
                    }
                    if came.ends() {
                        // A command that is stopped would get it only later.
                        running.signal(Signal::CONT);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("withlock no longer receives signals, because of a bug".to_string());
                }
            }
        }
    }

    /// Stops withlock, as the stop key would have done.
    fn stop(&self) {
        self.locks.between_requests(|| self.signalled.stop_key.heed());
    }

    /// Keeps the lock after the command's end until `--min-hold` is over. Where the release itself leaves the lock taken, there
    /// is nothing to wait for. Elsewhere a loss ends it early, and so does a signal that ends withlock.
    fn keep(&self, guard: &Guard, code: u8) {
        let Some(until) = self.until else { return };
        let left = || until.saturating_duration_since(Instant::now());
        let by_server = guard.kept_for().is_some();
        if !left().is_zero() && self.level == Level::Verbose {
            let name = guard.name().as_str();
            let who = if by_server { "the table" } else { "withlock" };
            let left = seconds_left(left());
            say!("the command ended with exit code {code}; {who} keeps {name:?} for {left} more");
        }
        if by_server {
            return;
        }
        while !left().is_zero() && guard.is_held() {
            match self.signalled.events.recv_timeout(left().min(Duration::from_secs(1))) {
                Ok(came) if came.stops() => self.stop(),
                Ok(came) if came.ends() => {
                    if self.level != Level::Quiet {
                        say!(
                            "a signal ended --min-hold {} early; withlock releases {:?}",
                            seconds_left(left()),
                            guard.name().as_str()
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

/// What may be lost, in words. Of several locks, the guard does not say which one it was.
fn named(guard: &Guard) -> String {
    let several: Vec<String> =
        guard.fences().map(|(name, _)| format!("{:?}", name.as_str())).collect();
    match several.len() {
        0 | 1 => format!("the lock {:?}", guard.name().as_str()),
        _ => format!("one of the locks {}", several.join(", ")),
    }
}

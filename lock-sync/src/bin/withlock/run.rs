//! Acquires the lock, runs the command, releases the lock.

use crate::args::Args;
use crate::asking::{Asking, End, Way, Wish};
use crate::child::Running;
use crate::connect::Patience;
use crate::ending::{Ending, OnLost};
use crate::hold::{Hold, Next};
use crate::look::look;
use crate::nested::{self, Handed};
use crate::place::{Place, shown};
use crate::release::release;
use crate::report::{Level, missing, print, say};
use crate::role::{CANNOT_EXECUTE, check_proc};
use crate::signals::Came;
use crate::stage::{Signalled, Stage};
use crate::waiting::Waiting;
use crate::writer;
use lock_core::duration::Shown;
use lock_sync::{Locks, Mode};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub(crate) const FAILED: u8 = 125;
const TIMED_OUT: u8 = 124;
pub(crate) const BUSY: u8 = 75;

pub(crate) fn run(args: Args) -> Result<ExitCode, String> {
    if args.ddl {
        let statement =
            Place::of(&args)?.config.create_table().map_err(|error| error.to_string())?;
        print(&format!("{statement};\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if args.list || args.status || args.break_hold || args.purge.is_some() {
        return look(&args, Place::of(&args)?).map(ExitCode::from);
    }
    let level = match (args.quiet, args.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    };
    let name = args.name();
    for name in [name].into_iter().chain(args.and.iter().map(String::as_str)) {
        lock_sync::LockName::new(name).map_err(|error| error.to_string())?;
    }
    check_proc()?;
    let Place { config, url, .. } = Place::of(&args)?;
    let place = config.place();
    // The command's process gets ready while the lock is being acquired.
    let handed = Handed::new(&url, &place).map_err(|error| {
        format!("the system cannot keep the URL in memory for the command: {}", missing(&error))
    })?;
    let mut running = match start(&args, &handed)? {
        Ok(running) => running,
        Err(code) => return Ok(code),
    };
    let ending = ending(&args, config.valid_for().map_err(|error| error.to_string())?)?;
    let relaxed = config.is_relaxed();
    writer::start();
    let signalled = Signalled::watch()?;
    let run = Run { args: &args, level, place, relaxed, ending, signalled };
    let mut way = Way::To(Box::new(config));
    loop {
        match run.once(way, running)? {
            Turn::Over(code) => return Ok(ExitCode::from(code)),
            Turn::Again(locks) => way = Way::Known(locks),
        }
        running = match start(&args, &handed)? {
            Ok(running) => running,
            Err(code) => return Ok(code),
        };
    }
}

/// Starts the process that becomes the command, or returns the exit code of a command that cannot be started.
fn start(args: &Args, handed: &Handed) -> Result<Result<Running, ExitCode>, String> {
    Running::start(&args.command, args.name(), handed).map(Ok).or_else(|error| {
        let command = shown(&args.command);
        if error.kind() == std::io::ErrorKind::ArgumentListTooLong {
            say!("{command}: {error}");
            return Ok(Err(ExitCode::from(CANNOT_EXECUTE)));
        }
        Err(format!("the system cannot start a process for {command}: {}", missing(&error)))
    })
}

/// A run: one wait and one hold, or for a leader as many as it takes.
struct Run<'a> {
    args: &'a Args,
    level: Level,
    /// Where the lock is kept, without secrets.
    place: String,
    /// True if grants need not be durable.
    relaxed: bool,
    ending: Ending,
    signalled: Signalled,
}

/// The end of one wait and one hold.
enum Turn {
    /// withlock ends with this code.
    Over(u8),
    /// A leader waits again, with the connection that it has.
    Again(Locks),
}

impl Run<'_> {
    /// Waits for the lock, and runs the command under it.
    fn once(&self, way: Way, running: Running) -> Result<Turn, String> {
        let Self { args, level, place, signalled, .. } = self;
        let (name, level) = (args.name(), *level);
        let stands_by_again = matches!(way, Way::Known(_));
        let patience = Patience::new(args);
        let mut waiting = Waiting::new(name, place, level, patience != Patience::None);
        // Behind shared locks and permits, it would wait for others as well.
        let alone = args.permits.is_none() && !args.shared;
        waiting.around = if alone { nested::held_around(place) } else { Vec::new() };
        let mode = if args.shared { Mode::Shared } else { Mode::Exclusive };
        let (permits, and) = (args.permits, args.and.clone());
        let keep = args.min_hold;
        let wish = Wish { name: name.to_string(), mode, permits, and, keep, patience };
        let reached = signalled.stage.clone();
        let asking = Asking::begin(wish, way, move |locks, news| {
            reached.set(Stage::Waiting(locks, news));
        })
        .map_err(|error| format!("the system cannot start a thread: {}", missing(&error)))?;
        if stands_by_again {
            signalled.catch_up();
        }
        let mut at = None;
        let connected = |locks: Locks, waiting: &mut Waiting| {
            let place = self.whole_place(&locks);
            waiting.is_at(&place);
            at = Some((locks, place));
        };
        let is_useless = || {
            let has_ended = running.has_ended().unwrap_or(false);
            if has_ended {
                signalled.stage.end_wait();
            }
            has_ended
        };
        let guard = match asking.end(&mut waiting, connected, is_useless) {
            Ok(guard) => guard,
            Err(End::Closed) => {
                let code = signalled.interrupted();
                return code.map_or_else(|| not_begun(running), Ok).map(Turn::Over);
            }
            Err(End::Failed(message)) => return Err(message),
        };
        let [until, latest] =
            [args.min_hold, args.max_hold].map(|time| Instant::now().checked_add(time?));
        // From here on, signals go to the command.
        signalled.stage.set(Stage::Over);
        let is_withheld = waiting.withheld.is_some();
        let why = waiting.end();
        let (Some(mut guard), Some((locks, place))) = (guard, at) else {
            return Ok(Turn::Over(not_acquired(&why, is_withheld, args, level)));
        };
        if let Some(code) = signalled.interrupted() {
            guard.cancel_keep();
            release(guard, &locks, signalled);
            return Ok(Turn::Over(code));
        }
        if running.has_ended().unwrap_or(false) {
            guard.cancel_keep();
            release(guard, &locks, signalled);
            return not_begun(running).map(Turn::Over);
        }
        if level == Level::Verbose {
            let permit = guard.permit().map(|number| format!(", permit {number},"));
            let (permit, fence) = (permit.unwrap_or_default(), guard.fence());
            say!("holding {name:?}{permit} with fence {fence} at {place}");
        }
        let sender = signalled.sender.clone();
        guard.on_lost(move |_| {
            let _ = sender.send(Came::LOOK);
        });
        let (ending, leader) = (self.ending, args.leader);
        let hold = Hold { locks: &locks, leader, ending, until, latest, level, signalled };
        match hold.run(guard, running)? {
            Next::Exit(code) => Ok(Turn::Over(code)),
            Next::StandBy => Ok(Turn::Again(locks)),
        }
    }

    /// The place with the table that was found there.
    fn whole_place(&self, locks: &Locks) -> String {
        let relaxed = if self.relaxed { ", durability relaxed" } else { "" };
        match locks.table() {
            Some(table) => format!("{}, table {table}{relaxed}", self.place),
            None => self.place.clone(),
        }
    }
}

/// The end of the command when its lock is lost. TERM comes in the second half of a lease, so that a late
/// renewal does not find the command stopped, and in the second half of `--max-hold`.
fn ending(args: &Args, valid: Duration) -> Result<Ending, String> {
    let most = args.max_hold.map_or(valid, |time| time.min(valid)) / 2;
    let why = match args.max_hold {
        Some(time) if time < valid => "half of --max-hold: use a shorter --grace",
        _ => "five twelfths of the TTL: use a shorter --grace or a longer --ttl",
    };
    match args.grace {
        Some(grace) if grace > most && args.on_lost == OnLost::Term => {
            Err(format!("--grace must not be more than {}, which is {why}", rounded(most)))
        }
        grace => {
            Ok(Ending { on_lost: args.on_lost, grace: grace.unwrap_or((valid / 5).min(most)) })
        }
    }
}

/// A limit for people: a little less, without digits that nobody reads.
fn rounded(limit: Duration) -> Shown {
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let step = match limit {
        0..1_000 => 1,
        1_000..10_000 => 100,
        _ => 1_000,
    };
    Shown(Duration::from_millis(limit / step * step))
}

/// Reports a guardian that ended before the command could begin.
fn not_begun(mut running: Running) -> Result<u8, String> {
    let (status, _) = running.reap().map_err(|error| error.to_string())?;
    let who = match (status.code().map(u8::try_from), status.signal()) {
        // It was said why.
        (Some(Ok(FAILED)), _) => return Ok(FAILED),
        (_, Some(signal)) => format!("the guardian process was killed by signal {signal}"),
        (Some(Ok(code @ 129..)), _) => {
            format!("the process that becomes the command was killed by signal {}", code - 128)
        }
        _ => format!("the guardian process ended with {status}"),
    };
    Err(format!("{who} before the command began"))
}

/// Reports why there is no lock. A command is skipped only because of another holder.
fn not_acquired(why: &str, is_withheld: bool, args: &Args, level: Level) -> u8 {
    if args.skip && !is_withheld {
        if level == Level::Verbose {
            say!("{why}; the command was not run");
        }
        return 0;
    }
    if level != Level::Quiet {
        say!("{why}");
    }
    // `--skip` has one code for a lock that nobody is known to hold, with `--wait` and without.
    let own = if args.wait.is_some() && !args.skip { TIMED_OUT } else { BUSY };
    args.conflict_exit_code.unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TERM comes after half of what is left to the command, or later.
    #[test]
    fn a_grace_is_at_most_half_of_a_hold() {
        let second = Duration::from_secs(1);
        let graced = |options: &str| {
            let line = format!("w a {options} -- true");
            let args = <Args as clap::Parser>::try_parse_from(line.split_whitespace());
            let args = args.unwrap_or_else(|error| panic!("{error}"));
            ending(&args, 50 * second).map(|ending| ending.grace.as_secs())
        };
        for (options, grace) in [
            ("", 10),
            ("--max-hold 10s", 5),
            ("--max-hold 1h", 10),
            ("--grace 25s", 25),
            ("--max-hold 10s --grace 5s", 5),
        ] {
            assert_eq!(graced(options), Ok(grace), "{options}");
        }
        for (options, says) in [
            ("--grace 26s", "a longer --ttl"),
            ("--grace 26s --max-hold 1h", "a longer --ttl"),
            ("--grace 26s --max-hold 50s", "a longer --ttl"),
            ("--grace 6s --max-hold 10s", "half of --max-hold"),
        ] {
            let told = graced(options).expect_err(options);
            assert!(told.contains(says), "{options}: {told}");
        }
    }

    #[test]
    fn a_limit_has_no_digits_that_nobody_reads() {
        let shown = |micros| rounded(Duration::from_micros(micros)).to_string();
        for (micros, text) in
            [(12_499_999, "12s"), (9_999_999, "9s 900ms"), (416_666, "416ms"), (2_500, "2ms")]
        {
            assert_eq!(shown(micros), text);
        }
    }
}

//! Acquires the lock, runs the command, releases the lock.

use crate::args::Args;
use crate::asking::{Asking, End, News, Wish};
use crate::child::{Running, stop_self};
use crate::connect::Patience;
use crate::ending::{Ending, OnLost};
use crate::hold::Hold;
use crate::look::look;
use crate::nested::Handed;
use crate::place::{Place, shown};
use crate::report::{Level, print, say};
use crate::role::CANNOT_EXECUTE;
use crate::signals;
use crate::waiting::Waiting;
use lock_core::duration::Shown;
use lock_sync::{Locks, Mode};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

pub(crate) const FAILED: u8 = 125;
const TIMED_OUT: u8 = 124;
pub(crate) const BUSY: u8 = 75;

/// The stage of the run, which decides what a signal does.
enum Stage {
    Connecting,
    Waiting(Locks, Sender<News>),
    /// The wait is over, and signals go to the command.
    Over,
}

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
    let name = args.name();
    let level = match (args.quiet, args.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    };
    for name in [name].into_iter().chain(args.and.iter().map(String::as_str)) {
        lock_sync::LockName::new(name).map_err(|error| error.to_string())?;
    }
    let Place { config, url, .. } = Place::of(&args)?;
    let place = config.place();
    // The command's process gets ready while the lock is being acquired.
    let handed = Handed::new(&url, &place).map_err(|error| {
        format!("the system cannot keep the URL in memory for the command: {error}")
    })?;
    let running = match Running::start(&args.command, name, &handed) {
        Ok(running) => running,
        Err(error) => {
            let command = shown(&args.command);
            if error.kind() == std::io::ErrorKind::ArgumentListTooLong {
                say!("{command}: {error}");
                return Ok(ExitCode::from(CANNOT_EXECUTE));
            }
            return Err(format!("the system cannot start a process for {command}: {error}"));
        }
    };
    let ending = ending(&args, config.valid_for().map_err(|error| error.to_string())?)?;

    let (sender, events) = channel();
    let ended_by = Arc::new(AtomicI32::new(0));
    let stage = Arc::new(RwLock::new(Stage::Connecting));
    signals::watch(&[], {
        let (sender, ended_by, stage) = (sender.clone(), ended_by.clone(), stage.clone());
        move |signal| {
            let stage = stage.read().unwrap_or_else(PoisonError::into_inner);
            let ends = signals::ENDING.contains(&signal);
            match &*stage {
                // No request has reached the server, and the guardian ends the command's process.
                Stage::Connecting if ends => std::process::exit(128 + signal),
                Stage::Connecting if signal == signals::STOP => stop_self(),
                Stage::Waiting(locks, news) if ends => {
                    ended_by.store(signal, Ordering::SeqCst);
                    let _ = news.send(News::Signal);
                    locks.close();
                }
                Stage::Waiting(locks, _) if signal == signals::STOP => {
                    locks.between_requests(stop_self);
                }
                Stage::Connecting | Stage::Waiting(..) => {}
                Stage::Over => drop(sender.send(signal)),
            }
        }
    })
    .map_err(|error| format!("the system does not let withlock receive signals: {error}"))?;

    let patience = Patience::new(&args);
    let mut waiting = Waiting::new(name, &place, level, patience != Patience::None);
    let mode = if args.shared { Mode::Shared } else { Mode::Exclusive };
    let (permits, and) = (args.permits, args.and.clone());
    let keep = args.min_hold;
    let wish = Wish { name: name.to_string(), mode, permits, and, keep, patience };
    let reached = stage.clone();
    let reach = |stage: &RwLock<Stage>, next| {
        *stage.write().unwrap_or_else(PoisonError::into_inner) = next;
    };
    let relaxed = if config.is_relaxed() { ", durability relaxed" } else { "" };
    let asking = Asking::begin(wish, config, move |locks, news| {
        reach(&reached, Stage::Waiting(locks, news))
    })
    .map_err(|error| format!("the system cannot start a thread: {error}"))?;
    let mut at = None;
    let connected = |locks: Locks, waiting: &mut Waiting| {
        let place = match locks.table() {
            Some(table) => format!("{place}, table {table}{relaxed}"),
            None => place.clone(),
        };
        waiting.is_at(&place);
        at = Some((locks, place));
    };
    let guard = match asking.end(&mut waiting, connected) {
        Ok(guard) => guard,
        Err(End::Closed) => return Ok(ExitCode::from(interrupted(&ended_by).unwrap_or(FAILED))),
        Err(End::Failed(message)) => return Err(message),
    };
    let [until, latest] =
        [args.min_hold, args.max_hold].map(|time| Instant::now().checked_add(time?));
    // From here on, signals go to the command.
    reach(&stage, Stage::Over);
    let why = waiting.end();
    let (Some(guard), Some((locks, place))) = (guard, at) else {
        return Ok(ExitCode::from(not_acquired(&why, &args, level)));
    };
    if let Some(code) = interrupted(&ended_by) {
        let _ = guard.release();
        return Ok(ExitCode::from(code));
    }
    if level == Level::Verbose {
        let permit = guard.permit().map(|number| format!(", permit {number},"));
        let (permit, fence) = (permit.unwrap_or_default(), guard.fence());
        say!("holding {name:?}{permit} with fence {fence} at {place}");
    }
    guard.on_lost(move |_| {
        let _ = sender.send(signals::CHILD);
    });
    let hold = Hold { locks: &locks, ending, until, latest, level, events };
    hold.run(guard, running).map(ExitCode::from)
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
            Err(format!("--grace must not be more than {}, which is {why}", Shown(most)))
        }
        grace => {
            Ok(Ending { on_lost: args.on_lost, grace: grace.unwrap_or((valid / 5).min(most)) })
        }
    }
}

fn interrupted(ended_by: &AtomicI32) -> Option<u8> {
    match ended_by.load(Ordering::SeqCst) {
        0 => None,
        signal => u8::try_from(128 + signal).ok(),
    }
}

fn not_acquired(why: &str, args: &Args, level: Level) -> u8 {
    if args.skip {
        if level == Level::Verbose {
            say!("{why}; the command was not run");
        }
        return 0;
    }
    if level != Level::Quiet {
        say!("{why}");
    }
    let own = if args.wait.is_some() { TIMED_OUT } else { BUSY };
    args.conflict_exit_code.unwrap_or(own)
}

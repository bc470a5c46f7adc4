//! Takes the lock, runs the command, frees the lock.

use crate::args::Args;
use crate::child::{Running, stop_self};
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
use lock_sync::{Error, Guard, Locks, Mode, Wait};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError, RwLock};
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
    let name = args.name();
    let level = match (args.quiet, args.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    };
    lock_sync::LockName::new(name).map_err(|error| error.to_string())?;
    let Place { config, url, .. } = Place::of(&args)?;
    let place = config.place();
    // It gets ready while the lock is being taken.
    let handed = Handed::new(&url, &place)
        .map_err(|error| format!("the place cannot be handed down: {error}"))?;
    let running = match Running::start(&args.command, name, &handed) {
        Ok(running) => running,
        Err(error) => {
            let message = format!("{}: {error}", shown(&args.command));
            if error.kind() == std::io::ErrorKind::ArgumentListTooLong {
                say!("{message}");
                return Ok(ExitCode::from(CANNOT_EXECUTE));
            }
            return Err(message);
        }
    };
    let locks = config.connect().map_err(|error| error.to_string())?;
    let place = match locks.table() {
        Some(table) => format!("{place}, table {table}"),
        None => place,
    };
    let ending = ending(&args, locks.valid_for())?;

    let (sender, events) = channel();
    let ended_by = Arc::new(AtomicI32::new(0));
    let waiting = Arc::new(RwLock::new(Some(locks.clone())));
    signals::watch(&[], {
        let (sender, ended_by, waiting) = (sender.clone(), ended_by.clone(), waiting.clone());
        move |signal| {
            let waiting = waiting.read().unwrap_or_else(PoisonError::into_inner);
            match &*waiting {
                Some(locks) if signals::ENDING.contains(&signal) => {
                    ended_by.store(signal, Ordering::SeqCst);
                    locks.close();
                }
                Some(locks) if signal == signals::STOP => locks.between_requests(stop_self),
                Some(_) => {}
                None => drop(sender.send(signal)),
            }
        }
    })
    .map_err(|error| format!("signals cannot be watched: {error}"))?;

    let waits = args.wait.is_some() || !(args.once || args.skip);
    let mut waiting_for = Waiting::new(name, &place, level, waits);
    let guard = match acquire(&locks, name, &args, &mut waiting_for) {
        Ok(guard) => guard,
        Err(Error::Closed) => return Ok(ExitCode::from(interrupted(&ended_by).unwrap_or(FAILED))),
        Err(error) => return Err(error.to_string()),
    };
    let until = args.min_hold.and_then(|time| Instant::now().checked_add(time));
    // From here on signals are the command's.
    *waiting.write().unwrap_or_else(PoisonError::into_inner) = None;
    let who = waiting_for.end();
    let Some(guard) = guard else {
        return Ok(ExitCode::from(not_acquired(name, &who, &args, level)));
    };
    if let Some(code) = interrupted(&ended_by) {
        let _ = guard.release();
        return Ok(ExitCode::from(code));
    }
    if level == Level::Verbose {
        say!("holding {name:?}, fence {}, at {place}", guard.fence());
    }
    guard.on_lost(move |_| {
        let _ = sender.send(signals::CHILD);
    });
    let hold = Hold { locks: &locks, ending, until, level, events };
    hold.run(guard, running).map(ExitCode::from)
}

/// What is to become of the command when the lock is lost. A renewal that was late must not find it
/// stopped: TERM comes in the later half of a lease.
fn ending(args: &Args, valid: Duration) -> Result<Ending, String> {
    let most = valid / 2;
    match args.grace {
        Some(grace) if grace > most && args.on_lost == OnLost::Term => Err(format!(
            "--grace must not be more than {}, five twelfths of the TTL: have a longer --ttl",
            Shown(most)
        )),
        grace => Ok(Ending { on_lost: args.on_lost, grace: grace.unwrap_or(valid / 5) }),
    }
}

fn acquire(
    locks: &Locks,
    name: &str,
    args: &Args,
    waiting: &mut Waiting,
) -> Result<Option<Guard>, Error> {
    let wait = match args.wait {
        Some(limit) => Wait::For(limit),
        None if args.once || args.skip => Wait::Never,
        None => Wait::Forever,
    };
    let mode = if args.shared { Mode::Shared } else { Mode::Exclusive };
    locks.acquire_as(name, mode, wait, &mut |progress| waiting.tell(progress))
}

fn interrupted(ended_by: &AtomicI32) -> Option<u8> {
    match ended_by.load(Ordering::SeqCst) {
        0 => None,
        signal => u8::try_from(128 + signal).ok(),
    }
}

fn not_acquired(name: &str, who: &str, args: &Args, level: Level) -> u8 {
    if args.skip {
        if level == Level::Verbose {
            say!("somebody else has {name:?}: {who}; skipped");
        }
        return 0;
    }
    if level != Level::Quiet {
        say!("somebody else has {name:?}: {who}");
    }
    let own = if args.wait.is_some() { TIMED_OUT } else { BUSY };
    args.conflict_exit_code.unwrap_or(own)
}

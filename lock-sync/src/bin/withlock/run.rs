//! Takes the lock, runs the command, frees the lock.

use crate::args::Args;
use crate::child::{Running, exit_code, stop_self};
use crate::report::{Level, Waiting, print, printable, say};
use crate::signals;
use lock_sync::{Config, Error, Guard, Locks, ReleaseError, TableName, Wait};
use rustix::process::Signal;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub(crate) const FAILED: u8 = 125;
const TIMED_OUT: u8 = 124;
const LOST: u8 = 123;
const BUSY: u8 = 75;

/// The environment variables that may hold a URL with a password in it. The command does not get
/// them.
const URLS: [&str; 2] = ["WITHLOCK_URL", "PG_CONNECTION_STRING"];

pub(crate) fn run(args: Args) -> Result<ExitCode, String> {
    let config = configure(&args)?;
    if args.ddl {
        let statement = config.create_table().map_err(|error| error.to_string())?;
        print(&format!("{statement};\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let name = args.name.as_deref().unwrap_or_default();
    let level = match (args.quiet, args.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    };
    lock_sync::LockName::new(name).map_err(|error| error.to_string())?;
    let locks = config.connect().map_err(|error| error.to_string())?;

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

    let guard = match acquire(&locks, name, &args, level) {
        Ok(guard) => guard,
        Err(Error::Closed) => return Ok(ExitCode::from(interrupted(&ended_by).unwrap_or(FAILED))),
        Err(error) => return Err(error.to_string()),
    };
    // From here on signals are the command's.
    *waiting.write().unwrap_or_else(PoisonError::into_inner) = None;
    let Some(guard) = guard else { return Ok(ExitCode::from(not_acquired(name, &args, level))) };
    if let Some(code) = interrupted(&ended_by) {
        let _ = guard.release();
        return Ok(ExitCode::from(code));
    }
    if level == Level::Verbose {
        say!("holding {name:?}, fence {}", guard.fence());
    }
    guard.on_lost(move |_| {
        let _ = sender.send(signals::CHILD);
    });
    hold(&locks, guard, &args.command, &events, level).map(ExitCode::from)
}

fn configure(args: &Args) -> Result<Config, String> {
    let config = match given_url(args)? {
        Some(url) => url.parse::<Config>().map_err(|error| error.to_string())?,
        None if args.ddl => Config::sqlite("locks.db"),
        None => Config::sqlite(default_file()?),
    };
    let config = match &args.label {
        Some(label) => config.label(label),
        None => config.default_label(shown(&args.command)),
    };
    let config = match &args.table {
        Some(table) => config.table(TableName::new(table).map_err(|error| error.to_string())?),
        None => config,
    };
    Ok(match args.ttl {
        Some(ttl) => config.ttl(ttl),
        None => config,
    })
}

fn given_url(args: &Args) -> Result<Option<String>, String> {
    if args.db.is_some() {
        return Ok(args.db.clone());
    }
    for name in URLS {
        match std::env::var(name) {
            Ok(url) if !url.is_empty() => return Ok(Some(url)),
            Err(std::env::VarError::NotUnicode(_)) => return Err(format!("{name} is not UTF-8")),
            _ => {}
        }
    }
    Ok(None)
}

/// The program alone: arguments may be secret.
fn shown(command: &[OsString]) -> String {
    command.first().map(|program| printable(program)).unwrap_or_default()
}

/// This user's file, in a folder that nobody else can look into.
fn default_file() -> Result<PathBuf, String> {
    use std::os::unix::fs::DirBuilderExt;
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let folder = state
        .ok_or("neither XDG_STATE_HOME nor HOME is set: name a place with --db sqlite:FILE")?
        .join("withlock");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| {
        format!("{}: {error}; name another place with --db sqlite:FILE", folder.display())
    })?;
    Ok(folder.join("locks.db"))
}

fn acquire(locks: &Locks, name: &str, args: &Args, level: Level) -> Result<Option<Guard>, Error> {
    let wait = match args.wait {
        Some(limit) => Wait::For(limit),
        None if args.once || args.skip => Wait::Never,
        None => Wait::Forever,
    };
    let mut waiting = Waiting::new(name, level);
    locks.acquire(name, wait, &mut |progress| waiting.tell(progress))
}

fn interrupted(ended_by: &AtomicI32) -> Option<u8> {
    match ended_by.load(Ordering::SeqCst) {
        0 => None,
        signal => u8::try_from(128 + signal).ok(),
    }
}

fn not_acquired(name: &str, args: &Args, level: Level) -> u8 {
    if args.skip {
        if level == Level::Verbose {
            say!("somebody else has {name:?}: skipped");
        }
        return 0;
    }
    if level != Level::Quiet {
        say!("somebody else has {name:?}");
    }
    let own = if args.wait.is_some() { TIMED_OUT } else { BUSY };
    args.conflict_exit_code.unwrap_or(own)
}

/// Runs the command under the guard, and ends it before the guard can be lost.
fn hold(
    locks: &Locks,
    guard: Guard,
    command: &[OsString],
    events: &Receiver<i32>,
    level: Level,
) -> Result<u8, String> {
    let environment = [
        ("WITHLOCK_NAME", guard.name().to_string()),
        ("WITHLOCK_FENCE", guard.fence().to_string()),
    ];
    let running = Running::start(command, &environment, &URLS);
    let mut running = running.map_err(|error| format!("{}: {error}", shown(command)))?;
    let (status, stopped) = watch(&mut running, locks, &guard, events)?;
    let name = guard.name().clone();
    let lost = match guard.release() {
        Err(ReleaseError::Lost(reason)) => Some(reason.to_string()),
        Err(error @ ReleaseError::Unconfirmed { .. }) if level != Level::Quiet => {
            say!("{:?}: {error}", name.as_str());
            None
        }
        _ => None,
    };
    if stopped || lost.is_some() {
        let why = lost.unwrap_or_else(|| "it could not be renewed in time".to_string());
        let what =
            if stopped { "the command was stopped" } else { "the command had ended just then" };
        say!("the lock {:?} was lost ({why}); {what}", name.as_str());
        return Ok(LOST);
    }
    Ok(exit_code(status))
}

/// Waits for the command's end. Whether it was stopped because of the lock.
fn watch(
    running: &mut Running,
    locks: &Locks,
    guard: &Guard,
    events: &Receiver<i32>,
) -> Result<(ExitStatus, bool), String> {
    // TERM comes early enough that there is time to clean up before KILL, which comes at the
    // deadline: a sixth of the TTL, as what counts of a lease is five sixths.
    let grace = guard.valid_for() / 5;
    let mut warned = false;
    loop {
        if running.has_ended().map_err(|error| error.to_string())? {
            if warned {
                // What it started must not outlive the lease either.
                running.signal(Signal::KILL);
            }
            return Ok((running.reap().map_err(|error| error.to_string())?, warned));
        }
        let remaining = guard.remaining();
        if remaining.is_zero() {
            running.signal(Signal::KILL);
            warned = true;
        } else if remaining <= grace && !warned {
            running.signal(Signal::TERM);
            warned = true;
        }
        let next = if warned { remaining } else { remaining.saturating_sub(grace) };
        // Timers do not count suspended time: look now and then.
        let nap = next.clamp(Duration::from_millis(1), Duration::from_secs(1));
        match events.recv_timeout(nap) {
            Ok(signals::CHILD) | Err(RecvTimeoutError::Timeout) => {}
            Ok(signals::STOP) => {
                running.signal(Signal::STOP);
                locks.between_requests(stop_self);
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

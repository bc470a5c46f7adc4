//! Actions for operators: listing, showing, breaking and purging locks.

use crate::args::Args;
use crate::place::Place;
use crate::report::{print, printable, say, seconds};
use crate::run::BUSY;
use comfy_table::{ContentArrangement, Table, presets};
use lock_sync::{Admin, Fence, Hold, LockName, LockState};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::time::Duration;

/// Does the action that was given instead of a command. Returns the exit code.
///
/// It creates nothing: neither a table nor a file.
pub(crate) fn look(args: &Args, Place { config, own, .. }: Place) -> Result<u8, String> {
    let name = args.name();
    if !args.list && args.purge.is_none() {
        LockName::new(name).map_err(|error| error.to_string())?;
    }
    let place = config.place();
    if args.verbose {
        say!("locks are kept at {place}");
    }
    let plain = |error: lock_sync::Error| error.to_string();
    // Without a named place and without this user's own file, there are no locks.
    let nothing = args.table.is_none() && own.is_some_and(|file| file.symlink_metadata().is_err());
    let mut admin = if nothing { None } else { Some(Admin::open(config).map_err(plain)?) };
    if args.list {
        let locks = admin.map_or(Ok(Vec::new()), |mut admin| admin.list()).map_err(plain)?;
        print(&if args.json { array(&locks) } else { table(&locks) });
        return Ok(0);
    }
    if let Some(unused) = args.purge {
        let count = admin.map_or(Ok(0), |mut admin| admin.purge(unused)).map_err(plain)?;
        if !args.quiet {
            say!("removed {count} {}", if count == 1 { "row" } else { "rows" });
        }
        return Ok(0);
    }
    let mut find = |name: &LockName| {
        admin.as_mut().map_or(Ok(None), |admin| admin.status(name.clone())).map_err(plain)
    };
    // A lock may be called like a permit.
    let lock = LockName::new(name).map_err(|error| error.to_string())?;
    let state = match (find(&lock)?, permit(name)) {
        (None, Some(permit)) => find(&permit)?.unwrap_or_else(|| unknown(permit.as_str())),
        (found, _) => found.unwrap_or_else(|| unknown(name)),
    };
    match admin {
        Some(mut admin) if args.break_hold => force(args, &mut admin, &state).map_err(plain),
        _ if args.break_hold => {
            tell(args, sentence(&state));
            Ok(0)
        }
        Some(mut admin) => Ok(status_with_permits(args, &state, &admin.list().map_err(plain)?)),
        None => Ok(status(args, &state)),
    }
}

/// A permit by the name that `--list` shows: `NAME (permit 2)`.
fn permit(name: &str) -> Option<LockName> {
    let (of, number) = name.strip_suffix(')')?.rsplit_once(" (permit ")?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    LockName::new(of).ok()?.permits(number).ok()?.pop()
}

/// A lock's name in a sentence.
fn quoted(name: &str) -> String {
    match LockName::permit_of(name) {
        Some((of, number)) => format!("{:?}", format!("{of} (permit {number})")),
        None => format!("{name:?}"),
    }
}

/// A lock without a row: never acquired, or purged.
fn unknown(name: &str) -> LockState {
    LockState::new(name, Fence::default(), None)
}

fn status(args: &Args, state: &LockState) -> u8 {
    match (args.quiet, args.json) {
        (true, _) => {}
        (_, true) => print(&(object(state) + "\n")),
        (_, false) => print(&format!("{}\n", sentence(state))),
    }
    match state.hold {
        Some(_) => args.conflict_exit_code.unwrap_or(BUSY),
        None => 0,
    }
}

/// The same, and that of the permits of this name that are held: they are what is shown, unless the lock itself is held.
fn status_with_permits(args: &Args, state: &LockState, held: &[LockState]) -> u8 {
    let is_permit =
        |lock: &LockState| LockName::permit_of(&lock.name).is_some_and(|(of, _)| of == state.name);
    let permits: Vec<&LockState> = held.iter().filter(|lock| is_permit(lock)).collect();
    let own = (state.hold.is_some() || permits.is_empty()).then_some(state);
    let codes = own.into_iter().chain(permits).map(|shown| status(args, shown));
    codes.max().unwrap_or_default()
}

/// Takes the lock from its holder, if `--yes` or a person agrees.
fn force(args: &Args, admin: &mut Admin, state: &LockState) -> Result<u8, lock_sync::Error> {
    let busy = args.conflict_exit_code.unwrap_or(BUSY);
    if state.hold.is_none() {
        tell(args, sentence(state));
        return Ok(0);
    }
    if !args.yes && !agreed(state) {
        return Ok(busy);
    }
    // Only the hold that was shown is broken. Someone else may have acquired the lock meanwhile.
    match admin.break_hold(state, state.fence)? {
        Some(fence) => {
            let name = quoted(&state.name);
            let done = match state.hold {
                Some(Hold { kept: true, .. }) => format!("{name} is kept no longer"),
                _ => format!("took {name} from its holder"),
            };
            tell(args, format!("{done}; its fence is now {fence}"));
            Ok(0)
        }
        None => {
            let now = admin.status(state)?.unwrap_or_else(|| unknown(&state.name));
            let fence = state.fence;
            tell(
                args,
                format!("the hold with fence {fence} had already ended; {}", sentence(&now)),
            );
            Ok(if now.hold.is_some() { busy } else { 0 })
        }
    }
}

fn tell(args: &Args, text: String) {
    if !args.quiet {
        say!("{text}");
    }
}

/// Asks the person at the terminal. Without a terminal, the answer is no.
fn agreed(state: &LockState) -> bool {
    if !(stdin().is_terminal() && stderr().is_terminal()) {
        say!("{}; without a terminal, --break needs --yes", sentence(state));
        return false;
    }
    say!("{}", sentence(state));
    let _ = write!(stderr(), "withlock: {} [y/N] ", question(state));
    let mut answer = String::new();
    // A closed terminal is a no.
    stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// The question before a hold is broken. Of a lock that is kept, no command is running any more.
fn question(state: &LockState) -> &'static str {
    match state.hold {
        Some(Hold { kept: true, .. }) => "free the lock?",
        _ => "take the lock from its holder? Its command may still be running.",
    }
}

/// The note at a lease that ends later than its TTL allows.
const ENDS_LATE: &str = " (the server's clock was set back after the grant)";

/// The note at a lock that nobody holds.
const KEPT: &str = " (released, and kept)";

fn sentence(state: &LockState) -> String {
    let LockState { name, fence, hold, .. } = state;
    let name = quoted(name);
    match hold {
        Some(Hold { label, expires_in, kept: true, .. }) => {
            let left = expires_in.map(|time| format!(" for {}", seconds(time)));
            format!(
                "{name} was released by {}, and is kept{}; its fence is {fence}",
                printable(label),
                left.unwrap_or_default(),
            )
        }
        Some(Hold { label, held_for, expires_in, ends_late, .. }) => {
            let since = held_for.map(|time| format!(" for {}", seconds(time)));
            let until =
                expires_in.map(|time| format!(", and expires in {} unless renewed", seconds(time)));
            format!(
                "{name} is held by {}{}, with fence {fence}{}{}",
                printable(label),
                since.unwrap_or_default(),
                until.unwrap_or_default(),
                if *ends_late { ENDS_LATE } else { "" },
            )
        }
        None if *fence == Fence::default() => {
            format!("{name} is free, and there is no record of it")
        }
        None => format!("{name} is free; its fence is {fence}"),
    }
}

fn table(locks: &[LockState]) -> String {
    if locks.is_empty() {
        return "no lock is held\n".to_string();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Ok(size) = tcgetwinsize(stdout())
        && size.ws_col > 0
    {
        table.set_width(size.ws_col);
    }
    table.set_header(["NAME", "HOST", "PID", "LABEL", "FENCE", "HELD FOR", "EXPIRES IN"]);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    for lock in locks {
        let shown = Shown::of(lock);
        let shown_time = |time: Option<Duration>| time.map(|time| seconds(time).to_string());
        let times = lock.hold.as_ref().map(|hold| (hold.held_for, hold.expires_in));
        let (held_for, expires_in) = times.unwrap_or_default();
        table.add_row([
            printable(match shown.permit {
                Some(number) => format!("{} (permit {number})", shown.name),
                None => shown.name.to_string(),
            }),
            printable(shown.host.or(shown.holder).unwrap_or_default()),
            shown.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            printable(shown.label.unwrap_or_default()),
            shown.fence.to_string(),
            shown_time(held_for).unwrap_or_default(),
            shown_time(expires_in).unwrap_or_default()
                + match (shown.ends_late, shown.kept) {
                    (true, _) => ENDS_LATE,
                    (_, true) => KEPT,
                    _ => "",
                },
        ]);
    }
    table.trim_fmt() + "\n"
}

/// The locks as a JSON array with one lock per line.
fn array(locks: &[LockState]) -> String {
    if locks.is_empty() {
        return "[]\n".to_string();
    }
    let objects: Vec<_> = locks.iter().map(object).collect();
    format!("[\n{}\n]\n", objects.join(",\n"))
}

fn object(lock: &LockState) -> String {
    // Numbers and text can always be serialized.
    serde_json::to_string(&Shown::of(lock)).unwrap_or_default()
}

/// A lock in the form that scripts read.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    /// The number of the permit, if the name is a semaphore's.
    #[serde(skip_serializing_if = "Option::is_none")]
    permit: Option<u32>,
    held: bool,
    fence: u64,
    /// The holder's text in the table.
    holder: Option<&'a str>,
    host: Option<&'a str>,
    pid: Option<u32>,
    label: Option<&'a str>,
    held_for_seconds: Option<f64>,
    expires_in_seconds: Option<f64>,
    /// True if the lease ends later than its TTL allows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ends_late: bool,
    /// True if it was released, and is kept until it expires.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    kept: bool,
}

impl<'a> Shown<'a> {
    fn of(lock: &'a LockState) -> Self {
        let holder = lock.hold.as_ref();
        let text = holder.map(|holder| holder.label.as_str());
        let parts = text.and_then(parts);
        let span = |time: Duration| time.as_millis() as f64 / 1_000.0;
        let permit = LockName::permit_of(&lock.name);
        Self {
            name: permit.map_or(&lock.name, |(name, _)| name),
            permit: permit.map(|(_, number)| number),
            held: holder.is_some(),
            fence: lock.fence.get(),
            holder: text,
            host: parts.map(|(host, ..)| host),
            pid: parts.map(|(_, pid, _)| pid),
            label: parts.and_then(|(.., label)| label),
            held_for_seconds: holder.and_then(|holder| holder.held_for).map(span),
            expires_in_seconds: holder.and_then(|holder| holder.expires_in).map(span),
            ends_late: holder.is_some_and(|holder| holder.ends_late),
            kept: holder.is_some_and(|holder| holder.kept),
        }
    }
}

/// Host, process id and label, if the holder's text has the form `HOST pid 123 (LABEL)`.
fn parts(holder: &str) -> Option<(&str, u32, Option<&str>)> {
    let (host, rest) = holder.split_once(" pid ")?;
    let (pid, label) = rest.split_once(' ').unwrap_or((rest, ""));
    let label = label.strip_prefix('(').map(|label| label.strip_suffix(')').unwrap_or(label));
    Some((host, pid.parse().ok()?, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_taken_apart() {
        for (text, expected) in [
            ("db1 pid 7 (sh)", Some(("db1", 7, Some("sh")))),
            ("db1 pid 7", Some(("db1", 7, None))),
            ("db1 pid 7 (a (b) c)", Some(("db1", 7, Some("a (b) c")))),
            ("db1 pid 7 (cut o", Some(("db1", 7, Some("cut o")))),
            ("somebody else", None),
            ("db1 pid many", None),
            ("", None),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }
}

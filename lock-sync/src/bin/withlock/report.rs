//! What people read, on standard error. Standard output is the command's alone.

use lock_sync::{Holder, Progress};
use rustix::termios::tcgetwinsize;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Writes a line to standard error. That it cannot be written must change nothing else.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "withlock: {}", format_args!($($text)*));
    }};
}
pub(crate) use say;

/// Writes to standard output what was asked for. Who closes the pipe early has read enough.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A program's name on one line.
pub(crate) fn printable(program: &OsStr) -> String {
    program.to_string_lossy().replace(char::is_control, "?")
}

/// Who is told how much.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Quiet,
    Normal,
    Verbose,
}

/// Tells about a wait: a line that follows the time on a terminal, single lines elsewhere.
pub(crate) struct Waiting {
    name: String,
    level: Level,
    line: Option<Line>,
    in_trouble: bool,
}

impl Waiting {
    pub(crate) fn new(name: &str, level: Level) -> Self {
        Self { name: name.to_string(), level, line: None, in_trouble: false }
    }

    pub(crate) fn tell(&mut self, progress: &Progress) {
        match progress {
            Progress::Busy(holder) => {
                self.in_trouble = false;
                if stderr().is_terminal() && self.level != Level::Quiet {
                    let line = self.line.get_or_insert_with(|| Line::start(self.name.clone()));
                    line.holder(holder.as_ref());
                } else if self.level == Level::Verbose {
                    say!("waiting for {:?}{}", self.name, held_by(holder.as_ref(), Duration::ZERO));
                }
            }
            Progress::Trouble(message) if !self.in_trouble && self.level != Level::Quiet => {
                self.in_trouble = true;
                self.line = None;
                say!("waiting for {:?}: {message}; trying again", self.name);
            }
            _ => {}
        }
    }
}

fn held_by(holder: Option<&Holder>, since: Duration) -> String {
    match holder {
        Some(holder) => {
            format!(", held by {} for {}", holder.label, seconds(holder.held_for + since))
        }
        None => String::new(),
    }
}

fn seconds(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(duration.as_secs()))
}

/// A line on the terminal that is written anew every second, and wiped when dropped.
struct Line(Arc<(Mutex<State>, Condvar)>);

struct State {
    name: String,
    began: Instant,
    holder: Option<(Holder, Instant)>,
    done: bool,
}

impl Line {
    fn start(name: String) -> Self {
        let state = State { name, began: Instant::now(), holder: None, done: false };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let writer = shared.clone();
        // Without the thread there is no progress to see, and no harm.
        let _ = std::thread::Builder::new()
            .name("progress".to_string())
            .spawn(move || keep_writing(&writer));
        Self(shared)
    }

    fn holder(&self, holder: Option<&Holder>) {
        lock(&self.0.0).holder = holder.map(|holder| (holder.clone(), Instant::now()));
        self.0.1.notify_all();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        state.done = true;
        // Written under the mutex, so that the writer cannot follow with one more line.
        write("");
        self.0.1.notify_all();
    }
}

fn keep_writing((state, changed): &(Mutex<State>, Condvar)) {
    let mut state = lock(state);
    while !state.done {
        let holder = state.holder.as_ref();
        let held = held_by(
            holder.map(|(holder, _)| holder),
            holder.map_or(Duration::ZERO, |(_, seen)| seen.elapsed()),
        );
        write(&format!(
            "withlock: waiting for {:?} since {}{held}",
            state.name,
            seconds(state.began.elapsed())
        ));
        state = changed
            .wait_timeout(state, Duration::from_secs(1))
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// Replaces the terminal's current line, without going on to the next: that could not be wiped.
fn write(text: &str) {
    let columns = tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
    // A terminal that does not know its width says 0.
    let width = if columns == 0 { usize::MAX } else { columns };
    let text: String = text.chars().take(width - 1).collect();
    let _ = write!(stderr(), "\r\x1b[K{text}");
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

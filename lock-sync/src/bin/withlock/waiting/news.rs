//! The lines that tell of a wait as it goes on.

use super::seen::Seen;
use crate::report::{Level, say, seconds};
use crate::writer;
use rustix::termios::tcgetwinsize;
use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use unicode_width::UnicodeWidthChar;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// The thread that tells of the wait as it goes on.
pub(super) struct News {
    shared: Arc<(Mutex<State>, Condvar)>,
    pub(super) on_terminal: bool,
    level: Level,
}

pub(super) struct State {
    name: String,
    place: String,
    began: Instant,
    holder: Option<Seen>,
    /// The last error, while the server cannot be reached.
    trouble: Option<String>,
    done: bool,
}

impl News {
    pub(super) fn start(state: State, level: Level) -> Self {
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let (known, on_terminal) = (shared.clone(), stderr().is_terminal());
        // Without a thread there are no reports, which does no harm.
        let _ = std::thread::Builder::new().name("progress".to_string()).spawn(move || {
            if on_terminal { keep_writing(&known) } else { keep_telling(&known, level) }
        });
        Self { shared, on_terminal, level }
    }

    pub(super) fn holder(&self, name: &str, holder: Option<Seen>) {
        let mut state = lock(&self.shared.0);
        state.name = name.to_string();
        state.holder = holder;
        state.trouble = None;
        drop(state);
        self.shared.1.notify_all();
        if !self.on_terminal && self.level == Level::Verbose {
            say!("{}", self.line());
        }
    }

    pub(super) fn trouble(&self, message: &str) {
        let mut state = lock(&self.shared.0);
        state.holder = None;
        state.trouble = Some(message.to_string());
    }

    pub(super) fn line(&self) -> String {
        lock(&self.shared.0).line()
    }
}

impl Drop for News {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.0);
        state.done = true;
        if self.on_terminal {
            // The mutex is held, so that the thread cannot add another line.
            writer::put(rewritten(""));
        }
        self.shared.1.notify_all();
        drop(state);
        writer::flush();
    }
}

impl State {
    pub(super) fn new(name: &str, place: &str, began: Instant) -> Self {
        let (name, place) = (name.to_string(), place.to_string());
        Self { name, place, began, holder: None, trouble: None, done: false }
    }

    fn line(&self) -> String {
        let waited = self.began.elapsed();
        let waited = match waited.as_secs() {
            0 => String::new(),
            _ => format!(" for {}", seconds(waited)),
        };
        let why = self.trouble.as_ref();
        let trouble = why.map_or_else(String::new, |why| format!(": {why}; trying again"));
        format!("waiting for {:?}{waited}{} at {}{trouble}", self.name, self.held_by(), self.place)
    }

    fn held_by(&self) -> String {
        let Some(holder) = &self.holder else { return String::new() };
        match holder.kept_for() {
            Some(left) => {
                format!(" (released by {}, kept for {} more)", holder.label, seconds(left))
            }
            None => format!(" (held by {} for {})", holder.label, seconds(holder.held_for())),
        }
    }
}

/// Rewrites one line every second.
fn keep_writing((state, changed): &(Mutex<State>, Condvar)) {
    let mut state = lock(state);
    while !state.done {
        writer::put_if_idle(rewritten(&format!("withlock: {}", state.line())));
        let waited = changed.wait_timeout(state, Duration::from_secs(1));
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Writes a line now and then.
fn keep_telling((state, changed): &(Mutex<State>, Condvar), level: Level) {
    let mut state = lock(state);
    let mut due = next(Duration::ZERO, level);
    while !state.done {
        let waited = state.began.elapsed();
        if waited >= due {
            writer::put(format!("withlock: {}\n", state.line()));
            due = next(waited, level);
        }
        let waited = changed.wait_timeout(state, due.saturating_sub(waited));
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// What replaces the terminal's current line. It never wraps, because a second line could not be wiped.
fn rewritten(text: &str) -> String {
    let columns = tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
    // A terminal that does not know its width reports 0.
    let width = if columns == 0 { usize::MAX } else { columns };
    format!("\r\x1b[K{}", narrowed(text, width - 1))
}

/// The beginning of a text that takes no more than so many columns. Some characters take two, some none.
fn narrowed(text: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |c: &char| match left.checked_sub(c.width().unwrap_or(0)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    text.chars().take_while(fits).collect()
}

/// Age of the wait at the next line after the one at `waited`, without a terminal.
pub(super) fn next(waited: Duration, level: Level) -> Duration {
    let early: &[Duration] = if level == Level::Verbose { &[MINUTE / 6] } else { &[] };
    let times = early.iter().copied().chain([MINUTE, 10 * MINUTE]);
    // Then every full hour.
    let hour = HOUR.saturating_mul(u32::try_from(waited.as_secs() / 3600 + 1).unwrap_or(u32::MAX));
    times.into_iter().find(|time| *time > waited).unwrap_or(hour)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_wide_as_its_columns() {
        assert_eq!(narrowed("abc", 2), "ab");
        assert_eq!(narrowed("abc", usize::MAX), "abc");
        assert_eq!(narrowed("日本語", 5), "日本");
        assert_eq!(narrowed("e\u{301}tat", 2), "e\u{301}t");
    }

    #[test]
    fn a_long_wait_is_told_of_less_and_less_often() {
        let times = |level| {
            let mut told = vec![Duration::ZERO];
            while told.len() < 6 {
                told.push(next(told[told.len() - 1], level));
            }
            told
        };
        assert_eq!(times(Level::Verbose), [0, 10, 60, 600, 3600, 7200].map(Duration::from_secs));
        assert_eq!(times(Level::Normal), [0, 60, 600, 3600, 7200, 10800].map(Duration::from_secs));
    }
}

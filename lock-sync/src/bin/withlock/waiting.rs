//! What people read of a wait: who has the lock, since when, and how long we have waited.
//!
//! On a terminal it is one line that follows the time. Elsewhere it is a line now and then: at once
//! and soon for those who asked (`-v`), else only when the wait gets long.

use crate::report::{Level, printable, say, seconds};
use lock_sync::{Holder, Progress};
use rustix::termios::tcgetwinsize;
use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Tells about a wait, until it is dropped.
pub(crate) struct Waiting {
    name: String,
    place: String,
    level: Level,
    /// Whether there is a wait to tell of.
    waits: bool,
    busy: bool,
    holder: Option<Seen>,
    news: Option<News>,
    /// When the server could first not be asked, and after how long that is told again.
    trouble: Option<(Instant, Duration)>,
    /// The last trouble, unless the server has answered since.
    last: Option<String>,
    began: Instant,
}

/// A holder, and when it was seen.
#[derive(Clone)]
struct Seen {
    label: String,
    held_for: Duration,
    at: Instant,
}

impl Seen {
    fn new(holder: &Holder) -> Self {
        // What others wrote must give the terminal no orders.
        let label = printable(&holder.label);
        Self { label, held_for: holder.held_for, at: Instant::now() }
    }

    fn held_for(&self) -> Duration {
        self.held_for.saturating_add(self.at.elapsed())
    }
}

impl Waiting {
    pub(crate) fn new(name: &str, place: &str, level: Level, waits: bool) -> Self {
        let (name, place, holder, news) = (name.to_string(), place.to_string(), None, None);
        let (busy, trouble, last, began) = (false, None, None, Instant::now());
        Self { name, place, level, waits, busy, holder, news, trouble, last, began }
    }

    /// The place is known better: that of the table, once connected.
    pub(crate) fn is_at(&mut self, place: &str) {
        self.place = place.to_string();
    }

    pub(crate) fn tell(&mut self, progress: &Progress) {
        match progress {
            Progress::Busy(holder) => {
                (self.trouble, self.last) = (None, None);
                let seen = holder.as_ref().map(Seen::new);
                let label = |seen: &Option<Seen>| seen.as_ref().map(|seen| seen.label.clone());
                // The end of a wait is told with the times of a look that may be long ago.
                if self.busy && label(&seen) == label(&self.holder) {
                    return;
                }
                self.busy = true;
                self.holder = seen;
                if self.waits && self.level != Level::Quiet {
                    let start = || {
                        let state = State::new(&self.name, &self.place, self.began);
                        News::start(state, self.level)
                    };
                    self.news.get_or_insert_with(start).holder(self.holder.clone());
                }
            }
            Progress::Trouble(message) => self.trouble(message),
            _ => {}
        }
    }

    /// The server cannot be asked: that is told at once, and now and then as long as it lasts.
    pub(crate) fn trouble(&mut self, message: &str) {
        // The last known holder may be gone by now.
        self.busy = false;
        self.holder = None;
        self.last = Some(message.to_string());
        match &self.news {
            Some(news) if news.on_terminal => self.news = None,
            Some(news) => news.trouble(message),
            None => {}
        }
        if self.level == Level::Quiet {
            return;
        }
        let (began, due) = *self.trouble.get_or_insert((Instant::now(), Duration::ZERO));
        let lasted = began.elapsed();
        if lasted < due {
            return;
        }
        self.trouble = Some((began, next(lasted, self.level)));
        say!("waiting for {:?}, at {}: {message}; trying again", self.name, self.place);
    }

    /// The first connect takes its time.
    pub(crate) fn silence(&self) {
        if self.waits && self.level != Level::Quiet {
            say!("waiting for {:?}, at {}: no answer yet", self.name, self.place);
        }
    }

    /// Whether somebody else had the lock when the server was last asked.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Why the server could not be asked, if that was the last that was heard of it.
    pub(crate) fn last_trouble(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Ends the telling. Who has the lock, for how long, as far as that is known.
    pub(crate) fn end(self) -> String {
        match &self.holder {
            // Consul does not tell since when.
            Some(holder) if holder.held_for().as_secs() == 0 => holder.label.clone(),
            Some(holder) => format!("{}, for {}", holder.label, seconds(holder.held_for())),
            None => "the server does not tell who".to_string(),
        }
    }
}

/// When the wait is next told of, after it has been told of at `waited`, without a terminal.
fn next(waited: Duration, level: Level) -> Duration {
    let early: &[Duration] = if level == Level::Verbose { &[MINUTE / 6] } else { &[] };
    let times = early.iter().copied().chain([MINUTE, 10 * MINUTE]);
    // Then every full hour.
    let hour = HOUR.saturating_mul(u32::try_from(waited.as_secs() / 3600 + 1).unwrap_or(u32::MAX));
    times.into_iter().find(|time| *time > waited).unwrap_or(hour)
}

/// A thread that tells the news.
struct News {
    shared: Arc<(Mutex<State>, Condvar)>,
    on_terminal: bool,
    level: Level,
}

struct State {
    name: String,
    place: String,
    began: Instant,
    holder: Option<Seen>,
    /// Why the server could not be asked, if that is so.
    trouble: Option<String>,
    done: bool,
}

impl News {
    fn start(state: State, level: Level) -> Self {
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let (writer, on_terminal) = (shared.clone(), stderr().is_terminal());
        // Without the thread there is no progress to see, and no harm.
        let _ = std::thread::Builder::new().name("progress".to_string()).spawn(move || {
            if on_terminal { keep_writing(&writer) } else { keep_telling(&writer, level) }
        });
        Self { shared, on_terminal, level }
    }

    fn holder(&self, holder: Option<Seen>) {
        let mut state = lock(&self.shared.0);
        state.holder = holder;
        state.trouble = None;
        if !self.on_terminal && self.level == Level::Verbose {
            say!("{}", state.line());
        }
        self.shared.1.notify_all();
    }

    fn trouble(&self, message: &str) {
        let mut state = lock(&self.shared.0);
        state.holder = None;
        state.trouble = Some(message.to_string());
    }
}

impl Drop for News {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.0);
        state.done = true;
        if self.on_terminal {
            // Written under the mutex, so that the writer cannot follow with one more line.
            write("");
        }
        self.shared.1.notify_all();
    }
}

impl State {
    fn new(name: &str, place: &str, began: Instant) -> Self {
        let (name, place) = (name.to_string(), place.to_string());
        Self { name, place, began, holder: None, trouble: None, done: false }
    }

    fn line(&self) -> String {
        let waited = self.began.elapsed();
        let waited = match waited.as_secs() {
            0 => String::new(),
            _ => format!(" for {}", seconds(waited)),
        };
        let trouble = self.trouble.as_ref().map_or_else(String::new, |why| format!("; {why}"));
        format!("waiting{waited} for {:?}{}, at {}{trouble}", self.name, self.held_by(), self.place)
    }

    fn held_by(&self) -> String {
        match &self.holder {
            Some(holder) => {
                format!(", held by {} for {}", holder.label, seconds(holder.held_for()))
            }
            None => String::new(),
        }
    }
}

/// One line, written anew every second.
fn keep_writing((state, changed): &(Mutex<State>, Condvar)) {
    let mut state = lock(state);
    while !state.done {
        let waited = seconds(state.began.elapsed());
        write(&format!(
            "withlock: waiting for {:?} since {waited}{}, at {}",
            state.name,
            state.held_by(),
            state.place
        ));
        let waited = changed.wait_timeout(state, Duration::from_secs(1));
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// A line now and then.
fn keep_telling((state, changed): &(Mutex<State>, Condvar), level: Level) {
    let mut state = lock(state);
    let mut due = next(Duration::ZERO, level);
    while !state.done {
        let waited = state.began.elapsed();
        if waited >= due {
            say!("{}", state.line());
            due = next(waited, level);
        }
        let waited = changed.wait_timeout(state, due.saturating_sub(waited));
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(label: &str) -> Progress {
        Progress::Busy(Some(Holder {
            label: label.to_string(),
            held_for: MINUTE,
            expires_in: MINUTE,
            wanted: false,
        }))
    }

    fn told(waiting: &Waiting) -> String {
        lock(&waiting.news.as_ref().expect("it waits").shared.0).line()
    }

    #[test]
    fn a_holder_is_named_for_as_long_as_the_server_tells() {
        let mut waiting = Waiting::new("n", "here", Level::Normal, true);
        waiting.tell(&holder("one"));
        assert_eq!(told(&waiting), "waiting for \"n\", held by one for 1m, at here");
        waiting.tell(&Progress::Trouble("the disk is full".to_string()));
        assert_eq!(told(&waiting), "waiting for \"n\", at here; the disk is full");
        waiting.tell(&Progress::Trouble("the disk is broken".to_string()));
        assert_eq!(told(&waiting), "waiting for \"n\", at here; the disk is broken");
        waiting.tell(&holder("one"));
        assert_eq!(told(&waiting), "waiting for \"n\", held by one for 1m, at here");
        waiting.tell(&Progress::Trouble("the disk is full".to_string()));
        assert_eq!(waiting.end(), "the server does not tell who");
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

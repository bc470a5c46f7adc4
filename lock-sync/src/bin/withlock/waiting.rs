//! Messages about a wait: the holder, how long it has held the lock, and how long the wait has lasted.
//!
//! A terminal shows one line that is kept up to date. Elsewhere, a line is written now and then: with `-v` at
//! once and after ten seconds, else from one minute on.

mod seen;

use crate::report::{Level, say, seconds};
use lock_sync::Progress;
use rustix::termios::tcgetwinsize;
use seen::Seen;
use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Reports a wait until it is dropped.
pub(crate) struct Waiting {
    /// The lock. Of several, the one that someone else was last seen to hold.
    name: String,
    place: String,
    level: Level,
    /// True if withlock waits for the lock at all.
    waits: bool,
    /// The lock that the withlock around this one has.
    pub(crate) around: Option<String>,
    busy: bool,
    /// The reason of a denial though nobody is known to hold the lock.
    pub(crate) withheld: Option<String>,
    holder: Option<Seen>,
    news: Option<News>,
    /// Start of the time in which the server cannot be reached, and the age at which that is reported again.
    trouble: Option<(Instant, Duration)>,
    /// The last error, unless the server has answered since.
    last: Option<String>,
    began: Instant,
}

impl Waiting {
    pub(crate) fn new(name: &str, place: &str, level: Level, waits: bool) -> Self {
        let (name, place, holder, news) = (name.to_string(), place.to_string(), None, None);
        let (busy, trouble, last, began) = (false, None, None, Instant::now());
        let (around, withheld) = (None, None);
        Self {
            name,
            place,
            level,
            waits,
            around,
            busy,
            withheld,
            holder,
            news,
            trouble,
            last,
            began,
        }
    }

    /// Replaces the place by one that names the table, once connected.
    pub(crate) fn is_at(&mut self, place: &str) {
        self.place = place.to_string();
    }

    /// The place, without secrets.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn tell(&mut self, progress: &Progress) {
        match progress {
            Progress::Busy(busy) => {
                (self.trouble, self.last) = (None, None);
                self.withheld = busy.withheld.then(|| busy.to_string());
                let seen = busy.holder.as_ref().map(Seen::new);
                let who = |seen: &Option<Seen>| {
                    seen.as_ref().map(|seen| (seen.label.clone(), seen.kept_until.is_some()))
                };
                // The end of a wait repeats the last holder, with times that may be old. The first ones stay.
                let same = self.name == busy.name.as_str() && who(&seen) == who(&self.holder);
                if self.busy && same {
                    return;
                }
                self.busy = true;
                self.name = busy.name.to_string();
                self.holder = seen;
                if self.waits && self.level != Level::Quiet {
                    if let Some(name) = self.around.take_if(|name| *name == self.name) {
                        say!(
                            "this is a command of a withlock that holds {name:?}, and so waits for its own end"
                        );
                    }
                    let start = || {
                        let state = State::new(&self.name, &self.place, self.began);
                        News::start(state, self.level)
                    };
                    self.news.get_or_insert_with(start).holder(&self.name, self.holder.clone());
                }
            }
            Progress::Trouble(message) => self.trouble(message),
            _ => {}
        }
    }

    /// Reports that the server cannot be reached: at once, and now and then while it lasts.
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
        // Without a wait, the error at the end says it.
        if self.level == Level::Quiet || !self.waits {
            return;
        }
        let (began, due) = *self.trouble.get_or_insert((Instant::now(), Duration::ZERO));
        let lasted = began.elapsed();
        if lasted < due {
            return;
        }
        self.trouble = Some((began, next(lasted, self.level)));
        say!("waiting for {:?} at {}: {message}; trying again", self.name, self.place);
    }

    /// Reports that the first connect takes long.
    pub(crate) fn silence(&self) {
        if self.waits && self.level != Level::Quiet {
            say!("waiting for {:?} at {}: the server has not answered yet", self.name, self.place);
        }
    }

    /// True if someone else held the lock at the server's last answer.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// The last error, unless the server has answered since.
    pub(crate) fn last_trouble(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Ends the reports. Returns why the lock is not to be had: its holder, and how long it has held the lock, as far as
    /// the server says so.
    pub(crate) fn end(self) -> String {
        let holds = |who: &str| format!("someone else holds {:?}: {who}", self.name);
        let left = self.holder.as_ref().and_then(|holder| holder.kept_for());
        match (&self.holder, left) {
            (Some(holder), Some(left)) => {
                let (name, left, label) = (&self.name, seconds(left), &holder.label);
                format!("{name:?} was released, but is kept for {left}: {label}")
            }
            // Consul does not report how long.
            (Some(holder), None) if holder.held_for().as_secs() == 0 => holds(&holder.label),
            (Some(holder), None) => {
                holds(&format!("{}, for {}", holder.label, seconds(holder.held_for())))
            }
            (None, _) => match self.withheld {
                Some(why) => why,
                None => holds("the server does not say who"),
            },
        }
    }
}

/// Age of the wait at the next line after the one at `waited`, without a terminal.
fn next(waited: Duration, level: Level) -> Duration {
    let early: &[Duration] = if level == Level::Verbose { &[MINUTE / 6] } else { &[] };
    let times = early.iter().copied().chain([MINUTE, 10 * MINUTE]);
    // Then every full hour.
    let hour = HOUR.saturating_mul(u32::try_from(waited.as_secs() / 3600 + 1).unwrap_or(u32::MAX));
    times.into_iter().find(|time| *time > waited).unwrap_or(hour)
}

/// The thread that writes the lines.
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
    /// The last error, while the server cannot be reached.
    trouble: Option<String>,
    done: bool,
}

impl News {
    fn start(state: State, level: Level) -> Self {
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let (writer, on_terminal) = (shared.clone(), stderr().is_terminal());
        // Without a thread there are no reports, which does no harm.
        let _ = std::thread::Builder::new().name("progress".to_string()).spawn(move || {
            if on_terminal { keep_writing(&writer) } else { keep_telling(&writer, level) }
        });
        Self { shared, on_terminal, level }
    }

    fn holder(&self, name: &str, holder: Option<Seen>) {
        let mut state = lock(&self.shared.0);
        state.name = name.to_string();
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
            // The mutex is held, so that the writer cannot add another line.
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
        write(&format!("withlock: {}", state.line()));
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
            say!("{}", state.line());
            due = next(waited, level);
        }
        let waited = changed.wait_timeout(state, due.saturating_sub(waited));
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Replaces the terminal's current line. It never wraps, because a second line could not be wiped.
fn write(text: &str) {
    let columns = tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
    // A terminal that does not know its width reports 0.
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
    use lock_sync::{Busy, Holder, LockName};

    fn busy(holder: Holder) -> Progress {
        Progress::Busy(Busy::new(LockName::new("n").expect("good"), Some(holder)))
    }

    fn holder(label: &str) -> Progress {
        busy(Holder::new(label, MINUTE, MINUTE))
    }

    fn told(waiting: &Waiting) -> String {
        lock(&waiting.news.as_ref().expect("it waits").shared.0).line()
    }

    #[test]
    fn a_holder_is_named_for_as_long_as_the_server_tells() {
        let mut waiting = Waiting::new("n", "here", Level::Normal, true);
        let held = "waiting for \"n\" (held by one for 1m) at here";
        waiting.tell(&holder("one"));
        assert_eq!(told(&waiting), held);
        waiting.tell(&Progress::Trouble("the disk is full".to_string()));
        assert_eq!(told(&waiting), "waiting for \"n\" at here: the disk is full; trying again");
        waiting.tell(&Progress::Trouble("the disk is broken".to_string()));
        assert_eq!(told(&waiting), "waiting for \"n\" at here: the disk is broken; trying again");
        waiting.tell(&holder("one"));
        assert_eq!(told(&waiting), held);
        waiting.tell(&Progress::Trouble("the disk is full".to_string()));
        assert_eq!(waiting.end(), "someone else holds \"n\": the server does not say who");
    }

    #[test]
    fn a_hold_goes_on_after_it_was_told() {
        let seen = Seen::new(&Holder::new("one", MINUTE, MINUTE));
        let pause = Duration::from_millis(20);
        std::thread::sleep(pause);
        assert!(seen.held_for() >= MINUTE + pause);
    }

    #[test]
    fn what_a_holder_calls_itself_is_shown_and_not_obeyed() {
        let mut waiting = Waiting::new("n", "here", Level::Normal, true);
        waiting.tell(&holder("one\x1b[31m\r\n"));
        let line = told(&waiting);
        assert!(line.contains("held by one?[31m??"), "{line:?}");
        let end = waiting.end();
        assert!(end.contains(": one?[31m??, for"), "{end:?}");
    }

    #[test]
    fn a_lock_that_is_kept_is_nobodys() {
        let mut waiting = Waiting::new("n", "here", Level::Normal, true);
        waiting.tell(&holder("one"));
        let mut kept = Holder::new("one", MINUTE, MINUTE);
        kept.kept = true;
        waiting.tell(&busy(kept));
        let line = told(&waiting);
        assert!(line.starts_with("waiting for \"n\" (released by one, kept for "), "{line}");
        let end = waiting.end();
        assert!(end.starts_with("\"n\" was released, but is kept for "), "{end}");
        assert!(end.ends_with(": one"), "{end}");
    }

    #[test]
    fn a_second_that_has_begun_counts_as_one_that_a_lock_is_kept() {
        let mut kept = Seen::new(&Holder::new("one", MINUTE, MINUTE));
        assert_eq!(kept.kept_for(), None);
        kept.kept_until = Some(Instant::now());
        assert_eq!(kept.kept_for(), Some(Duration::from_secs(1)));
        // However long it was held.
        let mut kept = Holder::new("one", HOUR, MINUTE);
        kept.kept = true;
        assert!(Seen::new(&kept).kept_for() <= Some(MINUTE + Duration::from_secs(1)));
    }

    #[test]
    fn an_end_says_how_long_a_holder_has_held_the_lock_if_the_server_does() {
        let began = Instant::now();
        let end = |held_for| {
            let mut waiting = Waiting::new("n", "here", Level::Normal, false);
            waiting.tell(&busy(Holder::new("one", held_for, MINUTE)));
            waiting.end()
        };
        let held = end(HOUR);
        assert!(held.starts_with("someone else holds \"n\": one, for 1h"), "{held}");
        // Consul does not say how long. Time goes on here, too.
        let held = end(Duration::ZERO);
        let at_once = began.elapsed() < Duration::from_secs(1);
        assert!(held == "someone else holds \"n\": one" || !at_once, "{held}");
    }

    #[test]
    fn the_last_trouble_is_known_until_the_server_answers() {
        let mut waiting = Waiting::new("n", "here", Level::Quiet, true);
        assert_eq!(waiting.last_trouble(), None);
        waiting.tell(&Progress::Trouble("the disk is full".to_string()));
        assert_eq!(waiting.last_trouble(), Some("the disk is full"));
        assert!(!waiting.is_busy());
        waiting.tell(&holder("one"));
        assert_eq!(waiting.last_trouble(), None);
        assert!(waiting.is_busy());
    }

    /// Else it would be told of when the first one would be told of again.
    #[test]
    fn an_outage_after_an_answer_is_a_new_one() {
        let mut waiting = Waiting::new("n", "here", Level::Normal, true);
        for _ in 0..2 {
            assert_eq!(waiting.trouble, None, "the next one is told at once");
            waiting.tell(&Progress::Trouble("the disk is full".to_string()));
            assert!(waiting.trouble.is_some());
            waiting.tell(&holder("one"));
        }
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

//! Messages about a wait: the holder, how long it has held the lock, and how long the wait has lasted.
//!
//! A terminal shows one line that is kept up to date. Elsewhere, a line is written now and then: with `-v` at
//! once and after ten seconds, else from one minute on.

mod news;
mod seen;

use crate::report::{Level, say, seconds};
use lock_sync::Progress;
use news::{News, State, next};
use seen::Seen;
use std::time::{Duration, Instant};

/// Reports a wait until it is dropped.
pub(crate) struct Waiting {
    /// The lock. Of several, the one that someone else was last seen to hold.
    name: String,
    place: String,
    level: Level,
    /// True if withlock waits for the lock at all.
    waits: bool,
    /// The locks that the withlocks around this one have.
    pub(crate) around: Vec<String>,
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
        let (around, withheld) = (Vec::new(), None);
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
                    if let Some(at) = self.around.iter().position(|name| *name == self.name) {
                        let name = self.around.swap_remove(at);
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

#[cfg(test)]
mod tests {
    use super::news::{HOUR, MINUTE};
    use super::*;
    use lock_sync::{Busy, Holder, LockName};

    fn busy(holder: Holder) -> Progress {
        Progress::Busy(Busy::new(LockName::new("n").expect("good"), Some(holder)))
    }

    fn holder(label: &str) -> Progress {
        busy(Holder::new(label, MINUTE, MINUTE))
    }

    fn told(waiting: &Waiting) -> String {
        waiting.news.as_ref().expect("it waits").line()
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

    /// Of several locks, which are waited for one by one.
    #[test]
    fn the_next_lock_of_the_same_holder_is_told() {
        let mut waiting = Waiting::new("n", "here", Level::Normal, true);
        waiting.tell(&holder("one"));
        let name = LockName::new("m").expect("good");
        let other = Busy::new(name, Some(Holder::new("one", MINUTE, MINUTE)));
        waiting.tell(&Progress::Busy(other));
        assert!(told(&waiting).starts_with("waiting for \"m\" (held by one for "));
        assert!(waiting.end().starts_with("someone else holds \"m\": one"));
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
}

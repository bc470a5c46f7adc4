//! A client of a trial: a process that acquires and releases locks again and again, and writes down what it was told.

use super::plan::Dice;
use super::{Hold, Pen, What, now};
use crate::drivers::{Driver, Guard, Locks, connect};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The names that are contended for, with the number of permits.
const NAMES: [(&str, u32); 3] = [("a", 1), ("b", 1), ("s", 2)];
/// The time between two lines of a holder.
const PAUSE: Duration = Duration::from_millis(10);

/// A bug that a client has on purpose, to show that the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// None.
    No,
    /// A deadline is counted from the reply, and not from the request.
    Reply,
    /// `is_held` is asked once.
    Cached,
    /// The guardian of `withlock` is stopped whenever withlock is stopped or killed.
    Guardian,
}

impl Broken {
    /// The bug of this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::No, Self::Reply, Self::Cached, Self::Guardian]
            .into_iter()
            .find(|it| it.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Reply => "reply",
            Self::Cached => "cached",
            Self::Guardian => "guardian",
        }
    }
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name: the driver, and a number.
    pub who: String,
    /// Where its locks are.
    pub url: String,
    /// The history's file.
    pub history: PathBuf,
    /// The command, for those that use it.
    pub withlock: PathBuf,
    /// The TTL of its locks.
    pub ttl: Duration,
    /// The seed of the trial.
    pub seed: u64,
    /// Its bug.
    pub broken: Broken,
}

impl Client {
    /// The arguments of [`Client::of`].
    pub fn to_args(&self) -> Vec<OsString> {
        let (ttl, seed) = (self.ttl.as_millis().to_string(), self.seed.to_string());
        let texts = [&*self.who, &*self.url, &*ttl, &*seed, self.broken.name()].map(OsString::from);
        let files = [&self.history, &self.withlock].map(|path| path.clone().into_os_string());
        [&texts[..], &files].concat()
    }

    /// The client that these arguments describe.
    pub fn of(args: &[String]) -> Option<Self> {
        let [who, url, ttl, seed, broken, history, withlock] = args else { return None };
        let (who, url) = (who.clone(), url.clone());
        let (ttl, seed) = (Duration::from_millis(ttl.parse().ok()?), seed.parse().ok()?);
        let (history, withlock) = (history.into(), withlock.into());
        Some(Self { who, url, history, withlock, ttl, seed, broken: Broken::of(broken)? })
    }

    /// Works until it is killed, or its parent is.
    pub fn run(&self) -> ! {
        set_parent_process_death_signal(Some(Signal::KILL)).expect("set");
        let pen = Arc::new(Pen::new(&self.history, &self.who));
        let dice = Dice::new(self.seed, &self.who);
        match self.who.trim_end_matches(|digit: char| digit.is_ascii_digit()) {
            "withlock" => self.run_commands(dice, &pen),
            "sync" => self.contend(Driver::Blocking, dice, &pen),
            "async" => self.contend(Driver::Tokio, dice, &pen),
            other => panic!("{other}"),
        }
    }

    /// The next name, the number of its permits, and for how long it is wanted: now and then for longer than a lease.
    fn draw(&self, dice: &mut Dice) -> (&'static str, u32, Duration) {
        let (name, permits) = NAMES[dice.below(NAMES.len() as u64) as usize];
        let long = dice.below(4) == 0;
        let longest = if long { self.ttl + self.ttl.min(PAUSE * 400) } else { PAUSE * 6 };
        (name, permits, dice.time(Duration::from_millis(5), longest))
    }

    fn contend(&self, driver: Driver, mut dice: Dice, pen: &Arc<Pen>) -> ! {
        let locks = self.connected(driver);
        loop {
            let (name, permits, time) = self.draw(&mut dice);
            pen.write(now(), What::Invoke(name.to_string()));
            let acquire = locks.acquire(name).timeout(self.ttl * 5);
            let acquire = if permits > 1 { acquire.permits(permits) } else { acquire };
            match acquire.wait() {
                Ok(guard) => {
                    let permit = guard.permit().map(|permit| format!("{name}#{permit}/{permits}"));
                    self.hold(guard, permit.as_deref().unwrap_or(name), time, pen);
                }
                Err(error) => {
                    assert!(error.is_transient(), "{}: {error}", self.who);
                    let why = error.to_string().replace('\n', " ");
                    pen.write(now(), What::Denied(why));
                }
            }
            std::thread::sleep(dice.time(PAUSE, PAUSE * 10));
        }
    }

    fn connected(&self, driver: Driver) -> Locks {
        loop {
            match connect(driver, &self.url) {
                Ok(locks) => return locks,
                Err(error) => {
                    // On a slow link, the first connect refuses so short a TTL.
                    let slow = error.to_string().contains("is too slow");
                    assert!(slow || error.is_transient(), "{}: {error}", self.who);
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn hold(&self, guard: Guard, name: &str, time: Duration, pen: &Arc<Pen>) {
        let fence = guard.fence().get();
        let hold = {
            let name = name.to_string();
            move |until| Hold { name: name.clone(), fence, until }
        };
        let mut view = View { guard: &guard, broken: self.broken, until: 0, own: 0 };
        // What lasts a moment later lasted at this one.
        let began = now();
        let Some(until) = view.held_until() else {
            return pen.write(now(), What::Denied("lost at once".to_string()));
        };
        pen.write(began, What::Grant(hold(Some(until))));
        if matches!(self.broken, Broken::No | Broken::Guardian) {
            let (pen, lost) = (pen.clone(), hold(None));
            guard.on_lost(move |_| pen.write(now(), What::Lost(lost)));
        }
        while now() < began + time.as_nanos() as u64 {
            std::thread::sleep(PAUSE);
            let at = now();
            let Some(until) = view.held_until() else {
                // The guard's own word for it is awaited, since a drop would take it away.
                guard.wait_lost(self.ttl * 10);
                return;
            };
            pen.write(at, What::Held(hold(Some(until))));
        }
        pen.write(now(), What::Release(hold(None)));
        let _ = guard.release();
        pen.write(now(), What::Released);
    }

    fn run_commands(&self, mut dice: Dice, pen: &Pen) -> ! {
        let this = std::env::current_exe().expect("known");
        loop {
            let (name, permits, time) = self.draw(&mut dice);
            let (permits, wait) = (permits.to_string(), format!("{}ms", self.ttl.as_millis() * 5));
            let mut command = Command::new(&self.withlock);
            command.args(["--quiet", "--db", &self.url, "--wait", &wait, name]);
            if permits != "1" {
                command.args(["--permits", &permits]);
            }
            command.arg("--").arg(&this).args(["hold", &self.who, &time.as_millis().to_string()]);
            command.arg(&permits).arg(&self.history).stdin(Stdio::null());
            pen.write(now(), What::Invoke(name.to_string()));
            let ended = command.status().expect("it runs");
            let what =
                if ended.success() { What::Released } else { What::Denied(ended.to_string()) };
            pen.write(now(), what);
            std::thread::sleep(dice.time(PAUSE * 10, PAUSE * 30));
        }
    }
}

/// How a client, with its bug, sees its guard.
struct View<'a> {
    guard: &'a Guard,
    broken: Broken,
    /// The guard's deadline when it was last looked at.
    until: u64,
    /// The deadline that a client with a bug goes by.
    own: u64,
}

impl View<'_> {
    /// The deadline, if the lock is held.
    fn held_until(&mut self) -> Option<u64> {
        if self.broken == Broken::Cached && self.until > 0 {
            return Some(now());
        }
        let held = self.guard.is_held();
        let until = now() + self.guard.remaining().as_nanos() as u64;
        if self.broken == Broken::Reply {
            if held && until > self.until + 1_000_000 {
                self.own = now() + self.guard.valid_for().as_nanos() as u64;
            }
            self.until = until;
            return (now() < self.own).then_some(self.own);
        }
        self.until = until;
        held.then_some(until)
    }
}

/// What the command of a `withlock` does: it holds the lock for as long as it lives, and for `time` at most.
pub fn hold(who: &str, time: Duration, permits: &str, history: &Path) {
    let pen = Pen::new(history, who);
    let told = |name| std::env::var(name).expect("set by withlock");
    let mut name = told("WITHLOCK_NAME");
    if permits != "1" {
        name = format!("{name}#{}/{permits}", told("WITHLOCK_PERMIT"));
    }
    let hold = Hold { name, fence: told("WITHLOCK_FENCE").parse().expect("a number"), until: None };
    let began = now();
    pen.write(began, What::Grant(hold.clone()));
    while now() < began + time.as_nanos() as u64 {
        std::thread::sleep(PAUSE);
        pen.write(now(), What::Held(hold.clone()));
    }
    pen.write(now(), What::Release(hold));
}

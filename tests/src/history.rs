//! Histories: what clients that contend for locks saw under faults, each event a line of a file to which all append.
//!
//! A trial starts the clients, each a process of its own, and does to them, to their network and to their server what
//! a seed says. A checker then reads the file: it knows nothing of the clients but what they wrote.

pub mod check;
pub mod client;
pub mod network;
pub mod plan;
mod records;
pub mod site;
pub mod trial;

use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::str::FromStr;

/// Nanoseconds on a clock that all processes of this machine have, and that goes on while one is stopped.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The time of it, by [`now`].
    pub at: u64,
    /// The client, or `trial`.
    pub who: String,
    /// What happened.
    pub what: What,
}

/// What happened at a client, or what was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The trial begins: its place, network and seed.
    Began(String),
    /// A client was started.
    Up,
    /// A client's process was killed.
    Killed,
    /// A client's process was stopped.
    Stopped,
    /// A client's process goes on.
    Continued,
    /// A client ended by itself.
    Exited,
    /// A client asks for a lock.
    Invoke(String),
    /// It was told that it does not have it, and why.
    Denied(String),
    /// It was told that it has it.
    Grant(Hold),
    /// It has it still.
    Held(Hold),
    /// It was told that it is lost.
    Lost(Hold),
    /// It asks to release it, and does not count on it from here on.
    Release(Hold),
    /// The release returned.
    Released,
    /// The trial does this to the clients, the network or the server from here on.
    Fault(String),
    /// All that was done is undone.
    Healed,
    /// The trial ends.
    End,
}

/// A lock as its holder knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// The lock's name; for a permit, with its number and the count: `s#1/2`.
    pub name: String,
    /// The fence.
    pub fence: u64,
    /// The deadline as the guard told it, by [`now`]. None for a command of `withlock`, which has the lock for as long as it
    /// lives.
    pub until: Option<u64>,
}

impl What {
    fn word(&self) -> &'static str {
        match self {
            Self::Began(_) => "began",
            Self::Up => "up",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Continued => "continued",
            Self::Exited => "exited",
            Self::Invoke(_) => "invoke",
            Self::Denied(_) => "denied",
            Self::Grant(_) => "grant",
            Self::Held(_) => "held",
            Self::Lost(_) => "lost",
            Self::Release(_) => "release",
            Self::Released => "released",
            Self::Fault(_) => "fault",
            Self::Healed => "healed",
            Self::End => "end",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, who, what } = self;
        write!(f, "{at} {who} {}", what.word())?;
        match what {
            What::Began(text) | What::Invoke(text) | What::Denied(text) | What::Fault(text) => {
                write!(f, " {text}")
            }
            What::Grant(hold) | What::Held(hold) | What::Lost(hold) | What::Release(hold) => {
                write!(f, " {} {}", hold.name, hold.fence)?;
                hold.until.map_or(Ok(()), |until| write!(f, " {until}"))
            }
            _ => Ok(()),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let torn = || format!("no line of a history: {line:?}");
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().ok_or_else(torn);
        let (at, who, what) = (word()?, word()?.to_string(), word()?);
        let text = word().unwrap_or_default().to_string();
        let hold = || {
            let mut words = text.split(' ');
            let name = words.next().filter(|name| !name.is_empty()).ok_or_else(torn)?.to_string();
            let fence = words.next().and_then(|word| word.parse().ok()).ok_or_else(torn)?;
            let until = words.next().map(str::parse).transpose().map_err(|_| torn())?;
            Ok::<_, String>(Hold { name, fence, until })
        };
        let what = match what {
            "began" => What::Began(text),
            "up" => What::Up,
            "killed" => What::Killed,
            "stopped" => What::Stopped,
            "continued" => What::Continued,
            "exited" => What::Exited,
            "invoke" => What::Invoke(text),
            "denied" => What::Denied(text),
            "grant" => What::Grant(hold()?),
            "held" => What::Held(hold()?),
            "lost" => What::Lost(hold()?),
            "release" => What::Release(hold()?),
            "released" => What::Released,
            "fault" => What::Fault(text),
            "healed" => What::Healed,
            "end" => What::End,
            _ => return Err(torn()),
        };
        Ok(Self { at: at.parse().map_err(|_| torn())?, who, what })
    }
}

/// The history as one process writes it.
pub struct Pen {
    file: File,
    who: String,
}

impl Pen {
    /// Adds lines to the file at `path`, which is made if it is missing.
    pub fn new(path: &Path, who: &str) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        Self { file, who: who.to_string() }
    }

    /// Writes down what happened at the time `at` at the process's own client. Each line is added as a whole.
    pub fn write(&self, at: u64, what: What) {
        self.write_of(&self.who, at, what);
    }

    /// The same of another client.
    pub fn write_of(&self, who: &str, at: u64, what: What) {
        let event = Event { at, who: who.to_string(), what };
        (&self.file).write_all(format!("{event}\n").as_bytes()).expect("written");
    }
}

/// A history as it is read while it grows.
pub struct Reader {
    file: File,
    /// A line that is not yet whole.
    rest: String,
}

impl Reader {
    /// Reads the file at `path` from its beginning.
    pub fn new(path: &Path) -> Self {
        Self { file: File::open(path).expect("a history"), rest: String::new() }
    }

    /// The events that are new.
    pub fn read(&mut self) -> Vec<Event> {
        self.file.read_to_string(&mut self.rest).expect("read");
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.rest.drain(..whole).collect();
        lines.lines().map(|line| line.parse().expect("a history")).collect()
    }
}

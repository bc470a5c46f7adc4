//! An acquire that waits.

use super::error::Busy;
use crate::duration::Shown;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// How long to wait for a lock that somebody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Never,
    /// That long.
    For(Duration),
    /// As long as it takes.
    Forever,
}

/// `not at all`, `for 1m 30s`, `as long as it takes`.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Never => f.write_str("not at all"),
            Wait::For(limit) => write!(f, "for {}", Shown(*limit)),
            Wait::Forever => f.write_str("as long as it takes"),
        }
    }
}

/// News from an acquire that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Somebody else has the lock: another process, or another caller in this one. Told at the first denial and
    /// when the holder changes. Of several locks, it names the first that somebody else has. An attempt that does not get the
    /// lock ends with the same as [an error](crate::config::Error::Busy).
    ///
    /// Of the attempts for one lock in one process, only the first asks the server. Those behind it are told as
    /// soon as it is known who has the lock; when the holder changes meanwhile, only
    /// the first is told, and only the first knows that [nobody is known to have it](Busy#structfield.withheld). The holder is [`None`] where the server does not say who it is. Its times are those of the last look
    /// at the server, or at the holder's own lease if it is in this process.
    Busy(Busy),
    /// The server could not be asked; it is tried again.
    Trouble(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_wait_is_shown_in_words() {
        let shown = |wait: Wait| wait.to_string();
        assert_eq!(shown(Wait::Never), "not at all");
        assert_eq!(shown(Wait::For(Duration::from_secs(90))), "for 1m 30s");
        assert_eq!(shown(Wait::Forever), "as long as it takes");
    }
}

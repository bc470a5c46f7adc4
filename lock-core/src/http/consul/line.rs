//! The line of those that wait for a lock: a key for each, beside the lock's, which its session has locked. The server numbers
//! them when they are made.

use super::answer::{Entry, changes, is_id, surprise};
use crate::error::Failure;
use crate::outcome::{Outcome, Place};
use crate::request::SessionName;
use alloc::format;
use alloc::string::String;

/// The keys of a line.
pub(super) struct Line {
    prefix: String,
}

impl Line {
    /// Beside a lock's key.
    pub(super) fn of(key: &str) -> Self {
        Self { prefix: format!("{key}=line/") }
    }

    /// The beginning of all its keys.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of a session.
    pub(super) fn entry(&self, session: &SessionName) -> String {
        format!("{}{}", self.prefix, session.as_str())
    }

    /// The session that waits, if the entry is of this line.
    fn session<'a>(&self, entry: &'a Entry) -> Option<&'a str> {
        let session = entry.session.as_deref().filter(|session| is_id(session))?;
        let of = entry.key.strip_prefix(&*self.prefix)?;
        (of == session).then_some(session)
    }
}

/// The place of a session that has joined, by the entries that were read then.
pub(super) fn in_line(body: &[u8], line: &Line, session: &SessionName) -> Result<Outcome, Failure> {
    let mut entries = changes(body)?.into_iter();
    let own = entries.next().ok_or_else(surprise)?;
    if line.session(&own) != Some(session.as_str()) || own.create_index == 0 {
        return Err(surprise());
    }
    let mut place = Place { ticket: own.create_index, ahead: 0 };
    let mut last: Option<(u64, SessionName, u64)> = None;
    for entry in entries.filter(|entry| entry.create_index < own.create_index) {
        let Some(session) = line.session(&entry) else { continue };
        place.ahead += 1;
        if last.as_ref().is_none_or(|(made, ..)| *made < entry.create_index) {
            last = Some((entry.create_index, SessionName::from(session), entry.modify_index));
        }
    }
    Ok(Outcome::InLine { place, ahead: last.map(|(_, session, since)| (session, since)) })
}

/// Whether others wait for a lock whose key was unlocked.
pub(super) fn contended(
    body: &[u8],
    key: &str,
    line: &Line,
    session: &SessionName,
) -> Result<bool, Failure> {
    let mut entries = changes(body)?.into_iter();
    let freed = entries.next().ok_or_else(surprise)?;
    if freed.key != key || freed.session.is_some_and(|session| !session.is_empty()) {
        return Err(surprise());
    }
    let other = |entry: Entry| line.session(&entry).is_some_and(|of| of != session.as_str());
    Ok(entries.any(other))
}

/// The place of a session that has joined a line that is too long to be read, for some thousands wait: it waits for the lock
/// itself.
pub(super) fn crowded() -> Outcome {
    Outcome::InLine { place: Place { ticket: 1, ahead: 0 }, ahead: None }
}

//! Someone else has the lock.

use crate::duration::Shown;
use crate::name::LockName;
use crate::outcome::Holder;
use crate::table::is_unprintable;
use core::fmt;
use core::time::Duration;

/// Someone else held the lock, or it was [kept](crate::Request::Keep), for as long as the caller wanted to wait.
///
/// ```
/// use lock_core::LockName;
/// use lock_core::config::{Busy, Error};
///
/// let error: Error = Busy::new(LockName::new("nightly-report")?, None).into();
/// assert_eq!(error.to_string(), "someone else holds \"nightly-report\"");
/// # Ok::<(), lock_core::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Busy {
    /// The lock's name.
    pub name: LockName,
    /// The holder at the last look. [`None`] if the server does not say who it is (advisory locks and Consul), or if
    /// the lock was seen to change hands since.
    pub holder: Option<Holder>,
    /// True if nobody is known to hold the lock, and the server does not give it away yet: a server with advisory locks has
    /// just started, the session of the last holder in Consul was lost, or a transaction has the lock's row or the table
    /// locked.
    pub withheld: bool,
}

impl Busy {
    /// The lock of this name is someone else's.
    pub fn new(name: LockName, holder: Option<Holder>) -> Self {
        Self { name, holder, withheld: false }
    }

    /// The lock of this name is nobody's, as far as is known, and [withheld](Self::withheld).
    pub fn withheld(name: LockName) -> Self {
        Self { withheld: true, ..Self::new(name, None) }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(Holder { kept: true, expires_in, .. }) => {
                // Not a second less than it takes.
                let left = Duration::from_secs(expires_in.as_secs() + 1);
                write!(f, "{:?} was released, but is kept for {}", self.name, Shown(left))?;
            }
            _ if self.withheld => write!(
                f,
                "nobody is known to hold {:?}, but the server does not give it away yet",
                self.name
            )?,
            _ => write!(f, "someone else holds {:?}", self.name)?,
        }
        let Some(holder) = &self.holder else { return Ok(()) };
        f.write_str(": ")?;
        // A label is foreign text, and a message is one line.
        holder.label.chars().try_for_each(|c| match is_unprintable(c) {
            true => f.write_str("\u{fffd}"),
            false => write!(f, "{c}"),
        })?;
        match Duration::from_secs(holder.held_for.as_secs()) {
            Duration::ZERO => Ok(()),
            _ if holder.kept => Ok(()),
            held_for => write!(f, ", for {}", Shown(held_for)),
        }
    }
}

impl core::error::Error for Busy {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn the_holder_is_named_on_one_line() {
        let holder = |label: &str, millis| Holder {
            label: label.to_string(),
            held_for: Duration::from_millis(millis),
            expires_in: Duration::ZERO,
            place: None,
            kept: false,
            watched: None,
        };
        let told =
            |holder| Busy::new(LockName::new("it's \"a\"").expect("good"), holder).to_string();
        assert_eq!(told(None), r#"someone else holds "it's \"a\"""#);
        let at = "db1 pid 7 nightly\n\u{1b}[2J";
        let shown = "db1 pid 7 nightly\u{fffd}\u{fffd}[2J";
        let long = told(Some(holder(at, 62_900)));
        assert_eq!(long, format!("{}: {shown}, for 1m 2s", told(None)));
        assert_eq!(told(Some(holder("db1", 900))), format!("{}: db1", told(None)));
        let expires_in = Duration::from_millis(41_200);
        let kept = Holder { kept: true, expires_in, ..holder("db1", 62_900) };
        assert_eq!(told(Some(kept)), r#""it's \"a\"" was released, but is kept for 42s: db1"#);
    }
}

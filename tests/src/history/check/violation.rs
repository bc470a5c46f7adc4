//! What a history can break.

use std::fmt;
use std::time::Duration;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Violation {
    /// Two valid holds of one name at once.
    Overlap { name: String, first: String, second: String, for_ns: u64 },
    /// A fence that is not greater than an earlier one.
    Fence { name: String, who: String, fence: u64, before: u64 },
    /// A permit beyond the number of them.
    Permit { name: String, who: String },
    /// A holder that was told of its loss too late, or never.
    ToldLate { name: String, who: String, fence: u64, late_ns: Option<u64> },
    /// A lock that was held after its holder was told of its loss.
    Revived { name: String, who: String, fence: u64 },
    /// A client without a lock for too long after a fault.
    Starved { who: String, healed_at: u64 },
    /// A call that does not return.
    Hung { who: String, since: u64 },
    /// A client that ended by itself.
    Exited { who: String },
    /// A history that shows nothing.
    Empty(&'static str),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Duration::from_nanos;
        match self {
            Self::Overlap { name, first, second, for_ns } => {
                write!(f, "{first} and {second} held {name} at once for {:?}", time(*for_ns))
            }
            Self::Fence { name, who, fence, before } => {
                write!(f, "{who} got {name} with the fence {fence} after one with {before}")
            }
            Self::Permit { name, who } => write!(f, "{who} got {name}"),
            Self::ToldLate { name, who, fence, late_ns: Some(late) } => {
                write!(f, "{who} was told that {name} ({fence}) is lost {:?} late", time(*late))
            }
            Self::ToldLate { name, who, fence, late_ns: None } => {
                write!(f, "{who} was never told that {name} ({fence}) is lost")
            }
            Self::Revived { name, who, fence } => {
                write!(f, "{who} held {name} ({fence}) after it was told that it is lost")
            }
            Self::Starved { who, healed_at } => {
                write!(
                    f,
                    "{who} got no lock for too long after the fault that ended at {healed_at}"
                )
            }
            Self::Hung { who, since } => {
                write!(f, "{who}: a call of {since} did not return in time")
            }
            Self::Exited { who } => write!(f, "{who} ended by itself"),
            Self::Empty(what) => write!(f, "no {what}"),
        }
    }
}

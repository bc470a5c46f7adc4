//! Whose clock ends a lease.

use super::ConfigError;
use alloc::string::ToString;
use core::fmt;

/// The clock by which a lease in a table ends that is not renewed. All that use a table must agree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Expiry {
    /// The server's. If it is stepped forward, a lease ends early, and two can hold the lock.
    #[default]
    Server,
    /// Each waiter's own: a lease ends when the waiter has seen it unchanged for its whole TTL. No step of the server's
    /// clock ends a lease. After a crash of the holder, whoever begins to wait then waits for a whole TTL, and an attempt
    /// that does not wait does not get the lock before someone who waits did.
    Observed,
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Observed => "observed",
        })
    }
}

impl core::str::FromStr for Expiry {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "server" => Ok(Self::Server),
            "observed" => Ok(Self::Observed),
            _ => Err(ConfigError::Parameter {
                name: "expiry".to_string(),
                reason: "must be server or observed".to_string(),
            }),
        }
    }
}

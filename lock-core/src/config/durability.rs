//! The survival of locks in a crash of the server.

use super::ConfigError;
use alloc::string::ToString;
use core::fmt;

/// The demand that locks make of a database: whether grants and renewals must survive a crash of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Each grant and each renewal is on the disk before it is answered. A server that answers earlier is refused.
    #[default]
    Durable,
    /// The server's own settings decide. If its machine crashes, it forgets the last grants, renewals and fences: with
    /// `innodb_flush_log_at_trx_commit = 2` or `synchronous_commit = off` those of about a second, with an unlogged
    /// table all of them. Then someone else can acquire a lock that is still held. Its fence is greater all the same,
    /// unless the server's clock went back.
    Relaxed,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable",
            Self::Relaxed => "relaxed",
        })
    }
}

impl core::str::FromStr for Durability {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "durable" => Ok(Self::Durable),
            "relaxed" => Ok(Self::Relaxed),
            _ => Err(ConfigError::Parameter {
                name: "durability".to_string(),
                reason: "must be durable or relaxed".to_string(),
            }),
        }
    }
}

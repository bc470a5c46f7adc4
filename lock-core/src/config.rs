//! The settings that both drivers have, and the errors about them.

mod durability;
mod error;
mod expiry;
mod protocol;
mod wait;

pub use durability::Durability;
pub use error::{Busy, ConfigError, Error, ReleaseError, ShutdownError, WithLockError};
pub use expiry::Expiry;
pub use protocol::Protocol;
pub use wait::{Progress, Wait};

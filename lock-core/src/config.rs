//! What the drivers' settings have in common, and what can be wrong with them.

mod error;
mod protocol;
mod wait;

pub use error::{ConfigError, Error, ReleaseError, ShutdownError, WithLockError};
pub use protocol::Protocol;
pub use wait::{Progress, Wait};

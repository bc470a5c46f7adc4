//! Connections that a function of the caller's makes.

use lock_core::Failure;
use std::error::Error;

/// What the errors of a function that makes connections are turned into, for `Locks::from_postgres` and its like.
pub type Fault = Box<dyn Error + Send + Sync>;

/// The failure to connect because of the function's error.
pub fn failed(error: impl Into<Fault>) -> Failure {
    let message = error.into().to_string();
    Failure::NotSent(message.trim().replace(char::is_control, " "))
}

/// The failure to connect because the function panicked.
pub fn panicked() -> Failure {
    Failure::NotSent("the function that makes connections panicked".to_string())
}

/// The failure to connect because the function took too long.
pub fn late() -> Failure {
    Failure::NotSent("the function that makes connections did not return in time".to_string())
}

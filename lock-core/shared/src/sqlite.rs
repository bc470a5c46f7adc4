//! An SQLite file, and its connection.

mod file;
mod fork;
mod machine;
mod pin;
mod rows;

pub use file::{File, reopen};
pub use machine::boot;
pub use pin::pin;

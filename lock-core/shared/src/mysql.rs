//! MySQL and MariaDB, by the types of `mysql_common`, on which both clients are built.

mod rows;
mod server;
pub mod words;

pub use rows::{params, values};
pub use server::Server;

//! MySQL and MariaDB, as `mysql_common` has them, which both clients are made of.

mod rows;
mod server;
pub mod words;

pub use rows::{number, params, values};
pub use server::Server;

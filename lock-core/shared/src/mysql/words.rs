//! Failures in words of our own: the clients have different errors for the same.

use std::io;

pub const PANICKED: &str = "the client could not make sense of the server";
pub const SENSELESS: &str = "the server's answer makes no sense";
pub const LATE: &str = "no answer in time";
pub const CLOSED: &str = "the server closed the connection";
pub const NO_TLS: &str =
    "the server offers no TLS; sslmode=disable would connect without, for all on the way to read";
pub const CLEAR_PASSWORD: &str =
    "the server wants the password in the clear, or nearly so: change how its user logs in";
pub const UNKNOWN_LOGIN: &str = "the server does not know the user, or wants it to log in in a way that is not supported: create it with caching_sha2_password or mysql_native_password";
pub const TOO_OLD: &str = "the server is too old, or no MySQL";

pub fn io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LATE.to_string(),
        io::ErrorKind::UnexpectedEof => CLOSED.to_string(),
        _ => error.to_string(),
    }
}

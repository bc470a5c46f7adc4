//! Texts for errors. The two clients use different words for the same error.

use std::io;

pub const PANICKED: &str = "the client panicked over the server's answer";
pub const SENSELESS: &str = "the server's answer is not valid: is it a MySQL or MariaDB server?";
pub const LATE: &str = "no answer in time";
pub const CLOSED: &str = "the server closed the connection";
pub const NO_TLS: &str = "the server offers no TLS: enable it there, or set sslmode=disable, with which anyone on the network path can read the traffic";
pub const CLEAR_PASSWORD: &str = "the server asks for the password in plain text or by an unsafe method: create its user with caching_sha2_password or mysql_native_password";
pub const UNKNOWN_LOGIN: &str = "the server does not know the user, or asks for a login method that is not supported: create the user with caching_sha2_password or mysql_native_password";
pub const NO_WRITES: &str =
    "it takes no writes: it is a replica, read-only, or cut off from its cluster";
pub const TOO_OLD: &str = "the server is too old, or it is not MySQL or MariaDB";

pub fn io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LATE.to_string(),
        io::ErrorKind::UnexpectedEof => CLOSED.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io::ErrorKind::{ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};

    #[test]
    fn a_connection_that_fails_is_told_in_plain_words() {
        let error = |kind| io::Error::new(kind, "by the peer");
        for (kind, says) in [
            (WouldBlock, "no answer in time"),
            (TimedOut, "no answer in time"),
            (UnexpectedEof, "the server closed the connection"),
            (ConnectionReset, "by the peer"),
        ] {
            assert_eq!(io(&error(kind)), says, "{kind:?}");
        }
    }
}

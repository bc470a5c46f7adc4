//! What went wrong, in words of our own.

use lock_shared::handshake::advice;
use mysql_async::{DriverError, Error, IoError};
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// What the client says, or that it panicked.
pub(super) enum Trouble {
    Client(Error),
    Panic,
}

/// Calls the client, whose panics become errors.
pub(super) async fn guarded<T>(
    call: impl Future<Output = mysql_async::Result<T>>,
) -> Result<T, Trouble> {
    let mut call = pin!(call);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(poll) => poll.map_err(Trouble::Client),
        Err(_) => Poll::Ready(Err(Trouble::Panic)),
    })
    .await
}

impl Trouble {
    /// The number of the server's error, if it is the server's.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Trouble::Client(Error::Server(error)) => Some(error.code),
            _ => None,
        }
    }

    /// The advice for a TLS handshake that fails again until somebody acts.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Trouble::Client(error) => advice(error),
            Trouble::Panic => None,
        }
    }

    /// Whether trying again will not help.
    pub(super) fn is_final(&self) -> bool {
        use DriverError::{
            CantParseServerVersion, CleartextPluginDisabled, MysqlOldPasswordDisabled,
            NoClientSslFlagFromServer, UnknownAuthPlugin,
        };
        if self.advice().is_some() {
            return true;
        }
        let Trouble::Client(Error::Driver(error)) = self else { return false };
        matches!(
            error,
            CleartextPluginDisabled
                | MysqlOldPasswordDisabled
                | UnknownAuthPlugin { .. }
                | NoClientSslFlagFromServer
                | CantParseServerVersion { .. }
        )
    }

    /// Whether nothing answers where the server should be.
    pub(super) fn is_unreachable(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        let Trouble::Client(Error::Io(IoError::Io(error))) = self else { return false };
        matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
    }

    /// A line for people, without what the client sent.
    pub(super) fn describe(&self) -> String {
        let advice = self.advice().map(|advice| format!(": {advice}")).unwrap_or_default();
        self.reason() + &advice
    }

    fn reason(&self) -> String {
        let error = match self {
            Trouble::Client(error) => error,
            Trouble::Panic => return "the client could not make sense of the server".to_string(),
        };
        match error {
            Error::Server(error) => error.message.clone(),
            Error::Io(IoError::Io(error)) => io(error),
            Error::Io(IoError::Tls(error)) => error.to_string(),
            Error::Driver(error) => driver(error),
            // Those of URLs and of conversions: there are none after the connection was configured.
            Error::Other(_) | Error::Url(_) => "the server's answer makes no sense".to_string(),
        }
    }
}

fn io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_string(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_string(),
        _ => error.to_string(),
    }
}

fn driver(error: &DriverError) -> String {
    let told = match error {
        DriverError::ConnectionClosed => "the server closed the connection",
        DriverError::NoClientSslFlagFromServer => {
            "the server offers no TLS; sslmode=disable would connect without, for all on the way to read"
        }
        DriverError::CleartextPluginDisabled | DriverError::MysqlOldPasswordDisabled => {
            "the server wants the password in the clear, or nearly so: change how its user logs in"
        }
        DriverError::UnknownAuthPlugin { .. } => {
            "the server does not know the user, or wants it to log in in a way that is not supported: create it with caching_sha2_password or mysql_native_password"
        }
        DriverError::CantParseServerVersion { .. } => "the server is too old, or no MySQL",
        _ => "the server's answer makes no sense",
    };
    told.to_string()
}

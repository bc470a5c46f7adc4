//! Errors of the client, in our own words.

use lock_shared::handshake::advice;
use lock_shared::mysql::words;
use mysql_async::{DriverError, Error, IoError};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// An error or a panic of the client.
pub(super) enum CallError {
    Client(Error),
    Panic,
}

/// Calls the client, whose panics become errors.
pub(super) async fn guarded<T>(
    call: impl Future<Output = mysql_async::Result<T>>,
) -> Result<T, CallError> {
    let mut call = pin!(call);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(poll) => poll.map_err(CallError::Client),
        Err(_) => Poll::Ready(Err(CallError::Panic)),
    })
    .await
}

impl CallError {
    /// The number of the server's error. `None` for an error of the client.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            CallError::Client(Error::Server(error)) => Some(error.code),
            _ => None,
        }
    }

    /// The advice for a TLS handshake that keeps failing until someone acts.
    fn advice(&self) -> Option<&'static str> {
        match self {
            CallError::Client(error) => advice(error),
            CallError::Panic => None,
        }
    }

    /// True if the error stays until someone acts.
    pub(super) fn is_final(&self) -> bool {
        use DriverError::{
            CantParseServerVersion, CleartextPluginDisabled, MysqlOldPasswordDisabled,
            NoClientSslFlagFromServer, UnknownAuthPlugin,
        };
        if self.advice().is_some() {
            return true;
        }
        let CallError::Client(Error::Driver(error)) = self else { return false };
        matches!(
            error,
            CleartextPluginDisabled
                | MysqlOldPasswordDisabled
                | UnknownAuthPlugin { .. }
                | NoClientSslFlagFromServer
                | CantParseServerVersion { .. }
        )
    }

    /// The error in one line, without data that the client sent.
    pub(super) fn describe(&self) -> String {
        let advice = self.advice().map(|advice| format!(": {advice}")).unwrap_or_default();
        self.reason() + &advice
    }

    fn reason(&self) -> String {
        let error = match self {
            CallError::Client(error) => error,
            CallError::Panic => return words::PANICKED.to_string(),
        };
        match error {
            Error::Server(error) => error.message.clone(),
            Error::Io(IoError::Io(error)) => words::io(error),
            Error::Io(IoError::Tls(error)) => error.to_string(),
            Error::Driver(error) => driver(error),
            // Errors of URLs and conversions do not occur once the connection is configured.
            Error::Other(_) | Error::Url(_) => words::SENSELESS.to_string(),
        }
    }
}

fn driver(error: &DriverError) -> String {
    let told = match error {
        DriverError::ConnectionClosed => words::CLOSED,
        DriverError::NoClientSslFlagFromServer => words::NO_TLS,
        DriverError::CleartextPluginDisabled | DriverError::MysqlOldPasswordDisabled => {
            words::CLEAR_PASSWORD
        }
        DriverError::UnknownAuthPlugin { .. } => words::UNKNOWN_LOGIN,
        DriverError::CantParseServerVersion { .. } => words::TOO_OLD,
        _ => words::SENSELESS,
    };
    told.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn each_failure_of_the_network_has_its_own_words() {
        let reason =
            |kind: ErrorKind| CallError::Client(Error::Io(IoError::Io(kind.into()))).reason();
        let refused = reason(ErrorKind::ConnectionRefused);
        assert!(refused.contains("refused"), "{refused}");
        assert_ne!(reason(ErrorKind::UnexpectedEof), refused);
    }
}

//! Errors of the client, in our own words.

use lock_shared::handshake::advice;
use lock_shared::mysql::words;
use mysql::{DriverError, Error};
use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An error or a panic of the client.
pub(super) enum CallError {
    Client(Error),
    Panic,
}

/// Calls the client, whose panics become errors.
pub(super) fn guarded<T>(call: impl FnOnce() -> mysql::Result<T>) -> Result<T, CallError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(CallError::Client),
        Err(_) => Err(CallError::Panic),
    }
}

impl CallError {
    /// The number of the server's error. `None` for an error of the client.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            CallError::Client(Error::MySqlError(error)) => Some(error.code),
            _ => None,
        }
    }

    /// The advice for a TLS handshake that keeps failing until someone acts.
    fn advice(&self) -> Option<&'static str> {
        match self {
            // The client hides the sources of these.
            CallError::Client(Error::IoError(error)) => advice(error),
            CallError::Client(Error::CodecError(error)) => advice(error),
            CallError::Client(error) => advice(error),
            CallError::Panic => None,
        }
    }

    /// True if the error stays until someone acts.
    pub(super) fn is_final(&self) -> bool {
        use DriverError::{
            CleartextPluginDisabled, OldMysqlPasswordDisabled, Protocol41NotSet, TlsNotSupported,
            UnknownAuthPlugin, UnsupportedProtocol,
        };
        if self.advice().is_some() {
            return true;
        }
        let CallError::Client(Error::DriverError(error)) = self else { return false };
        matches!(
            error,
            CleartextPluginDisabled
                | OldMysqlPasswordDisabled
                | UnknownAuthPlugin(_)
                | Protocol41NotSet
                | TlsNotSupported
                | UnsupportedProtocol(_)
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
            Error::MySqlError(error) => error.message.clone(),
            Error::IoError(error) => words::io(error),
            Error::CodecError(error) => {
                let cause = error.source().and_then(|cause| cause.downcast_ref());
                cause.map_or_else(|| error.to_string(), words::io)
            }
            Error::DriverError(error) => driver(error),
            Error::TlsError(error) => error.to_string(),
            // Errors of URLs and conversions do not occur once the connection is configured.
            _ => words::SENSELESS.to_string(),
        }
    }
}

fn driver(error: &DriverError) -> String {
    let told = match error {
        // The caller names the place.
        DriverError::CouldNotConnect(Some((_, reason, _))) => return reason.clone(),
        DriverError::ConnectTimeout => words::LATE,
        DriverError::TlsNotSupported => words::NO_TLS,
        DriverError::CleartextPluginDisabled | DriverError::OldMysqlPasswordDisabled => {
            words::CLEAR_PASSWORD
        }
        DriverError::UnknownAuthPlugin(_) => words::UNKNOWN_LOGIN,
        DriverError::Protocol41NotSet | DriverError::UnsupportedProtocol(_) => words::TOO_OLD,
        _ => words::SENSELESS,
    };
    told.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The handshake's errors are those of the network to the client, and have their advice with them. These are not.
    #[test]
    fn an_error_of_tls_is_told() {
        let error = rustls::Error::General("no randomness".to_string());
        assert!(CallError::Client(error.into()).describe().contains("no randomness"));
    }
}

//! Configurations that cannot work.

use crate::config::Protocol;
use crate::error::{TableError, TimingError};
use crate::http::KeyError;
use crate::sql::advisory::PrefixError;
use alloc::string::String;

/// A configuration that cannot work. Its text is one line that says all, so it has no `source()`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL has no scheme that this build knows.
    #[error("the URL must begin with one of: {0}")]
    Scheme(&'static str),
    /// The configuration names no place.
    #[error(
        "the configuration names no place: begin with a URL or a file, or bring a connection (Locks::with_postgres, with_mysql, with_sqlite)"
    )]
    NoPlace,
    /// The configuration names a place, and there is a connection that was brought.
    #[error(
        "a connection was brought, so the configuration must name no place: begin with Config::new()"
    )]
    TwoPlaces,
    /// The URL cannot be read.
    #[error("the URL cannot be read: {0}")]
    Url(String),
    /// The URL has a parameter that means nothing here.
    #[error("unknown URL parameter {name:?} (known: {known})")]
    UnknownParameter {
        /// The parameter.
        name: String,
        /// The known parameters.
        known: &'static str,
    },
    /// The value of a setting cannot be used, which came from a URL's parameter or from the program.
    #[error("the setting {name}: {reason}")]
    Parameter {
        /// The URL's parameter, or the method of `Config` with this name.
        name: String,
        /// The fault of its value.
        reason: String,
    },
    /// An environment variable that completes the URL cannot be used.
    #[error("the environment variable {name}: {reason}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// The fault of its value.
        reason: String,
    },
    /// The lease times cannot be safe.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The table's name is not an identifier.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The prefix of lock names cannot be used.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// The prefix of Consul's keys cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The backend does not have the protocol.
    #[error("{place} has no {protocol} locks (there are: {has})")]
    Protocol {
        /// The backend.
        place: &'static str,
        /// The protocol that was asked for.
        protocol: Protocol,
        /// The protocols that it has.
        has: &'static str,
    },
    /// A setting means nothing with this backend and protocol.
    #[error("{name} belongs to {belongs}: leave it out, or choose the protocol that has it")]
    Setting {
        /// The setting.
        name: &'static str,
        /// The backend or the protocol that it belongs to.
        belongs: &'static str,
    },
    /// The SQLite file cannot be used.
    #[error("the SQLite file {path}: {reason}")]
    File {
        /// Its place.
        path: String,
        /// The fault of the file.
        reason: String,
    },
    /// The server does not know these locks by their names.
    #[error("{0} locks cannot be looked at: the server does not know their names")]
    NotShown(Protocol),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// `lock-async` was not called on a tokio runtime.
    #[error("lock-async needs a tokio runtime: use it there, or use lock-sync")]
    NoRuntime,
    /// The tokio runtime lacks its timer or its I/O. Told by `lock-async`.
    #[error("the tokio runtime has {0}")]
    Runtime(&'static str),
    /// The system has no random numbers, or no threads, to give.
    #[error("the system: {0}")]
    System(String),
}

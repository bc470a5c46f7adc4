//! Environment variables that complete a URL, as they complete what the servers' own clients are told.

use lock_core::config::ConfigError;
use std::ffi::OsString;
use std::path::PathBuf;

/// Environment variables: a function from a name to a value. An empty variable counts as unset.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl<'a> Environment<'a> {
    pub(crate) fn new(variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self(variable)
    }

    /// The value as text.
    pub(crate) fn text(self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let value = (self.0)(name).filter(|value| !value.is_empty());
        value
            .map(OsString::into_string)
            .transpose()
            .map_err(|_| wrong(name, "it is not UTF-8: set it anew, or unset it"))
    }

    /// The value as a path.
    pub(crate) fn path(self, name: &'static str) -> Option<PathBuf> {
        (self.0)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// The value as Consul's own client reads it: `1`, `t`, `true`, `0`, `f` or `false`.
    pub(crate) fn truth(self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match &*text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(wrong(name, "must be true or false")),
        }
    }
}

/// The error for a variable that cannot be used. The value is not repeated, because it may be secret.
pub(crate) fn wrong(name: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Variable { name, reason: reason.into() }
}

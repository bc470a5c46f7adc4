//! What a URL says about a server.

use crate::place::escaped;
use crate::sslmode::{SslMode, stays_here};
use crate::tls::{in_file, not_usable};
use lock_core::config::ConfigError;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use url::{Host, Url};

/// Where the server is, who we are, and how to encrypt.
#[derive(Clone)]
pub struct Server {
    /// IPv6 addresses in square brackets.
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: String,
    /// Of a Unix socket that is used instead.
    pub socket: Option<String>,
    pub mode: SslMode,
    /// An authority to trust, besides the public ones, as PEM.
    pub root_cert: Option<PathBuf>,
}

impl Server {
    /// Reads the server's part of the URL, without its parameters.
    pub fn read(
        url: &str,
        socket: Option<String>,
        sslmode: Option<SslMode>,
        root_cert: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let wrong = |reason: &str| ConfigError::Url(reason.to_string());
        let (_, rest) = url.split_once(':').unwrap_or_default();
        let url = Url::parse(&format!("mysql:{rest}"))
            .map_err(|error| ConfigError::Url(error.to_string()))?;
        let host = url.host().and_then(|host| Host::parse(&host.to_string()).ok());
        let host =
            host.ok_or_else(|| wrong("it names no host: mysql://HOST/DATABASE"))?.to_string();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let database = url.path_segments().and_then(|mut parts| parts.next()).map(decoded);
        let database = database
            .filter(|name| !name.is_empty())
            .ok_or_else(|| wrong("it names no database: mysql://HOST/DATABASE"))?;
        let user = Some(url.username()).filter(|name| !name.is_empty()).map(decoded);
        let password = url.password().map(decoded);
        let port = url.port().unwrap_or(3306);
        let local = socket.is_some() || stays_here(&host);
        let mode = sslmode.unwrap_or(match local && root_cert.is_none() {
            true => SslMode::Prefer,
            false => SslMode::VerifyFull,
        });
        let parameter = |name: &str, reason: &str| ConfigError::Parameter {
            name: name.to_string(),
            reason: reason.to_string(),
        };
        // The client trusts the public authorities too: without the host's name, that is anybody.
        if mode == SslMode::VerifyCa {
            return Err(parameter("sslmode", "verify-ca is not to be had here: use verify-full"));
        }
        if root_cert.is_some() && mode != SslMode::VerifyFull {
            return Err(parameter("sslrootcert", "goes with sslmode=verify-full only"));
        }
        Ok(Self { host, port, user, password, database, socket, mode, root_cert })
    }

    /// Fails when a handshake would fail for reasons of our own.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Some(path) = &self.root_cert else { return Ok(()) };
        match in_file(path)?.is_empty() {
            true => Err(not_usable(path, "there is no certificate in it")),
            false => Ok(()),
        }
    }

    /// The begin of a URL, without a password.
    pub(crate) fn place(&self) -> String {
        let user = self.user.as_deref().map(|user| escaped(user) + "@").unwrap_or_default();
        let port = if self.port == 3306 { String::new() } else { format!(":{}", self.port) };
        let socket = self.socket.as_deref().map(|path| format!("?socket={}", escaped(path)));
        let socket = socket.unwrap_or_default();
        format!("mysql://{user}{}{port}/{}{socket}", self.host, escaped(&self.database))
    }
}

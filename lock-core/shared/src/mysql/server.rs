//! A MySQL or MariaDB server in a URL.

use crate::place::escaped;
use crate::sslmode::{SslMode, stays_here};
use crate::tls::in_file;
use lock_core::config::ConfigError;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use url::{Host, Url};

/// The server's address, the login, and the TLS settings.
#[derive(Clone)]
pub struct Server {
    /// The host's name or address. IPv6 addresses have square brackets.
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: String,
    /// The path of a Unix socket that is used instead of the host.
    pub socket: Option<String>,
    pub mode: SslMode,
    /// A PEM file with an authority to trust besides the public ones.
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
        // The client also trusts the public authorities. Without a check of the host's name, any of their
        // certificates would pass.
        if mode == SslMode::VerifyCa {
            return Err(parameter(
                "sslmode",
                "cannot be verify-ca with MySQL and MariaDB: use verify-full",
            ));
        }
        if root_cert.is_some() && mode != SslMode::VerifyFull {
            return Err(parameter("sslrootcert", "needs sslmode=verify-full"));
        }
        Ok(Self { host, port, user, password, database, socket, mode, root_cert })
    }

    /// Fails if every handshake would fail because of this side's settings.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Some(path) = &self.root_cert else { return Ok(()) };
        in_file(path).map(drop)
    }

    /// The beginning of a URL, without a password.
    pub(crate) fn place(&self) -> String {
        let user = self.user.as_deref().map(|user| escaped(user) + "@").unwrap_or_default();
        let port = if self.port == 3306 { String::new() } else { format!(":{}", self.port) };
        let socket = self.socket.as_deref().map(|path| format!("?socket={}", escaped(path)));
        let socket = socket.unwrap_or_default();
        format!("mysql://{user}{}{port}/{}{socket}", self.host, escaped(&self.database))
    }
}

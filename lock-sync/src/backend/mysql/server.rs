//! What a URL says about a server.

use crate::error::ConfigError;
use lock_shared::sslmode::SslMode;
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::PathBuf;
use url::{Host, Url};

/// Where the server is, who we are, and how to encrypt.
#[derive(Clone)]
pub(crate) struct Server {
    /// IPv6 addresses in square brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: String,
    /// Of a Unix socket that is used instead.
    pub(super) socket: Option<String>,
    pub(super) mode: SslMode,
    /// An authority to trust, besides the public ones, as PEM.
    pub(super) root_cert: Option<PathBuf>,
}

impl Server {
    /// Reads the server's part of the URL, without its parameters.
    pub(crate) fn read(
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
        let local = socket.is_some() || is_local(&host);
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
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Some(path) = &self.root_cert else { return Ok(()) };
        let wrong =
            |reason: String| ConfigError::Tls(format!("sslrootcert {}: {reason}", path.display()));
        let mut any = false;
        for certificate in
            CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?
        {
            certificate.map_err(|error| wrong(error.to_string()))?;
            any = true;
        }
        if any { Ok(()) } else { Err(wrong("there is no certificate in it".to_string())) }
    }
}

/// Whether everything that would be sent stays on this machine.
fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

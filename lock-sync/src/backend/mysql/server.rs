//! What a URL says about a server.

use crate::backend::sslmode::SslMode;
use crate::error::ConfigError;
use mysql::{Opts, OptsBuilder};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::PathBuf;

/// Where the server is, and how to encrypt.
#[derive(Clone)]
pub(crate) struct Server {
    pub(super) opts: Box<Opts>,
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
        let opts = Opts::from_url(&format!("mysql:{rest}")).map_err(|error| match error {
            mysql::UrlError::ParseError(error) => ConfigError::Url(error.to_string()),
            _ => wrong("it names no host: mysql://HOST/DATABASE"),
        })?;
        if opts.get_db_name().is_none_or(str::is_empty) {
            return Err(wrong("it names no database: mysql://HOST/DATABASE"));
        }
        let local = socket.is_some() || is_local(&opts.get_ip_or_hostname());
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
        let opts = OptsBuilder::from_opts(opts).socket(socket);
        Ok(Self { opts: Box::new(opts.into()), mode, root_cert })
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

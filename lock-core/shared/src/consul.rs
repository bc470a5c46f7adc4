//! A Consul agent in a URL.

use crate::sslmode::{SslMode, stays_here};
use crate::tls::authorities;
use http::HeaderValue;
use http::uri::Authority;
use lock_core::config::ConfigError;
use rustls::pki_types::CertificateDer;
use std::path::PathBuf;

/// The address of a Consul agent, and its TLS settings.
#[derive(Clone)]
pub struct Server {
    /// Host and port.
    pub authority: Authority,
    pub encrypted: bool,
    /// A PEM file with the authorities to trust instead of the system's.
    root_cert: Option<PathBuf>,
}

impl Server {
    /// Reads the URL, without its parameters. Also returns the prefix of keys, which follows the host.
    pub fn read(
        url: &str,
        sslmode: Option<SslMode>,
        root_cert: Option<PathBuf>,
    ) -> Result<(Self, Option<String>), ConfigError> {
        const SHAPE: &str = "consul://HOST:PORT/PREFIX";
        let wrong = |reason: &str| ConfigError::Url(format!("{reason}: {SHAPE}"));
        let url = url::Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("it names no host"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::Url(
                "Consul has no users: give an ACL token with the parameter token".to_string(),
            ));
        }
        if url.fragment().is_some() {
            return Err(wrong("it contains a #, which must be written as %23"));
        }
        let encrypted = match sslmode {
            None => root_cert.is_some() || !stays_here(host),
            Some(SslMode::Disable) => false,
            Some(SslMode::VerifyFull) => true,
            Some(_) => {
                let reason = "must be disable or verify-full with Consul".to_string();
                return Err(ConfigError::Parameter { name: "sslmode".to_string(), reason });
            }
        };
        if root_cert.is_some() && !encrypted {
            let reason = "cannot be used with sslmode=disable".to_string();
            return Err(ConfigError::Parameter { name: "sslrootcert".to_string(), reason });
        }
        let port = url.port().unwrap_or(if encrypted { 8501 } else { 8500 });
        let authority =
            format!("{host}:{port}").parse().map_err(|_| wrong("its host is not valid"))?;
        let prefix = percent_encoding::percent_decode_str(url.path().trim_matches('/'));
        let prefix = prefix.decode_utf8().map_err(|_| wrong("its path is not UTF-8"))?;
        let prefix = (!prefix.is_empty()).then(|| prefix.into_owned());
        Ok((Self { authority, encrypted, root_cert }, prefix))
    }

    /// The authorities to trust, at least one.
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        authorities(self.root_cert.as_deref())
    }
}

/// The header that carries the ACL token. Debug output does not show it.
pub fn token_header(token: &str) -> Result<HeaderValue, ConfigError> {
    let mut value = HeaderValue::from_str(token).map_err(|_| ConfigError::Parameter {
        name: "token".to_string(),
        reason: "must be of visible ASCII characters".to_string(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

//! Certificates.

use lock_core::config::ConfigError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

/// The certificates in a file, as PEM.
pub(crate) fn in_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |error: rustls::pki_types::pem::Error| not_usable(path, &error.to_string());
    CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)
}

pub(crate) fn not_usable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Tls(format!("sslrootcert {}: {reason}", path.display()))
}

/// The authorities to trust, of which there is one at least: those in the file, or the system's.
#[cfg(any(feature = "consul", feature = "postgres"))]
pub(crate) fn authorities(
    root_cert: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found = match root_cert {
        Some(path) => in_file(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if found.is_empty() { Err(none_known()) } else { Ok(found) }
}

#[cfg(any(feature = "consul", feature = "postgres"))]
pub(crate) fn none_known() -> ConfigError {
    let told = "no certificate authority is known: name one with sslrootcert=FILE";
    ConfigError::Tls(told.to_string())
}

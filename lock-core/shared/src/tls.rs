//! Certificates.

use lock_core::config::ConfigError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

/// The certificates in a PEM file, at least one.
pub(crate) fn in_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |error: rustls::pki_types::pem::Error| not_usable(path, &error.to_string());
    let found = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() { Err(not_usable(path, "it contains no certificate")) } else { Ok(found) }
}

pub(crate) fn not_usable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Tls(format!("sslrootcert {}: {reason}", path.display()))
}

/// The authorities to trust, at least one: those in the file, or the system's.
#[cfg(any(feature = "consul", feature = "postgres"))]
pub(crate) fn authorities(
    root_cert: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    match root_cert {
        Some(path) => in_file(path),
        None => match rustls_native_certs::load_native_certs().certs {
            found if found.is_empty() => Err(none_known()),
            found => Ok(found),
        },
    }
}

#[cfg(any(feature = "consul", feature = "postgres"))]
pub(crate) fn none_known() -> ConfigError {
    let told = "this system has no certificate authorities: name one with sslrootcert=FILE";
    ConfigError::Tls(told.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One may be about to take the place of the other.
    #[test]
    fn each_authority_in_a_file_is_trusted() {
        let path = std::env::temp_dir().join(format!("authorities-{}", std::process::id()));
        let one = |content| {
            format!("of\n-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n")
        };
        std::fs::write(&path, one("b25l") + &one("dHdv")).expect("written");
        let found = in_file(&path).expect("read");
        assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<_>>(), [b"one", b"two"]);
        std::fs::write(&path, "none").expect("written");
        assert!(in_file(&path).is_err());
        std::fs::remove_file(&path).expect("removed");
    }
}

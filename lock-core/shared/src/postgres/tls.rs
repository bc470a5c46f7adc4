//! TLS of connections to PostgreSQL, and the checks of the server's certificate.

use crate::sslmode::SslMode;
use crate::tls::{authorities, none_known, not_usable};
use lock_core::config::ConfigError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The TLS settings of a URL.
#[derive(Clone, Debug)]
pub struct Tls {
    pub mode: SslMode,
    /// A PEM file with the authorities to trust instead of the system's.
    pub root_cert: Option<PathBuf>,
}

impl Tls {
    /// Fails if every handshake would fail because of this side's settings.
    pub fn check(&self) -> Result<(), ConfigError> {
        if matches!(self.mode, SslMode::VerifyCa | SslMode::VerifyFull) || self.root_cert.is_some()
        {
            self.roots()?;
        }
        Ok(())
    }

    /// Makes the handshake for these settings.
    pub fn rustls(&self, host: &str) -> Result<MakeRustlsConnect, ConfigError> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let failed = |error: &dyn std::fmt::Display| ConfigError::Tls(format!("{host}: {error}"));
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        // Like libpq: with an authority given, `require` means `verify-ca`.
        let checks = match (self.mode, &self.root_cert) {
            (SslMode::VerifyFull, _) => {
                let config = builder.with_root_certificates(self.roots()?).with_no_client_auth();
                return Ok(MakeRustlsConnect::new(config));
            }
            (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => {
                let roots = Arc::new(self.roots()?);
                let full = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
                Checks::Authority(full.map_err(|error| failed(&error))?)
            }
            (SslMode::Require, None) | (SslMode::Prefer | SslMode::Allow | SslMode::Disable, _) => {
                Checks::Nothing
            }
        };
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Partial { checks, algorithms }))
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, ConfigError> {
        let found = authorities(self.root_cert.as_deref())?;
        let mut roots = RootCertStore::empty();
        match &self.root_cert {
            Some(path) => {
                for certificate in found {
                    roots.add(certificate).map_err(|error| not_usable(path, &error.to_string()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(found);
            }
        }
        if roots.is_empty() {
            return Err(none_known());
        }
        Ok(roots)
    }
}

/// A verifier that checks less of the certificate than `verify-full`. It always checks the handshake's signature, so
/// the server has the certificate's key.
#[derive(Debug)]
struct Partial {
    checks: Checks,
    /// The algorithms of the handshake's signature.
    algorithms: WebPkiSupportedAlgorithms,
}

/// The checks of a server's certificate.
#[derive(Debug)]
enum Checks {
    /// A known authority must have signed it, for any host.
    Authority(Arc<WebPkiServerVerifier>),
    /// Any certificate is accepted. Nobody who listens can read, but the server may be anybody's.
    Nothing,
}

impl ServerCertVerifier for Partial {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Checks::Authority(full) = &self.checks else {
            return Ok(ServerCertVerified::assertion());
        };
        match full.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is checked after everything else, so everything else is right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion};

    // Made for this test alone. The certificate is its own authority.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUSkmtGFaYMQSd/NK9hkyoux/aGs8wCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGc2VydmVyMB4XDTI2MTEzMDAzNTUyN1oXDTM2MTEyNzAzNTUy
N1owETEPMA0GA1UEAwwGc2VydmVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
N8RVfgZ3RBaeOkypHpHEVn4r4i6MjjWyGRHSGXmnr/f2r/7ialfCRYL+oK1Z5NWA
hETDvowiojfa6DGP7AWS3qNTMFEwHQYDVR0OBBYEFFgNf8yO6oyypIfugvl9w9J5
2M+VMB8GA1UdIwQYMBaAFFgNf8yO6oyypIfugvl9w9J52M+VMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAP6bTe6bI+U0Ri3E6zMe2DOEgG5Tz2oo
xsh0YAASUzUTAiAzW9Nx406kwWon+y7ojmcrZg76EMzm7Bh6aUXu77XH3A==
-----END CERTIFICATE-----";
    const ITS_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgWW9ZgBq9f11wVthC
aFTDj8jRg1rQGlqCe3OPsjfjqjahRANCAAQ3xFV+BndEFp46TKkekcRWfiviLoyO
NbIZEdIZeaev9/av/uJqV8JFgv6grVnk1YCERMO+jCKiN9roMY/sBZLe
-----END PRIVATE KEY-----";
    const ANOTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJAy2ZAusSXrLu/Xb
of2zSnxQIYjSfGQ/RikHQvGEHGWhRANCAARcCWSM5ujzbaHfqCj47ZN8qAqgo+SE
dbBAl8juXkreq4tqfav7VmxVIBP2xnDpX0vW7a4nQ/3PkdglI5u44hxp
-----END PRIVATE KEY-----";

    /// A handshake with a server that has the certificate, and this key.
    fn handshake(key: &str, version: &'static SupportedProtocolVersion) -> Result<(), Error> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Partial {
                checks: Checks::Nothing,
                algorithms,
            }))
            .with_no_client_auth();
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("good");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("good");
        let key = ring::sign::any_supported_type(&key)?;
        let certified = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certified));
        let name = ServerName::try_from("localhost").expect("good");
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        while client.is_handshaking() || server.is_handshaking() {
            let (mut asked, mut answered) = (Vec::new(), Vec::new());
            client.write_tls(&mut asked).expect("written");
            server.read_tls(&mut &asked[..]).expect("read");
            server.process_new_packets()?;
            server.write_tls(&mut answered).expect("written");
            client.read_tls(&mut &answered[..]).expect("read");
            client.process_new_packets()?;
        }
        Ok(())
    }

    /// Anybody can have a copy of its certificate.
    #[test]
    fn a_server_without_the_certificates_key_is_refused_however_little_is_checked() {
        for version in [&TLS12, &TLS13] {
            assert_eq!(handshake(ITS_KEY, version), Ok(()), "{version:?}");
            let refused = handshake(ANOTHER_KEY, version);
            let bad = Error::InvalidCertificate(CertificateError::BadSignature);
            assert_eq!(refused, Err(bad), "{version:?}");
        }
    }
}

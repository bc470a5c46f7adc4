//! The advice for a failed TLS handshake.

use rustls::{AlertDescription, CertificateError, Error as Tls};
use std::error::Error;
use std::io;

/// The error of PostgreSQL's client for a server without TLS.
pub const NO_TLS: &str = "server does not support TLS";

/// The advice for a TLS handshake that keeps failing until someone acts. `None` if `error` has another
/// reason, which may pass.
pub fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return about(error);
        }
        if error.to_string() == NO_TLS {
            return Some(
                "enable TLS on the server, or set sslmode=disable, with which anyone on the network path can read the traffic",
            );
        }
        // The source of an I/O error is the source of what it contains.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn about(error: &Tls) -> Option<&'static str> {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateRequired, HandshakeFailure, InsufficientSecurity,
        ProtocolVersion, UnrecognisedName,
    };
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match error {
        Tls::InvalidCertificate(UnknownIssuer) => Some(
            "name the authority of the server's certificate with sslrootcert=FILE (sslmode says what is checked)",
        ),
        Tls::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => Some(
            "use a host name that is in the server's certificate (sslmode says what is checked)",
        ),
        Tls::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => Some(
            "renew the server's certificate, or correct this machine's clock (sslmode says what is checked)",
        ),
        Tls::InvalidCertificate(_) => Some(
            "the server needs another certificate (sslrootcert names its authority, sslmode says what is checked)",
        ),
        Tls::InvalidMessage(_) => Some(
            "the server seems to have no TLS: enable it there, or set sslmode=disable, with which anyone on the network path can read the traffic",
        ),
        Tls::AlertReceived(
            AccessDenied | BadCertificate | CertificateRequired | HandshakeFailure
            | InsufficientSecurity | ProtocolVersion | UnrecognisedName,
        )
        | Tls::PeerIncompatible(_) => Some(
            "the server's TLS settings do not match this client's: check its TLS versions and ciphers, and whether it demands a client certificate",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_wrong_is_found_inside_of_other_errors() {
        let unknown = || Tls::InvalidCertificate(CertificateError::UnknownIssuer);
        let inside = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, unknown()));
        for error in [&unknown() as &(dyn Error + 'static), &inside] {
            assert!(advice(error).is_some_and(|advice| advice.contains("sslrootcert")), "{error}");
        }
        let none = io::Error::other(NO_TLS);
        assert!(advice(&none).is_some_and(|advice| advice.contains("sslmode=disable")));
    }

    #[test]
    fn each_handshake_that_keeps_failing_has_its_own_advice() {
        use AlertDescription::{CertificateRequired, HandshakeFailure, ProtocolVersion};
        use CertificateError::{BadSignature, Expired, NotValidForName, NotValidYet};
        for (error, says) in [
            (Tls::InvalidCertificate(NotValidForName), "use a host name that is in"),
            (Tls::InvalidCertificate(Expired), "this machine's clock"),
            (Tls::InvalidCertificate(NotValidYet), "this machine's clock"),
            (Tls::InvalidCertificate(BadSignature), "another certificate"),
            (Tls::AlertReceived(ProtocolVersion), "TLS versions"),
            (Tls::AlertReceived(CertificateRequired), "client certificate"),
            (Tls::AlertReceived(HandshakeFailure), "do not match"),
        ] {
            assert!(advice(&error).is_some_and(|advice| advice.contains(says)), "{error}");
        }
    }

    #[test]
    fn what_may_pass_calls_for_nothing() {
        let gone = io::Error::from(io::ErrorKind::ConnectionReset);
        let busy = Tls::AlertReceived(AlertDescription::InternalError);
        for error in [&gone as &(dyn Error + 'static), &busy] {
            assert_eq!(advice(error), None, "{error}");
        }
    }
}

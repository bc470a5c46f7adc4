//! The advice for a failed TLS handshake.

use rustls::{AlertDescription, CertificateError, Error as Tls};
use std::error::Error;
use std::io;

/// The failure to connect to a PostgreSQL that has no TLS, in the words of its client.
pub const NO_TLS: &str = "server does not support TLS";

/// The advice for a TLS handshake that fails again until somebody acts. `None` if `error` has
/// another reason, which may pass.
pub fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return about(error);
        }
        if error.to_string() == NO_TLS {
            return Some("sslmode=disable would connect without, for all on the way to read");
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
            "connect to a name that the server's certificate is for (sslmode says what is checked)",
        ),
        Tls::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => Some(
            "renew the server's certificate, or set this machine's clock (sslmode says what is checked)",
        ),
        Tls::InvalidCertificate(_) => Some(
            "the server needs another certificate (sslrootcert names its authority, sslmode says what is checked)",
        ),
        Tls::InvalidMessage(_) => Some(
            "the server seems to have no TLS; sslmode=disable would connect without, for all on the way to read",
        ),
        Tls::AlertReceived(
            AccessDenied | BadCertificate | CertificateRequired | HandshakeFailure
            | InsufficientSecurity | ProtocolVersion | UnrecognisedName,
        )
        | Tls::PeerIncompatible(_) => Some("the server's TLS settings do not go with ours"),
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
    fn what_may_pass_calls_for_nothing() {
        let gone = io::Error::from(io::ErrorKind::ConnectionReset);
        let busy = Tls::AlertReceived(AlertDescription::InternalError);
        for error in [&gone as &(dyn Error + 'static), &busy] {
            assert_eq!(advice(error), None, "{error}");
        }
    }
}

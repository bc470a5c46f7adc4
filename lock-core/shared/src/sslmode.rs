//! The `sslmode` and the `sslrootcert` of URLs.

use crate::env::{Environment, wrong};
use lock_core::config::ConfigError;
use std::path::PathBuf;

/// The `sslmode` of libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server refuses the login without it. The certificate is not checked.
    Allow,
    /// TLS if the server has it. The certificate is not checked.
    Prefer,
    /// TLS. The certificate is not checked.
    Require,
    /// TLS, with a certificate of a known authority.
    VerifyCa,
    /// TLS, with a certificate of a known authority for this host name.
    VerifyFull,
}

impl SslMode {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// The modes of one connect, of which the next is tried if the server refuses the login.
    pub fn attempts(self) -> &'static [Self] {
        match self {
            Self::Disable => &[Self::Disable],
            Self::Allow => &[Self::Disable, Self::Require],
            Self::Prefer => &[Self::Prefer],
            Self::Require => &[Self::Require],
            Self::VerifyCa => &[Self::VerifyCa],
            Self::VerifyFull => &[Self::VerifyFull],
        }
    }
}

/// The TLS settings of a URL. A place has defaults for those that are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    pub mode: Option<SslMode>,
    /// A PEM file with the authorities to trust. `None` for the default ones.
    pub root_cert: Option<PathBuf>,
    /// True if the URL names authorities, those of a file or the system's.
    pub names_authorities: bool,
}

/// The environment variables that complete them.
#[derive(Clone, Copy)]
pub(crate) struct TlsVariables<'a> {
    pub(crate) env: Environment<'a>,
    pub(crate) mode: &'static str,
    pub(crate) root_cert: &'static str,
}

impl TlsSettings {
    /// Reads the parameters, then the variables.
    pub(crate) fn read(
        mode: Option<&str>,
        root_cert: Option<&str>,
        variables: Option<TlsVariables<'_>>,
    ) -> Result<Self, ConfigError> {
        let names_authorities = root_cert.is_some();
        let mut mode = match mode {
            Some(text) => Some(SslMode::parse(text).ok_or_else(|| parameter("sslmode", MODES))?),
            None => None,
        };
        let mut root_cert = root_cert.map(str::to_string);
        if let Some(TlsVariables { env, mode: name, root_cert: file }) = variables {
            if mode.is_none()
                && let Some(text) = env.text(name)?
            {
                mode = Some(SslMode::parse(&text).ok_or_else(|| wrong(name, MODES))?);
            }
            if root_cert.is_none() {
                root_cert = env.text(file)?;
            }
        }
        match (root_cert.as_deref(), mode) {
            // Anybody can have a certificate of a public authority, so the name must be checked.
            (Some("system"), None | Some(SslMode::VerifyFull)) => {
                let mode = Some(SslMode::VerifyFull);
                Ok(Self { mode, root_cert: None, names_authorities })
            }
            (Some("system"), Some(_)) => {
                Err(parameter("sslrootcert", "system needs sslmode=verify-full"))
            }
            (path, mode) => Ok(Self { mode, root_cert: path.map(Into::into), names_authorities }),
        }
    }
}

const MODES: &str = "must be disable, allow, prefer, require, verify-ca or verify-full";

pub(crate) fn parameter(name: &str, reason: &str) -> ConfigError {
    ConfigError::Parameter { name: name.to_string(), reason: reason.to_string() }
}

/// True if all traffic to a host stays on this machine.
pub(crate) fn stays_here(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Hosts to which traffic may leave this machine, though some look as if it did not.
#[cfg(test)]
pub(crate) const ELSEWHERE: [&str; 9] = [
    "localhost.example.com",
    "my-localhost",
    "localhost2",
    "127.0.0.1.example.com",
    "db.local",
    "10.0.0.1",
    "0.0.0.0",
    "[::]",
    "[fe80::1]",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_stays_here() {
        for here in ["localhost", "127.0.0.1", "127.255.255.254", "::1", "[::1]"] {
            assert!(stays_here(here), "{here}");
        }
        for there in ELSEWHERE {
            assert!(!stays_here(there), "{there}");
        }
    }

    #[test]
    fn the_systems_authorities_go_with_a_check_of_the_name() {
        let read = |mode, path| TlsSettings::read(mode, path, None);
        let mode = Some(SslMode::VerifyFull);
        let full = TlsSettings { mode, root_cert: None, names_authorities: true };
        assert_eq!(read(None, Some("system")), Ok(full.clone()));
        assert_eq!(read(Some("verify-full"), Some("system")), Ok(full));
        for weak in ["disable", "allow", "prefer", "require", "verify-ca"] {
            let told = read(Some(weak), Some("system")).expect_err(weak).to_string();
            assert!(told.contains("verify-full"), "{told}");
        }
        let file = read(None, Some("./system")).expect("a file");
        assert_eq!(file.root_cert, Some("./system".into()));
        assert_eq!(file.mode, None);
    }

    #[test]
    fn variables_complete_what_the_url_leaves_open() {
        let variable = |name: &str| match name {
            "MODE" => Some("require".into()),
            "FILE" => Some("/env.pem".into()),
            _ => None,
        };
        let env = Environment::new(&variable);
        let read = |mode, path, name, file| {
            let variables = TlsVariables { env, mode: name, root_cert: file };
            TlsSettings::read(mode, path, Some(variables))
        };
        let settings = read(None, None, "MODE", "FILE").expect("good");
        assert_eq!(settings.mode, Some(SslMode::Require));
        assert_eq!(settings.root_cert, Some("/env.pem".into()));
        let url = read(Some("allow"), Some("/url.pem"), "MODE", "FILE").expect("good");
        assert_eq!((url.mode, url.root_cert), (Some(SslMode::Allow), Some("/url.pem".into())));
        assert_eq!(read(None, None, "none", "none"), Ok(TlsSettings::default()));
        let wrong = read(None, None, "FILE", "none").expect_err("no mode").to_string();
        assert!(wrong.contains("FILE") && wrong.contains("verify-full"), "{wrong}");
    }
}

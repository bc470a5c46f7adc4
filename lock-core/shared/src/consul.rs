//! Consul agents in a URL.

mod env;

use crate::env::Environment;
use crate::hosts::{HostError, Hosts, LastHost, each_host};
use crate::settings::Settings;
use crate::sslmode::{SslMode, TlsSettings, parameter, stays_here};
use crate::tls::authorities;
use env::Address;
use http::HeaderValue;
use http::uri::Authority;
use lock_core::Failure;
use lock_core::config::ConfigError;
use lock_core::http::Method;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::PathBuf;

/// The addresses of Consul agents, and their TLS settings. A session lives in the cluster, so a request may go to
/// any of its agents.
#[derive(Clone)]
pub struct Server {
    agents: Vec<Agent>,
    pub encrypted: bool,
    /// A PEM file with the authorities to trust instead of the system's.
    root_cert: Option<PathBuf>,
    last: LastHost,
}

/// The address of one agent.
#[derive(Clone)]
pub struct Agent {
    /// Host and port.
    pub authority: Authority,
    /// The name that the certificate must have.
    pub server_name: ServerName<'static>,
}

impl Server {
    /// Reads the URL, without its parameters. An environment completes it and the settings. Also returns the
    /// prefix of keys, which follows the host.
    pub(crate) fn read(
        base: &str,
        tls: TlsSettings,
        env: Option<Environment<'_>>,
        settings: &mut Settings,
    ) -> Result<(Self, Option<String>), ConfigError> {
        const SHAPE: &str = "consul://HOST:PORT/PREFIX";
        let wrong = |reason: &str| ConfigError::Url(format!("{reason}: {SHAPE}"));
        let path = base.strip_prefix("consul://");
        let path = path.filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let address = match (path, env) {
            (Some(_), Some(env)) => Some(Address::read(env)?),
            _ => None,
        };
        let url = match (&address, path) {
            (Some(address), Some(path)) => format!("consul://{}{path}", address.authority),
            _ => base.to_string(),
        };
        let read = |url: String| {
            let url = url::Url::parse(&url).map_err(|error| wrong(&error.to_string()))?;
            let host = url.host_str().filter(|host| !host.is_empty()).map(ToString::to_string);
            Ok((host.ok_or_else(|| wrong("it names no host"))?, url))
        };
        let urls = each_host(&url).into_iter().map(read);
        let urls = urls.collect::<Result<Vec<_>, ConfigError>>()?;
        // They differ only in the host.
        let [(_, url), ..] = &urls[..] else { return Err(wrong("it names no host")) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::Url(
                "Consul has no users: give an ACL token with the parameter token".to_string(),
            ));
        }
        if url.fragment().is_some() {
            return Err(wrong("it contains a #, which must be written as %23"));
        }
        let here = urls.iter().all(|(host, _)| stays_here(host));
        let encrypted = encrypted(&tls, env, address.as_ref())?.unwrap_or(!here);
        if tls.root_cert.is_some() && !encrypted {
            return Err(parameter("sslrootcert", "cannot be used with sslmode=disable"));
        }
        let mut root_cert = tls.root_cert;
        if let Some(env) = env {
            if encrypted && tls.mode.is_none() {
                env::check_verify(env)?;
            }
            if encrypted && !tls.names_authorities {
                root_cert = env.path("CONSUL_CACERT");
            }
            env::complete(settings, env)?;
        }
        if let Some(address) = address
            && settings.scope.path.is_empty()
        {
            settings.scope.path = address.path;
        }
        let agent = |(host, url): &(String, url::Url)| {
            let host_name = host.trim_matches(['[', ']']);
            // Also if the certificate has another name: whoever is shown the place must be able to use it.
            ServerName::try_from(host_name).map_err(|_| wrong("its host is not valid"))?;
            let name = settings.server_name.as_deref().unwrap_or(host_name);
            let server_name = ServerName::try_from(name.to_string()).map_err(|_| match settings
                .server_name
            {
                Some(_) => parameter("server_name", "must be the name or the address of a host"),
                None => wrong("its host is not valid"),
            })?;
            let port = url.port().unwrap_or(if encrypted { 8501 } else { 8500 });
            let authority = format!("{host}:{port}").parse();
            let authority = authority.map_err(|_| wrong("its host is not valid"))?;
            Ok::<_, ConfigError>(Agent { authority, server_name })
        };
        let agents = urls.iter().map(agent).collect::<Result<_, _>>()?;
        let prefix = percent_encoding::percent_decode_str(url.path().trim_matches('/'));
        let prefix = prefix.decode_utf8().map_err(|_| wrong("its path is not UTF-8"))?;
        let prefix = (!prefix.is_empty()).then(|| prefix.into_owned());
        Ok((Self { agents, encrypted, root_cert, last: LastHost::default() }, prefix))
    }

    /// The agents, each named by its host and port.
    pub fn agents(&self) -> Hosts<Agent> {
        let all = self.agents.iter().map(|agent| (agent.authority.to_string(), agent.clone()));
        Hosts::new(all.collect(), self.last.clone())
    }

    /// The hosts and ports in a URL.
    pub(crate) fn place(&self) -> String {
        self.agents.iter().map(|agent| agent.authority.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The authorities to trust, at least one.
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        authorities(self.root_cert.as_deref())
    }
}

/// The TLS that is asked for, or that is ruled out. The URL goes first.
fn encrypted(
    tls: &TlsSettings,
    env: Option<Environment<'_>>,
    address: Option<&Address>,
) -> Result<Option<bool>, ConfigError> {
    match (tls.mode, env) {
        (Some(SslMode::Disable), _) => Ok(Some(false)),
        (Some(SslMode::VerifyFull), _) => Ok(Some(true)),
        (Some(_), _) => Err(parameter("sslmode", "must be disable or verify-full with Consul")),
        (None, _) if tls.root_cert.is_some() => Ok(Some(true)),
        (None, Some(env)) => env::encrypted(env, address),
        (None, None) => Ok(None),
    }
}

/// The error of a request without an answer.
#[derive(Debug)]
pub struct RequestError {
    /// True if the request may have arrived.
    pub sent: bool,
    pub told: String,
    /// True if the error stays until someone acts.
    pub stays: bool,
}

impl RequestError {
    pub fn new(sent: bool, told: impl Into<String>) -> Self {
        Self { sent, told: told.into(), stays: false }
    }

    fn message(&self) -> String {
        format!("Consul: {}", self.told.replace(char::is_control, " "))
    }

    /// The failure that the error means. A read changes nothing, whatever happened to it.
    pub fn failure(self, method: Method) -> Failure {
        let message = self.message();
        if self.sent && method == Method::Put {
            Failure::Unknown(message)
        } else {
            Failure::NotSent(message)
        }
    }

    /// The failure that it means at the first connect, which alone refuses for good.
    pub fn first_failure(self, method: Method) -> Failure {
        if self.stays { Failure::refused(self.message()) } else { self.failure(method) }
    }
}

impl HostError for RequestError {
    fn told(&self) -> String {
        self.told.clone()
    }

    fn stays(&self) -> bool {
        self.stays
    }

    fn at(self, host: &str) -> Self {
        Self { told: format!("{host}: {}", self.told), ..self }
    }

    fn of_all(told: String, stays: bool) -> Self {
        Self { sent: false, told, stays }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The program may have set it, and not a URL.
    #[test]
    fn a_token_that_cannot_be_sent_is_told_by_its_name() {
        let error = token_header("a\nb").expect_err("two lines").to_string();
        assert_eq!(error, "the setting token: must be of visible ASCII characters");
    }

    /// The hosts are tried one after the other, and what each of them said becomes one error.
    #[test]
    fn an_error_of_all_hosts_says_and_stays_what_theirs_did() {
        for stays in [false, true] {
            let error = RequestError::of_all("a: refused; b: refused".to_string(), stays);
            assert_eq!(
                (error.told(), error.stays()),
                ("a: refused; b: refused".to_string(), stays)
            );
            let first = error.first_failure(Method::Put);
            assert_eq!(
                first == Failure::refused("Consul: a: refused; b: refused".to_string()),
                stays,
                "{first:?}"
            );
        }
    }

    #[test]
    fn each_agent_has_a_certificate_for_its_own_name() {
        let names = |settings: &mut Settings| {
            let (url, tls) = ("consul://one,two:7,10.0.0.3", TlsSettings::default());
            let (server, _) = Server::read(url, tls, None, settings).expect("good");
            let name = |agent: &Agent| agent.server_name.to_str().into_owned();
            server.agents.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&mut Settings::default()), ["one", "two", "10.0.0.3"]);
        let mut named = Settings { server_name: Some("all".into()), ..Settings::default() };
        assert_eq!(names(&mut named), ["all"; 3]);
    }

    #[test]
    fn the_token_is_not_shown() {
        let header = token_header("hunter2").expect("good");
        assert_eq!(header.to_str().expect("ASCII"), "hunter2");
        assert!(!format!("{header:?}").contains("hunter2"));
    }

    /// A certificate of the system's authorities is no proof then.
    #[test]
    fn a_file_with_authorities_is_used_instead_of_the_systems() {
        let path = std::env::temp_dir().join(format!("agents-authority-{}", std::process::id()));
        let one = "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, one).expect("written");
        let tls = TlsSettings { root_cert: Some(path.clone()), ..TlsSettings::default() };
        let (server, _) =
            Server::read("consul://h", tls, None, &mut Settings::default()).expect("good");
        assert_eq!(server.roots().expect("read"), [CertificateDer::from(b"one".to_vec())]);
        std::fs::remove_file(&path).expect("removed");
    }
}

//! PostgreSQL, by the types of `tokio-postgres`, on which the client `postgres` is built.

mod attempts;
mod env;
mod hosts;
mod passfile;
mod rows;
mod tls;

use crate::env::Environment;
use crate::hosts::{Hosts, LastHost};
use crate::place::{escaped, escaped_name};
use crate::sslmode::{SslMode, TlsSettings};
use env::Parameters;
use lock_core::config::ConfigError;
use lock_core::sql::postgres::session_options;
use passfile::Passfile;
use std::net::IpAddr;
use std::time::Duration;
pub use tokio_postgres::config::Host;

pub use attempts::Attempts;
pub use hosts::{at, is_unix, limit_connect, name};
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub use passfile::password_in;
pub use rows::{describe, failed, not_connected, param, pin_params, row};
pub use tls::Tls;
pub use tokio_postgres::Config;
pub use tokio_postgres_rustls::MakeRustlsConnect;

/// A server, and its TLS settings.
#[derive(Clone)]
pub struct Server {
    pub config: Box<Config>,
    pub tls: Tls,
    /// The password for each host, if the configuration has none.
    passwords: Vec<Option<Vec<u8>>>,
    /// The reason for which a file of passwords is ignored.
    pub(crate) warning: Option<String>,
    last: LastHost,
}

impl Server {
    /// Reads the URL: the part before its `?`, and the parameters that are the client's. An environment
    /// completes them.
    pub(crate) fn read(
        base: &str,
        query: &[(String, String)],
        tls: TlsSettings,
        env: Option<Environment<'_>>,
    ) -> Result<Self, ConfigError> {
        let mut parameters = Parameters::read(base, query)?;
        if let Some(env) = env {
            parameters.complete(env)?;
        }
        let config = parameters.config()?;
        let TlsSettings { mode, root_cert, .. } = tls;
        let mode = match mode {
            Some(mode) => mode,
            None if hosts::is_local(&config) => SslMode::Prefer,
            None => SslMode::VerifyFull,
        };
        let (mut passwords, mut warning) = (Vec::new(), None);
        if let Some((path, named)) = parameters.passfile(env) {
            let file = Passfile::read(&path, named).unwrap_or_else(|why| {
                warning = Some(why);
                Passfile::default()
            });
            let user = parameters.user()?;
            let database = config.get_dbname().unwrap_or(&user);
            let ports = config.get_ports();
            let find = |(at, host): (usize, &Host)| {
                let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
                file.find(host, port, database, &user)
            };
            passwords = config.get_hosts().iter().enumerate().map(find).collect();
        }
        let (config, tls) = (Box::new(config), Tls { mode, root_cert });
        Ok(Self { config, tls, passwords, warning, last: LastHost::default() })
    }

    /// One configuration for each host. The server ends a statement after `request`. It shows `name` for the
    /// connection, unless the URL has an application name.
    pub fn each(&self, request: Duration, name: &str) -> Hosts<Config> {
        let mut config = (*self.config).clone();
        let own = config.get_options().map(|own| format!("{own} ")).unwrap_or_default();
        let mut options = own + &session_options(request);
        if config.get_application_name().is_none() {
            // Not as a parameter of its own, which a pooler would leave to others.
            options += &format!(" -c application_name={}", in_options(name));
        }
        config.options(options);
        config.tcp_user_timeout(request);
        // Without keep-alives, a connection that only listens would not notice that the server is gone. The
        // kernel counts whole seconds, at least one.
        config.keepalives_idle(request.max(Duration::from_secs(1)));
        let mut each = hosts::each(&config);
        for (host, password) in each.iter_mut().zip(&self.passwords) {
            if let Some(password) = password {
                host.password(password);
            }
        }
        let named = each.into_iter().map(|one| (hosts::shown(&one), one)).collect();
        Hosts::new(named, self.last.clone())
    }

    /// The beginning of a URL, without a password.
    pub(crate) fn place(&self) -> String {
        let config = &self.config;
        let user = config.get_user().map(|user| escaped_name(user) + "@").unwrap_or_default();
        let mut hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) if name.contains(':') => {
                    format!("[{}]", escaped_name(name).replace("%3A", ":"))
                }
                Host::Tcp(name) => escaped_name(name),
                Host::Unix(folder) => escaped_name(&folder.to_string_lossy()),
            })
            .collect();
        // An address replaces the host's name.
        for (at, address) in config.get_hostaddrs().iter().enumerate() {
            let address = match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            };
            match hosts.get_mut(at) {
                Some(host) => *host = address,
                None => hosts.push(address),
            }
        }
        let ports = config.get_ports();
        for (at, host) in hosts.iter_mut().enumerate() {
            if let Some(port) = ports.get(at).or(ports.first()).filter(|port| **port != 5432) {
                *host += &format!(":{port}");
            }
        }
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        format!("postgres://{user}{}/{}", hosts.join(","), escaped(database))
    }
}

/// A value in `options`, which are separated by white space.
fn in_options(value: &str) -> String {
    let escape =
        |c: char| ['\\'].into_iter().filter(move |_| c == '\\' || c.is_whitespace()).chain([c]);
    value.chars().flat_map(escape).collect()
}

/// Reads a URL by itself.
#[cfg(test)]
fn read(url: &str) -> Result<Config, ConfigError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    Parameters::read(base, &query)?.config()
}

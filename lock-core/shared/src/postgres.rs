//! PostgreSQL, by the types of `tokio-postgres`, on which the client `postgres` is built.

mod hosts;
mod rows;
mod tls;

use crate::place::escaped;
use crate::sslmode::SslMode;
use lock_core::config::ConfigError;
use lock_core::sql::postgres::session_options;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::config::Host;

pub use hosts::{at, is_unix, name, share};
pub use rows::{describe, failed, not_connected, param, row};
pub use tls::Tls;
pub use tokio_postgres::Config;
pub use tokio_postgres_rustls::MakeRustlsConnect;

/// A server, and its TLS settings.
#[derive(Clone)]
pub struct Server {
    pub config: Box<Config>,
    pub tls: Tls,
}

impl Server {
    /// Reads the URL, without parameters that are not the client's.
    pub fn read(
        url: &str,
        sslmode: Option<SslMode>,
        root_cert: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let config = read(url)?;
        let mode = match sslmode {
            Some(mode) => mode,
            None if hosts::is_local(&config) => SslMode::Prefer,
            None => SslMode::VerifyFull,
        };
        Ok(Self { config: Box::new(config), tls: Tls { mode, root_cert } })
    }

    /// One configuration for each host. The server ends a statement after `request`. It shows `name` for the
    /// connection, unless the URL has an application name.
    pub fn each(&self, request: Duration, name: &str) -> Vec<Config> {
        let mut config = (*self.config).clone();
        if config.get_application_name().is_none() {
            config.application_name(name);
        }
        let options = config.get_options().map(|own| format!("{own} ")).unwrap_or_default();
        config.options(format!("{options}{}", session_options(request)));
        config.tcp_user_timeout(request);
        // Without keep-alives, a connection that only listens would not notice that the server is gone. The
        // kernel counts whole seconds, at least one.
        config.keepalives_idle(request.max(Duration::from_secs(1)));
        hosts::each(&config)
    }

    /// The beginning of a URL, without a password.
    pub(crate) fn place(&self) -> String {
        let config = &self.config;
        let user = config.get_user().map(|user| escaped(user) + "@").unwrap_or_default();
        let mut hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) if name.contains(':') => format!("[{}]", escaped(name)),
                Host::Tcp(name) => escaped(name),
                Host::Unix(folder) => escaped(&folder.to_string_lossy()).replace('/', "%2F"),
            })
            .collect();
        // An address replaces the host's name.
        for (at, address) in config.get_hostaddrs().iter().enumerate() {
            match hosts.get_mut(at) {
                Some(host) => *host = address.to_string(),
                None => hosts.push(address.to_string()),
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

fn read(url: &str) -> Result<Config, ConfigError> {
    let config: Config = url.parse().map_err(|error| ConfigError::Url(describe(&error).1))?;
    if config.get_hosts().is_empty() {
        return Err(ConfigError::Url("it names no host: postgres://HOST/DATABASE".to_string()));
    }
    Ok(config)
}

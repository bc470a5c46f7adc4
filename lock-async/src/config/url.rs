//! What a URL says.

use super::{Config, Protocol, Target};
use crate::error::ConfigError;
use lock_core::sql::advisory::Key;
use lock_core::{TableName, Timing, duration};
use std::time::Duration;

const SCHEMES: &str = "postgres://, postgresql://, mysql://, mariadb://, consul://, sqlite:";

/// Reads a URL.
pub(super) fn read(url: &str) -> Result<Config, ConfigError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    if !escapes_are_whole(url) {
        return Err(ConfigError::Url(
            "each % must be followed by two hexadecimal digits (% itself is %25)".to_string(),
        ));
    }
    let mut parameters = Parameters::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        parameters.take(&name, value.into_owned())?;
    }
    let (target, prefix) = match base.split_once(':') {
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => (parameters.postgres(base)?, None),
        #[cfg(feature = "mysql")]
        Some(("mysql" | "mariadb", _)) => (parameters.mysql(base)?, None),
        #[cfg(feature = "consul")]
        Some(("consul", _)) => parameters.consul(base)?,
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) => (parameters.sqlite(path)?, None),
        _ => return Err(ConfigError::Scheme(SCHEMES)),
    };
    let config = Config {
        target,
        protocol: parameters.protocol,
        ttl: parameters.ttl.unwrap_or(Timing::DEFAULT_TTL),
        request: parameters.request,
        table: parameters.table,
        keys: parameters.keys,
        prefix: parameters.prefix.or(prefix),
        waiting: parameters.waiting,
        token: parameters.token,
        label: parameters.label,
    };
    config.check()?;
    Ok(config)
}

/// A URL's parameters.
#[derive(Default)]
struct Parameters {
    protocol: Option<Protocol>,
    ttl: Option<Duration>,
    request: Option<Duration>,
    table: Option<TableName>,
    keys: Option<Key>,
    prefix: Option<String>,
    waiting: Option<usize>,
    token: Option<String>,
    label: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    /// Those of ours that were given.
    ours: Vec<String>,
    /// Those that are not ours.
    others: Vec<(String, String)>,
}

impl Parameters {
    fn take(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        let wrong = |reason: String| ConfigError::Parameter { name: name.to_string(), reason };
        let duration = |text: &str| duration::parse(text).map_err(|error| wrong(error.to_string()));
        match name {
            "protocol" => self.protocol = Some(value.parse()?),
            "ttl" => self.ttl = Some(duration(&value)?),
            "request_timeout" => self.request = Some(duration(&value)?),
            "table" => self.table = Some(TableName::new(&value)?),
            "keys" => {
                self.keys = Some(match &*value {
                    "hash" => Key::Hash,
                    "int" => Key::Int,
                    "pair" => Key::Pair,
                    _ => return Err(wrong("must be hash, int or pair".to_string())),
                });
            }
            "prefix" => self.prefix = Some(value),
            "waiting" => {
                let number = value.parse().map_err(|_| wrong("must be a number".to_string()))?;
                self.waiting = Some(number);
            }
            "token" => self.token = Some(value),
            "label" => self.label = Some(value),
            "sslmode" => self.sslmode = Some(value),
            "sslrootcert" => self.sslrootcert = Some(value),
            _ if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                self.others.push((name.to_string(), value));
                return Ok(());
            }
            // It may be the rest of a password: do not repeat it.
            _ => {
                let hint = "what follows the first ? is no list of parameters (in a password, ? is %3F and & is %26)";
                return Err(ConfigError::Url(hint.to_string()));
            }
        }
        self.ours.push(name.to_string());
        Ok(())
    }

    /// Refuses parameters beyond those that are `known` and the client's own.
    fn only(&self, known: &'static str, client: &[&str]) -> Result<(), ConfigError> {
        let is_ours = |name: &&String| !known.split(", ").any(|one| one == name.as_str());
        let others = self.others.iter().map(|(name, _)| name);
        let unknown = self.ours.iter().find(is_ours);
        match unknown.or(others.into_iter().find(|name| !client.contains(&name.as_str()))) {
            Some(name) => Err(ConfigError::UnknownParameter { name: name.clone(), known }),
            None => Ok(()),
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self, base: &str) -> Result<Target, ConfigError> {
        use crate::backend::postgres::{Tls, config, is_local};
        use lock_shared::sslmode::SslMode;
        const KNOWN: &str = "ttl, request_timeout, protocol, table, keys, waiting, label, sslmode, sslrootcert, and those of the server's client";
        const CLIENT: [&str; 13] = [
            "host",
            "hostaddr",
            "port",
            "user",
            "password",
            "dbname",
            "application_name",
            "options",
            "connect_timeout",
            "target_session_attrs",
            "channel_binding",
            "keepalives",
            "keepalives_idle",
        ];
        self.only(KNOWN, &CLIENT)?;
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.others)
            .finish();
        // The client's parser knows %20, but not + for a space.
        let config = config(&format!("{base}?{}", query.replace('+', "%20")))?;
        let mode = match self.sslmode()? {
            Some(mode) => mode,
            None if is_local(&config) => SslMode::Prefer,
            None => SslMode::VerifyFull,
        };
        let root_cert = self.sslrootcert.as_ref().map(Into::into);
        Ok(Target::Postgres { config: Box::new(config), tls: Tls { mode, root_cert } })
    }

    #[cfg(feature = "mysql")]
    fn mysql(&self, base: &str) -> Result<Target, ConfigError> {
        const KNOWN: &str = "ttl, request_timeout, protocol, table, prefix, waiting, label, sslmode, sslrootcert, socket";
        self.only(KNOWN, &["socket"])?;
        let socket = self.others.last().map(|(_, socket)| socket.clone());
        let root_cert = self.sslrootcert.as_ref().map(Into::into);
        let server = crate::backend::mysql::Server::read(base, socket, self.sslmode()?, root_cert)?;
        Ok(Target::Mysql(server))
    }

    /// The server, and the prefix of keys if there is one.
    #[cfg(feature = "consul")]
    fn consul(&self, base: &str) -> Result<(Target, Option<String>), ConfigError> {
        const KNOWN: &str = "ttl, request_timeout, protocol, label, token, sslmode, sslrootcert";
        self.only(KNOWN, &[])?;
        let root_cert = self.sslrootcert.as_ref().map(Into::into);
        let (server, prefix) =
            crate::backend::consul::Server::read(base, self.sslmode()?, root_cert)?;
        Ok((Target::Consul(server), prefix))
    }

    #[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
    fn sslmode(&self) -> Result<Option<lock_shared::sslmode::SslMode>, ConfigError> {
        let Some(text) = &self.sslmode else { return Ok(None) };
        let mode = lock_shared::sslmode::SslMode::parse(text);
        mode.map(Some).ok_or_else(|| ConfigError::Parameter {
            name: "sslmode".to_string(),
            reason: "must be disable, prefer, require, verify-ca or verify-full".to_string(),
        })
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(&self, path: &str) -> Result<Target, ConfigError> {
        self.only("ttl, request_timeout, protocol, table, label", &[])?;
        // sqlite:relative, sqlite:/absolute, sqlite:///absolute
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = percent_encoding::percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| ConfigError::Url("the path is not UTF-8".to_string()))?;
        lock_core::sql::sqlite::file::check_name(&path)
            .map_err(|reason| ConfigError::Url(reason.to_string()))?;
        Ok(Target::Sqlite(path.into_owned().into()))
    }
}

fn escapes_are_whole(url: &str) -> bool {
    let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = url.as_bytes();
    bytes
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte != b'%' || (hex(bytes.get(at + 1)) && hex(bytes.get(at + 2))))
}

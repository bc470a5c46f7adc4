//! The parser of URLs.

mod raw;

use crate::env::Environment;
use crate::place::Place;
use crate::settings::Settings;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
use crate::sslmode::{TlsSettings, TlsVariables};
use lock_core::config::ConfigError;
use lock_core::sql::advisory::Key;
use lock_core::{TableName, duration};
use std::collections::BTreeSet;

/// Reads the URL of a place. Without an environment, the URL alone says where it is.
pub(crate) fn read(
    url: &str,
    env: Option<Environment<'_>>,
) -> Result<(Place, Settings), ConfigError> {
    if url.contains(char::is_control) {
        // Some readers of URLs leave them out, and so would find another place.
        let what = "it contains a control character, such as a tab or the end of a line";
        return Err(ConfigError::Url(what.to_string()));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    if !escapes_are_whole(url) {
        return Err(ConfigError::Url(
            "each % must be followed by two hexadecimal digits (% itself is %25)".to_string(),
        ));
    }
    let scheme = base.split_once(':').map_or("", |(scheme, _)| scheme);
    if matches!(scheme, "postgres" | "postgresql" | "mysql" | "mariadb") {
        raw::check(base, query)?;
    }
    let bare = |parameter: &str| !parameter.is_empty() && !parameter.contains('=');
    let stray = query.contains('@') || query.split('&').any(bare);
    let mut parameters = Parameters { stray, ..Parameters::default() };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        parameters.take(&name, value.into_owned())?;
    }
    let place: Place = match base.split_once(':') {
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => parameters.postgres(base, env)?,
        #[cfg(feature = "mysql")]
        Some(("mysql" | "mariadb", _)) => parameters.mysql(base, env)?,
        #[cfg(feature = "consul")]
        Some(("consul", _)) => parameters.consul(base, env)?,
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) => parameters.sqlite(path)?,
        _ => return Err(Place::unknown()),
    };
    parameters.settings.check(place.kind())?;
    Ok((place, parameters.settings))
}

/// Longest name of an unknown parameter that an error repeats, in bytes.
const LONGEST: usize = 40;

/// A URL's parameters.
#[derive(Default)]
struct Parameters {
    settings: Settings,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    /// Names of our own parameters that were given.
    ours: Vec<String>,
    /// All other parameters.
    others: Vec<(String, String)>,
    /// True if the rest of a password may be among them: there is a raw @, which ends a user name or password, or a
    /// parameter without a value, as behind a raw & in a password.
    stray: bool,
}

impl Parameters {
    fn take(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        let wrong = |reason: String| ConfigError::Parameter { name: name.to_string(), reason };
        let duration = |text: &str| duration::parse(text).map_err(|error| wrong(error.to_string()));
        let settings = &mut self.settings;
        match name {
            "protocol" => settings.protocol = Some(value.parse()?),
            "ttl" => settings.ttl = Some(duration(&value)?),
            "longest_ttl" => settings.longest_ttl = Some(duration(&value)?),
            "request_timeout" => settings.request = Some(duration(&value)?),
            "table" => settings.table = Some(TableName::new(&value)?),
            "durability" => settings.durability = Some(value.parse()?),
            "expiry" => settings.expiry = Some(value.parse()?),
            "keys" => {
                settings.keys = Some(match &*value {
                    "hash" => Key::Hash,
                    "int" => Key::Int,
                    "pair" => Key::Pair,
                    _ => return Err(wrong("must be hash, int or pair".to_string())),
                });
            }
            "prefix" => settings.prefix = Some(value),
            "waiting" => {
                let number = value.parse().map_err(|_| wrong("must be a number".to_string()))?;
                settings.waiting = Some(number);
            }
            "token" => settings.token = Some(value),
            "server_name" => settings.server_name = Some(value),
            "path" => settings.scope.path = value.trim_matches('/').to_string(),
            "ns" => settings.scope.namespace = value,
            "partition" => settings.scope.partition = value,
            "dc" => settings.scope.datacenter = value,
            "label" => settings.label = Some(value),
            "warn_wait" => settings.warn_after.wait = Some(duration(&value)?),
            "warn_hold" => settings.warn_after.hold = Some(duration(&value)?),
            "sslmode" => self.sslmode = Some(value),
            "sslrootcert" => self.sslrootcert = Some(value),
            _ if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) => {
                self.others.push((name.to_string(), value));
                return Ok(());
            }
            // The name may be the rest of a password, so the error does not repeat it.
            _ => return Err(raw::stray()),
        }
        self.ours.push(name.to_string());
        Ok(())
    }

    /// Refuses parameters beyond those that are `known` and the client's own, and one that is given twice.
    fn only(&self, known: &'static str, client: &[&str]) -> Result<(), ConfigError> {
        let is_ours = |name: &&String| !known.split(", ").any(|one| one == name.as_str());
        let others = self.others.iter().map(|(name, _)| name);
        let unknown = self.ours.iter().find(is_ours);
        match unknown.or(others.clone().find(|name| !client.contains(&name.as_str()))) {
            // As above.
            Some(name) if self.stray || name.len() > LONGEST => return Err(raw::stray()),
            Some(name) => return Err(ConfigError::UnknownParameter { name: name.clone(), known }),
            None => {}
        }
        let mut seen = BTreeSet::new();
        match self.ours.iter().chain(others).find(|name| !seen.insert(*name)) {
            Some(name) => Err(ConfigError::Parameter {
                name: name.clone(),
                reason: "is given more than once".to_string(),
            }),
            None => Ok(()),
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self, base: &str, env: Option<Environment<'_>>) -> Result<Place, ConfigError> {
        const KNOWN: &str = "ttl, request_timeout, protocol, table, durability, expiry, keys, waiting, longest_ttl, label, warn_wait, warn_hold, sslmode, sslrootcert, passfile, and those of the server's client";
        const CLIENT: [&str; 14] = [
            "host",
            "hostaddr",
            "port",
            "user",
            "password",
            "passfile",
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
        let tls = self.tls(env.map(|env| TlsVariables {
            env,
            mode: "PGSSLMODE",
            root_cert: "PGSSLROOTCERT",
        }))?;
        crate::postgres::Server::read(base, &self.others, tls, env).map(Place::Postgres)
    }

    #[cfg(feature = "mysql")]
    fn mysql(&self, base: &str, env: Option<Environment<'_>>) -> Result<Place, ConfigError> {
        const KNOWN: &str = "ttl, request_timeout, protocol, table, durability, expiry, prefix, waiting, longest_ttl, label, warn_wait, warn_hold, sslmode, sslrootcert, socket";
        self.only(KNOWN, &["socket"])?;
        let socket = self.others.last().map(|(_, socket)| socket.clone());
        let tls = self.tls(None)?;
        crate::mysql::Server::read(base, socket, tls, env).map(Place::Mysql)
    }

    #[cfg(feature = "consul")]
    fn consul(&mut self, base: &str, env: Option<Environment<'_>>) -> Result<Place, ConfigError> {
        const KNOWN: &str = "ttl, request_timeout, protocol, label, warn_wait, warn_hold, token, server_name, path, ns, partition, dc, sslmode, sslrootcert";
        self.only(KNOWN, &[])?;
        let tls = self.tls(None)?;
        let (server, prefix) = crate::consul::Server::read(base, tls, env, &mut self.settings)?;
        let settings = &mut self.settings;
        settings.prefix = settings.prefix.take().or(prefix);
        Ok(Place::Consul(server))
    }

    #[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
    fn tls(&self, variables: Option<TlsVariables<'_>>) -> Result<TlsSettings, ConfigError> {
        TlsSettings::read(self.sslmode.as_deref(), self.sslrootcert.as_deref(), variables)
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(&self, path: &str) -> Result<Place, ConfigError> {
        self.only("ttl, request_timeout, protocol, table, label, warn_wait, warn_hold", &[])?;
        // sqlite:relative, sqlite:/absolute, sqlite:///absolute
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = percent_encoding::percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| ConfigError::Url("the path is not UTF-8".to_string()))?;
        lock_core::sql::sqlite::file::check_name(&path)
            .map_err(|reason| ConfigError::Url(reason.to_string()))?;
        Ok(Place::Sqlite(path.into_owned().into()))
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

#[cfg(all(test, feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn urls_are_taken_or_refused_without_their_secrets() {
        let good = [
            "sqlite:a.db",
            "sqlite:a?ttl=30&request_timeout=1.5",
            "sqlite:a?ttl=1h30m",
            "sqlite:a?warn_wait=30s&warn_hold=1h",
            "postgres://h/d?warn_wait=1&protocol=advisory",
            "mysql://h/d?warn_hold=1h",
            "consul://h?warn_wait=30s&warn_hold=10m",
            "sqlite:///var/lib/a%20b.db?ttl=10s&table=ops_locks&label=x%20y&request_timeout=1s",
            "postgresql://u:p%3F@h:5432/d?sslmode=verify-full&sslrootcert=/ca.pem&application_name=a+b",
            "postgres://u@%2Frun%2Fpostgresql/d",
            "postgres:///d?host=/run/postgresql",
            "mysql://u:p%3F@h:3307/d?sslmode=verify-full&sslrootcert=/ca.pem",
            "mariadb://[::1]/d?sslmode=require&ttl=10s",
            "mysql://u@localhost/d?socket=/run/mysqld/mysqld.sock",
            "postgres://h/d?protocol=advisory&keys=pair&waiting=0",
            "postgres://h/d?protocol=advisory&keys=hash",
            "postgres://h/d?protocol=advisory&keys=int",
            "postgres://one,two:7/d?target_session_attrs=primary",
            "postgres://h/d?target_session_attrs=any",
            "mysql://u:p@one:3307,two,[::1]:7/d",
            "consul://one,two:7/app",
            "mysql://h/d?protocol=advisory&prefix=app:&waiting=2",
            "mysql://h/d?protocol=sql-lock&longest_ttl=1m",
            "sqlite:a?protocol=table",
            "consul://localhost",
            "consul://[::1]:8501/app/locks?sslmode=verify-full&token=hunter2&ttl=20s",
            "consul://h?protocol=session&sslrootcert=/ca.pem",
        ];
        let bad = [
            "",
            "/tmp/a.db",
            "redis://h/d",
            "SQLITE:/a",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a%00b",
            "sqlite:%zz",
            "sqlite:%1z",
            "sqlite:%z1",
            "postgres://",
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2@h/d?se?cret=1",
            "postgres://u:hunter2%@h/d",
            "mysql://",
            "mysql:/d",
            "mysql://u:hunter2@h",
            "mysql://u:hunter2@h:port/d",
            "mysql://u:hunter2@h/d?nope=1",
            "mariadb://h/d?sslmode=verify-ca",
            "mysql://h/d?sslmode=prefer&sslrootcert=/ca.pem",
            "sqlite:a?nope=1",
            "sqlite:a?sslmode=require",
            "postgres://u:hunter2@h/d?nope=1",
            // A password with a slash and a question mark in it.
            "postgres://u:x/y?hunter2=1@h/d",
            "mysql://u:x/y?hunter2=1@h/d",
            "sqlite:a?ttl=5M",
            "sqlite:a?ttl=1y",
            "sqlite:a?warn_wait=long",
            "sqlite:a?warn_hold=5M",
            "sqlite:a?request_timeout=2min",
            "postgres://h/d?sslmode=bogus",
            "postgres://one,two/d?target_session_attrs=standby",
            "postgres://u:hunter2@h/d?target_session_attrs=bogus",
            "mysql://u:hunter2@one,/d",
            "mysql://u:hunter2@one:port,two/d",
            "mysql://one,two/d?socket=/run/m.sock",
            "consul://one,,two",
            "consul://one,two:port",
            "sqlite:a?table=a;b",
            "postgres://h/d?table=a.b.c",
            "sqlite:a?ttl=25h",
            // Nobody knows which one is meant.
            "sqlite:a?ttl=10s&ttl=20s",
            "postgres://h/d?host=a&host=b",
            "mysql://h/d?sslmode=require&sslmode=disable",
            "mysql://u@localhost/d?socket=/a&socket=/b",
            "consul://h?token=hunter2&token=hunter3",
            "sqlite:a?ttl=10s&request_timeout=9s",
            "sqlite:a?request_timeout=9s&ttl=10s",
            "sqlite:a?protocol=advisory",
            "postgres://h/d?protocol=session",
            "postgres://h/d?protocol=bogus",
            "postgres://h/d?keys=int",
            "postgres://h/d?protocol=advisory&keys=float",
            "postgres://h/d?protocol=advisory&table=a",
            "mysql://h/d?protocol=advisory&prefix=UPPER",
            "mysql://h/d?waiting=1",
            "mysql://h/d?longest_ttl=1m",
            "postgres://h/d?protocol=advisory&longest_ttl=25h",
            "mysql://h/d?protocol=advisory&waiting=-1",
            "postgres://h/d?token=hunter2",
            "consul://",
            "consul:///locks",
            "consul://h?protocol=table",
            "consul://h?sslmode=prefer",
            "consul://h?sslmode=disable&sslrootcert=/ca.pem",
            "consul://u:hunter2@h",
            "consul://h/a//b",
            "consul://a=b?server_name=h",
            "consul://h/a#hunter2",
        ];
        for url in good {
            assert!(read(url, None).is_ok(), "{url}");
        }
        let (_, settings) = read("sqlite:a?warn_wait=30s&warn_hold=1h", None).expect("good");
        let (wait, hold) = (settings.warn_after.wait, settings.warn_after.hold);
        assert_eq!((wait, hold), (Some(Duration::from_secs(30)), Some(Duration::from_secs(3_600))));
        for url in bad {
            let line = read(url, None).map(drop).expect_err(url).to_string();
            assert!(!line.contains('\n') && !line.contains("hunter2"), "{line}");
        }
    }
}

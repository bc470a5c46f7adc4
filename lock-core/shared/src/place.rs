//! The places that locks are kept in.

use crate::settings::{Kind, Settings};
use lock_core::config::{ConfigError, Protocol};
use lock_core::sql::advisory::Key;
use lock_core::sql::node_distributed_lock;

const SCHEMES: &str = "postgres://, postgresql://, mysql://, mariadb://, consul://, sqlite:";

/// A place that locks are kept in. One driver may have been built without it, if the other driver in the same
/// program has it.
#[derive(Clone)]
pub enum Place {
    #[cfg(feature = "postgres")]
    Postgres(crate::postgres::Server),
    #[cfg(feature = "mysql")]
    Mysql(crate::mysql::Server),
    #[cfg(feature = "consul")]
    Consul(crate::consul::Server),
    #[cfg(feature = "sqlite")]
    Sqlite(std::path::PathBuf),
    /// No place. The driver's error lists its features.
    #[cfg(not(any(
        feature = "consul",
        feature = "mysql",
        feature = "postgres",
        feature = "sqlite"
    )))]
    Nowhere(std::convert::Infallible),
}

impl Place {
    /// The refusal of a place by a driver that was built without it.
    pub fn unknown() -> ConfigError {
        ConfigError::Scheme(SCHEMES)
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Kind::Postgres,
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => Kind::Mysql,
            #[cfg(feature = "consul")]
            Self::Consul(_) => Kind::Consul,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Kind::Sqlite,
            #[cfg(not(any(
                feature = "consul",
                feature = "mysql",
                feature = "postgres",
                feature = "sqlite"
            )))]
            Self::Nowhere(never) => match *never {},
        }
    }

    /// What is ignored, and why.
    pub(crate) fn warning(&self) -> Option<&str> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.warning.as_deref(),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// The URL of the place, without a password. It contains the settings that distinguish places.
    pub(crate) fn url(&self, settings: &Settings) -> String {
        let kind = self.kind();
        let mut parameters = Vec::new();
        let protocol = settings.protocol(kind);
        if protocol != kind.default_protocol() {
            parameters.push(format!("protocol={protocol}"));
        }
        let default = match protocol {
            Protocol::NodeDistributedLock => node_distributed_lock::DEFAULT_TABLE,
            _ => "locks",
        };
        if let Some(table) = settings.table.as_ref()
            && table.parts() != (None, default)
        {
            let (schema, name) = table.parts();
            let schema = schema.map(|schema| format!("{schema}.")).unwrap_or_default();
            parameters.push(format!("table={schema}{name}"));
        }
        match settings.keys {
            Some(Key::Int) => parameters.push("keys=int".to_string()),
            Some(Key::Pair) => parameters.push("keys=pair".to_string()),
            _ => {}
        }
        if let (Some(prefix), Protocol::Advisory) = (&settings.prefix, protocol) {
            parameters.push(format!("prefix={}", escaped_value(prefix)));
        }
        let mut url = self.base(settings);
        for parameter in parameters {
            url.push(if url.contains('?') { '&' } else { '?' });
            url += &parameter;
        }
        url
    }

    /// The beginning of the URL: the server or file.
    fn base(&self, settings: &Settings) -> String {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.place(),
            #[cfg(feature = "mysql")]
            Self::Mysql(server) => server.place(),
            #[cfg(feature = "consul")]
            Self::Consul(server) => {
                let prefix = settings.prefix.as_deref().unwrap_or("locks");
                let mut url = format!("consul://{}/{}", server.place(), escaped(prefix));
                let path =
                    Some(("path", &*settings.scope.path)).filter(|(_, path)| !path.is_empty());
                for (name, value) in path.into_iter().chain(settings.scope.parameters()) {
                    url.push(if url.contains('?') { '&' } else { '?' });
                    url += &format!("{name}={}", escaped_value(value));
                }
                url
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let path = path.to_string_lossy();
                // The first two slashes of a URL are not the path's.
                let slashes = if path.starts_with("//") { "//" } else { "" };
                format!("sqlite:{slashes}{}", escaped(&path))
            }
            #[cfg(not(any(
                feature = "consul",
                feature = "mysql",
                feature = "postgres",
                feature = "sqlite"
            )))]
            Self::Nowhere(never) => match *never {},
        }
    }
}

/// Escapes text for a URL that people can read: only characters that would end a part of it, or a line.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_control() || c.is_whitespace() || "%?#&@[]".contains(c) {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).bytes();
            escaped.extend(bytes.map(|byte| format!("%{byte:02X}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The same for a user or a host, which other characters end too.
pub(crate) fn escaped_name(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace('/', "%2F").replace(',', "%2C")
}

/// The same for the value of a parameter, in which a `+` is a space.
pub(crate) fn escaped_value(text: &str) -> String {
    escaped(text).replace('+', "%2B")
}

#[cfg(all(test, feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod tests {
    fn shown(text: &str) -> String {
        crate::Config::from_url(text).expect(text).place()
    }

    #[test]
    fn places_have_no_secrets_and_lead_to_the_same_place() {
        for (url, place) in [
            ("postgres://app:hunter2@db/app", "postgres://app@db/app"),
            ("postgresql://app@db:5432", "postgres://app@db/app"),
            (
                "postgres://u%40v:hunter2@db,[::1]:5433/a?password=hunter2",
                "postgres://u%40v@db,[::1]:5433/a",
            ),
            ("postgres:///app?host=/run/pg&user=me", "postgres://me@%2Frun%2Fpg/app"),
            ("postgres:///app?host=/run/a:b", "postgres://%2Frun%2Fa%3Ab/app"),
            ("postgres://u%3Av%2Fw%2C@db/a", "postgres://u%3Av%2Fw%2C@db/a"),
            ("postgres://a%2Fb,[a%3Ab%2F]/a", "postgres://a%2Fb,[a:b%2F]/a"),
            ("mysql://u%3Av%2Fw:hunter2@db/a", "mysql://u%3Av%2Fw@db/a"),
            ("mysql://db/a%2Fb", "mysql://db/a%2Fb"),
            ("mysql://localhost/d?socket=/run/a%2Bb", "mysql://localhost/d?socket=/run/a%2Bb"),
            ("consul://localhost?dc=a%2Bb", "consul://localhost:8500/locks?dc=a%2Bb"),
            ("postgres://db/a?table=ops.locks&ttl=9s", "postgres://db/a?table=ops.locks"),
            ("postgres://db/a?table=locks", "postgres://db/a"),
            // The other package's table has another name by default.
            (
                "postgres://db/a?protocol=node-distributed-lock&table=locks",
                "postgres://db/a?protocol=node-distributed-lock&table=locks",
            ),
            (
                "postgres://db/a?protocol=node-distributed-lock&table=distributed_lock",
                "postgres://db/a?protocol=node-distributed-lock",
            ),
            (
                "postgres://db/a?protocol=advisory&keys=int&waiting=2",
                "postgres://db/a?protocol=advisory&keys=int",
            ),
            (
                "postgres://db/a?keys=pair&protocol=advisory",
                "postgres://db/a?protocol=advisory&keys=pair",
            ),
            ("mariadb://u:hunter2@[::1]:3307/a%20b", "mysql://u@[::1]:3307/a%20b"),
            ("mysql://localhost/d?socket=/run/m.sock", "mysql://localhost/d?socket=/run/m.sock"),
            (
                "mysql://h/d?prefix=app:&protocol=advisory",
                "mysql://h/d?protocol=advisory&prefix=app:",
            ),
            ("consul://h?token=hunter2", "consul://h:8501/locks"),
            ("mysql://u:hunter2@one:7,two/d", "mysql://u@one:7,two/d"),
            ("consul://localhost,localhost:7/a", "consul://localhost:8500,localhost:7/a"),
            ("consul://localhost/a/b?ttl=20s", "consul://localhost:8500/a/b"),
            ("consul://localhost/%61%2Fb", "consul://localhost:8500/a/b"),
            (
                "consul://localhost?path=/consul/&dc=dc%202&ns=a&partition=b",
                "consul://localhost:8500/locks?path=consul&ns=a&partition=b&dc=dc%202",
            ),
            ("sqlite:/var/lib/./a%3F%20b.db?label=x", "sqlite:/var/lib/a%3F%20b.db"),
            ("sqlite:///var/é.db", "sqlite:/var/é.db"),
            ("sqlite:/var/a%2541.db", "sqlite:/var/a%2541.db"),
            ("mysql://db/a%2541", "mysql://db/a%2541"),
            ("sqlite:////var/a.db", "sqlite:////var/a.db"),
            ("postgres://h:7/d?hostaddr=::1", "postgres://[::1]:7/d"),
            ("postgres:///d?hostaddr=10.0.0.3", "postgres://10.0.0.3/d"),
        ] {
            assert_eq!(shown(url), place, "{url}");
            assert_eq!(shown(place), place, "{url}");
        }
        let relative = shown("sqlite:a.db");
        let folder = std::env::current_dir().expect("a folder");
        assert_eq!(relative, format!("sqlite:{}/a.db", folder.display()));
    }
}

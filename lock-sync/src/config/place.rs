//! Where locks are kept, for people.

use super::{Config, Target};
use crate::config::Protocol;
use lock_core::TableName;
use lock_core::sql::advisory::Key;

impl Config {
    /// Where the locks are kept, as a URL without password, token or other settings: for messages and
    /// logs. Two configurations with the same place keep their locks in the same place.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] {
    /// let url = "postgres://app:secret@db:5433/app?ttl=10s&table=ops.locks";
    /// let config = lock_sync::Config::from_url(url)?;
    /// assert_eq!(config.place(), "postgres://app@db:5433/app?table=ops.locks");
    /// # }
    /// # Ok::<(), lock_sync::ConfigError>(())
    /// ```
    pub fn place(&self) -> String {
        let mut settings = Vec::new();
        if self.chosen() != self.target.place().default {
            settings.push(format!("protocol={}", self.chosen()));
        }
        if let Some(table) = self.table.as_ref().filter(|table| **table != TableName::default()) {
            let (schema, name) = table.parts();
            let schema = schema.map(|schema| format!("{schema}.")).unwrap_or_default();
            settings.push(format!("table={schema}{name}"));
        }
        match self.keys {
            Some(Key::Int) => settings.push("keys=int".to_string()),
            Some(Key::Pair) => settings.push("keys=pair".to_string()),
            _ => {}
        }
        if let (Some(prefix), Protocol::Advisory) = (&self.prefix, self.chosen()) {
            settings.push(format!("prefix={}", escaped(prefix)));
        }
        let mut place = self.base();
        for setting in settings {
            place.push(if place.contains('?') { '&' } else { '?' });
            place += &setting;
        }
        place
    }

    /// The server or file.
    fn base(&self) -> String {
        match &self.target {
            #[cfg(feature = "postgres")]
            Target::Postgres { config, .. } => postgres(config),
            #[cfg(feature = "postgres")]
            Target::PostgresClient(_) => "postgres:".to_string(),
            #[cfg(feature = "mysql")]
            Target::Mysql(server) => server.place(),
            #[cfg(feature = "mysql")]
            Target::MysqlConnection(_) => "mysql:".to_string(),
            #[cfg(feature = "consul")]
            Target::Consul(server) => {
                let prefix = self.prefix.as_deref().unwrap_or("locks");
                format!("consul://{}/{}", server.place(), escaped(prefix))
            }
            #[cfg(feature = "sqlite")]
            Target::Sqlite(path) => sqlite(path),
            #[cfg(feature = "sqlite")]
            Target::SqliteConnection(_) => "sqlite:".to_string(),
        }
    }
}

#[cfg(feature = "postgres")]
fn postgres(config: &postgres::Config) -> String {
    use postgres::config::Host;
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
    // Where there are addresses, names do not matter.
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

#[cfg(feature = "sqlite")]
fn sqlite(path: &std::path::Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    format!("sqlite:{}", escaped(&path.to_string_lossy()))
}

/// For a URL that people can read: only what would end a part of it, or a line, is escaped.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite"))]
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
            ("postgres://db/a?table=ops.locks&ttl=9s", "postgres://db/a?table=ops.locks"),
            ("postgres://db/a?table=locks", "postgres://db/a"),
            (
                "postgres://db/a?protocol=advisory&keys=int&waiting=2",
                "postgres://db/a?protocol=advisory&keys=int",
            ),
            ("mariadb://u:hunter2@[::1]:3307/a%20b", "mysql://u@[::1]:3307/a%20b"),
            ("mysql://localhost/d?socket=/run/m.sock", "mysql://localhost/d?socket=/run/m.sock"),
            (
                "mysql://h/d?prefix=app:&protocol=advisory",
                "mysql://h/d?protocol=advisory&prefix=app:",
            ),
            ("consul://h?token=hunter2", "consul://h:8501/locks"),
            ("consul://localhost/a/b?ttl=20s", "consul://localhost:8500/a/b"),
            ("sqlite:/var/lib/./a%3F%20b.db?label=x", "sqlite:/var/lib/a%3F%20b.db"),
            ("sqlite:///var/é.db", "sqlite:/var/é.db"),
        ] {
            let config = Config::from_url(url).expect(url);
            assert_eq!(config.place(), place, "{url}");
            let again = Config::from_url(place).expect(place);
            assert_eq!(again.place(), place, "{url}");
        }
        let relative = Config::from_url("sqlite:a.db").expect("a URL").place();
        let folder = std::env::current_dir().expect("a folder");
        assert_eq!(relative, format!("sqlite:{}/a.db", folder.display()));
    }
}

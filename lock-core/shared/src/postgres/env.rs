//! The parameters of a connection, as libpq finds them: in the URL, then in the environment, then its defaults.

use super::describe;
use super::hosts::{ATTRIBUTES, session_attrs};
use crate::env::{Environment, wrong};
use crate::sslmode::parameter;
use lock_core::config::ConfigError;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio_postgres::Config;

/// The folder in which most packages of the server put its Unix socket.
pub(super) const SOCKETS: &str = "/var/run/postgresql";

/// The variables that complete a URL, beside those of passwords and of TLS.
const VARIABLES: [(&str, &str); 5] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("dbname", "PGDATABASE"),
    (ATTRIBUTES, "PGTARGETSESSIONATTRS"),
];

/// The parameters of a connection, apart from those of TLS. An empty one counts as missing.
#[derive(Default)]
pub(super) struct Parameters {
    given: BTreeMap<String, String>,
    /// A password may consist of any bytes.
    password: Option<Vec<u8>>,
}

impl Parameters {
    /// Reads a URL: the part before its `?`, and the parameters after it, which go first.
    pub(super) fn read(base: &str, query: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        let (_, rest) = base.split_once("://").ok_or_else(no_host)?;
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        all.set("user", decoded(user)?);
        all.set_password(percent_decode_str(password).collect());
        all.set("dbname", decoded(database)?);
        let hosts: Vec<_> = hosts.split(',').map(host_and_port).collect::<Result<_, _>>()?;
        let hosts: (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        all.set("host", hosts.0.join(","));
        all.set("port", hosts.1.join(","));
        for (at, (name, value)) in query.iter().enumerate() {
            let again = query.iter().take(at).any(|(before, _)| before == name);
            match &**name {
                "password" => all.set_password(value.clone().into_bytes()),
                "host" | "hostaddr" | "port" if again => {
                    let before = all.given.remove(name).unwrap_or_default();
                    all.set(name, format!("{before},{value}"));
                }
                _ => all.set(name, value.clone()),
            }
        }
        // Its address is a name that it has.
        if let (None, Some(address)) = (all.get("host"), all.get("hostaddr")) {
            let address = address.to_string();
            all.set("host", address);
        }
        Ok(all)
    }

    /// Adds what is missing from the environment, then what libpq takes by default.
    pub(super) fn complete(&mut self, env: Environment<'_>) -> Result<(), ConfigError> {
        for (name, variable) in VARIABLES {
            if self.get(name).is_none()
                && let Some(value) = env.text(variable)?
            {
                let is_port = |one: &str| one.is_empty() || one.parse::<u16>().is_ok();
                if name == "port" && !value.split(',').all(is_port) {
                    return Err(wrong(variable, "must be the number of a port"));
                }
                if name == ATTRIBUTES {
                    session_attrs(&value).map_err(|reason| wrong(variable, reason))?;
                }
                self.set(name, value);
            }
        }
        if self.password.is_none()
            && let Some(password) = env.text("PGPASSWORD")?
        {
            self.set_password(password.into_bytes());
        }
        if self.get("host").is_none() {
            let here = if Path::new(SOCKETS).is_dir() { SOCKETS } else { "localhost" };
            self.set("host", here.to_string());
        }
        if self.get("dbname").is_none() {
            self.set("dbname", self.user()?);
        }
        Ok(())
    }

    /// The user: this system's user by default.
    pub(super) fn user(&self) -> Result<String, ConfigError> {
        match self.get("user") {
            Some(user) => Ok(user.to_string()),
            None => whoami::username().map_err(|error| {
                ConfigError::System(format!("it does not know this user's name: {error}"))
            }),
        }
    }

    /// The file with passwords, if no password is given: that of the URL or of the environment, or the default
    /// one. `true` if it was named.
    pub(super) fn passfile(&self, env: Option<Environment<'_>>) -> Option<(PathBuf, bool)> {
        if self.password.is_some() {
            return None;
        }
        let named = self.get("passfile").map(PathBuf::from);
        match named.or_else(|| env?.path("PGPASSFILE")) {
            Some(path) => Some((path, true)),
            None => Some((env?.path("HOME")?.join(".pgpass"), false)),
        }
    }

    /// The client's configuration.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        let hosts = self.get("host").ok_or_else(no_host)?;
        if hosts.split(',').any(str::is_empty) {
            return Err(ConfigError::Url("one of its hosts is empty".to_string()));
        }
        if let Some(value) = self.get(ATTRIBUTES) {
            session_attrs(value).map_err(|reason| parameter(ATTRIBUTES, reason))?;
        }
        let ours = |name: &str| name == "passfile" || name == ATTRIBUTES;
        let mut text = String::new();
        for (name, value) in self.given.iter().filter(|(name, _)| !ours(name)) {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            text += &format!("{name}='{value}' ");
        }
        let config = text.parse::<Config>();
        let mut config = config.map_err(|error| ConfigError::Url(describe(&error).1))?;
        if let Some(password) = &self.password {
            config.password(password);
        }
        let (hosts, ports) = (config.get_hosts().len(), config.get_ports().len());
        let addresses = config.get_hostaddrs().len();
        if ports > 1 && ports != hosts {
            let why = "give one port for all hosts, or one for each";
            return Err(ConfigError::Url(format!("hosts: {hosts}, ports: {ports}: {why}")));
        }
        if addresses > 0 && addresses != hosts {
            let why = "give each host one";
            return Err(ConfigError::Url(format!("hosts: {hosts}, hostaddr: {addresses}: {why}")));
        }
        Ok(config)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    fn set(&mut self, name: &str, value: String) {
        if value.is_empty() {
            self.given.remove(name);
        } else {
            self.given.insert(name.to_string(), value);
        }
    }

    fn set_password(&mut self, password: Vec<u8>) {
        self.password = Some(password).filter(|password| !password.is_empty());
    }
}

fn no_host() -> ConfigError {
    ConfigError::Url("it names no host: postgres://HOST/DATABASE".to_string())
}

/// A host of the URL, and its port, or nothing.
fn host_and_port(text: &str) -> Result<(String, &str), ConfigError> {
    let address = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match address {
        Some((host, "")) => (host, ""),
        Some((host, port)) if port.starts_with(':') => (host, &port[1..]),
        None if !text.starts_with('[') => text.split_once(':').unwrap_or((text, "")),
        _ => return Err(ConfigError::Url("an IPv6 address is written [::1]:5432".to_string())),
    };
    Ok((decoded(host)?, port))
}

fn decoded(text: &str) -> Result<String, ConfigError> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| ConfigError::Url("it is not UTF-8".to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::Server;
    use super::*;
    use crate::sslmode::TlsSettings;
    use std::ffi::OsString;

    fn server(url: &str, variables: &[(&str, &str)]) -> Result<Server, ConfigError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let env = Environment::new(&variable);
        Server::read(base, &query, TlsSettings::default(), Some(env))
    }

    const ALL: [(&str, &str); 5] = [
        ("PGHOST", "env"),
        ("PGPORT", "6000"),
        ("PGUSER", "envy"),
        ("PGDATABASE", "envdb"),
        ("PGPASSWORD", "envpw"),
    ];

    #[test]
    fn the_url_goes_first_then_the_environment() {
        for (url, place) in [
            ("postgres://", "postgres://envy@env:6000/envdb"),
            ("postgresql:///d", "postgres://envy@env:6000/d"),
            ("postgres://u@/d", "postgres://u@env:6000/d"),
            ("postgres://h", "postgres://envy@h:6000/envdb"),
            ("postgres://h:7/d", "postgres://envy@h:7/d"),
            // As in libpq, hosts that are named together have ports.
            ("postgres://a,b/d", "postgres://envy@a,b/d"),
            ("postgres:///d?host=a,b&port=1,2", "postgres://envy@a:1,b:2/d"),
            ("postgres:///d?host=a&host=b&port=1", "postgres://envy@a:1,b:1/d"),
            ("postgres://a:1/d?host=b&port=2&user=v&dbname=e", "postgres://v@b:2/e"),
            ("postgres:///?host=&user=u&port=", "postgres://u@env:6000/envdb"),
            ("postgres:///d?hostaddr=127.0.0.1&port=1", "postgres://envy@127.0.0.1:1/d"),
            ("postgres://%2Frun%2Fpg/d", "postgres://envy@%2Frun%2Fpg:6000/d"),
            ("postgres://[::1]:7,[::2]/d", "postgres://envy@[::1]:7,[::2]/d"),
        ] {
            assert_eq!(server(url, &ALL).expect(url).place(), place, "{url}");
        }
        let one = server("postgres:///d", &[("PGHOST", "/run/a,b"), ("PGPORT", "1,")]);
        assert_eq!(one.expect("good").place(), format!("postgres://%2Frun%2Fa:1,b/d"));
    }

    #[test]
    fn an_ipv6_address_is_in_brackets() {
        for url in ["postgres://[::1]5432/d", "postgres://[::1/d", "postgres://a,[::1]x/d"] {
            let told = server(url, &[]).map(drop).expect_err(url).to_string();
            assert!(told.contains("is written [::1]:5432"), "{told}");
        }
    }

    #[test]
    fn what_nobody_names_is_as_in_libpq() {
        let user = whoami::username().expect("a name");
        let here =
            if Path::new(SOCKETS).is_dir() { "%2Fvar%2Frun%2Fpostgresql" } else { "localhost" };
        let empty = [("PGHOST", ""), ("PGPORT", ""), ("PGUSER", ""), ("PGPASSFILE", "")];
        for variables in [&empty[..], &[]] {
            let server = server("postgres://", variables).expect("good");
            assert_eq!(server.place(), format!("postgres://{here}/{user}"));
            assert_eq!(server.config.get_password(), None);
        }
        let named = server("postgres://", &[("PGUSER", "me")]).expect("good");
        assert_eq!(named.place(), format!("postgres://me@{here}/me"));
    }

    #[test]
    fn a_password_comes_from_the_url_or_the_environment_or_the_file() {
        let folder = std::env::temp_dir().join(format!("env-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("set");
            path.display().to_string()
        };
        let other = write("other", "*:*:*:*:other\n");
        write(".pgpass", "a:1:d:u:one\nb:2:*:*:two\nlocalhost:*:*:*:here\n");
        let home = ("HOME", &*folder.display().to_string());
        let passwords = |url: &str, variables: &[(&str, &str)]| -> Vec<_> {
            let server = server(url, variables).expect(url);
            assert_eq!(server.warning, None, "{url}");
            let each = server.each(std::time::Duration::from_secs(1), "x");
            (0..)
                .map_while(|at| each.get(at))
                .map(|host| {
                    host.get_password()
                        .map(String::from_utf8_lossy)
                        .unwrap_or_default()
                        .into_owned()
                })
                .collect()
        };
        let hosts = "postgres://u@a:1,b:2,c:3/d";
        assert_eq!(passwords(hosts, &[home]), ["one", "two", ""]);
        assert_eq!(passwords(hosts, &[home, ("PGPASSFILE", &other)]), ["other"; 3]);
        assert_eq!(passwords(hosts, &[home, ("PGPASSWORD", "env")]), ["env"; 3]);
        assert_eq!(passwords("postgres://u:url@a:1/d", &[home, ("PGPASSWORD", "env")]), ["url"]);
        assert_eq!(passwords("postgres://u:url@a:1/d?password=also", &[home]), ["also"]);
        assert_eq!(passwords("postgres://u:@a:1/d", &[home]), ["one"], "an empty one is none");
        assert_eq!(passwords("postgres://u:p%3Aw%2F%25@a:1/d", &[]), ["p:w/%"], "as it was meant");
        let named = format!("postgres://u@a:1/d?passfile={other}");
        assert_eq!(passwords(&named, &[home]), ["other"]);
        assert_eq!(passwords(&named, &[home, ("PGPASSFILE", "/nonexistent")]), ["other"]);
        let socket = "postgres://u@%2Fvar%2Frun%2Fpostgresql/d";
        assert_eq!(passwords(socket, &[home]), ["here"]);
        assert_eq!(passwords(hosts, &[]), [""; 3], "without a home");
        let missing = server(hosts, &[home, ("PGPASSFILE", "/nonexistent")]).expect("good");
        assert!(missing.warning.is_some_and(|word| word.contains("/nonexistent")));
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    /// The client would say so at each connect.
    #[test]
    fn hosts_are_refused_that_do_not_fit_their_ports_and_addresses() {
        for (url, variables, says) in [
            ("postgres://a,,b/d", &[][..], "one of its hosts is empty"),
            ("postgres://a,/d", &[], "one of its hosts is empty"),
            ("postgres:///d?host=,a", &[], "one of its hosts is empty"),
            ("postgres:///d", &[("PGHOST", "a,,b")], "one of its hosts is empty"),
            ("postgres://a,b/d?port=1,2,3", &[], "hosts: 2, ports: 3"),
            ("postgres://a/d?port=1,2", &[], "hosts: 1, ports: 2"),
            ("postgres://a/d", &[("PGPORT", "1,2")], "hosts: 1, ports: 2"),
            ("postgres://a,b/d?hostaddr=127.0.0.1", &[], "hosts: 2, hostaddr: 1"),
            ("postgres://a/d?hostaddr=127.0.0.1,127.0.0.2", &[], "hosts: 1, hostaddr: 2"),
        ] {
            let error = server(url, variables).map(drop).expect_err(url).to_string();
            assert!(error.contains(says), "{url}: {error}");
        }
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_named_without_its_value() {
        let told = |variable, value| {
            let error = server("postgres://h", &[(variable, value)]).map(drop).expect_err(value);
            assert!(matches!(error, ConfigError::Variable { .. }), "{error:?}");
            error.to_string()
        };
        let port = told("PGPORT", "hunter2");
        assert!(port.contains("PGPORT") && !port.contains("hunter2"), "{port}");
        let standby = told("PGTARGETSESSIONATTRS", "standby");
        assert!(standby.ends_with("set primary or read-write, or leave it out"), "{standby}");
    }
}

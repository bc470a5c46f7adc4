//! A MySQL or MariaDB server in a URL.

use crate::env::{Environment, wrong};
use crate::hosts::{Hosts, LastHost, each_host};
use crate::place::{escaped, escaped_name, escaped_value};
use crate::sslmode::{SslMode, TlsSettings, parameter, stays_here};
use crate::tls::in_file;
use lock_core::config::ConfigError;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use url::{Host, Url};

/// The server's address, the login, and the TLS settings.
#[derive(Clone)]
pub struct Server {
    /// Names or addresses, and ports. IPv6 addresses have square brackets.
    pub hosts: Vec<(String, u16)>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: String,
    /// The path of a Unix socket that is used instead of the host.
    pub socket: Option<String>,
    pub mode: SslMode,
    /// A PEM file with an authority to trust besides the public ones.
    pub root_cert: Option<PathBuf>,
    last: LastHost,
}

impl Server {
    /// Reads the server's part of the URL, without its parameters. An environment completes it.
    pub(crate) fn read(
        url: &str,
        socket: Option<String>,
        tls: TlsSettings,
        env: Option<Environment<'_>>,
    ) -> Result<Self, ConfigError> {
        let unread = |reason: &str| ConfigError::Url(reason.to_string());
        let TlsSettings { mode: sslmode, root_cert, .. } = tls;
        let (_, rest) = url.split_once(':').unwrap_or_default();
        let rest = match env {
            Some(env) => with_host(rest, env)?,
            None => rest.to_string(),
        };
        let read = |url: String| {
            let url = Url::parse(&url).map_err(|error| ConfigError::Url(error.to_string()))?;
            let host = url.host().and_then(|host| Host::parse(&host.to_string()).ok());
            let host = host.ok_or_else(|| unread("it names no host: mysql://HOST/DATABASE"))?;
            Ok((host.to_string(), url))
        };
        let urls = each_host(&format!("mysql:{rest}")).into_iter().map(read);
        let urls = urls.collect::<Result<Vec<_>, ConfigError>>()?;
        // They differ only in the host.
        let [(_, url), ..] = &urls[..] else { return Err(unread("it names no host")) };
        if socket.is_some() && urls.len() > 1 {
            return Err(parameter("socket", "takes the place of the host: name one host"));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let mut parts = url.path_segments().into_iter().flatten();
        let database = parts.next().map(decoded);
        if parts.any(|part| !part.is_empty()) {
            return Err(unread(
                "something follows the name of its database (in the name, write / as %2F)",
            ));
        }
        let database = database
            .filter(|name| !name.is_empty())
            .ok_or_else(|| unread("it names no database: mysql://HOST/DATABASE"))?;
        let user = Some(url.username()).filter(|name| !name.is_empty()).map(decoded);
        let mut password = url.password().map(decoded);
        let mut port = None;
        if let Some(env) = env {
            if password.is_none() {
                password = env.text("MYSQL_PWD")?;
            }
            if urls.iter().any(|(_, url)| url.port().is_none()) {
                port = default_port(env)?;
            }
        }
        let port = port.unwrap_or(3306);
        let with_port = |(host, url): &(String, Url)| (host.clone(), url.port().unwrap_or(port));
        let hosts: Vec<_> = urls.iter().map(with_port).collect();
        let local = socket.is_some() || hosts.iter().all(|(host, _)| stays_here(host));
        let mode = sslmode.unwrap_or(match local && root_cert.is_none() {
            true => SslMode::Prefer,
            false => SslMode::VerifyFull,
        });
        // The client also trusts the public authorities. Without a check of the host's name, any of their
        // certificates would pass.
        if mode == SslMode::VerifyCa {
            return Err(parameter(
                "sslmode",
                "cannot be verify-ca with MySQL and MariaDB: use verify-full",
            ));
        }
        if mode == SslMode::Allow {
            return Err(parameter("sslmode", "cannot be allow with MySQL and MariaDB: use prefer"));
        }
        if root_cert.is_some() && mode != SslMode::VerifyFull {
            return Err(parameter("sslrootcert", "needs sslmode=verify-full"));
        }
        let last = LastHost::default();
        Ok(Self { hosts, user, password, database, socket, mode, root_cert, last })
    }

    /// Each host and port, made into what the client takes. A socket is used instead of any of them.
    pub fn each<H>(&self, make: impl Fn(&str, u16) -> H) -> Hosts<H> {
        let one = |(host, port): &(String, u16)| {
            let name = self.socket.clone().unwrap_or_else(|| format!("{host}:{port}"));
            (name, make(host, *port))
        };
        Hosts::new(self.hosts.iter().map(one).collect(), self.last.clone())
    }

    /// Fails if every handshake would fail because of this side's settings.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Some(path) = &self.root_cert else { return Ok(()) };
        in_file(path).map(drop)
    }

    /// The beginning of a URL, without a password.
    pub(crate) fn place(&self) -> String {
        let user = self.user.as_deref().map(|user| escaped_name(user) + "@").unwrap_or_default();
        let shown = |(host, port): &(String, u16)| match port {
            3306 => host.clone(),
            port => format!("{host}:{port}"),
        };
        let hosts = self.hosts.iter().map(shown).collect::<Vec<_>>().join(",");
        let socket = self.socket.as_deref().map(|path| format!("?socket={}", escaped_value(path)));
        let socket = socket.unwrap_or_default();
        let database = escaped(&self.database).replace('/', "%2F");
        format!("mysql://{user}{hosts}/{database}{socket}")
    }
}

/// What follows the scheme, with the host that the servers' own clients would take if there is none.
fn with_host(rest: &str, env: Environment<'_>) -> Result<String, ConfigError> {
    let Some((authority, path)) = rest.strip_prefix("//").and_then(|rest| rest.split_once('/'))
    else {
        return Ok(rest.to_string());
    };
    let (login, host) = authority.rsplit_once('@').map_or(("", authority), |(login, host)| {
        (authority.get(..=login.len()).unwrap_or_default(), host)
    });
    if !host.is_empty() && !host.starts_with(':') {
        return Ok(rest.to_string());
    }
    let named = env.text("MYSQL_HOST")?.unwrap_or_else(|| "localhost".to_string());
    let named = if named.contains(':') { format!("[{named}]") } else { named };
    if Host::parse(&named).is_err() {
        return Err(wrong("MYSQL_HOST", "must be the name or the address of a host"));
    }
    Ok(format!("//{login}{named}{host}/{path}"))
}

fn default_port(env: Environment<'_>) -> Result<Option<u16>, ConfigError> {
    let text = env.text("MYSQL_TCP_PORT")?;
    let port = text.map(|text| text.parse()).transpose();
    port.map_err(|_| wrong("MYSQL_TCP_PORT", "must be the number of a port"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn server(url: &str, variables: &[(&str, &str)]) -> Result<Server, ConfigError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Server::read(url, None, TlsSettings::default(), Some(Environment::new(&variable)))
    }

    #[test]
    fn the_url_goes_first_then_the_environment() {
        let all = [("MYSQL_HOST", "env"), ("MYSQL_TCP_PORT", "3400"), ("MYSQL_PWD", "envpw")];
        for (url, place, password) in [
            ("mysql:///d", "mysql://env:3400/d", "envpw"),
            ("mysql://u@/d", "mysql://u@env:3400/d", "envpw"),
            ("mariadb://u:p@/d", "mysql://u@env:3400/d", "p"),
            ("mysql://:7/d", "mysql://env:7/d", "envpw"),
            ("mysql://u:p@h:7/d", "mysql://u@h:7/d", "p"),
            ("mysql://u@h/d", "mysql://u@h:3400/d", "envpw"),
            ("mysql://u@h:7,i/d", "mysql://u@h:7,i:3400/d", "envpw"),
            ("mysql://u@h/d/", "mysql://u@h:3400/d", "envpw"),
        ] {
            let server = server(url, &all).expect(url);
            assert_eq!(
                (&*server.place(), server.password.as_deref()),
                (place, Some(password)),
                "{url}"
            );
        }
        let none = server("mysql:///d", &[("MYSQL_HOST", ""), ("MYSQL_PWD", "")]).expect("good");
        assert_eq!((&*none.place(), none.password), ("mysql://localhost/d", None));
        let six = server("mysql:///d", &[("MYSQL_HOST", "::1")]).expect("good");
        assert_eq!(six.place(), "mysql://[::1]/d");
        for (name, value) in [("MYSQL_HOST", "a/b"), ("MYSQL_HOST", "u@h"), ("MYSQL_TCP_PORT", "x")]
        {
            assert!(
                matches!(
                    server("mysql:///d", &[(name, value)]).map(drop),
                    Err(ConfigError::Variable { .. })
                ),
                "{name}={value}"
            );
        }
        for url in
            ["mysql:/d", "mysql:d", "mysql://", "mysql://u@h", "mysql://h/d/e", "mysql://h/d//e"]
        {
            assert!(server(url, &all).is_err(), "{url}");
        }
    }

    #[test]
    fn what_is_escaped_is_sent_as_it_was_meant() {
        let url = "mysql://us%40er:p%3Aw%2F%25%20@h/d%C3%A9%2Fb";
        let read = Server::read(url, None, TlsSettings::default(), None).expect(url);
        let Server { user, password, database, .. } = read;
        assert_eq!(user.as_deref(), Some("us@er"));
        assert_eq!(password.as_deref(), Some("p:w/% "));
        assert_eq!(database, "d\u{e9}/b");
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_an_error_before_the_first_connect() {
        let with = |root_cert: Option<PathBuf>| {
            let tls = TlsSettings { root_cert, ..TlsSettings::default() };
            Server::read("mysql://db/d", None, tls, None).expect("a server").check()
        };
        assert_eq!(with(None), Ok(()));
        assert!(with(Some(PathBuf::from("/nowhere/ca.pem"))).is_err());
    }

    #[test]
    fn what_leaves_this_machine_is_encrypted_for_the_right_server() {
        let mode = |url: &str, socket: Option<&str>| {
            let socket = socket.map(str::to_string);
            Server::read(url, socket, TlsSettings::default(), None).expect(url).mode
        };
        for here in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "localhost,127.0.0.1"] {
            assert_eq!(mode(&format!("mysql://{here}/d"), None), SslMode::Prefer, "{here}");
        }
        assert_eq!(mode("mysql://db/d", Some("/run/mysqld/mysqld.sock")), SslMode::Prefer);
        for there in crate::sslmode::ELSEWHERE.into_iter().chain(["localhost,db", "db,localhost"]) {
            assert_eq!(mode(&format!("mysql://{there}/d"), None), SslMode::VerifyFull, "{there}");
        }
    }
}

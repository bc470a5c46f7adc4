//! The hosts of a URL. They are tried one by one, because each is encrypted by itself.

use crate::lookup::Answer;
use crate::sslmode::stays_here;
use lock_core::Failure;
use lock_core::sql::postgres::{connect_failed, without_session_options};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, TargetSessionAttrs};

/// True if all traffic stays on this machine.
pub(super) fn is_local(config: &Config) -> bool {
    let hosts = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => stays_here(name),
        Host::Unix(_) => true,
    });
    // The client connects to the addresses, not to the names.
    hosts && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// True if the one host is a Unix socket, which is not encrypted.
pub fn is_unix(host: &Config) -> bool {
    host.get_hostaddrs().is_empty() && matches!(host.get_hosts(), [Host::Unix(_)])
}

/// The parameter that says which of several hosts is wanted.
pub(super) const ATTRIBUTES: &str = "target_session_attrs";

/// Checks libpq's `target_session_attrs`. Locks need a server that takes writes, whatever it says: of several
/// hosts, the first one that does is used, and a single host that does not is refused by our own checks, which
/// say why. So nothing is left for the client to know.
pub(super) fn session_attrs(value: &str) -> Result<(), &'static str> {
    match value {
        "any" | "read-write" | "primary" => Ok(()),
        "read-only" | "standby" | "prefer-standby" => Err(
            "must lead to a server that takes writes: set primary or read-write, or leave it out",
        ),
        _ => Err("must be primary, read-write or any"),
    }
}

/// The name of a host in errors.
pub(super) fn shown(host: &Config) -> String {
    let port = host.get_ports().first().copied().unwrap_or(5432);
    match (host.get_hosts(), host.get_hostaddrs()) {
        ([Host::Tcp(name)], _) if name.contains(':') => format!("[{name}]:{port}"),
        ([Host::Tcp(name)], _) => format!("{name}:{port}"),
        ([Host::Unix(folder)], []) => format!("{}:{port}", folder.display()),
        (_, addresses) => addresses.first().map_or_else(String::new, IpAddr::to_string),
    }
}

/// One configuration for each host of `config`, in their order.
pub(super) fn each(config: &Config) -> Vec<Config> {
    let (hosts, ports) = (config.get_hosts(), config.get_ports());
    let addresses = config.get_hostaddrs();
    if hosts.len() == 1 {
        return vec![config.clone()];
    }
    let one = |(at, host): (usize, &Host)| {
        let mut one = without_hosts(config);
        // One of them is the primary, and after a switch-over another is.
        one.target_session_attrs(TargetSessionAttrs::ReadWrite);
        match host {
            Host::Tcp(name) => one.host(name),
            Host::Unix(folder) => one.host_path(folder),
        };
        if let Some(address) = addresses.get(at) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(at).or(ports.first()) {
            one.port(*port);
        }
        one
    };
    hosts.iter().enumerate().map(one).collect()
}

/// The name and port of a host, if its addresses must be looked up.
pub fn name(host: &Config) -> Option<(&str, u16)> {
    match host.get_hosts() {
        [Host::Tcp(name)] if host.get_hostaddrs().is_empty() => {
            Some((name, host.get_ports().first().copied().unwrap_or(5432)))
        }
        _ => None,
    }
}

/// One configuration for each address of a host that was looked up.
pub fn at(host: &Config, found: Answer) -> Result<Vec<Config>, Failure> {
    let with = |address: &SocketAddr| {
        let mut one = host.clone();
        one.hostaddr(address.ip());
        one
    };
    match found {
        Ok(found) => Ok(found.iter().map(with).collect()),
        Err(error) => Err(connect_failed(None, &format!("error connecting to server: {error}"))),
    }
}

/// Sets and returns how long an attempt may take that has this `share` of a limit. The URL's `connect_timeout` is for the whole
/// attempt, as with libpq; the client counts only the time until the server takes the connection.
pub fn limit_connect(config: &mut Config, share: Duration) -> Duration {
    let limit = config.get_connect_timeout().map_or(share, |own| share.min(*own));
    config.connect_timeout(limit);
    limit
}

/// The host without our settings, which a pooler before it refuses.
pub(super) fn without_settings(host: &Config) -> Config {
    let mut one = Config::new();
    let options = host.get_options().map(without_session_options).filter(|own| !own.is_empty());
    copy(host, &mut one, options);
    for host in host.get_hosts() {
        match host {
            Host::Tcp(name) => one.host(name),
            Host::Unix(folder) => one.host_path(folder),
        };
    }
    for address in host.get_hostaddrs() {
        one.hostaddr(*address);
    }
    for port in host.get_ports() {
        one.port(*port);
    }
    one.ssl_mode(host.get_ssl_mode()).ssl_negotiation(host.get_ssl_negotiation());
    one
}

/// The configuration without its hosts: all other settings.
fn without_hosts(config: &Config) -> Config {
    let mut one = Config::new();
    copy(config, &mut one, config.get_options());
    one
}

/// Copies all settings but hosts, TLS and `options`.
fn copy(config: &Config, one: &mut Config, options: Option<&str>) {
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = options {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        one.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Config {
        super::super::read(url).expect("a good URL")
    }

    #[test]
    fn what_leaves_this_machine_is_not_local() {
        for url in [
            "postgres://localhost/d",
            "postgres://127.0.0.1,[::1]/d",
            "postgres://%2Frun%2Fpostgresql,localhost/d",
            "postgres://localhost/d?hostaddr=127.0.0.2",
        ] {
            assert!(is_local(&read(url)), "{url}");
        }
        for url in [
            "postgres://db.example/d",
            "postgres://localhost,10.0.0.1/d",
            "postgres://localhost/d?hostaddr=10.0.0.1",
            "postgres://%2Frun%2Fpostgresql/d?hostaddr=10.0.0.1",
            // Its certificate is for that name, whatever the address.
            "postgres://db.example/d?hostaddr=127.0.0.1",
        ] {
            assert!(!is_local(&read(url)), "{url}");
        }
        for there in crate::sslmode::ELSEWHERE {
            let url = format!("postgres://{there}/d");
            let (query, tls) = (Vec::new(), crate::sslmode::TlsSettings::default());
            let server = crate::postgres::Server::read(&url, &query, tls, None).expect("good");
            assert_eq!(server.tls.mode, crate::sslmode::SslMode::VerifyFull, "{url}");
        }
    }

    #[test]
    fn each_host_is_as_if_it_were_alone() {
        let all = "user=u&password=p&dbname=d&application_name=a&options=-c%20x%3D1&connect_timeout=7&channel_binding=require&keepalives=0&keepalives_idle=9";
        let several = read(&format!(
            "postgres://one:1,%2Frun%2Fpg:2,three:3?hostaddr=127.0.0.1,127.0.0.2,127.0.0.3&{all}"
        ));
        let alone = [
            "one:1?hostaddr=127.0.0.1",
            "%2Frun%2Fpg:2?hostaddr=127.0.0.2",
            "three:3?hostaddr=127.0.0.3",
        ]
        .map(|host| {
            let mut alone = read(&format!("postgres://{host}&{all}"));
            alone.target_session_attrs(TargetSessionAttrs::ReadWrite);
            alone
        });
        assert_eq!(format!("{:?}", each(&several)), format!("{alone:?}"));
        assert_eq!(each(&several)[0].get_password(), Some(&b"p"[..]), "which is not told");
        assert!(!each(&several).iter().any(is_unix), "they have addresses");

        let one_port = each(&read("postgres://one,%2Frun%2Fpg:7/d"));
        assert_eq!(one_port.iter().map(is_unix).collect::<Vec<_>>(), [false, true]);
        let shared = each(&read("postgres:///d?host=one&host=two&port=7"));
        assert!(
            shared
                .iter()
                .all(|one| { one.get_target_session_attrs() == TargetSessionAttrs::ReadWrite })
        );
        assert_eq!(shared.iter().map(Config::get_ports).collect::<Vec<_>>(), [[7], [7]]);
    }

    /// Otherwise the client would look the name up again, however long that takes.
    #[test]
    fn a_pooler_is_asked_again_at_the_same_address() {
        let found = Ok(vec![SocketAddr::from(([10, 0, 0, 1], 0))]);
        let all = at(&read("postgres://u:p@pooler:6432/d?channel_binding=require"), found);
        let [host] = &all.expect("found")[..] else { panic!("one address") };
        assert_eq!(format!("{:?}", without_settings(host)), format!("{host:?}"));
    }

    /// Nobody may be there any more. Also where a pooler refused our settings.
    #[test]
    fn a_connection_that_falls_silent_ends() {
        let request = std::time::Duration::from_secs(7);
        for url in ["postgres://one/d", "postgres://one,two/d"] {
            let (query, tls) = (Vec::new(), crate::sslmode::TlsSettings::default());
            let server = crate::postgres::Server::read(url, &query, tls, None).expect("good");
            let each = server.each(request, "x");
            let host = each.get(0).expect("one");
            for host in [host, &without_settings(host)] {
                assert_eq!(host.get_tcp_user_timeout(), Some(&request), "{url}");
                assert!(host.get_keepalives(), "{url}");
                assert_eq!(host.get_keepalives_idle(), request, "{url}");
            }
        }
    }

    /// The server goes by the last of several.
    #[test]
    fn our_settings_go_before_those_of_the_url() {
        let url = "postgres://h/d?options=-c%20statement_timeout%3D0%20-c%20x.y%3D1";
        let (base, query) = url.split_once('?').expect("both");
        let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let tls = crate::sslmode::TlsSettings::default();
        let server = crate::postgres::Server::read(base, &query, tls, None).expect("good");
        let each = server.each(std::time::Duration::from_secs(7), "x");
        let options = each.get(0).and_then(Config::get_options).expect("some");
        let limits: Vec<_> =
            options.split(" -c ").filter(|one| one.contains("statement_t")).collect();
        assert_eq!(limits.last(), Some(&"statement_timeout=7000"), "{options}");
        assert!(options.contains("x.y=1"), "{options}");
    }

    #[test]
    fn only_a_server_that_takes_writes_will_do() {
        for value in ["any", "read-write", "primary"] {
            assert!(session_attrs(value).is_ok(), "{value}");
        }
        for (value, told) in [
            ("read-only", "set primary or read-write"),
            ("standby", "set primary or read-write"),
            ("prefer-standby", "set primary or read-write"),
            ("Primary", "must be primary, read-write or any"),
        ] {
            let error = session_attrs(value).expect_err(value);
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn errors_name_hosts() {
        let hosts = each(&read("postgres://one:1,%2Frun%2Fpg,[::1]:3/d"));
        let shown: Vec<_> = hosts.iter().map(shown).collect();
        assert_eq!(shown, ["one:1", "/run/pg:5432", "[::1]:3"]);
    }

    #[test]
    fn a_name_stays_beside_its_address() {
        let host = read("postgres://localhost:7/d");
        assert_eq!(name(&host), Some(("localhost", 7)));
        let addresses = ["127.0.0.1:7", "[::1]:7"].map(|one| one.parse().expect("good"));
        let found = at(&host, Ok(addresses.to_vec())).expect("found");
        assert_eq!(found.len(), 2);
        for (one, address) in found.iter().zip(addresses) {
            // The name is what a certificate is for.
            assert_eq!(one.get_hosts(), [Host::Tcp("localhost".to_string())]);
            assert_eq!(one.get_hostaddrs(), [address.ip()]);
        }
        for url in [
            "postgres://%2Frun%2Fpg/d",
            "postgres://db.example/d?hostaddr=127.0.0.1",
            "postgres:///d?host=/pg",
        ] {
            assert_eq!(name(&read(url)), None, "{url}");
        }
    }
}

//! The hosts that a URL names.

use super::{Config, Host};
use std::net::IpAddr;

/// Whether everything that would be sent stays on this machine.
pub(crate) fn is_local(config: &Config) -> bool {
    let hosts = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        Host::Unix(_) => true,
    });
    // Where there are addresses, names do not matter.
    hosts && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Config {
        super::super::config(url).expect("a good URL")
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
    }
}

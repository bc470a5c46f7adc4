//! The attempts of one connect: with and without TLS, as `sslmode=allow` wants them, and without our settings, which a
//! pooler refuses.

use super::hosts::without_settings;
use super::{Config, is_unix};
use crate::sslmode::SslMode;
use lock_core::Failure;
use lock_core::sql::postgres::refuses_settings;

/// The attempts of a connect to one address. Most modes have one.
pub struct Attempts {
    /// The host, and whether it is without our settings already.
    config: Config,
    plain: bool,
    /// The mode of the attempt that is due, and those after it.
    modes: &'static [SslMode],
    /// The server's refusal of the attempt before.
    refusal: Option<Failure>,
}

impl Attempts {
    /// The attempts for a host. A Unix socket is never encrypted.
    pub fn new(host: &Config, mode: SslMode) -> Self {
        let mode = if is_unix(host) { SslMode::Disable } else { mode };
        Self { config: host.clone(), plain: false, modes: mode.attempts(), refusal: None }
    }

    /// The configuration of the attempt that is due.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The mode of the attempt that is due.
    pub fn mode(&self) -> SslMode {
        self.modes.first().copied().unwrap_or(SslMode::Disable)
    }

    /// Takes the failure of that attempt. Returns `None` if another attempt is due, because the server refused
    /// the login, and else the failure of the connect.
    pub fn failed(&mut self, failure: Failure) -> Option<Failure> {
        if refuses_settings(&failure) && !self.plain {
            self.plain = true;
            self.config = without_settings(&self.config);
            return None;
        }
        let refused = failure.code().is_some();
        match self.modes {
            [_, rest @ ..] if refused && !rest.is_empty() => {
                self.modes = rest;
                self.refusal = Some(failure);
                None
            }
            // That the server has no TLS says less than its refusal.
            _ if !refused => Some(self.refusal.take().unwrap_or(failure)),
            _ => Some(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::Code;
    use lock_core::sql::postgres::connect_failed;
    use std::time::Duration;

    fn refused(state: &str) -> Failure {
        Failure::refused("no".to_string()).with_code(Code::sql_state(state))
    }

    fn attempts(mode: SslMode, url: &str) -> Attempts {
        Attempts::new(&super::super::read(url).expect("good"), mode)
    }

    #[test]
    fn allow_tries_tls_after_the_server_refused_the_login() {
        let allow = || attempts(SslMode::Allow, "postgres://h/d");
        let mut refused_twice = allow();
        assert_eq!(refused_twice.mode(), SslMode::Disable);
        assert_eq!(refused_twice.failed(refused("28000")), None);
        assert_eq!(refused_twice.mode(), SslMode::Require);
        assert_eq!(refused_twice.failed(refused("28P01")), Some(refused("28P01")));
        let (mut no_tls, mut gone) = (allow(), allow());
        assert_eq!(no_tls.failed(refused("28000")), None);
        assert_eq!(no_tls.failed(Failure::refused("no TLS".into())), Some(refused("28000")));
        let down = || Failure::NotSent("connection refused".into());
        assert_eq!(gone.failed(down()), Some(down()), "which TLS would not change");
    }

    #[test]
    fn what_a_pooler_refuses_is_left_out_once() {
        let pooler = || connect_failed(Some("08P01"), "unsupported startup parameter: options");
        let url = "postgres://h/d?options=-c%20a.b%3Dc";
        let config = Box::new(super::super::read(url).expect("good"));
        let tls = super::super::Tls { mode: SslMode::Prefer, root_cert: None };
        let (passwords, warning, last) = (vec![], None, crate::hosts::LastHost::default());
        let server = super::super::Server { config, tls, passwords, warning, last };
        let hosts = server.each(Duration::from_secs(1), "me and you");
        let mut attempts = Attempts::new(hosts.get(0).expect("one"), SslMode::Prefer);
        let options = attempts.config().get_options().expect("ours");
        assert!(
            options.starts_with("-c a.b=c ") && options.ends_with("me\\ and\\ you"),
            "{options}"
        );
        assert_eq!(attempts.failed(pooler()), None);
        assert_eq!(attempts.config().get_options(), Some("-c a.b=c"));
        assert_eq!(attempts.config().get_application_name(), None, "others would have it, too");
        assert_eq!(attempts.mode(), SslMode::Prefer);
        assert_eq!(attempts.failed(pooler()), Some(pooler()));
    }

    #[test]
    fn other_modes_and_unix_sockets_have_one_attempt() {
        for (mode, url) in
            [(SslMode::Prefer, "postgres://h/d"), (SslMode::Allow, "postgres://%2Frun/d")]
        {
            assert_eq!(attempts(mode, url).failed(refused("28000")), Some(refused("28000")));
        }
    }
}

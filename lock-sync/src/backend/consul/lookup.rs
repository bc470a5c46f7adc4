//! Where Consul is.

use std::net::SocketAddr;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The client looks the host up before each request, also before one that goes over a connection it
/// has; and has a thread do that, for it cannot be interrupted. An address needs neither.
#[derive(Debug)]
pub(super) struct Lookup {
    address: Option<SocketAddr>,
    names: DefaultResolver,
}

impl Lookup {
    /// Of `authority`, a host and a port: all that is ever asked for.
    pub(super) fn new(authority: &str) -> Self {
        Self { address: authority.parse().ok(), names: DefaultResolver::default() }
    }
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let Some(address) = self.address else { return self.names.resolve(uri, config, timeout) };
        let mut found = self.empty();
        found.push(address);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_looked_up() {
        for (authority, is_address) in
            [("127.0.0.1:8500", true), ("[::1]:8501", true), ("localhost:8500", false)]
        {
            assert_eq!(Lookup::new(authority).address.is_some(), is_address, "{authority}");
        }
    }
}

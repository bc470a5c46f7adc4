//! The addresses of the agent's host.

use crate::backend::names::addresses_of;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Time for which the client gets the same addresses.
const FRESH: Duration = Duration::from_secs(30);
/// Longer than any request takes.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// Number of addresses that the client accepts.
const MOST: usize = 16;

/// The addresses of the host. The client asks for them before each request, even if it has a connection. So
/// the last answer serves for a while, and longer if the next lookup fails.
#[derive(Debug)]
pub(super) struct Lookup {
    host: String,
    port: u16,
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// Time of the next lookup.
    until: Instant,
}

/// The resolver that the client calls.
#[derive(Debug)]
pub(super) struct Resolves(pub(super) Arc<Lookup>);

/// The error for a host without addresses.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotFound(String);

impl Lookup {
    /// Looks up this host and port, which are the only ones that the client asks for.
    pub(super) fn new(host: &str, port: u16) -> Self {
        let host = host.trim_matches(['[', ']']).to_string();
        Self { host, port, known: Mutex::default() }
    }

    /// Makes the next request look the name up, because a request failed.
    pub(super) fn doubt(&self) {
        if let Some(known) = &mut *self.known() {
            known.until = Instant::now();
        }
    }

    fn addresses(&self, limit: Duration) -> Result<Vec<SocketAddr>, NotFound> {
        let known = self.known().clone();
        let (limit, last) = match known {
            Some(known) if Instant::now() < known.until => return Ok(known.addresses),
            // A connection that exists needs the rest of the time.
            Some(known) => (limit / 4, Some(known.addresses)),
            None => (limit, None),
        };
        let addresses = match (addresses_of(&self.host, self.port, limit), last) {
            (Ok(found), _) if !found.is_empty() => found,
            (_, Some(last)) => last,
            (Ok(_), None) => return Err(NotFound("the host has no address".to_string())),
            (Err(why), None) => return Err(NotFound(why)),
        };
        let until = Instant::now() + FRESH;
        *self.known() = Some(Known { addresses: addresses.clone(), until });
        Ok(addresses)
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for Resolves {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let limit = (*timeout.after).min(LONGEST);
        let addresses = self.0.addresses(limit).map_err(|why| Error::Other(why.into()))?;
        let mut found = self.empty();
        for address in addresses.into_iter().take(MOST) {
            found.push(address);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_shared::lookup::stand_in::Silent;

    const LIMIT: Duration = Duration::from_millis(8);

    #[test]
    fn what_is_known_serves_while_the_name_is_not_found_anew() {
        let silent = Silent::new("known.invalid");
        let lookup = Lookup::new(silent.name, 7);
        let told = lookup.addresses(LIMIT).expect_err("silent").to_string();
        // The lookup has a thread of its own, which may begin late.
        while silent.asked() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(told, "the name server did not answer in time for known.invalid");
        let address: SocketAddr = "127.0.0.1:7".parse().expect("good");
        let until = Instant::now() + FRESH;
        *lookup.known() = Some(Known { addresses: vec![address], until });
        assert_eq!(lookup.addresses(LIMIT).expect("known"), [address]);
        lookup.doubt();
        assert!(lookup.known().as_ref().is_some_and(|known| known.until <= Instant::now()));
        assert_eq!(lookup.addresses(LIMIT).expect("known"), [address]);
        assert!(lookup.known().as_ref().is_some_and(|known| Instant::now() < known.until));
        assert_eq!(silent.asked(), 1);
    }

    #[test]
    fn a_name_is_looked_up_again_when_something_went_wrong() {
        let lookup = Lookup::new("127.0.0.1", 7);
        let until = Instant::now() + FRESH;
        *lookup.known() = Some(Known { addresses: Vec::new(), until });
        lookup.doubt();
        let address: SocketAddr = "127.0.0.1:7".parse().expect("good");
        assert_eq!(lookup.addresses(LIMIT).expect("found"), [address]);
    }

    /// The least of several times, for a busy machine delays some. Normally it is a quarter of the limit.
    #[test]
    fn the_lookup_of_a_name_that_is_known_leaves_time_for_the_request() {
        const LIMIT: Duration = Duration::from_secs(2);
        let silent = Silent::new("slow.invalid");
        let lookup = Lookup::new(silent.name, 7);
        let address: SocketAddr = "127.0.0.1:7".parse().expect("good");
        let left = (0..3).map(|_| {
            let began = Instant::now();
            *lookup.known() = Some(Known { addresses: vec![address], until: began });
            assert_eq!(lookup.addresses(LIMIT).expect("known"), [address]);
            LIMIT.saturating_sub(began.elapsed())
        });
        assert!(left.max() > Some(LIMIT / 2));
    }
}

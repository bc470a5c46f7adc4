//! Watching the key of a lock.

use super::answer::index;
use super::{Codec, HttpRequest, Response, blocking};
use crate::http::text;
use crate::name::LockName;
use alloc::format;
use core::time::Duration;

const UNCHANGED: Duration = Duration::from_secs(1);
const AFTER_AN_ERROR: Duration = Duration::from_secs(10);

/// Tells that a lock's key may have changed: send [`request`](Self::request), hand what became of it to
/// [`handle_answer`](Self::handle_answer), and so on.
///
/// The first request is answered at once. So is the one after an error, because Consul's history may have begun anew
/// meanwhile, with smaller numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watch {
    /// Where in Consul's history the last wait has ended; zero before the first.
    since: u64,
}

impl Watch {
    /// The request that is answered when the key of the lock `name` has changed since the last answer, or after `up_to`.
    pub fn request(&self, codec: &Codec, name: &LockName, up_to: Duration) -> HttpRequest {
        let path_and_query = format!("/v1/kv/{}?consistent", text::path(&codec.keys.key(name)));
        codec.scope.apply(blocking(path_and_query, self.since, up_to))
    }

    /// Takes the answer, or [`None`] if there was none. Returns [`None`] if the key may have changed, and otherwise after what
    /// pause to send the next request: Consul waits for some minutes at most, and may answer before.
    pub fn handle_answer(&mut self, answer: Option<&Response<'_>>) -> Option<Duration> {
        let read = answer.filter(|answer| matches!(answer.status, 200 | 404)).and_then(index);
        let last = core::mem::replace(&mut self.since, read.unwrap_or(0));
        match self.since {
            0 => Some(AFTER_AN_ERROR),
            now if now == last => Some(UNCHANGED),
            _ => None,
        }
    }
}

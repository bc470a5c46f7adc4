//! Answers of Consul's to one request.

use crate::Input;
use lock_core::http::{self, Response};
use lock_core::{Claim, LockName, Outcome, Owner, Reply, Request, SessionName};
use std::time::Duration;

/// Decodes any answer of Consul's. There must be no panic, no grant that the answer does not contain, and no
/// error that cannot be shown.
///
/// The first byte is the request, the second the status, then a line with the index; the rest is
/// the body.
pub fn consul_bodies(bytes: &[u8]) {
    const STATUS: [u16; 8] = [200, 409, 404, 200, 403, 500, 301, 429];
    const ID: &str = "00000000-0000-0000-0000-000000000001";
    let mut input = Input(bytes);
    let claim = Claim::new(LockName::new("a").expect("good"), Owner::new(1));
    let session = SessionName::from(ID);
    let ttl = Duration::from_secs(30);
    let (claims, since, up_to) = (Vec::from([claim.clone()]), 1, ttl);
    let (min_uptime, label) = (Duration::ZERO, "h".into());
    let request = match input.byte() % 6 {
        0 => Request::Acquire { session, claims, ttl, min_uptime, label },
        1 => Request::Release { passed_over: None, session, claims },
        2 => Request::Wait { behind: None, session, claim, since, up_to, min_uptime },
        3 => Request::KeepAlive { session },
        4 => Request::Open { owner: Owner::new(1), ttl },
        _ => Request::Close { session },
    };
    let status = STATUS[usize::from(input.byte()) % STATUS.len()];
    let end = input.0.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (header, body) = input.0.split_at(end);
    let index = std::str::from_utf8(header).ok().filter(|text| !text.is_empty());
    let text = String::from_utf8_lossy(body);
    let codec = http::consul::Codec::default();
    match codec.decode(&request, &Response { status, index, body }) {
        Ok(Reply::Opened(session)) => {
            assert!(session.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            assert!(!session.as_str().is_empty());
        }
        Ok(reply) => {
            let outcomes = reply.outcomes(request.action(), 1).expect("they fit the request");
            match (&request, &outcomes[0]) {
                (_, Outcome::Granted(fence)) => {
                    assert!(status == 200 && text.contains(&fence.to_string()), "{text}");
                    assert!(fence.get() > 0 && i64::try_from(fence.get()).is_ok());
                }
                (Request::Acquire { .. }, _) => assert_eq!(status, 409),
                (_, Outcome::Unchanged { index }) => assert!(*index > 0),
                (Request::Close { .. }, Outcome::Done) => assert_eq!(text.trim(), "true"),
                (_, Outcome::Done) => assert_eq!(status, 200),
                (_, Outcome::NotOwner | Outcome::NoSession) => assert_ne!(status, 200),
                _ => {}
            }
        }
        Err(failure) => {
            let text = failure.to_string();
            assert!(!text.contains(char::is_control) && text.len() < 2000, "{text:?}");
        }
    }
}

//! A Consul server. It gets the codec's requests, and others.

use lock_core::http::consul::{Codec, INDEX_HEADER};
use lock_core::http::{self, KeyTemplate, MAX_BODY, Method, Response};
use lock_core::{Claim, Failure, LockName, Outcome, Owner, Reply, Request, SessionName};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A client of the server for tests, with keys that no other test uses.
#[derive(Clone)]
pub struct Consul {
    agent: ureq::Agent,
    url: String,
    prefix: String,
    keys: KeyTemplate,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header with the index.
    pub index: Option<String>,
    /// The body.
    pub body: String,
}

impl Consul {
    /// A client of the server that the environment names.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let url = std::env::var("CONSUL_URL");
        Self::at(&url.expect("CONSUL_URL: tests/run starts a server and sets it"))
    }

    /// A client of a server.
    pub fn at(url: &str) -> Self {
        static PREFIXES: AtomicU64 = AtomicU64::new(0);
        let number = PREFIXES.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("lock-tests-{}-{}-{number}", std::process::id(), seconds());
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(Duration::from_secs(60)));
        let keys = KeyTemplate::under(&prefix).expect("a good prefix");
        Self { agent: config.build().into(), url: url.to_string(), prefix, keys }
    }

    /// Sends a request of no codec's making.
    pub fn raw(&self, method: Method, path_and_query: &str, body: &str) -> Answer {
        let request = http::Request {
            method,
            path_and_query: path_and_query.to_string(),
            body: body.to_string(),
            waits: Duration::ZERO,
        };
        self.send(&request).expect("the server answers")
    }

    /// Sends a request. A session has a TTL of `ttl`, and the lease as its lock-delay.
    ///
    /// # Errors
    /// What the codec makes of an answer that is no reply.
    pub fn try_ask(&self, request: &Request, ttl: Duration) -> Result<Reply, Failure> {
        let codec = Codec::new(self.keys.clone(), ttl);
        let answer = self.send(&codec.encode(request)?).expect("the server answers");
        let (status, index) = (answer.status, answer.index.as_deref());
        codec.decode(request, &Response { status, index, body: answer.body.as_bytes() })
    }

    /// Sends a request that has one outcome.
    pub fn ask(&self, request: &Request) -> Outcome {
        match self.try_ask(request, Duration::ZERO) {
            Ok(Reply::Outcomes(all)) => {
                <[Outcome; 1]>::try_from(all).expect("one outcome")[0].clone()
            }
            other => panic!("{other:?}"),
        }
    }

    /// A new session.
    pub fn session(&self, ttl: Duration, lock_delay: Duration) -> SessionName {
        static NAMES: AtomicU64 = AtomicU64::new(1);
        let owner = Owner::new(NAMES.fetch_add(1, Ordering::Relaxed).into());
        match self.try_ask(&Request::Open { owner, ttl: lock_delay }, ttl) {
            Ok(Reply::Opened(session)) => session,
            other => panic!("{other:?}"),
        }
    }

    /// Renews a session. Returns true if it exists.
    pub fn renew(&self, session: &SessionName) -> bool {
        match self.ask(&Request::KeepAlive { session: session.clone() }) {
            Outcome::Done => true,
            Outcome::NoSession => false,
            other => panic!("{other:?}"),
        }
    }

    /// Ends a session.
    pub fn destroy(&self, session: &SessionName) {
        assert_eq!(self.ask(&Request::Close { session: session.clone() }), Outcome::Done);
    }

    /// Tries to lock.
    pub fn lock(&self, session: &SessionName, name: &str) -> Outcome {
        self.lock_as(session, name, "holder")
    }

    /// Tries to lock with a value.
    pub fn lock_as(&self, session: &SessionName, name: &str, holder: &str) -> Outcome {
        self.ask(&lock(session.clone(), name, holder))
    }

    /// Locks what is free; its fence.
    pub fn granted(&self, session: &SessionName, name: &str) -> u64 {
        match self.lock(session, name) {
            Outcome::Granted(fence) => fence.get(),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Unlocks; whether it was the session's.
    pub fn unlock(&self, session: &SessionName, name: &str) -> bool {
        let (session, claims) = (session.clone(), [claim(name)].into());
        match self.ask(&Request::Release { passed_over: None, session, claims }) {
            Outcome::Done | Outcome::DoneContended => true,
            Outcome::NotOwner => false,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a change: the index if the key is locked, and how long that took.
    pub fn watch(&self, name: &str, since: u64, up_to: Duration) -> (Option<u64>, Duration) {
        let began = Instant::now();
        match self.ask(&watch(name, since, up_to)) {
            Outcome::Unchanged { index } => (Some(index), began.elapsed()),
            Outcome::Free => (None, began.elapsed()),
            other => panic!("{other:?}"),
        }
    }

    /// Ends the session that has a key.
    pub fn rob(&self, key: &str) {
        let entry = self.raw(Method::Get, &format!("/v1/kv/{key}"), "").body;
        let session = entry.split("\"Session\":\"").nth(1).and_then(|rest| rest.split('"').next());
        self.destroy(&SessionName::from(session.expect("a session has it")));
    }

    /// The path of a lock whose name needs no escape.
    pub fn path(&self, name: &str) -> String {
        format!("/v1/kv/{}/{name}/lock", self.prefix)
    }

    /// The prefix of all keys.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn send(&self, request: &http::Request) -> Result<Answer, ureq::Error> {
        let url = format!("{}{}", self.url, request.path_and_query);
        let mut response = match request.method {
            Method::Get => self.agent.get(url).call()?,
            Method::Put => self.agent.put(url).send(&*request.body)?,
        };
        let index = response.headers().get(INDEX_HEADER);
        let index = index.and_then(|value| value.to_str().ok()).map(str::to_string);
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_BODY as u64 + 1);
        Ok(Answer { status, index, body: body.read_to_string()? })
    }
}

/// A claim to a lock of this name.
pub fn claim(name: &str) -> Claim {
    let name = LockName::new(name).expect("a good name");
    Claim::new(name, Owner::new(1))
}

/// A request to lock the key of this name.
pub fn lock(session: SessionName, name: &str, label: &str) -> Request {
    let (claims, ttl) = ([claim(name)].into(), Duration::from_secs(30));
    Request::Acquire { session, claims, ttl, min_uptime: Duration::ZERO, label: label.into() }
}

/// A request to watch the key of this name.
pub fn watch(name: &str, since: u64, up_to: Duration) -> Request {
    let (session, min_uptime) = (SessionName::default(), Duration::ZERO);
    Request::Wait { behind: None, session, claim: claim(name), since, up_to, min_uptime }
}

fn seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs()
}

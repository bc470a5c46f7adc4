//! A Consul server, asked in the codec's own requests, and past them.

use lock_core::consul::{Command, Locked, Reply, Session};
use lock_core::http::consul::{Codec, INDEX_HEADER};
use lock_core::http::{KeyTemplate, MAX_BODY, Method, Request, Response};
use lock_core::{Claim, Failure, LockName, Mode, Owner};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A client of the server for tests, with keys that no other test uses.
#[derive(Clone)]
pub struct Consul {
    agent: ureq::Agent,
    url: String,
    prefix: String,
    codec: Codec,
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
    /// At the server that the environment names.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let url = std::env::var("CONSUL_URL");
        Self::at(&url.expect("CONSUL_URL: tests/run starts a server and sets it"))
    }

    /// At a server.
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
        let codec = Codec::new(KeyTemplate::under(&prefix).expect("a good prefix"));
        Self { agent: config.build().into(), url: url.to_string(), prefix, codec }
    }

    /// Sends a request of no codec's making.
    pub fn raw(&self, method: Method, path_and_query: &str, body: &str) -> Answer {
        let request = Request {
            method,
            path_and_query: path_and_query.to_string(),
            body: body.to_string(),
            waits: Duration::ZERO,
        };
        self.send(&request).expect("the server answers")
    }

    /// Sends a command.
    ///
    /// # Errors
    /// What the codec makes of an answer that is no reply.
    pub fn try_ask(&self, command: &Command) -> Result<Reply, Failure> {
        let answer = self.send(&self.codec.encode(command)).expect("the server answers");
        let (status, index) = (answer.status, answer.index.as_deref());
        self.codec.decode(command, &Response { status, index, body: answer.body.as_bytes() })
    }

    /// Sends a command that is answered.
    pub fn ask(&self, command: &Command) -> Reply {
        self.try_ask(command).expect("a reply")
    }

    /// A new session.
    pub fn session(&self, ttl: Duration, lock_delay: Duration) -> Session {
        static NAMES: AtomicU64 = AtomicU64::new(1);
        let name = Owner::new(NAMES.fetch_add(1, Ordering::Relaxed).into());
        match self.ask(&Command::Create { name, ttl, lock_delay }) {
            Reply::Created(session) => session,
            other => panic!("{other:?}"),
        }
    }

    /// Whether the session exists; its TTL begins anew.
    pub fn renew(&self, session: &Session) -> bool {
        match self.ask(&Command::Renew { session: session.clone() }) {
            Reply::Renewed(exists) => exists,
            other => panic!("{other:?}"),
        }
    }

    /// Ends a session.
    pub fn destroy(&self, session: &Session) {
        assert_eq!(self.ask(&Command::Destroy { session: session.clone() }), Reply::Destroyed);
    }

    /// Tries to lock.
    pub fn lock(&self, session: &Session, name: &str) -> Locked {
        self.lock_as(session, name, "holder")
    }

    /// Tries to lock with a value.
    pub fn lock_as(&self, session: &Session, name: &str, holder: &str) -> Locked {
        let (session, claim) = (session.clone(), claim(name));
        match self.ask(&Command::Lock { session, claim, holder: holder.into() }) {
            Reply::Locked(locked) => locked,
            other => panic!("{other:?}"),
        }
    }

    /// Locks what is free; its fence.
    pub fn granted(&self, session: &Session, name: &str) -> u64 {
        match self.lock(session, name) {
            Locked::Granted(fence) => fence.get(),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Unlocks; whether it was the session's.
    pub fn unlock(&self, session: &Session, name: &str) -> bool {
        match self.ask(&Command::Unlock { session: session.clone(), lease: claim(name), passed: 0 })
        {
            Reply::Unlocked(ours) => ours,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a change: the index, whether it is locked, and how long that took.
    pub fn watch(&self, name: &str, since: u64, up_to: Duration) -> (u64, bool, Duration) {
        let began = Instant::now();
        match self.ask(&Command::Watch { claim: claim(name), since, up_to }) {
            Reply::Watched { index, locked, .. } => (index, locked, began.elapsed()),
            other => panic!("{other:?}"),
        }
    }

    /// Ends the session that has a key.
    pub fn rob(&self, key: &str) {
        let entry = self.raw(Method::Get, &format!("/v1/kv/{key}"), "").body;
        let session = entry.split("\"Session\":\"").nth(1).and_then(|rest| rest.split('"').next());
        self.destroy(&Session(session.expect("a session has it").into()));
    }

    /// The path of a lock whose name needs no escape.
    pub fn path(&self, name: &str) -> String {
        format!("/v1/kv/{}/{name}/lock", self.prefix)
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn send(&self, request: &Request) -> Result<Answer, ureq::Error> {
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
    Claim { name, owner: Owner::new(1), mode: Mode::Exclusive }
}

fn seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs()
}

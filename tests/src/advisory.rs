//! The advisory protocol, request by request, without a driver in between.

use crate::place::{Place, client, mysql_client, with_settings};
use crate::proxy::eventually;
use crate::raw::Raw;
use crate::servers::Kind;
use ::mysql::prelude::Queryable;
use lock_core::sql::advisory::{Codec, Key, Prefix, Session, mysql, postgres};
use lock_core::sql::{Refusal, Statement, Step, Value};
use lock_core::{
    Claim, Failure, Fence, LockName, Mode, Outcome, Owner, Reply, Request, SessionName,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than any test.
pub const LONG: Duration = Duration::from_secs(600);

/// A connection that has gone through its checks.
pub struct Line {
    /// The connection.
    pub client: Box<dyn Raw + Send>,
    /// Makes the statements.
    pub codec: Codec,
    /// The kind of the server.
    pub kind: Kind,
    /// The server's name of the connection.
    pub session: Session,
    /// Number of failed statements that were followed by a second look.
    pub looked: usize,
}

/// The default codec for a kind of server.
pub fn codec(kind: Kind) -> Codec {
    match kind {
        Kind::Postgres => postgres::codec(Key::default()),
        Kind::Mysql | Kind::Mariadb => mysql::codec(Prefix::default()),
    }
}

/// A connection to a server.
pub fn connect(url: &str) -> Box<dyn Raw + Send> {
    match url.starts_with("postgres") {
        true => Box::new(client(&with_settings(url))),
        false => Box::new(mysql_client(url)),
    }
}

/// Counts those that wait at the server for an advisory lock of this place, each time that it is called.
pub fn waiting_at(place: &Place) -> Box<dyn FnMut() -> i64> {
    if place.url().starts_with("postgres") {
        let mut observer = client(place.url());
        let text = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()";
        return Box::new(move || observer.query_one(text, &[]).expect("asked").get(0));
    }
    let mut observer = mysql_client(place.url());
    let url = place.whole_url();
    let (_, prefix) = url.split_once("prefix=").expect("it has one");
    let text = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User lock' AND info LIKE '%{prefix}%'"
    );
    Box::new(move || observer.query_first(&text).expect("asked").expect("a row"))
}

/// Lets a connection through its checks.
///
/// # Errors
/// The step that refuses the server.
pub fn open(
    client: &mut dyn Raw,
    codec: &Codec,
    ttl: Duration,
    id: Option<u32>,
) -> Result<Session, Refusal> {
    let mut setup = codec.setup(ttl, id);
    let mut answer = None;
    loop {
        match setup.step(answer) {
            Step::Run(statement) => answer = Some(client.run(&statement)),
            Step::Ready => return Ok(setup.session().expect("it is ready").clone()),
            Step::Refuse(why) => return Err(why),
            Step::Failed(failure) => panic!("{failure}"),
        }
    }
}

impl Line {
    /// A connection to the server that the environment names.
    pub fn new(kind: Kind, ttl: Duration) -> Self {
        Self::at(kind.place().url(), kind, codec(kind), ttl)
    }

    /// A connection to a server.
    pub fn at(url: &str, kind: Kind, codec: Codec, ttl: Duration) -> Self {
        let mut client = connect(url);
        let session = open(&mut *client, &codec, ttl, None).expect("fit for locks");
        Self { client, codec, kind, session, looked: 0 }
    }

    /// Carries out a request.
    ///
    /// # Errors
    /// What became of it otherwise.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let mut exchange = self.codec.encode(request, &self.session);
        while let Some(statement) = exchange.poll_statement() {
            match self.client.run(&statement) {
                Ok(rows) => exchange.handle_rows(rows),
                Err(failure) => {
                    exchange.handle_failure(failure);
                    self.looked += usize::from(exchange.poll_statement().is_some());
                }
            }
        }
        exchange.finish()
    }

    /// Tries to take locks.
    pub fn try_all(&mut self, claims: Vec<Claim>) -> Vec<Outcome> {
        match self.ask(&Request::Acquire {
            session: SessionName::default(),
            claims,
            ttl: Duration::from_secs(30),
            min_uptime: Duration::ZERO,
            label: "".into(),
        }) {
            Ok(Reply::Outcomes(entries)) => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Tries to acquire one lock. Returns its fence if it was granted.
    pub fn try_as(&mut self, name: &str, mode: Mode) -> Option<Fence> {
        match self.try_all(vec![claim(name, mode)])[..] {
            [Outcome::Granted(fence)] => Some(fence),
            [Outcome::Busy(None)] => None,
            ref other => panic!("{other:?}"),
        }
    }

    /// Tries to acquire an exclusive lock. Returns its fence if it was granted.
    pub fn take(&mut self, name: &str) -> Option<Fence> {
        self.try_as(name, Mode::Exclusive)
    }

    /// Waits for a lock. Returns its fence if it was granted.
    pub fn wait_as(&mut self, name: &str, mode: Mode, up_to: Duration) -> Option<Fence> {
        let request = Request::Wait {
            behind: None,
            session: SessionName::default(),
            claim: claim(name, mode),
            since: 0,
            up_to,
            min_uptime: Duration::ZERO,
        };
        match self.ask(&request) {
            Ok(Reply::Outcomes(entries)) => match entries[..] {
                [Outcome::Granted(fence)] => Some(fence),
                [Outcome::Busy(None)] => None,
                ref other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Waits for an exclusive lock. Returns its fence if it was granted.
    pub fn wait(&mut self, name: &str, up_to: Duration) -> Option<Fence> {
        self.wait_as(name, Mode::Exclusive, up_to)
    }

    /// Releases a lock. Returns true if the connection held it.
    pub fn free_as(&mut self, name: &str, mode: Mode) -> bool {
        match self.ask(&Request::Release {
            passed_over: None,
            session: SessionName::default(),
            claims: vec![claim(name, mode)],
        }) {
            Ok(Reply::Outcomes(entries)) => entries == [Outcome::Done],
            other => panic!("{other:?}"),
        }
    }

    /// Releases an exclusive lock. Returns true if the connection held it.
    pub fn free(&mut self, name: &str) -> bool {
        self.free_as(name, Mode::Exclusive)
    }

    /// Checks that it is still the connection that was opened.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn keep(&mut self) -> Result<bool, Failure> {
        let reply = self.ask(&Request::KeepAlive { session: SessionName::default() })?;
        Ok(reply == Reply::one(Outcome::Done))
    }

    /// The server's time: the fence of a lock that nobody else wants.
    pub fn time(&mut self) -> Fence {
        let name = fresh("time");
        let time = self.take(&name).expect("free");
        assert!(self.free(&name));
        time
    }

    /// Drops another connection, and waits until the server knows.
    pub fn end(&mut self, other: Self) {
        let id = other.session.id();
        drop(other);
        assert!(eventually(|| self.is_gone(id)), "it is not told that its client is gone");
    }

    /// Returns true once the server has ended a connection and freed its locks.
    pub fn is_gone(&mut self, id: i64) -> bool {
        let text = match self.kind {
            Kind::Postgres => "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::bigint",
            // Its list of processes leaves out a connection whose client is gone, before the locks are freed.
            Kind::Mysql => {
                "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_id = ?"
            }
            Kind::Mariadb => "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?",
        };
        let statement = Statement::new(text, [Value::Int(id)]);
        self.client.run(&statement) == Ok(vec![vec![Value::Int(0)]])
    }

    /// Waits until another connection waits in the server's queue.
    pub fn sees_waiting(&mut self, id: i64) {
        let text = match self.kind {
            Kind::Postgres => {
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::bigint AND wait_event_type = 'Lock'"
            }
            Kind::Mysql | Kind::Mariadb => {
                "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ? AND state = 'User lock'"
            }
        };
        let statement = Statement::new(text, [Value::Int(id)]);
        let waits = Ok(vec![vec![Value::Int(1)]]);
        assert!(eventually(|| self.client.run(&statement) == waits), "{id} waits for nothing");
    }

    /// Runs SQL, past the codec.
    pub fn run(&mut self, sql: &str) {
        self.client.batch(sql);
    }
}

/// A claim. Its owner plays no part at the server.
pub fn claim(name: &str, mode: Mode) -> Claim {
    Claim { mode, ..Claim::new(LockName::new(name).expect("good"), Owner::new(1)) }
}

/// Exclusive claims.
pub fn claims(names: &[&str]) -> Vec<Claim> {
    names.iter().map(|name| claim(name, Mode::Exclusive)).collect()
}

/// A name that no other test uses.
pub fn fresh(what: &str) -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

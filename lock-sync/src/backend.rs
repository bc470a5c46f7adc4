//! Backends execute the core's requests.

pub(crate) mod admin;
pub(crate) mod advisory;
#[cfg(feature = "consul")]
pub(crate) mod consul;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
pub(crate) mod names;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod tables;

use crate::clock;
use lock_core::config::{ConfigError, Error};
use lock_core::sql::{Codec, ConnectError, Rows, Statement, Step};
use lock_core::{Failure, Instant, Judgment, News, Notification, Pace, Reply, Request, Timing};
use std::time::{Duration, Instant as Now};

/// Ends what a backend is doing on another thread, as far as that is possible. Does not block.
pub(crate) type Cut = Box<dyn FnOnce() + Send>;

/// Makes the backends, each for one [`Lane`](lock_core::Lane).
pub(crate) trait Backends: Send + 'static {
    /// Whether there may be more than one backend. Then none is to wait for another.
    fn are_many(&self) -> bool {
        true
    }

    /// Another backend, if there may be one. It connects when it is used; `waits` if it is there to wait
    /// at the server.
    fn backend(&mut self, waits: bool) -> Option<Box<dyn Backend>>;
}

/// Executes requests, one at a time, on the calling thread.
pub(crate) trait Backend: Send + 'static {
    /// Executes a request that was made at `now`, within `budget`.
    fn execute(
        &mut self,
        request: &Request,
        now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure>;

    /// Whether it is to be kept for its lane's next request; there will be a new one otherwise.
    fn lasts(&self) -> bool {
        true
    }

    /// What cuts short the wait that it is going to execute.
    fn cut(&self) -> Option<Cut> {
        None
    }
}

/// A connection that statements can be run on, and that can be opened again.
pub(crate) trait Session: Send + 'static {
    /// Whether it is still the connection that was opened.
    fn is_open(&self) -> bool;

    /// Opens it, or a new one in its place, within `budget`.
    fn open(&mut self, budget: Duration) -> Result<(), ConnectError>;

    /// Runs a statement within `budget`. After [`Failure::Unknown`] it is no longer open.
    fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure>;

    /// What it was told since the last time, as soon as there is something, or after `up_to`. After
    /// [`Failure::Unknown`] it is no longer open.
    fn news(&mut self, _up_to: Duration) -> Result<Vec<Notification>, Failure> {
        Err(Failure::NotSent("this server sends no notifications".to_string()))
    }

    /// Closes it, without waiting for a server that does not answer.
    fn close(&mut self) {}

    /// Whether its statements may take longer than their budget: it was opened with more time than most.
    fn is_patient(&self) -> bool {
        false
    }

    /// Whether it is the caller's, who may have left it in the middle of something.
    fn handed(&self) -> bool {
        false
    }

    /// What the server called it when it was opened, if the client tells.
    fn id(&self) -> Option<u32> {
        None
    }

    /// What cuts short the next statement.
    fn cut(&self) -> Option<Cut> {
        None
    }
}

/// Makes sessions.
pub(crate) trait Source: Send + 'static {
    type Session: Session;

    /// Whether a session of its own can be told what was freed.
    const TELLS: bool = false;

    /// Whether there is a way to another session when one is gone.
    const RECONNECTS: bool = true;

    /// Another one, not open yet, if there may be one; `waits` if it is there to wait at the server.
    fn session(&mut self, waits: bool) -> Option<Self::Session>;
}

/// The one session that there is, until it is asked for.
pub(crate) struct Provided<S>(pub(crate) Option<S>);

impl<S: Session> Source for Provided<S> {
    type Session = S;
    const RECONNECTS: bool = false;

    fn session(&mut self, _waits: bool) -> Option<S> {
        self.0.take()
    }
}

/// The failure of every request after a connection of the caller's is gone.
const GONE: &str = "the connection that was handed over has ended: connect again with a new one";

/// A codec of another server's, or no session. A configuration makes neither.
pub(crate) fn unsupported() -> Error {
    ConfigError::System("this configuration leads to no connection".to_string()).into()
}

/// The table protocol over a session.
pub(crate) struct SqlTable<S> {
    pub(crate) codec: Codec,
    session: S,
    /// Whether this connection is through its checks.
    checked: bool,
    /// Whether it is told what was freed.
    listens: bool,
    /// How long the first connect took.
    pace: Pace,
}

impl<S: Session> SqlTable<S> {
    /// One that is opened when it is used.
    fn new(codec: Codec, session: S) -> Self {
        Self { codec, session, checked: false, listens: false, pace: Pace::default() }
    }

    /// Opens and checks the session, so that what cannot work is told at once. Each step may take
    /// `budget`.
    pub(crate) fn open(codec: Codec, session: S, budget: Duration) -> Result<Self, Error> {
        let mut table = Self::new(codec, session);
        table.ready(|| budget)?;
        Ok(table)
    }

    /// The same, and finds out whether the way to the server is fast enough for the leases; their timing then.
    pub(crate) fn open_at_pace(
        codec: Codec,
        session: S,
        timing: Timing,
    ) -> Result<(Self, Timing), Error> {
        let budget = timing.connect();
        let mut table = Self::open(codec, session, budget)?;
        loop {
            match table.pace.judge(timing) {
                Judgment::Fits(timing) => {
                    if table.session.is_patient() {
                        table.session.close();
                    }
                    return Ok((table, timing));
                }
                Judgment::CheckAgain => table.check(|| budget)?,
                Judgment::ConnectAgain => {
                    table.checked = false;
                    table.ready(|| budget)?;
                }
                Judgment::TooSlow(error) => return Err(ConfigError::from(error).into()),
            }
        }
    }

    /// Opens the session and lets it through its checks, if it is not open.
    fn ready(&mut self, limit: impl Fn() -> Duration) -> Result<(), ConnectError> {
        if self.checked && self.session.is_open() {
            return Ok(());
        }
        (self.checked, self.listens) = (false, false);
        let began = Now::now();
        in_time(limit(), |left| self.session.open(left))?;
        self.pace.connected(began.elapsed());
        self.check(limit)
    }

    /// Lets the open session through its checks.
    fn check(&mut self, limit: impl Fn() -> Duration) -> Result<(), ConnectError> {
        let mut setup = self.codec.setup().handed(self.session.handed());
        let mut answer = None;
        self.pace.checks();
        loop {
            match setup.step(answer.take()) {
                Step::Run(statement) => {
                    let sent = Now::now();
                    answer = Some(self.run(&statement, limit()));
                    self.pace.answered(sent.elapsed());
                }
                Step::Ready => {
                    self.codec = setup.codec().clone();
                    self.checked = true;
                    return Ok(());
                }
                Step::Failed(failure) => return Err(ConnectError::Failed(failure)),
                Step::Refuse(refusal) => return Err(ConnectError::UnsafeServer(refusal)),
            }
        }
    }

    fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        in_time(limit, |left| self.session.run(statement, left))
    }
}

/// Begins a step only while time is left for it.
fn in_time<T, E: From<Failure>>(
    left: Duration,
    step: impl FnOnce(Duration) -> Result<T, E>,
) -> Result<T, E> {
    if left.is_zero() {
        return Err(Failure::NotSent("no answer in time".to_string()).into());
    }
    step(left)
}

impl<S: Session> Backend for SqlTable<S> {
    fn execute(
        &mut self,
        request: &Request,
        now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        let until = clock::now().after(budget);
        let limit = || until.since(clock::now());
        // Whatever goes wrong before the request's own statement: the request was not sent.
        self.ready(limit).map_err(ConnectError::before_request)?;
        if let (Request::Subscribe { up_to }, true) = (request, self.listens) {
            return self.session.news(*up_to).map(|all| Reply::News(News::Notified(all)));
        }
        let mut exchange = self.codec.encode(request, now);
        while let Some(statement) = exchange.poll_statement() {
            match self.run(&statement, limit()) {
                Ok(rows) => exchange.handle_rows(rows),
                Err(failure) => exchange.handle_failure(failure),
            }
        }
        let reply = exchange.finish();
        self.checked &= !reply.as_ref().is_err_and(Failure::is_read_only);
        self.listens |= reply == Ok(Reply::News(News::Begun));
        reply
    }

    fn cut(&self) -> Option<Cut> {
        self.session.cut()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::sqlite::Sqlite;
    use super::*;
    use lock_core::sql::sqlite;
    use lock_core::{Claim, LockName, Mode, Owner, SessionName, TableName};

    const BUDGET: Duration = Duration::from_secs(5);

    /// Not open for long, and everything takes its time.
    struct Slow {
        session: Sqlite,
        pause: Duration,
        /// How long each step was given.
        steps: Vec<Duration>,
    }

    impl Slow {
        fn step(&mut self, budget: Duration) {
            self.steps.push(budget);
            std::thread::sleep(self.pause.min(budget));
        }
    }

    impl Session for Slow {
        fn is_open(&self) -> bool {
            self.pause.is_zero()
        }

        fn open(&mut self, budget: Duration) -> Result<(), ConnectError> {
            self.step(budget);
            self.session.open(budget)
        }

        fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure> {
            self.step(budget);
            self.session.run(statement, budget)
        }
    }

    fn slow(pause: Duration) -> (SqlTable<Slow>, Result<Reply, Failure>) {
        let folder = tempfile::tempdir().expect("a folder");
        let session = Sqlite::open(&folder.path().join("locks.db")).expect("opened");
        let session = Slow { session, pause: Duration::ZERO, steps: Vec::new() };
        let codec = sqlite::codec(TableName::default(), "boot");
        let mut table = SqlTable::open(codec, session, BUDGET).expect("fit for locks");
        table.session.pause = pause;
        table.session.steps.clear();
        let name = LockName::new("a").expect("good");
        let claims = vec![Claim { name, owner: Owner::new(1), mode: Mode::Exclusive }];
        let request = Request::Acquire {
            session: SessionName::default(),
            claims,
            ttl: Duration::from_secs(30),
            min_uptime: Duration::ZERO,
            label: "h".into(),
        };
        let reply = table.execute(&request, Instant::from_nanos(1_000_000), BUDGET);
        (table, reply)
    }

    #[test]
    fn all_steps_of_an_exchange_have_one_limit() {
        let pause = Duration::from_millis(100);
        let (table, reply) = slow(pause);
        assert!(matches!(reply, Ok(Reply::Outcomes(_))), "{reply:?}");
        let steps = &table.session.steps;
        assert!(steps.len() > 3, "{steps:?}");
        for pair in steps.windows(2) {
            assert!(pair[1] + pause <= pair[0], "{steps:?}");
        }
    }

    #[test]
    fn no_step_begins_after_the_limit() {
        let (table, reply) = slow(BUDGET / 2);
        assert!(matches!(reply, Err(Failure::NotSent(_))), "{reply:?}");
        assert!(table.session.steps.len() <= 2, "{:?}", table.session.steps);
    }
}

//! Requests over one connection, step by step: what a driver does with a database, without doing it.
//!
//! ```text
//!   flow.begin(request, now, is_open)
//!   while let Some(step) = flow.poll_step() {
//!       Open           -> open the connection           flow.opened(result, took)
//!       Run(statement) -> run it                        flow.ran(result, took)
//!       Await(up_to)   -> wait for notifications        flow.notified(result)
//!   }
//!   flow.finish()
//! ```
//!
//! A table's connection is opened by whatever request finds it closed, and goes through its checks before that request.
//! An advisory lock's connection is a session: only [`Request::Open`] opens it, and a failure whose consequences are
//! unknown ends it.

mod running;
mod step;

use super::advisory::{self, Codec as AdvisoryCodec};
use super::{Codec, ConnectError, Exchange, Rows, Setup, Statement, Step};
use crate::error::{Failure, TimingError};
use crate::outcome::{News, Notification, Outcome, Reply};
use crate::pace::{Judgment, Pace};
use crate::request::{Request, SessionName};
use crate::time::Instant;
use crate::timing::Timing;
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use running::Running;
pub use step::{Do, Made};

/// The state of one connection, and of the request that is executed on it.
#[derive(Clone, Debug)]
pub struct Flow {
    place: Place,
    /// The connection is through its checks.
    ready: bool,
    /// The times of the first connect.
    pace: Pace,
    /// The last connection that was made.
    made: Made,
    stage: Stage,
    /// The next statement, until the driver takes it.
    statement: Option<Statement>,
}

#[derive(Clone, Debug)]
enum Place {
    Table {
        codec: Arc<Codec>,
        /// The server notifies this connection of freed locks.
        listens: bool,
    },
    Advisory {
        codec: Arc<AdvisoryCodec>,
        ttl: Duration,
        /// The server's view of the connection, while it may have locks.
        session: Option<advisory::Session>,
        /// Of the names that were used on the connection.
        digests: advisory::Digests,
    },
}

/// A request that waits for the connection; [`None`] if only the connection is wanted.
type Pending = Option<(Request, Instant)>;

#[derive(Clone, Debug)]
enum Stage {
    Idle,
    Open(Pending),
    Check(Checks, Pending),
    Run(Running),
    /// The first connection was opened some time ago. Its lease counts from now, so it must show now that it is still
    /// the same.
    Confirm(advisory::Exchange),
    Await(Duration),
    Done(Result<Reply, Failure>),
    Refused(ConnectError),
}

#[derive(Clone, Debug)]
enum Checks {
    Table(Box<Setup>),
    Advisory(advisory::Setup),
}

impl Flow {
    /// The flow of a connection to a lock table.
    pub fn table(codec: Codec) -> Self {
        Self::new(Place::Table { codec: Arc::new(codec), listens: false })
    }

    /// The flow of a connection that has advisory locks. The server ends it once it has been idle for `ttl`.
    pub fn advisory(codec: AdvisoryCodec, ttl: Duration) -> Self {
        Self::new(Place::Advisory {
            codec: Arc::new(codec),
            ttl,
            session: None,
            digests: advisory::Digests::default(),
        })
    }

    /// The flow of another connection to the same place: to the very table that this one found.
    #[must_use]
    pub fn another(&self) -> Self {
        match &self.place {
            Place::Table { codec, .. } => Self::table((**codec).clone()),
            Place::Advisory { codec, ttl, .. } => Self::advisory((**codec).clone(), *ttl),
        }
    }

    fn new(place: Place) -> Self {
        Self {
            place,
            ready: false,
            pace: Pace::default(),
            made: Made::default(),
            stage: Stage::Idle,
            statement: None,
        }
    }

    // -- what the driver asks -----------------------------------------------------------------------

    /// The codec of the lock table, if it is one.
    pub fn codec(&self) -> Option<&Codec> {
        match &self.place {
            Place::Table { codec, .. } => Some(codec),
            Place::Advisory { .. } => None,
        }
    }

    /// The connection as the server knows it, while it may have advisory locks.
    pub fn session(&self) -> Option<&advisory::Session> {
        match &self.place {
            Place::Advisory { session, .. } => session.as_ref(),
            Place::Table { .. } => None,
        }
    }

    /// True if the server's notifications arrive on such connections, as far as the last one showed.
    pub fn is_notified(&self) -> bool {
        self.codec().is_some_and(|codec| !codec.carries())
    }

    /// Whether the locks live by the connection.
    pub fn is_session(&self) -> bool {
        matches!(self.place, Place::Advisory { .. })
    }

    /// Whether a lock is a row that an open transaction of the connection has locked.
    pub fn locks_rows(&self) -> bool {
        matches!(&self.place, Place::Advisory { codec, .. } if codec.create_table().is_some())
    }

    /// Whether the connection serves further requests. If not, it must be closed, and all locks that live by it go with it.
    /// `is_open`: as far as the driver knows.
    pub fn lasts(&self, is_open: bool) -> bool {
        !self.is_session() || (self.ready && is_open)
    }

    // -- what the driver does -----------------------------------------------------------------------

    /// Wants the connection, and no request on it yet.
    pub fn connect(&mut self, is_open: bool) {
        self.statement = None;
        if self.ready && is_open {
            self.stage = Stage::Done(Ok(Reply::Opened(SessionName::default())));
        } else {
            self.open(None);
        }
    }

    /// Begins a request that was made at `now`.
    pub fn begin(&mut self, request: Request, now: Instant, is_open: bool) {
        // A driver that panicked may have left one.
        self.statement = None;
        let is_there = self.ready && is_open;
        match (&mut self.place, &request) {
            (Place::Advisory { codec, ttl: known, session, .. }, Request::Open { ttl, .. }) => {
                *known = *ttl;
                match session {
                    Some(session) if is_there => {
                        let keep_alive = Request::KeepAlive { session: SessionName::default() };
                        let exchange = codec.encode(&keep_alive, session);
                        self.statement = exchange.poll_statement();
                        self.stage = Stage::Confirm(exchange);
                    }
                    _ => self.open(Some((request, now))),
                }
            }
            _ if is_there => self.act(request, now),
            (Place::Table { .. }, _) => self.open(Some((request, now))),
            (Place::Advisory { .. }, _) => {
                let ended = Failure::NotSent("the connection has ended".to_string());
                self.stage = Stage::Done(Err(ended));
            }
        }
    }

    /// The next step; [`None`] when the request is done.
    pub fn poll_step(&mut self) -> Option<Do> {
        match self.stage {
            Stage::Open(_) => Some(Do::Open),
            Stage::Await(up_to) => Some(Do::Await(up_to)),
            _ => self.statement.take().map(Do::Run),
        }
    }

    /// The connection was opened, or not, after so long.
    pub fn opened(&mut self, result: Result<Made, ConnectError>, took: Duration) {
        let Stage::Open(pending) = core::mem::replace(&mut self.stage, Stage::Idle) else { return };
        match result {
            Ok(made) => {
                self.made = made;
                self.pace.connected(took);
                self.check(pending);
            }
            Err(error) => self.stage = Stage::Refused(error),
        }
    }

    /// The statement was run, or not, after so long.
    pub fn ran(&mut self, result: Result<Rows, Failure>, took: Duration) {
        if let Stage::Run(running) = &mut self.stage {
            running.handle(result);
            return self.run();
        }
        match core::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Check(checks, pending) => {
                self.pace.answered(took);
                self.checked(checks, pending, Some(result));
            }
            Stage::Confirm(exchange) => {
                let mut running = Running::Advisory(exchange);
                running.handle(result);
                self.confirmed(running);
            }
            stage => self.stage = stage,
        }
    }

    /// Notifications came, or none within the time, or the connection broke.
    pub fn notified(&mut self, result: Result<Vec<Notification>, Failure>) {
        self.stage = Stage::Done(result.map(|all| Reply::News(News::Notified(all))));
    }

    /// The reply to the request.
    ///
    /// # Errors
    /// The request's fate. Whatever goes wrong before its own statement: it was not sent.
    pub fn finish(&mut self) -> Result<Reply, Failure> {
        let (reply, connects) = match core::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Run(running) => (running.finish(), true),
            Stage::Done(reply) => (reply, true),
            Stage::Refused(error) => (Err(error.before_request()), false),
            _ => (Err(Failure::Unknown("the answer is incomplete".to_string())), true),
        };
        let is_lost = !connects || matches!(reply, Err(Failure::Unknown(_) | Failure::NotSent(_)));
        match &mut self.place {
            Place::Table { listens, .. } => {
                self.ready &= !reply.as_ref().is_err_and(Failure::is_read_only);
                *listens |= reply == Ok(Reply::News(News::Begun));
            }
            Place::Advisory { .. } if is_lost => self.forget(),
            Place::Advisory { .. } => {}
        }
        reply
    }

    /// What came of [`connect`](Self::connect).
    ///
    /// # Errors
    /// Why there is no connection.
    pub fn connected(&mut self) -> Result<(), ConnectError> {
        match core::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Done(Ok(_)) => Ok(()),
            Stage::Refused(error) => Err(error),
            _ => Err(ConnectError::Failed(Failure::NotSent("it is not connected".to_string()))),
        }
    }

    /// The timing that the way to the server allows, as the first connect showed. [`None`]: go on with
    /// [`poll_step`](Self::poll_step) and ask again, for it may have been a stall.
    ///
    /// # Errors
    /// The way to the server is too slow for these leases.
    pub fn judge(&mut self, timing: Timing) -> Result<Option<Timing>, TimingError> {
        match self.pace.judge(timing) {
            Judgment::Fits(timing) => return Ok(Some(timing)),
            Judgment::TooSlow(error) => return Err(error),
            Judgment::CheckAgain if !self.is_session() => {
                self.pace.checks();
                self.check(None);
            }
            // A connection goes through the checks of advisory locks once only.
            Judgment::CheckAgain | Judgment::ConnectAgain => self.open(None),
        }
        Ok(None)
    }

    // -- parts --------------------------------------------------------------------------------------

    fn open(&mut self, pending: Pending) {
        self.forget();
        self.stage = Stage::Open(pending);
    }

    /// The connection is none any more.
    fn forget(&mut self) {
        self.ready = false;
        match &mut self.place {
            Place::Table { listens, .. } => *listens = false,
            Place::Advisory { session, .. } => *session = None,
        }
    }

    fn check(&mut self, pending: Pending) {
        let Made { id, brought, shared } = self.made;
        let checks = match &self.place {
            Place::Table { codec, .. } => {
                let setup = codec.setup().handed(brought).shared(shared);
                Checks::Table(Box::new(setup.numbered(id)))
            }
            Place::Advisory { codec, ttl, .. } => {
                Checks::Advisory(codec.setup(*ttl, id).handed(brought))
            }
        };
        self.checked(checks, pending, None);
    }

    fn checked(
        &mut self,
        mut checks: Checks,
        pending: Pending,
        answer: Option<Result<Rows, Failure>>,
    ) {
        let step = match &mut checks {
            Checks::Table(setup) => setup.step(answer),
            Checks::Advisory(setup) => setup.step(answer),
        };
        match step {
            Step::Run(statement) => {
                self.statement = Some(statement);
                self.stage = Stage::Check(checks, pending);
            }
            Step::Ready => {
                match (&mut self.place, checks) {
                    (Place::Table { codec, .. }, Checks::Table(setup)) => {
                        *codec = Arc::new(setup.codec().clone());
                    }
                    (Place::Advisory { session, .. }, Checks::Advisory(setup)) => {
                        *session = setup.session().cloned();
                    }
                    _ => {}
                }
                self.ready = true;
                match pending {
                    Some((request, now)) => self.act(request, now),
                    None => self.stage = Stage::Done(Ok(Reply::Opened(SessionName::default()))),
                }
            }
            Step::Failed(failure) => self.stage = Stage::Refused(ConnectError::Failed(failure)),
            Step::Refuse(refusal) => {
                self.stage = Stage::Refused(ConnectError::UnsafeServer(refusal));
            }
        }
    }

    /// The connection is there: the request's own statements.
    fn act(&mut self, request: Request, now: Instant) {
        if let (Place::Table { listens, .. }, Request::Unsubscribe) = (&mut self.place, &request) {
            *listens = false;
        }
        match (&mut self.place, &request) {
            (Place::Table { listens: true, .. }, Request::Subscribe { up_to }) => {
                self.stage = Stage::Await(*up_to);
            }
            (Place::Table { codec, .. }, _) => {
                let exchange = Exchange::new(codec.clone(), request, now);
                self.stage = Stage::Run(Running::Table(exchange));
                self.run();
            }
            (Place::Advisory { .. }, Request::Open { .. }) => {
                self.stage = Stage::Done(Ok(Reply::Opened(SessionName::default())));
            }
            (Place::Advisory { codec, session: Some(session), digests, .. }, _) => {
                let mut exchange = advisory::Exchange::new(codec.clone(), request, session.clone());
                exchange.know(digests);
                self.stage = Stage::Run(Running::Advisory(exchange));
                self.run();
            }
            (Place::Advisory { .. }, _) => {
                let ended = Failure::NotSent("the connection has ended".to_string());
                self.stage = Stage::Done(Err(ended));
            }
        }
    }

    /// Goes on with the exchange that is under way.
    fn run(&mut self) {
        if let Stage::Run(running) = &self.stage {
            self.statement = running.poll_statement();
        }
    }

    fn confirmed(&mut self, running: Running) {
        let opened = Reply::Opened(SessionName::default());
        if running.finish() == Ok(Reply::one(Outcome::Done)) {
            self.stage = Stage::Done(Ok(opened));
        } else {
            // The request to open it needs no more than the connection.
            self.open(None);
        }
    }
}

//! The advisory protocol over sessions: a connection is the lease, and is never replaced in silence.

use super::{Backend, Backends, GONE, Session, Source, left};
use lock_core::config::{ConfigError, Error};
use lock_core::sql::advisory::{Codec, Session as Opened};
use lock_core::sql::{ConnectError, Step};
use lock_core::{Failure, Instant, Judgment, Outcome, Pace, Reply, Request, SessionName, Timing};
use std::task::Context;
use std::time::{Duration, Instant as Now};

/// Connections to one server, as many as there are lanes.
pub(crate) struct Connections<S: Source> {
    codec: Codec,
    source: S,
    /// The one that was opened to see whether locks are safe there.
    first: Option<SqlAdvisory<S::Session>>,
}

impl<S: Source> Connections<S> {
    /// Opens and checks a connection, so that what cannot work is told at once, also that the way to it is too
    /// slow for the leases; and the timing for those.
    pub(crate) async fn open(
        codec: Codec,
        mut source: S,
        ttl: Duration,
        timing: Timing,
    ) -> Result<(Self, Timing), Error> {
        let mut first = SqlAdvisory::new(codec.clone(), source.session());
        let budget = if S::RECONNECTS { timing.connect() } else { timing.request() };
        let timing = loop {
            first.enter(ttl, || budget).await?;
            match first.pace.judge(timing) {
                _ if !S::RECONNECTS => break timing,
                Judgment::Fits(timing) => break timing,
                // There are enough statements in the checks, which cannot be gone through twice.
                Judgment::CheckAgain | Judgment::ConnectAgain => {}
                Judgment::TooSlow(error) => return Err(ConfigError::from(error).into()),
            }
        };
        Ok((Self { codec, source, first: Some(first) }, timing))
    }
}

impl<S: Source> Backends for Connections<S> {
    type Backend = SqlAdvisory<S::Session>;

    fn backend(&mut self) -> Option<Self::Backend> {
        let another = || SqlAdvisory::new(self.codec.clone(), self.source.session());
        Some(self.first.take().unwrap_or_else(another))
    }
}

/// One connection.
pub(crate) struct SqlAdvisory<S> {
    codec: Codec,
    /// There is none where the one that was handed over is gone.
    session: Option<S>,
    /// What the server knows it as, since it went through its checks. Without, it has no locks.
    opened: Option<Opened>,
    /// How long the first connect took.
    pace: Pace,
}

impl<S: Session> SqlAdvisory<S> {
    fn new(codec: Codec, session: Option<S>) -> Self {
        Self { codec, session, opened: None, pace: Pace::default() }
    }

    /// Connects anew, and lets the connection through its checks.
    async fn enter(
        &mut self,
        ttl: Duration,
        limit: impl Fn() -> Duration + Send,
    ) -> Result<(), ConnectError> {
        self.opened = None;
        let Some(session) = &mut self.session else {
            return Err(ConnectError::NoWay(GONE.to_string()));
        };
        let began = Now::now();
        session.open(limit()).await?;
        self.pace.connected(began.elapsed());
        let mut setup = self.codec.setup(ttl, session.id()).handed(session.handed());
        let mut answer = None;
        loop {
            match setup.step(answer.take()) {
                Step::Run(statement) => {
                    let sent = Now::now();
                    answer = Some(session.run(&statement, limit()).await);
                    self.pace.answered(sent.elapsed());
                }
                Step::Ready => {
                    self.opened = setup.session().cloned();
                    return Ok(());
                }
                Step::Failed(failure) => return Err(ConnectError::Failed(failure)),
                Step::Refuse(refusal) => return Err(ConnectError::UnsafeServer(refusal)),
            }
        }
    }

    async fn carry_out(
        &mut self,
        request: &Request,
        limit: impl Fn() -> Duration + Send,
    ) -> Result<Reply, Failure> {
        let (Some(session), Some(opened)) = (&mut self.session, &self.opened) else {
            return Err(Failure::NotSent("the connection has ended".to_string()));
        };
        if !session.is_open() {
            return Err(Failure::NotSent("the connection has ended".to_string()));
        }
        let mut exchange = self.codec.encode(request, opened);
        while let Some(statement) = exchange.poll_statement() {
            match session.run(&statement, limit()).await {
                Ok(rows) => exchange.handle_rows(rows),
                Err(failure) => exchange.handle_failure(failure),
            }
        }
        exchange.finish()
    }

    /// What it has goes with it.
    fn discard(&mut self) {
        self.opened = None;
        if let Some(session) = &mut self.session {
            session.discard();
        }
    }
}

impl<S: Session> Backend for SqlAdvisory<S> {
    async fn execute(
        &mut self,
        request: &Request,
        _now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        let limit = left(tokio::time::Instant::now() + budget);
        let Request::Open { ttl, .. } = request else {
            let reply = self.carry_out(request, limit).await;
            if matches!(reply, Err(Failure::Unknown(_) | Failure::NotSent(_))) {
                self.discard();
            }
            return reply;
        };
        // The first one was opened some time ago. Its lease counts from now, so it must show now that
        // it is still what it was.
        let keep_alive = Request::KeepAlive { session: SessionName::default() };
        let alive = Ok(Reply::one(Outcome::Done));
        let fresh = self.opened.is_some() && self.carry_out(&keep_alive, limit).await == alive;
        if !fresh && let Err(error) = self.enter(*ttl, limit).await {
            self.discard();
            return Err(error.before_request());
        }
        Ok(Reply::Opened(SessionName::default()))
    }

    fn lasts(&self) -> bool {
        self.opened.is_some() && self.session.as_ref().is_some_and(Session::is_open)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        if let Some(session) = &mut self.session {
            session.poll_idle(cx);
        }
    }

    async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }

    async fn cut(self) {
        if let Some(session) = self.session {
            session.cut().await;
        }
    }
}

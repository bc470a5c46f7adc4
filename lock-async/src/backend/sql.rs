//! Connections to a database: each executes requests as its flow says.

use super::{Backend, Backends, Session, Source, left};
use lock_core::sql::{ConnectError, Do, Flow, Made, Rows, Statement};
use lock_core::{Failure, Instant, Reached, Reply, Request, Timing};
use lock_shared::check::Check;
use lock_shared::pin::Pins;
use lock_shared::plan::gone;
use std::task::Context;
use std::time::{Duration, Instant as Now};

/// Connections to one database, as many as the engine asks for.
pub(crate) struct Connections<S: Source> {
    flow: Flow,
    source: S,
    /// The connection that is opened to see whether locks are safe there, until the engine has it.
    first: Option<Sql<S::Session>>,
    timing: Timing,
    check: Check,
    pins: Pins,
}

impl<S: Source> Connections<S> {
    /// Connections by `flow`, none of them open yet. The first connect tells `check` and `pins` what it finds.
    pub(crate) fn new(flow: Flow, mut source: S, timing: Timing, check: Check, pins: Pins) -> Self {
        let first = Some(Sql::new(flow.another(), source.session()));
        Self { flow, source, first, timing, check, pins }
    }
}

impl<S: Source> Backends for Connections<S> {
    type Backend = Sql<S::Session>;

    async fn connect(&mut self) -> Result<Reached, ConnectError> {
        let Some(first) = &mut self.first else { return Err(gone()) };
        let timing = self.timing;
        let budget = if S::RECONNECTS { timing.connect() } else { timing.request() };
        first.connect(budget).await?;
        let timing = loop {
            if !S::RECONNECTS {
                break timing;
            }
            match first.flow.judge(timing)? {
                Some(timing) => break timing,
                None => first.go(move || budget).await,
            }
            first.flow.connected()?;
        };
        self.flow = first.flow.another();
        self.pins.reached(&self.flow, first.session.as_ref().and_then(Session::file));
        self.check.reached(timing);
        Ok(Reached::new(timing, S::TELLS && self.flow.is_notified()))
    }

    fn backend(&mut self) -> Option<Self::Backend> {
        let another = || Sql::new(self.flow.another(), self.source.session());
        Some(self.first.take().unwrap_or_else(another))
    }
}

/// One connection.
pub(crate) struct Sql<S> {
    pub(super) flow: Flow,
    /// [`None`] if the caller's connection has ended, and there is no other.
    pub(super) session: Option<S>,
}

impl<S: Session> Sql<S> {
    /// A connection that is opened when it is used.
    pub(crate) fn new(flow: Flow, session: Option<S>) -> Self {
        Self { flow, session }
    }

    /// Opens the connection and lets it through its checks, if it is not open. Each step may take `budget`.
    pub(crate) async fn connect(&mut self, budget: Duration) -> Result<(), ConnectError> {
        self.flow.connect(self.is_open());
        self.go(move || budget).await;
        self.flow.connected()
    }

    /// Does what the flow says, until there is nothing more.
    async fn go(&mut self, limit: impl Fn() -> Duration + Send) {
        while let Some(step) = self.flow.poll_step() {
            let began = Now::now();
            match step {
                Do::Open => {
                    let made = self.make(limit()).await;
                    self.flow.opened(made, began.elapsed());
                }
                Do::Run(statement) => {
                    let rows = self.run(&statement, limit()).await;
                    self.flow.ran(rows, began.elapsed());
                }
                Do::Await(up_to) => {
                    let news = match &mut self.session {
                        Some(session) => session.news(up_to).await,
                        None => Err(Failure::NotSent("the connection has ended".to_string())),
                    };
                    self.flow.notified(news);
                }
            }
        }
    }

    async fn make(&mut self, limit: Duration) -> Result<Made, ConnectError> {
        let session = self.session.as_mut().ok_or_else(gone)?;
        // In a box, because it is large and rare: each request's future would be as large, and is moved.
        Box::pin(session.open(limit)).await?;
        Ok(Made { id: session.id(), brought: session.handed(), shared: session.shared() })
    }

    pub(super) async fn run(
        &mut self,
        statement: &Statement,
        limit: Duration,
    ) -> Result<Rows, Failure> {
        match &mut self.session {
            Some(session) => session.run(statement, limit).await,
            None => Err(Failure::NotSent("no connection to the server is open".to_string())),
        }
    }

    fn is_open(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_open)
    }
}

impl<S: Session> Backend for Sql<S> {
    async fn execute(
        &mut self,
        request: Request,
        now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        let limit = left(tokio::time::Instant::now() + budget);
        self.flow.begin(request, now, self.is_open());
        self.go(limit).await;
        self.flow.finish()
    }

    fn lasts(&self) -> bool {
        self.flow.lasts(self.is_open())
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
        // A statement about a table ends by itself. A wait for an advisory lock would go on.
        if let (Some(session), Some(waiting)) = (self.session, self.flow.session()) {
            session.cut(waiting).await;
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::super::sqlite::Sqlite;
    use super::*;
    use lock_core::sql::sqlite;
    use lock_core::{Claim, LockName, Owner, SessionName, TableName, TimingError};

    const BUDGET: Duration = Duration::from_secs(5);

    /// Not open for long, and everything takes its time.
    struct Slow {
        session: Sqlite,
        pause: Duration,
        /// How long each step was given.
        steps: Vec<Duration>,
    }

    impl Slow {
        async fn step(&mut self, limit: Duration) {
            self.steps.push(limit);
            tokio::time::sleep(self.pause.min(limit)).await;
        }
    }

    impl Session for Slow {
        fn is_open(&self) -> bool {
            self.pause.is_zero()
        }

        async fn open(&mut self, limit: Duration) -> Result<(), ConnectError> {
            self.step(limit).await;
            self.session.open(limit).await
        }

        async fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
            self.step(limit).await;
            self.session.run(statement, BUDGET).await
        }

        async fn close(self) {
            self.session.close().await;
        }
    }

    /// As if there could be another one.
    struct Again(Option<Slow>);

    impl Source for Again {
        type Session = Slow;

        fn session(&mut self) -> Option<Slow> {
            self.0.take()
        }
    }

    /// The engine gives each request the time that this way takes.
    #[tokio::test]
    async fn what_the_first_connect_measured_is_handed_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let session = Sqlite::open(folder.path().join("locks.db")).await.expect("opened");
        let pause = Duration::from_millis(80);
        let source = Again(Some(Slow { session, pause, steps: Vec::new() }));
        let flow = Flow::table(sqlite::codec(TableName::default(), "boot"));
        let (check, pins) = (Check::default(), Pins::default());
        let mut connections =
            Connections::new(flow, source, Timing::default(), check.clone(), pins);
        let reached = connections.connect().await.expect("fit for locks");
        assert_ne!(reached.timing, Timing::default());
        assert_eq!(check.timing(Timing::default().ttl()), Ok(reached.timing));
        // There is more time for this than for a request.
        let first = connections.first.expect("there").session.expect("there");
        assert!(first.steps[0] > Timing::default().request(), "{:?}", first.steps);
        // It counts as much as a statement, and two more follow when it is made anew.
        let many = u32::try_from(first.steps.len()).expect("few") + 2;
        let too_short = reached.timing.lasting(Duration::from_secs(1));
        let Err(TimingError::TooSlow { needs, .. }) = too_short else { panic!("{too_short:?}") };
        assert!(needs >= pause * many, "{needs:?} for {many} steps");
    }

    /// There is no other that could be faster.
    #[tokio::test]
    async fn a_connection_of_the_callers_has_the_time_of_a_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let session = Sqlite::open(folder.path().join("locks.db")).await.expect("opened");
        let source = crate::backend::Provided(Some(Slow {
            session,
            pause: Duration::ZERO,
            steps: Vec::new(),
        }));
        let flow = Flow::table(sqlite::codec(TableName::default(), "boot"));
        let (check, pins) = (Check::default(), Pins::default());
        let mut connections = Connections::new(flow, source, Timing::default(), check, pins);
        connections.connect().await.expect("fit for locks");
        let first = connections.first.expect("there").session.expect("there");
        let longest = first.steps.iter().max().expect("its checks");
        assert!(*longest <= Timing::default().request(), "{:?}", first.steps);
    }

    #[tokio::test]
    async fn all_steps_of_an_exchange_have_one_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let session = Sqlite::open(folder.path().join("locks.db")).await.expect("opened");
        let session = Slow { session, pause: Duration::ZERO, steps: Vec::new() };
        let codec = sqlite::codec(TableName::default(), "boot");
        let mut table = Sql::new(Flow::table(codec), Some(session));
        table.connect(BUDGET).await.expect("fit for locks");
        let pause = Duration::from_millis(100);
        let session = table.session.as_mut().expect("there");
        session.pause = pause;
        session.steps.clear();
        let claims = vec![Claim::new(LockName::new("a").expect("good"), Owner::new(1))];
        let request = Request::Acquire {
            session: SessionName::default(),
            claims,
            ttl: Duration::from_secs(30),
            min_uptime: Duration::ZERO,
            label: "h".into(),
        };
        let reply = table.execute(request, Instant::from_nanos(1_000_000), BUDGET).await;
        assert!(matches!(reply, Ok(Reply::Outcomes(_))), "{reply:?}");
        let steps = table.session.expect("there").steps;
        assert!(steps.len() > 3, "{steps:?}");
        for pair in steps.windows(2) {
            assert!(pair[1] + pause <= pair[0], "{steps:?}");
        }
    }
}

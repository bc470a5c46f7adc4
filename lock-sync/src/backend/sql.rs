//! Connections to a database: each executes requests as its flow says.

use super::{Backend, Backends, Cut, Session, Source, in_time};
use crate::clock;
use lock_core::sql::{ConnectError, Do, Flow, Made, Rows, Statement};
use lock_core::{Failure, Instant, Reached, Reply, Request, Timing};
use lock_shared::check::Check;
use lock_shared::pin::Pins;
use lock_shared::plan::gone;
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
        let first = Some(Sql::new(flow.another(), source.session(false)));
        Self { flow, source, first, timing, check, pins }
    }
}

impl<S: Source> Backends for Connections<S> {
    fn are_many(&self) -> bool {
        self.flow.is_session()
    }

    fn connect(&mut self) -> Result<Reached, ConnectError> {
        let Some(first) = &mut self.first else { return Err(gone()) };
        let timing = self.timing;
        let budget = if S::RECONNECTS { timing.connect() } else { timing.request() };
        first.connect(budget)?;
        let timing = loop {
            if !S::RECONNECTS {
                break timing;
            }
            match first.flow.judge(timing)? {
                Some(timing) => break timing,
                None => first.go(|| budget),
            }
            first.flow.connected()?;
        };
        let file = first.session.as_ref().and_then(Session::file);
        if first.session.as_ref().is_some_and(Session::is_patient) {
            first.close();
        }
        self.flow = first.flow.another();
        self.pins.reached(&self.flow, file);
        self.check.reached(timing);
        Ok(Reached::new(timing, S::TELLS && self.flow.is_notified()))
    }

    fn backend(&mut self, waits: bool) -> Option<Box<dyn Backend>> {
        let first = if waits { None } else { self.first.take() };
        let connection =
            first.unwrap_or_else(|| Sql::new(self.flow.another(), self.source.session(waits)));
        Some(Box::new(connection))
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
    pub(crate) fn connect(&mut self, budget: Duration) -> Result<(), ConnectError> {
        self.flow.connect(self.is_open());
        self.go(|| budget);
        self.flow.connected()
    }

    /// Does what the flow says, until there is nothing more.
    fn go(&mut self, limit: impl Fn() -> Duration) {
        while let Some(step) = self.flow.poll_step() {
            let began = Now::now();
            match step {
                Do::Open => {
                    let made = self.make(limit());
                    self.flow.opened(made, began.elapsed());
                }
                Do::Run(statement) => {
                    let rows = self.run(&statement, limit());
                    self.flow.ran(rows, began.elapsed());
                }
                Do::Await(up_to) => {
                    let ended = || Err(Failure::NotSent("the connection has ended".to_string()));
                    let news = self.session.as_mut().map_or_else(ended, |one| one.news(up_to));
                    self.flow.notified(news);
                }
            }
        }
    }

    fn make(&mut self, limit: Duration) -> Result<Made, ConnectError> {
        let session = self.session.as_mut().ok_or_else(gone)?;
        in_time(limit, |left| session.open(left))?;
        Ok(Made { id: session.id(), brought: session.handed(), shared: false })
    }

    pub(super) fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        let Some(session) = &mut self.session else {
            return Err(Failure::NotSent("no connection to the server is open".to_string()));
        };
        in_time(limit, |left| session.run(statement, left))
    }

    fn is_open(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_open)
    }

    /// Locks that live by the connection go with it.
    fn close(&mut self) {
        if let Some(session) = &mut self.session {
            session.close();
        }
    }
}

impl<S: Session> Backend for Sql<S> {
    fn execute(
        &mut self,
        request: Request,
        now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        let until = clock::now().after(budget);
        self.flow.begin(request, now, self.is_open());
        self.go(|| until.since(clock::now()));
        self.flow.finish()
    }

    fn lasts(&self) -> bool {
        self.flow.lasts(self.is_open())
    }

    fn cut(&self) -> Option<Cut> {
        self.session.as_ref()?.cut(self.flow.session())
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

    fn slow(pause: Duration) -> (Sql<Slow>, Result<Reply, Failure>) {
        let folder = tempfile::tempdir().expect("a folder");
        let session = Sqlite::open(&folder.path().join("locks.db")).expect("opened");
        let session = Slow { session, pause: Duration::ZERO, steps: Vec::new() };
        let codec = sqlite::codec(TableName::default(), "boot");
        let mut table = Sql::new(Flow::table(codec), Some(session));
        table.connect(BUDGET).expect("fit for locks");
        let session = table.session.as_mut().expect("there");
        session.pause = pause;
        session.steps.clear();
        let name = LockName::new("a").expect("good");
        let claims = vec![Claim::new(name, Owner::new(1))];
        let request = Request::Acquire {
            session: SessionName::default(),
            claims,
            ttl: Duration::from_secs(30),
            min_uptime: Duration::ZERO,
            label: "h".into(),
        };
        let reply = table.execute(request, Instant::from_nanos(1_000_000), BUDGET);
        (table, reply)
    }

    /// The limits of such a connection are for the first connect.
    struct Patient(Option<Sqlite>);

    impl Session for Patient {
        fn is_open(&self) -> bool {
            self.0.is_some()
        }

        fn open(&mut self, budget: Duration) -> Result<(), ConnectError> {
            self.0.as_mut().expect("there").open(budget)
        }

        fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure> {
            self.0.as_mut().expect("there").run(statement, budget)
        }

        fn close(&mut self) {
            self.0 = None;
        }

        fn is_patient(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_connection_with_the_limits_of_the_first_connect_serves_no_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let session = Sqlite::open(&folder.path().join("locks.db")).expect("opened");
        let flow = Flow::table(sqlite::codec(TableName::default(), "boot"));
        let source = crate::backend::Provided(Some(Patient(Some(session))));
        let (check, pins) = (Check::default(), Pins::default());
        let mut connections = Connections::new(flow, source, Timing::default(), check, pins);
        connections.connect().expect("fit for locks");
        assert!(!connections.first.expect("there").is_open());
    }

    /// The engine gives each request the time that this way takes.
    #[test]
    fn what_the_first_connect_measured_is_handed_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let session = Sqlite::open(&folder.path().join("locks.db")).expect("opened");
        let pause = Duration::from_millis(80);
        let source = Again(Some(Slow { session, pause, steps: Vec::new() }));
        let flow = Flow::table(sqlite::codec(TableName::default(), "boot"));
        let (check, pins) = (Check::default(), Pins::default());
        let mut connections =
            Connections::new(flow, source, Timing::default(), check.clone(), pins);
        let reached = connections.connect().expect("fit for locks");
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
    #[test]
    fn a_connection_of_the_callers_has_the_time_of_a_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let session = Sqlite::open(&folder.path().join("locks.db")).expect("opened");
        let source = crate::backend::Provided(Some(Slow {
            session,
            pause: Duration::ZERO,
            steps: Vec::new(),
        }));
        let flow = Flow::table(sqlite::codec(TableName::default(), "boot"));
        let (check, pins) = (Check::default(), Pins::default());
        let mut connections = Connections::new(flow, source, Timing::default(), check, pins);
        connections.connect().expect("fit for locks");
        let first = connections.first.expect("there").session.expect("there");
        let longest = first.steps.iter().max().expect("its checks");
        assert!(*longest <= Timing::default().request(), "{:?}", first.steps);
    }

    /// As if there could be another one.
    struct Again(Option<Slow>);

    impl Source for Again {
        type Session = Slow;

        fn session(&mut self, _waits: bool) -> Option<Slow> {
            self.0.take()
        }
    }

    #[test]
    fn all_steps_of_an_exchange_have_one_limit() {
        let pause = Duration::from_millis(100);
        let (table, reply) = slow(pause);
        assert!(matches!(reply, Ok(Reply::Outcomes(_))), "{reply:?}");
        let steps = table.session.expect("there").steps;
        assert!(steps.len() > 3, "{steps:?}");
        for pair in steps.windows(2) {
            assert!(pair[1] + pause <= pair[0], "{steps:?}");
        }
    }

    #[test]
    fn no_step_begins_after_the_limit() {
        let (table, reply) = slow(BUDGET / 2);
        assert!(matches!(reply, Err(Failure::NotSent(_))), "{reply:?}");
        let steps = table.session.expect("there").steps;
        assert!(steps.len() <= 2, "{steps:?}");
    }
}

//! Sessions on an SQLite file.

use super::Session;
use lock_core::Failure;
use lock_core::config::{ConfigError, Error};
use lock_core::sql::{ConnectError, Rows, Statement};
use lock_shared::factory::{Fault, failed, late, panicked};
use lock_shared::sqlite::{File, reopen};
use rusqlite::Connection;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// An SQLite connection, on a thread of its own, because a renewal must not queue behind the program's other
/// work on the runtime's blocking threads. It is opened again only if its name leads to another file.
pub(crate) struct Sqlite {
    jobs: mpsc::Sender<Job>,
    /// A channel that ends with the thread, when the file is closed.
    closed: oneshot::Receiver<Infallible>,
    /// True while the name leads to the file that was opened, and no I/O error was met that may be one of the connection.
    is_open: bool,
    /// True if it can be opened again.
    reopens: bool,
    /// True if no lasting log may be created beside the file.
    no_log: bool,
    /// The file's name.
    named: PathBuf,
}

/// Opens the file that has the name now; [`None`] if there is nothing to open again.
type Reopen = Option<Box<dyn Fn() -> Result<File, ConnectError> + Send>>;

/// A job for the thread. Nobody waits for its answer after the time limit.
enum Job {
    Run {
        statement: Statement,
        until: Instant,
        answer: oneshot::Sender<Result<Rows, Failure>>,
    },
    /// Opens the file that has the name now.
    Open {
        answer: oneshot::Sender<Result<(), ConnectError>>,
    },
}

impl Sqlite {
    /// Opens the file, creating it if its folder exists.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, ConfigError> {
        Self::at(path, true).await
    }

    /// Opens the file if it is there.
    pub(crate) async fn look(path: PathBuf) -> Result<Self, ConfigError> {
        Self::at(path, false).await
    }

    async fn at(path: PathBuf, creates: bool) -> Result<Self, ConfigError> {
        Self::start(move || {
            let file = File::open(&path, creates)?;
            let path = file.named().to_path_buf();
            let again: Reopen = Some(Box::new(move || reopen(Some(&path), creates)));
            Ok((file, again))
        })
        .await
    }

    /// Uses a connection of the caller's, and the file of its database `schema`.
    pub(crate) async fn with(connection: Connection, schema: &str) -> Result<Self, ConfigError> {
        let schema = schema.to_string();
        Self::start(move || Ok((File::with(connection, &schema)?, None))).await
    }

    /// Uses a connection that `make` makes, and another one when its file is deleted or replaced.
    pub(crate) async fn made<E: Into<Fault>>(
        make: impl Fn() -> Result<Connection, E> + Send + 'static,
        schema: &str,
        limit: Duration,
    ) -> Result<Self, Error> {
        let schema = schema.to_string();
        let open = move || -> Result<File, ConnectError> {
            let made = catch_unwind(AssertUnwindSafe(&make)).map_err(|_| panicked())?;
            let file = File::with(made.map_err(failed)?, &schema);
            file.map_err(|error| Failure::NotSent(error.to_string()).into())
        };
        let starting = Self::start(move || {
            let (file, again): (File, Reopen) = (open()?, Some(Box::new(open)));
            Ok((file, again))
        });
        tokio::time::timeout(limit, starting).await.unwrap_or_else(|_| Err(late().into()))
    }

    /// True if no lasting log may be created beside the file.
    pub(crate) fn no_log(&self) -> bool {
        self.no_log
    }

    /// Starts the thread. It ends when the session is dropped.
    async fn start<E: From<ConfigError> + Send + 'static>(
        connect: impl FnOnce() -> Result<(File, Reopen), E> + Send + 'static,
    ) -> Result<Self, E> {
        let (jobs, todo) = mpsc::channel();
        let (tell, told) = oneshot::channel();
        let (alive, closed) = oneshot::channel();
        let thread = move || {
            let _alive = alive;
            match connect() {
                Ok((file, again)) => {
                    let known = (file.no_log(), file.named().to_path_buf(), again.is_some());
                    if tell.send(Ok(known)).is_ok() {
                        work(file, &again, &todo);
                    }
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        };
        std::thread::Builder::new()
            .name("lock sqlite".to_string())
            .spawn(thread)
            .map_err(|error| ConfigError::System(format!("it cannot start a thread: {error}")))?;
        let (no_log, named, reopens) = told
            .await
            .unwrap_or_else(|_| Err(ConfigError::System("SQLite panicked".to_string()).into()))?;
        Ok(Self { jobs, closed, is_open: true, reopens, no_log, named })
    }

    async fn ask<T, E: From<Failure>>(
        &self,
        limit: Duration,
        job: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Job,
    ) -> Result<T, E> {
        let (answer, told) = oneshot::channel();
        let panicked = || "SQLite panicked".to_string();
        self.jobs.send(job(answer)).map_err(|_| Failure::NotSent(panicked()))?;
        match tokio::time::timeout(limit, told).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(Failure::Unknown(panicked()).into())),
            Err(_) => Err(Failure::Unknown("no answer in time".to_string()).into()),
        }
    }
}

impl Session for Sqlite {
    fn is_open(&self) -> bool {
        self.is_open
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.named.clone())
    }

    async fn open(&mut self, limit: Duration) -> Result<(), ConnectError> {
        if !self.is_open {
            self.ask(limit, |answer| Job::Open { answer }).await?;
            self.is_open = true;
        }
        Ok(())
    }

    /// A statement that has not answered in time still runs before later ones.
    async fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        // SQLite gives up first, which proves that the statement did nothing.
        let until = Instant::now() + limit * 9 / 10;
        let statement = statement.clone();
        let result = self.ask(limit, |answer| Job::Run { statement, until, answer }).await;
        let fails = matches!(result, Err(Failure::Unknown(_))) && self.reopens;
        self.is_open &= !fails && !matches!(result, Err(Failure::Gone(_)));
        result
    }

    async fn close(self) {
        let Self { jobs, closed, .. } = self;
        drop(jobs);
        // A hanging statement has had its time.
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }
}

/// The thread's loop. A deleted or replaced file fails each statement until it is opened again, because
/// nobody may have waited for the first such answer.
fn work(mut file: File, again: &Reopen, todo: &mpsc::Receiver<Job>) {
    while let Ok(job) = todo.recv() {
        match job {
            Job::Run { answer, .. } if answer.is_closed() => {}
            Job::Run { statement, until, answer } => {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    file.run(&statement, until.saturating_duration_since(Instant::now()))
                }));
                let panicked = |_| Err(Failure::Unknown("SQLite panicked".to_string()));
                let _ = answer.send(result.unwrap_or_else(panicked));
            }
            Job::Open { answer } => {
                let opened = again.as_ref().map_or_else(|| reopen(None, false), |again| again());
                let opened = opened.map(|opened| file = opened);
                let _ = answer.send(opened);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_function_that_hangs_is_not_waited_for() {
        let (_never, hangs) = mpsc::channel::<()>();
        let make = move || {
            let _ = hangs.recv();
            Err::<Connection, _>("too late")
        };
        let made = Sqlite::made(make, "main", Duration::from_millis(20));
        let made = tokio::time::timeout(Duration::from_secs(60), made).await;
        assert_eq!(made.expect("bounded in time").map(drop), Err(late().into()));
    }

    /// The caller has gone on by then, and may have released what the statement would take.
    #[test]
    fn a_statement_that_nobody_waits_for_any_more_is_not_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::open(&folder.path().join("locks.db"), true).expect("opened");
        let (jobs, todo) = mpsc::channel();
        let until = Instant::now() + Duration::from_secs(60);
        let ask = |text: &str| {
            let (answer, told) = oneshot::channel();
            let statement = Statement::new(text, []);
            jobs.send(Job::Run { statement, until, answer }).expect("it is taken");
            told
        };
        drop(ask("CREATE TABLE late (a)"));
        let mut tables = ask("SELECT name FROM sqlite_schema");
        drop(jobs);
        work(file, &None, &todo);
        assert_eq!(tables.try_recv().expect("answered"), Ok(Rows::new()));
    }

    /// What SQLite gives up was certainly not done. If its caller gave up first, nobody would know.
    #[tokio::test]
    async fn sqlite_gives_up_before_its_caller() {
        let (jobs, todo) = mpsc::channel();
        let (_alive, closed) = oneshot::channel();
        let named = PathBuf::from("/locks.db");
        let mut session =
            Sqlite { jobs, closed, is_open: true, reopens: true, no_log: false, named };
        let limit = Duration::from_secs(600);
        let statement = Statement::new("SELECT 1", []);
        let began = Instant::now();
        let (rows, given) = tokio::join!(session.run(&statement, limit), async {
            let Ok(Job::Run { until, answer, .. }) = todo.recv() else { panic!("a statement") };
            let given = until.duration_since(began);
            answer.send(Ok(Rows::new())).expect("it is waited for");
            given
        });
        rows.expect("answered");
        assert!(given > limit / 2 && given < limit / 20 * 19, "{given:?}");
    }

    /// The thread is busy with another statement, and comes to this one when nobody waits for it any more.
    #[tokio::test]
    async fn a_statement_without_an_answer_may_have_been_executed() {
        let (jobs, todo) = mpsc::channel();
        let (alive, closed) = oneshot::channel();
        let named = PathBuf::from("/locks.db");
        let mut session =
            Sqlite { jobs, closed, is_open: true, reopens: true, no_log: false, named };
        let statement = Statement::new("SELECT 1", []);
        let late = session.run(&statement, Duration::from_millis(1)).await;
        assert!(matches!(late, Err(Failure::Unknown(_))), "{late:?}");
        assert!(!session.is_open(), "it is opened again");
        drop((todo, alive));
        let ended = session.run(&statement, Duration::from_secs(60)).await;
        assert!(matches!(ended, Err(Failure::NotSent(_))), "{ended:?}");
    }
}

//! A driver of one's own over a client library: locks in a PostgreSQL table over a connection of `sqlx`. (For a pool of
//! sqlx's there is `Locks::with_sqlx`.)
//!
//! ```text
//! cargo run -p lock-async --example sqlx -- postgres://localhost/app
//! ```
//!
//! A driver needs a function that runs a statement and returns its rows, and a loop. A real driver adds a clock that
//! counts suspended time, and a subscription to notifications instead of polling.

use lock_core::sql::postgres::{self, connect_failed, session_options, statement_failed};
use lock_core::sql::{Codec, Rows, Statement, Step, Value};
use lock_core::{
    Config, Engine, Event, Failure, Instant, LockName, Reply, Request, TableName, Timing, table,
};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Column, Connection, Row, TypeInfo};
use std::error::Error;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("which server? postgres://HOST/DATABASE")?;
    let timing = Timing::new(TTL)?;
    let mut seed = [0; 16];
    getrandom::fill(&mut seed)?; // owners are made from it
    let mut driver = Driver {
        engine: Engine::new(
            table::capabilities("an example", false),
            Config::new(timing, u128::from_ne_bytes(seed)),
        ),
        codec: postgres::codec(TableName::default()),
        server: url.parse()?,
        timing,
        connection: None,
        began: std::time::Instant::now(),
    };
    driver.run(&LockName::new("example")?).await
}

struct Driver {
    engine: Engine,
    codec: Codec,
    server: PgConnectOptions,
    timing: Timing,
    connection: Option<PgConnection>,
    began: std::time::Instant,
}

impl Driver {
    /// Acquires the lock, works, and releases it.
    async fn run(&mut self, name: &LockName) -> Result<(), Box<dyn Error>> {
        let id = self.engine.acquire(self.now(), name.clone(), true, None);
        let mut work_ends = Instant::from_nanos(u64::MAX);
        loop {
            while let Some(dispatch) = self.engine.poll_request(self.now()) {
                let budget = dispatch.deadline.since(self.now());
                let late = |_| Err(Failure::Unknown("no answer in time".to_string()));
                let reply = tokio::time::timeout(budget, self.execute(&dispatch.request));
                let reply = reply.await.unwrap_or_else(late);
                self.engine.handle_reply(self.now(), dispatch.id, reply);
            }
            while let Some(event) = self.engine.poll_event() {
                match event {
                    Event::Granted { fence, .. } => {
                        println!("granted: {}", fence.get() > 0);
                        work_ends = self.now().after(Duration::from_millis(300));
                    }
                    Event::Lost { reason, .. } => return Err(reason.to_string().into()),
                    Event::NotAcquired { why, .. } => return Err(format!("{why:?}").into()),
                    Event::Released { .. } => {
                        println!("released");
                        return Ok(());
                    }
                    other => println!("{other:?}"), // who has it, and what went wrong
                }
            }
            let due = self.engine.poll_timeout().map_or(work_ends, |due| due.min(work_ends));
            tokio::time::sleep(due.since(self.now())).await;
            if self.now() >= work_ends {
                work_ends = Instant::from_nanos(u64::MAX);
                self.engine.release(self.now(), id);
            }
            self.engine.handle_timeout(self.now());
        }
    }

    async fn execute(&mut self, command: &Request) -> Result<Reply, Failure> {
        // The connection is put back only if no answer can be left in it.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut exchange = self.codec.encode(command, self.now());
        while let Some(statement) = exchange.poll_statement() {
            match run(&mut connection, &statement).await {
                Ok(rows) => exchange.handle_rows(rows),
                Err(failure) => exchange.handle_failure(failure),
            }
        }
        let reply = exchange.finish();
        self.connection = (!matches!(reply, Err(Failure::Unknown(_)))).then_some(connection);
        reply
    }

    /// Checks the server and the table, and creates the table if it is missing.
    async fn connect(&self) -> Result<PgConnection, Failure> {
        let settings = session_options(self.timing.request());
        let settings = settings.split("-c ").filter_map(|setting| setting.trim().split_once('='));
        let options = self.server.clone().options(settings);
        let connection = PgConnection::connect_with(&options).await;
        let mut connection = connection.map_err(|error| failed(&error, connect_failed))?;
        let (mut setup, mut answer) = (self.codec.setup(), None);
        loop {
            match setup.step(answer.take()) {
                Step::Run(statement) => answer = Some(run(&mut connection, &statement).await),
                Step::Ready => return Ok(connection),
                Step::Failed(failure) => return Err(failure),
                Step::Refuse(why) => {
                    return Err(Failure::refused(why.to_string()));
                }
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

async fn run(connection: &mut PgConnection, statement: &Statement) -> Result<Rows, Failure> {
    let mut query = sqlx::query(&statement.text);
    for param in &statement.params {
        query = match param {
            Value::Null => query.bind(None::<i64>),
            Value::Int(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Texts(texts) => query.bind(texts),
            Value::Ints(numbers) => query.bind(numbers),
        };
    }
    let rows =
        query.fetch_all(connection).await.map_err(|error| failed(&error, statement_failed))?;
    Ok(rows.iter().map(values).collect())
}

/// A value that is neither a `bigint` nor a text becomes NULL, which is an error in the core.
fn values(row: &PgRow) -> Vec<Value> {
    let value = |at: usize| match row.column(at).type_info().name() {
        "INT8" => row.try_get(at).map_or(Value::Null, Value::Int),
        "TEXT" => row.try_get(at).map_or(Value::Null, Value::Text),
        _ => Value::Null,
    };
    (0..row.len()).map(value).collect()
}

fn failed(error: &sqlx::Error, meaning: fn(Option<&str>, &str) -> Failure) -> Failure {
    let code = error.as_database_error().and_then(|answer| answer.code());
    meaning(code.as_deref(), &error.to_string())
}

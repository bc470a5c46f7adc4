//! Our own two statements, run by the raw driver with nothing around them, prepared where it can:
//! what is between this and the floor is the server's, and what is between this and a lock is ours.

use crate::floor::Kind;
use lock_core::sql::{
    Statement, Value, advisory, mysql as mysql_table, postgres as pg_table, sqlite,
};
use lock_core::{Claim, Instant, LockName, Owner, Request, SessionName, TableName};
use lock_tests::advisory::{LONG, open};
use lock_tests::consul::Consul;
use lock_tests::place::{client, mysql_client, with_settings};
use lock_tests::raw::Raw;
use mysql::prelude::Queryable;
use postgres::types::ToSql;
use std::time::Duration;

/// What is locked.
pub(crate) const NAME: &str = "bench";

/// A connection, and what takes and frees a lock on it.
pub(crate) enum Ours {
    /// To a file.
    Sqlite(rusqlite::Connection, [Statement; 2]),
    /// To PostgreSQL.
    Postgres(Box<postgres::Client>, [(postgres::Statement, Vec<Value>); 2]),
    /// To MySQL or MariaDB.
    Mysql(Box<mysql::Conn>, [(mysql::Statement, mysql::Params); 2]),
    /// To Consul.
    Consul(Box<Consul>, SessionName),
}

impl Ours {
    /// Connects, and makes a table unless the lock is the server's own.
    pub(crate) fn new(kind: &Kind, is_row: bool) -> Self {
        match kind {
            Kind::Sqlite(path) => {
                // A file of its own: in the floor's, its log would grow for both.
                let path = path.with_file_name("ours.db");
                let mut client = rusqlite::Connection::open(path).expect("a file");
                client.execute_batch("PRAGMA journal_mode = WAL").expect("set");
                let pair = rows(&mut client, &sqlite::codec(table(), "boot"), NAME);
                Self::Sqlite(client, pair)
            }
            Kind::Postgres(url) => {
                let mut client = client(&with_settings(url));
                let pair = if is_row {
                    rows(&mut client, &pg_table::codec(table()), NAME)
                } else {
                    let codec = advisory::postgres::codec(advisory::Key::default());
                    advisory_locks(&mut client, &codec, None, NAME)
                };
                let pair = pair.map(|statement| {
                    (client.prepare(&statement.text).expect("prepared"), statement.params)
                });
                Self::Postgres(Box::new(client), pair)
            }
            Kind::Mysql(url) => {
                let mut client = mysql_client(url);
                let pair = if is_row {
                    rows(&mut client, &mysql_table::codec(table()), NAME)
                } else {
                    let codec = advisory::mysql::codec(advisory::Prefix::default());
                    let id = client.connection_id();
                    advisory_locks(&mut client, &codec, Some(id), NAME)
                };
                let pair = pair.map(|statement| {
                    let prepared = client.prep(&*statement.text).expect("prepared");
                    let params: Vec<mysql::Value> = statement.params.iter().map(bound).collect();
                    (prepared, params.into())
                });
                Self::Mysql(Box::new(client), pair)
            }
            Kind::Consul(url) => {
                let consul = Consul::at(url);
                let session = consul.session(Duration::from_secs(600), Duration::from_secs(1));
                Self::Consul(Box::new(consul), session)
            }
        }
    }

    /// Takes the lock and frees it.
    pub(crate) fn pair(&mut self) {
        match self {
            Self::Sqlite(client, pair) => {
                for statement in pair {
                    let level = if statement.durable { "FULL" } else { "NORMAL" };
                    client.pragma_update(None, "synchronous", level).expect("set");
                    client.run(statement).expect("done");
                }
            }
            Self::Postgres(client, pair) => {
                for (prepared, params) in pair {
                    let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(any).collect();
                    assert_eq!(client.query(prepared, &params).expect("done").len(), 1);
                }
            }
            Self::Mysql(client, pair) => {
                for (prepared, params) in pair {
                    client.exec_drop(&*prepared, params.clone()).expect("done");
                }
            }
            Self::Consul(consul, session) => {
                consul.granted(session, NAME);
                assert!(consul.unlock(session, NAME));
            }
        }
    }
}

fn table() -> TableName {
    TableName::new("bench_ours").expect("a good name")
}

fn claim(name: &str) -> Claim {
    let name = LockName::new(name).expect("a good name");
    Claim::new(name, Owner::new(7))
}

/// What takes a row and frees it, in a table that is there afterwards.
pub(crate) fn rows(
    client: &mut dyn Raw,
    codec: &lock_core::sql::Codec,
    name: &str,
) -> [Statement; 2] {
    client.set_up(codec).expect("fit for locks");
    let acquire = Request::Acquire {
        session: SessionName::default(),
        claims: vec![claim(name)],
        ttl: LONG,
        min_uptime: Duration::ZERO,
        label: "h".into(),
    };
    let release = Request::Release {
        session: SessionName::default(),
        claims: vec![claim(name)],
        passed_over: None,
    };
    [acquire, release].map(|request| {
        codec.encode(&request, Instant::from_nanos(1)).poll_statement().expect("a statement")
    })
}

/// What takes a lock of the server's own and frees it, on this connection.
pub(crate) fn advisory_locks(
    client: &mut dyn Raw,
    codec: &advisory::Codec,
    id: Option<u32>,
    name: &str,
) -> [Statement; 2] {
    let session = open(client, codec, LONG, id).expect("fit for locks");
    advisory_lock(codec, &session, name)
}

/// The same in a session that is open.
pub(crate) fn advisory_lock(
    codec: &advisory::Codec,
    session: &advisory::Session,
    name: &str,
) -> [Statement; 2] {
    let acquire = Request::Acquire {
        session: SessionName::default(),
        claims: vec![claim(name)],
        ttl: Duration::from_secs(30),
        min_uptime: Duration::ZERO,
        label: "".into(),
    };
    [acquire, release(name)].map(|request| first(codec, session, &request))
}

/// The statements that wait for it in the server's queue, and free it.
pub(crate) fn queued_lock(
    codec: &advisory::Codec,
    session: &advisory::Session,
    name: &str,
) -> [Statement; 2] {
    let wait = Request::Wait {
        session: SessionName::default(),
        claim: claim(name),
        behind: None,
        since: 0,
        up_to: Duration::from_secs(30),
        min_uptime: Duration::ZERO,
    };
    [wait, release(name)].map(|request| first(codec, session, &request))
}

fn release(name: &str) -> Request {
    Request::Release {
        session: SessionName::default(),
        claims: vec![claim(name)],
        passed_over: None,
    }
}

fn first(codec: &advisory::Codec, session: &advisory::Session, request: &Request) -> Statement {
    codec.encode(request, session).poll_statement().expect("a statement")
}

pub(crate) fn any(value: &Value) -> &(dyn ToSql + Sync) {
    match value {
        Value::Int(number) => number,
        Value::Text(text) => text,
        Value::Texts(texts) => texts,
        Value::Ints(numbers) => numbers,
        Value::Null => panic!("no parameter is NULL"),
    }
}

pub(crate) fn bound(value: &Value) -> mysql::Value {
    match value {
        Value::Int(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Texts(_) | Value::Ints(_) | Value::Null => panic!("MySQL has no arrays"),
    }
}

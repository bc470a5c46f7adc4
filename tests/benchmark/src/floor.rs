//! The least that must happen at a server, by its raw driver.

use lock_tests::place::mysql_client;
use mysql::prelude::Queryable;
use std::path::PathBuf;

/// What a floor is measured with.
pub(crate) enum Kind {
    /// A file.
    Sqlite(PathBuf),
    /// A server's URL.
    Postgres(String),
    /// A server's URL.
    Mysql(String),
    /// A server's URL.
    Consul(String),
}

/// A connection made for this.
pub(crate) enum Floor {
    /// To a file.
    Sqlite(rusqlite::Connection),
    /// With its write and its round trip prepared.
    Postgres(Box<postgres::Client>, [postgres::Statement; 2]),
    /// To MySQL or MariaDB.
    Mysql(Box<mysql::Conn>),
    /// To Consul, and where it writes.
    Consul(ureq::Agent, String),
}

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS bench_floor (k INTEGER PRIMARY KEY, n BIGINT NOT NULL)";
const ROW: &str = "INSERT INTO bench_floor VALUES (1, 0)";
const WRITE: &str = "UPDATE bench_floor SET n = n + 1 WHERE k = 1";
const TRIP: &str = "SELECT 1";
/// As far as there is anything to go to: the file is looked at.
const FILE_TRIP: &str = "SELECT n FROM bench_floor WHERE k = 1";

impl Floor {
    /// Connects, and makes a row to write to.
    pub(crate) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Sqlite(path) => {
                let db = rusqlite::Connection::open(path).expect("a file");
                db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
                    .expect("set");
                db.execute_batch(&format!("{TABLE}; DELETE FROM bench_floor; {ROW}"))
                    .expect("made");
                Self::Sqlite(db)
            }
            Kind::Postgres(url) => {
                let mut client =
                    postgres::Client::connect(url, postgres::NoTls).expect("connected");
                let rows = format!("{TABLE}; TRUNCATE bench_floor; {ROW}");
                client.batch_execute(&rows).expect("made");
                let prepared = [WRITE, TRIP].map(|text| client.prepare(text).expect("prepared"));
                Self::Postgres(Box::new(client), prepared)
            }
            Kind::Mysql(url) => {
                let mut conn = mysql_client(url);
                for text in [TABLE, "DELETE FROM bench_floor", ROW] {
                    conn.query_drop(text).expect("made");
                }
                Self::Mysql(Box::new(conn))
            }
            Kind::Consul(url) => {
                Self::Consul(ureq::Agent::new_with_defaults(), format!("{url}/v1/kv/bench-floor"))
            }
        }
    }

    /// One row written and committed: what a table's lock must cost.
    pub(crate) fn write(&mut self) {
        match self {
            Self::Sqlite(db) => {
                assert_eq!(db.prepare_cached(WRITE).expect("good").execute([]), Ok(1))
            }
            Self::Postgres(client, [write, _]) => {
                assert_eq!(client.execute(write, &[]).expect("written"), 1)
            }
            Self::Mysql(conn) => conn.exec_drop(WRITE, ()).expect("written"),
            Self::Consul(agent, url) => {
                let answer =
                    agent.put(&*url).send("x").expect("written").into_body().read_to_string();
                assert_eq!(answer.expect("an answer").trim(), "true");
            }
        }
    }

    /// What a table's release must cost: a round trip, where it need not wait for the disk. MySQL
    /// does not let one choose.
    pub(crate) fn free(&mut self) {
        match self {
            Self::Sqlite(_) | Self::Postgres(..) => self.trip(),
            Self::Mysql(_) | Self::Consul(..) => self.write(),
        }
    }

    /// One round trip.
    pub(crate) fn trip(&mut self) {
        match self {
            Self::Sqlite(db) => {
                let mut trip = db.prepare_cached(FILE_TRIP).expect("good");
                trip.query_row([], |row| row.get::<_, i64>(0)).expect("one");
            }
            // A write is how one goes.
            Self::Consul(..) => self.write(),
            Self::Postgres(client, [_, trip]) => drop(client.query_one(trip, &[]).expect("one")),
            Self::Mysql(conn) => drop(conn.exec_first::<i64, _, _>(TRIP, ()).expect("one")),
        }
    }
}

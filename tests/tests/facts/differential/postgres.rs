//! PostgreSQL: the statements find a `clock_timestamp` of the test's own before the server's.

use crate::differential::body::{Real, claim_in_turn_by_an_earlier_time, play_many};
use lock_core::sql::{Codec, postgres as dialect};
use lock_core::{Instant, Reply, Request, TableName};
use lock_tests::place::{Place, client};
use lock_tests::raw::Raw;
use postgres::Client;

struct Postgres {
    client: Client,
    codec: Codec,
    url: String,
    schema: String,
}

impl Postgres {
    fn new() -> Self {
        let place = Place::postgres();
        let schema = place.table().replace("locks", "clock");
        let url = place.url().to_string();
        let mut own = client(&url);
        own.batch_execute(&format!(
            "CREATE SCHEMA {schema};
             CREATE FUNCTION {schema}.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
                 AS $$ SELECT pg_catalog.current_setting('test.now')::timestamptz $$"
        ))
        .expect("made");
        let codec = dialect::codec(TableName::new("locks").expect("good"));
        let mut table = Self { client: own, codec, url, schema };
        table.connect();
        table
    }

    /// A session that has the test's clock. `pg_catalog` comes first unless it is named.
    fn connect(&mut self) {
        self.client = client(&self.url);
        let path = format!("SET search_path = {}, pg_catalog", self.schema);
        self.client.batch_execute(&path).expect("set");
        self.set_clock(1);
        self.client.set_up(&self.codec).expect("fit for locks");
    }

    fn set_clock(&mut self, micros: u64) {
        assert!(micros < 1_000_000, "longer than scripts are");
        let now = format!("SET test.now = '1970-01-01 00:00:00.{micros:06}+00'");
        self.client.batch_execute(&now).expect("set");
    }
}

impl Real for Postgres {
    const FENCES_ARE_OURS: bool = true;
    const TELLS: bool = true;
    const START: u64 = 1_000;

    fn ask(&mut self, command: &Request, micros: u64) -> Reply {
        self.set_clock(micros);
        self.client.ask(&self.codec, command, Instant::from_nanos(0)).expect("answered")
    }

    /// A new session, which changes nothing.
    fn reboot(&mut self) -> bool {
        self.connect();
        false
    }

    fn empty(&mut self) {
        self.client.batch_execute("DELETE FROM locks").expect("emptied");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.schema));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn postgres_answers_as_the_table_should() {
    play_many(Postgres::new());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_claim_by_an_earlier_time_comes_in_turn_on_postgres() {
    claim_in_turn_by_an_earlier_time(Postgres::new());
}

//! MySQL and MariaDB: a session may be given a time that stands still.

use crate::differential::body::{Real, claim_in_turn_by_an_earlier_time, play_many};
use lock_core::sql::{Codec, mysql as dialect};
use lock_core::{Instant, Reply, Request, TableName};
use lock_tests::place::{Place, mysql_client};
use lock_tests::raw::Raw;
use mysql::Conn;
use mysql::prelude::Queryable;

struct Mysql {
    client: Conn,
    codec: Codec,
    place: Place,
}

impl Mysql {
    fn new(place: Place) -> Self {
        let codec = dialect::codec(TableName::new(place.table()).expect("good"));
        let mut table = Self { client: mysql_client(place.url()), codec, place };
        table.connect();
        table
    }

    fn connect(&mut self) {
        self.client = mysql_client(self.place.url());
        self.client.set_up(&self.codec).expect("fit for locks");
    }

    fn set_clock(&mut self, micros: u64) {
        // A little more, for a number that is not exact is rounded by one server and cut off by the other.
        let now = format!("SET timestamp = {}.{:06}2", micros / 1_000_000, micros % 1_000_000);
        self.client.query_drop(now).expect("set");
    }
}

impl Real for Mysql {
    const FENCES_ARE_OURS: bool = true;
    const ENDS_BY_ITS_TIME: bool = false;

    /// A timestamp of 0 would mean the true time.
    const START: u64 = 5_000_000;

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
        self.client.query_drop(format!("DELETE FROM {}", self.place.table())).expect("emptied");
    }
}

impl Drop for Mysql {
    fn drop(&mut self) {
        let _ = self.client.query_drop(format!("DROP TABLE {}", self.place.table()));
    }
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn mysql_answers_as_the_table_should() {
    play_many(Mysql::new(Place::mysql()));
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn mariadb_answers_as_the_table_should() {
    play_many(Mysql::new(Place::mariadb()));
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_claim_by_an_earlier_time_comes_in_turn_on_mysql() {
    claim_in_turn_by_an_earlier_time(Mysql::new(Place::mysql()));
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_claim_by_an_earlier_time_comes_in_turn_on_mariadb() {
    claim_in_turn_by_an_earlier_time(Mysql::new(Place::mariadb()));
}

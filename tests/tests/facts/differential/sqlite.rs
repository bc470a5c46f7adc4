//! SQLite: the time is a parameter.

use crate::differential::body::{Real, claim_in_turn_by_an_earlier_time, play_many};
use lock_core::sql::{Codec, sqlite};
use lock_core::{Instant, Reply, Request, TableName};
use lock_tests::raw::Raw;
use rusqlite::Connection;

struct Sqlite {
    db: Connection,
    boot: u32,
}

impl Sqlite {
    fn new() -> Self {
        let mut table = Self { db: Connection::open_in_memory().expect("a database"), boot: 0 };
        let codec = table.codec();
        table.db.set_up(&codec).expect("fit for locks");
        table
    }

    fn codec(&self) -> Codec {
        sqlite::codec(TableName::default(), &format!("boot-{}", self.boot))
    }
}

impl Real for Sqlite {
    const FENCES_ARE_OURS: bool = false;
    const START: u64 = 1_000;

    fn ask(&mut self, command: &Request, micros: u64) -> Reply {
        let codec = self.codec();
        self.db.ask(&codec, command, Instant::from_nanos(micros * 1_000)).expect("answered")
    }

    fn reboot(&mut self) -> bool {
        self.boot += 1;
        // A row of an earlier boot is left to nobody. The model knows no boots.
        self.db.execute("UPDATE locks SET queue = 0, served = 0", []).expect("nobody waits");
        true
    }

    fn empty(&mut self) {
        self.db.execute("DELETE FROM locks", []).expect("emptied");
    }
}

#[test]
fn sqlite_answers_as_the_table_should() {
    play_many(Sqlite::new());
}

#[test]
fn a_claim_by_an_earlier_time_comes_in_turn_on_sqlite() {
    claim_in_turn_by_an_earlier_time(Sqlite::new());
}

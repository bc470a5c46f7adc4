//! The cost of pins, counted: what it costs a claim that it waits for a pin, and what a pin costs.
//!
//! Each server is the test's own. `RUST_TEST_NOCAPTURE=1` shows the figures.

use lock_core::sql::Statement;
use lock_core::sql::postgres::inline;
use lock_core::{Instant, Request, SessionName};
use lock_tests::place::{Place, client, mysql_client};
use lock_tests::servers::Kind;
use lock_tests::table::{AnyTable, claims};
use lock_tests::user::User;
use mysql::prelude::Queryable;
use postgres::SimpleQueryMessage;
use std::collections::BTreeMap;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(60);
const ROUNDS: usize = 400;

/// PostgreSQL's counts of a statement.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    statements: u64,
    /// Pages that were looked at.
    buffers: u64,
    dirtied: u64,
    records: u64,
    /// Of records without images of whole pages, which the first change of a page after a checkpoint has.
    bytes: u64,
    images: u64,
}

impl Plan {
    /// Runs the statement, and adds what it took.
    fn add(&mut self, client: &mut postgres::Client, sql: &str) {
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, WAL, COSTS off, TIMING off) {sql}");
        let told = client.simple_query(&explain).expect("run");
        let lines: Vec<&str> = told
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        // The first line of each kind is the topmost node's, and contains what is below it.
        let numbers = |kind: &str| -> BTreeMap<String, u64> {
            let line = lines.iter().find_map(|line| line.trim().strip_prefix(kind));
            let pairs = line.unwrap_or_default().split(' ').filter_map(|word| word.split_once('='));
            let number = |text: &str| text.parse().expect("a number");
            pairs.map(|(key, value)| (key.to_string(), number(value))).collect()
        };
        let (buffers, wal) = (numbers("Buffers:"), numbers("WAL:"));
        let of = |all: &BTreeMap<String, u64>, key: &str| all.get(key).copied().unwrap_or(0);
        self.statements += 1;
        self.buffers += of(&buffers, "hit") + of(&buffers, "read");
        self.dirtied += of(&buffers, "dirtied");
        self.records += of(&wal, "records");
        match of(&wal, "fpi") {
            0 => self.bytes += of(&wal, "bytes"),
            images => self.images += images,
        }
    }

    fn show(&self, what: &str) {
        let each = |sum: u64| sum as f64 / self.statements as f64;
        println!(
            "{what}: {} statements, each {:.3} pages read, {:.3} dirtied, {:.3} WAL records, {:.1} bytes of WAL; {} page images besides",
            self.statements,
            each(self.buffers),
            each(self.dirtied),
            each(self.records),
            each(self.bytes),
            self.images
        );
    }
}

/// The statement that claims the lock.
fn claim(table: &AnyTable) -> Statement {
    let request = Request::Acquire {
        session: SessionName::default(),
        claims: claims(&["a"], 1),
        ttl: TTL,
        min_uptime: Duration::ZERO,
        label: "h".into(),
    };
    table.codec.encode(&request, Instant::from_nanos(0)).poll_statement().expect("a statement")
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_claim_on_postgres_costs_the_same_with_its_key_named() {
    let server = Kind::Postgres.server();
    const WORDS: &str = "name = excluded.name, ";
    let [mut plain, mut named, mut pin] = [Plan::default(); 3];
    let mut tables = [(); 2].map(|()| AnyTable::of(Place::at(server.url())));
    let mut user = client(server.url());
    // The first claim of a name inserts its row.
    for table in &mut tables {
        table.granted("a", 1, TTL).expect("free");
    }
    for _ in 0..ROUNDS {
        for (names_key, table) in tables.iter_mut().enumerate() {
            assert_eq!(table.release(&["a"], 1), [true]);
            let text = inline(&claim(table));
            assert!(text.contains(WORDS));
            match names_key {
                0 => plain.add(&mut user, &text.replace(WORDS, "")),
                _ => named.add(&mut user, &text),
            }
        }
        let [_, table] = &tables;
        let fence = User::of(&table.place)
            .does(&format!("SELECT fence FROM {} WHERE owner IS NOT NULL", table.place.table()));
        let fence = lock_core::Fence::new(fence[0] as u64);
        user.batch_execute("BEGIN").expect("begun");
        pin.add(&mut user, &table.pin("a", fence));
        user.batch_execute("COMMIT").expect("ended");
    }
    plain.show("a claim that does not name the key");
    named.show("a claim that names the key");
    pin.show("a pin");
    assert_eq!(named.records, plain.records, "{named:?}, {plain:?}");
    assert!(named.bytes.abs_diff(plain.bytes) * 100 <= plain.bytes, "{named:?}, {plain:?}");
    assert!(named.buffers.abs_diff(plain.buffers) * 50 <= plain.buffers, "{named:?}, {plain:?}");
}

/// Counters of MySQL and MariaDB, for the whole server.
const COUNTERS: [&str; 8] = [
    "Handler_read_key",
    "Handler_read_next",
    "Handler_update",
    "Handler_write",
    "Innodb_buffer_pool_read_requests",
    "Innodb_buffer_pool_write_requests",
    "Innodb_log_write_requests",
    "Innodb_os_log_written",
];

/// The place of `Innodb_log_write_requests`.
const LOG_WRITES: usize = 6;

type Counts = [i64; COUNTERS.len()];

struct Counters {
    conn: mysql::Conn,
    readings: i64,
}

impl Counters {
    fn read(&mut self) -> Counts {
        let all: Vec<(String, String)> = self.conn.query("SHOW GLOBAL STATUS").expect("asked");
        self.readings += 1;
        let all: BTreeMap<String, String> = all.into_iter().collect();
        COUNTERS.map(|name| all.get(name).and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Reads them once the server has done in the background what was left to do: old versions of rows are removed.
    fn quiet(&mut self) -> Counts {
        let mut last = self.read();
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(100));
            let next = self.read();
            if next[LOG_WRITES] == last[LOG_WRITES] {
                return next;
            }
            last = next;
        }
        last
    }

    /// Its cost, without that of reading the counters.
    fn of(&mut self, work: impl FnOnce()) -> Counts {
        let idle = self.quiet();
        let before = self.read();
        self.readings = 0;
        work();
        let after = self.quiet();
        // A reading counts itself, or the one before it.
        std::array::from_fn(|at| after[at] - before[at] - self.readings * (before[at] - idle[at]))
    }
}

#[derive(Default)]
struct Sum(Counts);

impl Sum {
    fn add(&mut self, more: Counts) {
        self.0.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }

    fn show(&self, what: &str) {
        let each = |sum: &i64| format!("{:.2}", *sum as f64 / ROUNDS as f64);
        let all: Vec<String> = COUNTERS
            .iter()
            .zip(&self.0)
            .map(|(name, sum)| format!("{name} {}", each(sum)))
            .collect();
        println!("{what}, each: {}", all.join(", "));
    }

    fn handlers(&self) -> [i64; 4] {
        std::array::from_fn(|at| (self.0[at] + ROUNDS as i64 / 2) / ROUNDS as i64)
    }
}

fn costs(kind: Kind) {
    const TURNS: usize = 8;
    let server = kind.server();
    let mut counters = Counters { conn: mysql_client(server.url()), readings: 0 };
    let mut tables = [(); 2].map(|()| AnyTable::of(Place::at(server.url())));
    tables[0].place.tamper("ALTER TABLE {table} DROP INDEX pin");
    for table in &mut tables {
        table.granted("a", 1, TTL).expect("free");
        assert_eq!(table.release(&["a"], 1), [true]);
    }
    let [mut without, mut with, mut plain, mut pinned] = [(); 4].map(|()| Sum::default());
    for _ in 0..TURNS {
        for (sum, table) in [&mut without, &mut with].into_iter().zip(&mut tables) {
            sum.add(counters.of(|| {
                for _ in 0..ROUNDS / TURNS {
                    assert!(table.granted("a", 1, TTL).is_some());
                    assert_eq!(table.release(&["a"], 1), [true]);
                }
            }));
        }
    }
    let [_, held] = &mut tables;
    let fence = held.granted("b", 1, TTL).expect("free");
    held.place.tamper("CREATE TABLE {table}_data (n INT)");
    held.place.tamper("INSERT INTO {table}_data VALUES (0)");
    let write = format!("UPDATE {}_data SET n = n + 1", held.place.table());
    let mut user = User::of(&held.place);
    for _ in 0..TURNS {
        for (sum, pin) in [(&mut plain, None), (&mut pinned, Some(held.pin("b", fence)))] {
            sum.add(counters.of(|| {
                for _ in 0..ROUNDS / TURNS {
                    user.begin();
                    if let Some(pin) = &pin {
                        assert_eq!(user.does(pin).len(), 1);
                    }
                    user.does(&write);
                    user.does("COMMIT");
                }
            }));
        }
    }
    without.show("a lock and an unlock without the index");
    with.show("a lock and an unlock with it");
    plain.show("a transaction of one write");
    pinned.show("the same with a pin");
    assert_eq!(with.handlers(), without.handlers(), "the same rows are read and written");
    let [plain, pinned] = [plain.handlers(), pinned.handlers()];
    assert_eq!(pinned[0], plain[0] + 2, "a pin looks a row up twice: {plain:?}, {pinned:?}");
    assert_eq!(pinned[2..], plain[2..], "and writes none");
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_claim_on_mysql_reads_and_writes_the_same_rows_with_the_index_for_pins() {
    costs(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_claim_on_mariadb_reads_and_writes_the_same_rows_with_the_index_for_pins() {
    costs(Kind::Mariadb);
}

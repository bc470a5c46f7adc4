//! What the table protocol does on a real SQLite, fact by fact.

mod batches;
mod plans;
mod setup;

use lock_core::sql::{Codec, Rows, Statement, Step, Value, sqlite};
use lock_core::{
    Claim, Fence, Holder, Instant, LockName, Outcome, Owner, Reply, Request, SessionName, TableName,
};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};
use std::time::Duration;

/// The leases' TTL in the tests, in µs.
const TTL: u64 = 1_000;

struct Table {
    db: Connection,
    codec: Codec,
    /// µs since the kernel started.
    now: u64,
}

fn bind(value: &Value) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Int(number) => ValueRef::Integer(*number),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Texts(_) | Value::Ints(_) => panic!("SQLite has no arrays"),
    })
}

fn run(db: &Connection, statement: &Statement) -> Result<Rows, rusqlite::Error> {
    let mut prepared = db.prepare_cached(&statement.text)?;
    let width = prepared.column_count();
    let mut rows = prepared.query(params_from_iter(statement.params.iter().map(bind)))?;
    let mut all = Rows::new();
    while let Some(row) = rows.next()? {
        let value = |column| match row.get_ref(column).expect("a column") {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Int(number),
            ValueRef::Text(text) => Value::Text(std::str::from_utf8(text).expect("UTF-8").into()),
            other => panic!("a surprise: {other:?}"),
        };
        all.push((0..width).map(value).collect());
    }
    Ok(all)
}

/// How the setup ends, and what it ran.
fn set_up(db: &Connection, codec: &Codec) -> (Step, Vec<String>) {
    let mut setup = codec.setup();
    let mut ran = Vec::new();
    let mut step = setup.step(None);
    while let Step::Run(statement) = step {
        let answer = run(db, &statement).map_err(|error| {
            let code = error.sqlite_error().map(|error| error.extended_code & 0xff);
            sqlite::statement_failed(code, &error.to_string())
        });
        ran.push(statement.text.to_string());
        step = setup.step(Some(answer));
    }
    (step, ran)
}

fn claim(name: &str, owner: u128) -> Claim {
    Claim::new(LockName::new(name).expect("a good name"), Owner::new(owner))
}

impl Table {
    fn new() -> Self {
        let db = Connection::open_in_memory().expect("a database");
        let codec = sqlite::codec(TableName::default(), "boot-1");
        assert_eq!(set_up(&db, &codec).0, Step::Ready);
        Self { db, codec, now: 5_000_000 }
    }

    fn ask(&self, command: &Request) -> Reply {
        let mut exchange = self.codec.encode(command, Instant::from_nanos(self.now * 1_000));
        while let Some(statement) = exchange.poll_statement() {
            exchange.handle_rows(run(&self.db, &statement).expect("it runs"));
        }
        exchange.finish().expect("rows as they should be")
    }

    fn acquire_all(&self, claims: &[Claim]) -> Vec<Outcome> {
        let (claims, ttl) = (claims.to_vec(), Duration::from_micros(TTL));
        let holder = format!("holder {}", claims[0].owner);
        let command = Request::Acquire {
            session: SessionName::default(),
            claims,
            ttl,
            min_uptime: Duration::ZERO,
            label: holder.into(),
        };
        let Reply::Outcomes(entries) = self.ask(&command) else { panic!("not its reply") };
        entries
    }

    /// The fence, or nothing.
    fn acquire(&self, name: &str, owner: u128) -> Option<Fence> {
        match self.acquire_all(&[claim(name, owner)])[..] {
            [Outcome::Granted(fence)] => Some(fence),
            _ => None,
        }
    }

    fn renew(&self, name: &str, owner: u128) -> bool {
        let ttl = Duration::from_micros(TTL);
        let reply = self.ask(&Request::Renew { claims: vec![claim(name, owner)], ttl });
        reply == Reply::Outcomes(vec![Outcome::Done])
    }

    fn release(&self, name: &str, owner: u128) -> bool {
        let reply = self.ask(&Request::Release {
            passed_over: None,
            session: SessionName::default(),
            claims: vec![claim(name, owner)],
        });
        reply != Reply::Outcomes(vec![Outcome::NotOwner])
    }

    /// All that the table has, as text.
    fn rows(&self) -> Vec<String> {
        let mut all = self.db.prepare("SELECT * FROM locks ORDER BY name").expect("it is there");
        let width = all.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((0..width).map(|n| format!("{:?}", row.get_ref(n))).collect::<Vec<_>>().join(" "))
        };
        all.query_map([], row).expect("rows").map(|row| row.expect("a row")).collect()
    }
}

#[test]
fn the_same_owner_acquires_again_with_the_same_fence_and_a_whole_lease() {
    let mut table = Table::new();
    let fence = table.acquire("a", 1).expect("free");
    table.now += TTL - 1;
    assert_eq!(table.acquire("a", 1), Some(fence));
    table.now += TTL - 1;
    assert_eq!(table.acquire("a", 2), None);
    // Also when it has expired, if nobody has taken it.
    table.now += TTL;
    assert_eq!(table.acquire("a", 1), Some(fence));
}

#[test]
fn a_lease_is_taken_at_its_expiry_and_not_a_microsecond_before() {
    let mut table = Table::new();
    let first = table.acquire("a", 1).expect("free");
    table.now += TTL - 1;
    assert_eq!(table.acquire("a", 2), None);
    table.now += 1;
    assert!(table.acquire("a", 2).expect("expired") > first);
    assert_eq!(table.acquire("a", 1), None, "now it is the other's");
}

#[test]
fn a_renewed_lease_lasts_from_the_renewal() {
    let mut table = Table::new();
    table.acquire("a", 1);
    table.now += TTL - 1;
    assert!(table.renew("a", 1));
    table.now += TTL - 1;
    assert_eq!(table.acquire("a", 2), None);
    table.now += 1;
    assert!(table.acquire("a", 2).is_some());
}

#[test]
fn a_renewal_with_an_earlier_clock_shortens_nothing() {
    let mut table = Table::new();
    table.acquire("a", 1);
    table.now -= 500;
    assert!(table.renew("a", 1));
    table.now += 500 + TTL - 1;
    assert_eq!(table.acquire("a", 2), None);
}

#[test]
fn a_claim_with_an_earlier_clock_shortens_nothing() {
    let mut table = Table::new();
    let fence = table.acquire("a", 1);
    table.now -= 500;
    assert_eq!(table.acquire("a", 1), fence);
    table.now += 500 + TTL - 1;
    assert_eq!(table.acquire("a", 2), None);
}

#[test]
fn who_is_not_the_owner_renews_and_releases_nothing() {
    let table = Table::new();
    table.acquire("a", 1);
    let before = table.rows();
    assert!(!table.renew("a", 2));
    assert!(!table.release("a", 2));
    assert!(!table.renew("b", 1));
    assert!(!table.release("b", 1));
    assert_eq!(table.rows(), before);
}

#[test]
fn an_expired_lease_is_not_renewed_though_nobody_took_it() {
    let mut table = Table::new();
    table.acquire("a", 1);
    table.now += TTL;
    let before = table.rows();
    assert!(!table.renew("a", 1));
    assert_eq!(table.rows(), before);
}

#[test]
fn a_released_lock_is_free_at_once_and_released_once() {
    let table = Table::new();
    table.acquire("a", 1);
    assert!(table.release("a", 1));
    assert!(!table.release("a", 1));
    assert!(!table.renew("a", 1));
    assert!(table.acquire("a", 2).is_some());
}

#[test]
fn a_released_row_keeps_its_fence() {
    let mut table = Table::new();
    table.db.execute("DELETE FROM locks", []).expect("deleted");
    // Far ahead of any clock, so that only the row's memory can make the next one greater.
    let mut last = table.acquire("a", 1).expect("free");
    let ahead = i64::try_from(last.get()).expect("it fits") * 2;
    table.db.execute("UPDATE locks SET fence = ?1", [ahead]).expect("updated");
    for owner in 2..10 {
        table.release("a", owner - 1);
        table.now += 1;
        let fence = table.acquire("a", owner).expect("free");
        assert!(fence > last);
        last = fence;
    }
    assert_eq!(last, Fence::new(ahead as u64 + 8), "one by one");
}

#[test]
fn a_first_fence_is_the_clock_in_microseconds() {
    let table = Table::new();
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let fence = Duration::from_micros(table.acquire("a", 1).expect("free").get());
    assert!(fence.abs_diff(clock.expect("after 1970")) < Duration::from_secs(60), "{fence:?}");
}

#[test]
fn names_are_bytes_and_come_back_as_they_went() {
    let table = Table::new();
    let names = [
        "foo",
        "Foo",
        "FOO",
        "foo ",
        " foo",
        "f\u{f3}o",
        "fo\u{301}o",
        "foo\u{a0}",
        "it's",
        "\"",
        "\"\"",
        "\\",
        "\\\\",
        "\\\"",
        "\\u0061",
        "a",
        "[1]",
        "{}",
        "null",
        "1",
        "1.0",
        "%",
        "_",
        "$1",
        "?1",
        "--",
        "a;b",
        "\u{1f512}",
        "\u{2028}",
        "\u{feff}",
        "ß",
        "ss",
        "İ",
        "i",
    ];
    for (owner, name) in (1..).zip(names) {
        assert!(table.acquire(name, owner).is_some(), "{name:?} is like an earlier one");
    }
    let mut stored = table.db.prepare("SELECT name FROM locks").expect("it is there");
    let stored = stored.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    let mut stored: Vec<_> = stored.map(|name| name.expect("text")).collect();
    let mut expected = names.map(String::from).to_vec();
    stored.sort();
    expected.sort();
    assert_eq!(stored, expected);
    for (owner, name) in (1..).zip(names) {
        assert_eq!(table.acquire(name, 1_000), None, "{name:?}");
        assert!(table.renew(name, owner), "{name:?}");
        assert!(table.release(name, owner), "{name:?}");
    }
}

#[test]
fn a_row_of_an_earlier_boot_is_free() {
    let mut table = Table::new();
    let first = table.acquire("a", 1).expect("free");
    table.codec = sqlite::codec(TableName::default(), "boot-2");
    table.now = 10;
    assert!(!table.renew("a", 1), "its holder is gone");
    let second = table.acquire("a", 2).expect("nobody has it");
    assert!(second > first);
    assert_eq!(table.acquire("a", 3), None);
    table.now += TTL;
    assert!(table.acquire("a", 3).is_some(), "by the new kernel's clock");
}

#[test]
fn two_connections_to_one_file_exclude_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let codec = sqlite::codec(TableName::default(), "boot-1");
    let open = || {
        let db = Connection::open(dir.path().join("locks.db")).expect("a database");
        assert_eq!(set_up(&db, &codec).0, Step::Ready);
        Table { db, codec: codec.clone(), now: 1 }
    };
    let (one, two) = (open(), open());
    assert!(one.acquire("a", 1).is_some());
    assert_eq!(two.acquire("a", 2), None);
    assert!(one.release("a", 1));
    assert!(two.acquire("a", 2).is_some());
    let journal: String =
        two.db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("one");
    let synchronous: i64 =
        two.db.query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("one");
    assert_eq!((&*journal, synchronous), ("wal", 2), "FULL");
}

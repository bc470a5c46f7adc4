//! What the table protocol does on a real PostgreSQL, fact by fact.

use lock_core::sql::postgres as dialect;
use lock_core::{Failure, Fence, Outcome, Request, SessionName, TableName};
use lock_tests::place::{Place, client};
use lock_tests::proxy::eventually;
use lock_tests::table::claims;
use postgres::Client;
use std::time::{Duration, SystemTime};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

pub(crate) type Table = lock_tests::table::Table<Client>;

pub(crate) fn new() -> Table {
    at(Place::postgres())
}

fn at(place: Place) -> Table {
    let codec = dialect::codec(TableName::new(place.table()).expect("good"));
    Table::new(client(place.url()), codec, place)
}

/// The same table on another connection.
pub(crate) fn other(table: &Table) -> Table {
    at(table.place.through(table.place.url()))
}

/// Whether a statement about the table waits for a row.
fn waits(observer: &mut Client, table: &str) -> bool {
    let sql = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{table}%'"
    );
    observer.query_one(&sql, &[]).expect("asked").get(0)
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_same_owner_acquires_again_with_the_same_fence() {
    let mut table = new();
    let fence = table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.granted("a", 1, LONG), Some(fence));
    assert_eq!(table.granted("a", 2, LONG), None);
    let mut expired = table.granted("b", 1, LONG);
    table.expire("b");
    assert_eq!(table.granted("b", 1, LONG), expired, "nobody took it meanwhile");
    table.expire("b");
    assert!(table.granted("b", 2, LONG) > expired.take());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_expired_lease_is_taken_and_not_renewed() {
    let mut table = new();
    let first = table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.granted("a", 2, LONG), None, "not before it expired");
    table.expire("a");
    assert_eq!(table.renew(&["a"], 1, LONG), [false], "though nobody took it");
    assert!(table.granted("a", 2, LONG).expect("expired") > first);
    assert_eq!(table.renew(&["a"], 1, LONG), [false]);
    assert_eq!(table.release(&["a"], 1), [false]);
    assert_eq!(table.granted("a", 3, LONG), None, "the second one's still");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_renewal_extends_and_never_shortens() {
    let mut table = new();
    table.granted("a", 1, LONG).expect("free");
    let left = |table: &mut Table| match &table.acquire(&["a"], 2, LONG)[..] {
        [Outcome::Busy(Some(holder))] => holder.expires_in,
        other => panic!("{other:?}"),
    };
    assert_eq!(table.renew(&["a"], 1, LONG * 60), [true]);
    assert!(left(&mut table) > LONG * 59);
    assert_eq!(table.renew(&["a"], 1, SHORT), [true]);
    assert!(left(&mut table) > LONG * 58);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_stranger_renews_and_releases_nothing() {
    let mut table = new();
    table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.renew(&["a"], 2, LONG), [false]);
    assert_eq!(table.release(&["a"], 2), [false]);
    assert_eq!(table.renew(&["a"], 1, LONG), [true]);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn fences_outlive_releases_and_purges() {
    let mut table = new();
    let first = table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.release(&["a"], 1), [true]);
    assert_eq!(table.release(&["a"], 1), [false], "once");
    let second = table.granted("a", 2, LONG).expect("released");
    assert!(second > first);
    table.place.tamper("DELETE FROM {table}");
    assert!(table.granted("a", 3, LONG).expect("gone") > second);
    table.place.tamper("UPDATE {table} SET owner = NULL, fence = 9000000000000000000");
    assert_eq!(
        table.granted("a", 4, LONG),
        Some(Fence::new(9_000_000_000_000_000_001)),
        "the clock is no limit"
    );
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_batch_grants_the_free_ones_and_names_the_holders_of_the_others() {
    let mut table = new();
    table.granted("b", 1, LONG).expect("free");
    let entries = table.acquire(&["a", "b", "c"], 2, LONG);
    assert!(matches!(entries[0], Outcome::Granted(_)) && matches!(entries[2], Outcome::Granted(_)));
    let Outcome::Busy(Some(holder)) = &entries[1] else { panic!("{entries:?}") };
    assert_eq!(holder.label, "holder 1");
    assert!(
        holder.expires_in <= LONG && holder.expires_in > LONG / 2 && holder.held_for < LONG / 2
    );
    assert_eq!(table.renew(&["a", "b", "c"], 2, LONG), [true, false, true]);
    assert_eq!(table.release(&["a", "b", "c"], 2), [true, false, true]);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn of_many_who_want_a_new_name_at_once_one_gets_it() {
    let table = new();
    let mut others: Vec<_> = (0..8).map(|_| other(&table)).collect();
    for round in 0..20 {
        let name = format!("n{round}");
        let granted: usize = std::thread::scope(|scope| {
            let asked: Vec<_> = others
                .iter_mut()
                .enumerate()
                .map(|(at, table)| {
                    let name = &name;
                    scope
                        .spawn(move || usize::from(table.granted(name, at as u128, LONG).is_some()))
                })
                .collect();
            asked.into_iter().map(|asked| asked.join().expect("no error")).sum()
        });
        assert_eq!(granted, 1);
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn batches_of_the_same_names_do_not_deadlock() {
    let table = new();
    let names: Vec<_> = (0..50).map(|n| format!("n{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    std::thread::scope(|scope| {
        for owner in 1..=4 {
            let (mut table, names) = (other(&table), &names);
            // A deadlock, or any other failure, panics in `acquire`.
            scope.spawn(move || {
                for _ in 0..30 {
                    table.acquire(names, owner, SHORT);
                    table.renew(names, owner, SHORT);
                    table.release(names, owner);
                }
            });
        }
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_grant_that_waited_for_a_row_gets_a_whole_lease() {
    let mut table = new();
    table.granted("a", 1, LONG).expect("free");
    table.release(&["a"], 1);
    let mut blocker = client(table.place.url());
    let name = format!("\"{}\"", table.place.table());
    let mut transaction = blocker.transaction().expect("begun");
    transaction.execute(&format!("SELECT 1 FROM {name} FOR UPDATE"), &[]).expect("locked");
    let mut observer = client(table.place.url());
    let released: SystemTime = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| table.granted("a", 2, LONG));
        assert!(eventually(|| waits(&mut observer, &name)));
        let now = transaction.query_one("SELECT clock_timestamp()", &[]).expect("asked").get(0);
        transaction.commit().expect("ended");
        assert!(waiting.join().expect("no error").is_some());
        now
    });
    let row = observer.query_one(&format!("SELECT expires_at FROM {name}"), &[]).expect("a row");
    assert!(row.get::<_, SystemTime>(0) >= released + LONG, "it began when the wait had ended");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_stricter_isolation_means_try_again_and_never_a_wrong_grant() {
    let mut table = new();
    table.granted("a", 1, LONG).expect("free");
    table.release(&["a"], 1);
    table
        .client
        .batch_execute("SET default_transaction_isolation = 'repeatable read'")
        .expect("set");
    let mut blocker = client(table.place.url());
    let mut observer = client(table.place.url());
    let name = format!("\"{}\"", table.place.table());
    let mut transaction = blocker.transaction().expect("begun");
    transaction
        .execute(
            &format!("UPDATE {name} SET owner = 'x', expires_at = now() + interval '1 h'"),
            &[],
        )
        .expect("taken");
    std::thread::scope(|scope| {
        let claims = claims(&["a"], 2);
        let command = Request::Acquire {
            session: SessionName::default(),
            claims,
            ttl: LONG,
            min_uptime: Duration::ZERO,
            label: "h".into(),
        };
        let asked = scope.spawn(move || table.try_ask(&command).map(drop));
        assert!(eventually(|| waits(&mut observer, &name)));
        transaction.commit().expect("committed");
        let answer = asked.join().expect("no panic");
        assert!(matches!(answer, Err(Failure::Rejected { retry: true, .. })), "{answer:?}");
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_release_does_not_leave_the_session_careless() {
    let mut table = new();
    table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.release(&["a"], 1), [true]);
    let setting: String =
        table.client.query_one("SHOW synchronous_commit", &[]).expect("asked").get(0);
    assert_eq!(setting, "on");
}

/// Plans are made once, while the table may still be small: reading all of it would stay the plan.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_batch_finds_its_rows_by_the_index_though_the_table_was_empty() {
    let place = Place::postgres();
    let locks = place.locks(Duration::from_secs(2));
    let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    let guards: Vec<_> = names.iter().map(|name| locks.lock(name).expect("free")).collect();
    // Long enough to be renewed together.
    std::thread::sleep(Duration::from_secs(2));
    assert!(guards.iter().all(|guard| guard.is_held()));
    drop(guards);
    // What a connection has done is counted when it ends, at the latest.
    drop(locks);
    let mut client = client(place.url());
    let counted = "SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname = $1";
    let mut read = (0, 0);
    assert!(eventually(|| {
        let row = client.query_one(counted, &[&place.table()]).expect("a table");
        read = (row.get::<_, i64>(0), row.get::<_, i64>(1));
        read.1 > 40
    }));
    assert_eq!(read.0, 0, "the whole table was read: {read:?}");
}

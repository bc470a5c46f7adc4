//! What a pin holds up on each server, and what it does not.

use lock_core::{Fence, Outcome, Reply, Request, SessionName};
use lock_tests::on_mysql_and_mariadb;
use lock_tests::place::Place;
use lock_tests::servers::Kind;
use lock_tests::table::{AnyTable, claims};
use lock_tests::user::User;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
/// Less than a claim waits for a row, and more than a statement takes that waits for nothing.
const HELD: Duration = Duration::from_millis(600);

on_mysql_and_mariadb! {
    a_claim_waits_for_the_end_of_a_transaction_with_a_pin
    a_renewal_and_a_release_pass_a_pin
    a_pin_of_a_lost_lock_finds_nothing
    a_pin_waits_for_a_claim_in_flight_and_finds_nothing
    a_pin_holds_up_no_other_name
    a_claim_gives_up_after_a_second
    a_table_without_the_index_for_pins_keeps_locks
    a_transaction_that_sees_no_grant_cannot_pin_it
}

macro_rules! on_postgres {
    ($($name:ident)*) => {$(
        #[test]
        #[ignore = "needs a PostgreSQL server: tests/run starts one"]
        fn $name() {
            super::$name(Server::Postgres);
        }
    )*};
}

mod postgres_server {
    use super::Server;
    on_postgres! {
        a_claim_waits_for_the_end_of_a_transaction_with_a_pin
        a_renewal_and_a_release_pass_a_pin
        a_pin_of_a_lost_lock_finds_nothing
        a_pin_waits_for_a_claim_in_flight_and_finds_nothing
        a_pin_holds_up_no_other_name
        a_claim_gives_up_after_a_second
    }
}

/// A server with a table.
enum Server {
    Postgres,
    Other(Kind),
}

impl From<Kind> for Server {
    fn from(kind: Kind) -> Self {
        Self::Other(kind)
    }
}

impl Server {
    fn table(&self) -> AnyTable {
        AnyTable::of(match self {
            Self::Postgres => Place::postgres(),
            Self::Other(kind) => kind.place(),
        })
    }
}

/// A transaction that has the lock pinned.
fn pinned(table: &AnyTable, name: &str, fence: Fence) -> User {
    let mut user = User::of(&table.place);
    user.begin();
    assert_eq!(user.does(&table.pin(name, fence)), [fence.get() as i64]);
    user
}

/// Whether the call returns long before a claim that waits would.
fn at_once<T: std::fmt::Debug>(call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = call();
    assert!(began.elapsed() < HELD / 2, "{done:?} after {:?}", began.elapsed());
    done
}

fn a_claim_waits_for_the_end_of_a_transaction_with_a_pin(server: impl Into<Server>) {
    let mut table = server.into().table();
    let fence = table.granted("a", 1, LONG).expect("free");
    let mut taker = table.other();
    for ends in ["COMMIT", "ROLLBACK"] {
        let fence = table.granted("a", 1, LONG).unwrap_or(fence);
        let mut user = pinned(&table, "a", fence);
        assert_eq!(at_once(|| taker.granted("a", 2, LONG)), None, "it is held, with or without");
        table.expire("a");
        let began = Instant::now();
        let next = std::thread::scope(|scope| {
            let claim = scope.spawn(|| taker.acquire(&["a"], 2, LONG));
            std::thread::sleep(HELD);
            assert!(!claim.is_finished(), "the claim passed the pin");
            user.does(ends);
            claim.join().expect("no panic")
        });
        let [Outcome::Granted(next)] = next[..] else { panic!("{next:?}") };
        assert!(next > fence && began.elapsed() >= HELD);
        assert_eq!(taker.release(&["a"], 2), [true]);
    }
}

fn a_renewal_and_a_release_pass_a_pin(server: impl Into<Server>) {
    let mut table = server.into().table();
    let fence = table.granted("a", 1, LONG).expect("free");
    let mut user = pinned(&table, "a", fence);
    for _ in 0..3 {
        assert_eq!(at_once(|| table.renew(&["a"], 1, LONG)), [true]);
    }
    assert_eq!(user.does(&table.pin("a", fence)), [fence.get() as i64], "once more");
    assert_eq!(at_once(|| table.release(&["a"], 1)), [true]);
    let mut taker = table.other();
    let next = std::thread::scope(|scope| {
        let claim = scope.spawn(|| taker.acquire(&["a"], 2, LONG));
        std::thread::sleep(HELD);
        assert!(!claim.is_finished(), "released or not, the transaction comes first");
        user.does("COMMIT");
        claim.join().expect("no panic")
    });
    assert!(matches!(next[..], [Outcome::Granted(next)] if next > fence), "{next:?}");
}

fn a_pin_of_a_lost_lock_finds_nothing(server: impl Into<Server>) {
    let mut table = server.into().table();
    let fence = table.granted("a", 1, LONG).expect("free");
    table.expire("a");
    // Nobody has taken it, and nobody can before the transaction ends.
    pinned(&table, "a", fence).does("COMMIT");
    let next = table.granted("a", 2, LONG).expect("expired");
    let mut user = User::of(&table.place);
    user.begin();
    assert_eq!(user.does(&table.pin("a", fence)), [0; 0]);
    assert_eq!(user.does(&table.pin("b", fence)), [0; 0]);
    user.does("ROLLBACK");
    pinned(&table, "a", next).does("COMMIT");
}

fn a_pin_waits_for_a_claim_in_flight_and_finds_nothing(server: impl Into<Server>) {
    let mut table = server.into().table();
    let fence = table.granted("a", 1, LONG).expect("free");
    table.expire("a");
    let mut taker = table.other();
    taker.client.batch("BEGIN");
    assert!(taker.granted("a", 2, LONG).is_some());
    let pin = table.pin("a", fence);
    let mut user = User::of(&table.place);
    user.begin();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| user.does(&pin));
        std::thread::sleep(HELD);
        assert!(!asked.is_finished(), "the grant may yet be undone");
        taker.client.batch("COMMIT");
        assert_eq!(asked.join().expect("no panic"), [0; 0]);
    });
}

/// At the isolation level that each server has by default. The pinned row is the newest, or in between, or was taken.
fn a_pin_holds_up_no_other_name(server: impl Into<Server>) {
    let mut table = server.into().table();
    for order in [["b", "d", "f"], ["b", "f", "d"], ["d", "f", "b"]] {
        for name in order {
            table.granted(name, 1, LONG).expect("free");
        }
        let fence = table.granted("d", 1, LONG).expect("its own");
        let mut user = pinned(&table, "d", fence);
        let gone = table.pin("d", Fence::new(fence.get() - 1));
        assert_eq!(user.does(&gone), [0; 0]);
        table.expire("b");
        table.expire("f");
        for name in ["b", "f", "a", "c", "cc", "d0", "da", "e", "g"] {
            for owner in [2, 3] {
                let outcome = at_once(|| table.acquire(&[name], owner, LONG));
                assert!(matches!(outcome[..], [Outcome::Granted(_)]), "{name}: {outcome:?}");
                assert_eq!(at_once(|| table.release(&[name], owner)), [true]);
            }
        }
        user.does("COMMIT");
        assert_eq!(table.release(&["d"], 1), [true]);
    }
}

fn a_claim_gives_up_after_a_second(server: impl Into<Server>) {
    let mut table = server.into().table();
    let fence = table.granted("a", 1, LONG).expect("free");
    let _user = pinned(&table, "a", fence);
    table.expire("a");
    let began = Instant::now();
    assert_eq!(table.acquire(&["a"], 2, LONG), [Outcome::Delayed]);
    let took = began.elapsed();
    assert!(took > HELD && took < HELD * 10, "{took:?}");
}

fn a_table_without_the_index_for_pins_keeps_locks(kind: Kind) {
    let table = Server::from(kind).table();
    table.place.tamper("ALTER TABLE {table} DROP INDEX pin");
    let mut table = table.other();
    let fence = table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.renew(&["a"], 1, LONG), [true]);
    let mut user = User::of(&table.place);
    user.begin();
    let told = user.run(&table.pin("a", fence)).expect_err("no index");
    assert!(told.contains("1176"), "{told}");
    user.does("ROLLBACK");
    let ddl = table.codec.not_pinnable(1176).expect("that is why").to_string();
    let (_, ddl) = ddl.split_once("run ").expect("a statement");
    User::of(&table.place).does(ddl);
    pinned(&table.other(), "a", fence).does("COMMIT");
}

/// The words look as if they did nothing.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_claim_on_postgres_that_does_not_name_the_key_passes_a_pin() {
    let mut table = Server::Postgres.table();
    let claim = |owner| Request::Acquire {
        session: SessionName::default(),
        claims: claims(&["a"], owner),
        ttl: LONG,
        min_uptime: Duration::ZERO,
        label: "h".into(),
    };
    let fence = table.granted("a", 1, LONG).expect("free");
    let _user = pinned(&table, "a", fence);
    table.expire("a");
    let delayed = Reply::Outcomes([Outcome::Delayed].into());
    assert_eq!(table.try_ask(&claim(2)), Ok(delayed));
    let mut statement =
        table.codec.encode(&claim(2), lock_core::Instant::default()).poll_statement().expect("one");
    assert_eq!(statement.text.matches("name = excluded.name, ").count(), 1);
    statement.text = statement.text.replace("name = excluded.name, ", "").into();
    assert_eq!(at_once(|| table.client.run(&statement)).expect("granted").len(), 1);
}

/// A transaction whose view of the table is older than the last grant.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_pin_on_postgres_under_a_stricter_isolation_goes_by_the_last_grant() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut table = Server::Postgres.table();
        let view = |table: &AnyTable| {
            let mut user = User::of(&table.place);
            user.does(&format!("BEGIN ISOLATION LEVEL {level}"));
            user.does("SELECT 1 FROM pg_class LIMIT 1");
            user
        };
        let mut before = view(&table);
        let fence = table.granted("a", 1, LONG).expect("free");
        let pin = table.pin("a", fence);
        assert_eq!(before.does(&pin), [0; 0], "it sees no grant: the pin is to come first");
        // Renewals do not matter, before or after.
        let mut renewed = view(&table);
        assert_eq!(table.renew(&["a"], 1, LONG), [true]);
        assert_eq!(renewed.does(&pin), [fence.get() as i64]);
        assert_eq!(at_once(|| table.renew(&["a"], 1, LONG)), [true]);
        assert_eq!(renewed.does(&pin), [fence.get() as i64]);
        renewed.does("COMMIT");
        let ends: [fn(&mut AnyTable); 2] =
            [|table| table.expire("a"), |table| assert_eq!(table.release(&["a"], 1), [true])];
        for end in ends {
            let fence = table.granted("a", 1, LONG).expect("its own, or free");
            let mut taken = view(&table);
            assert_eq!(table.renew(&["a"], 1, LONG), [true]);
            end(&mut table);
            assert!(table.granted("a", 2, LONG).is_some());
            let told = taken.run(&table.pin("a", fence)).expect_err("it was taken since");
            assert!(told.starts_with("40001"), "{told}");
            assert_eq!(table.release(&["a"], 2), [true]);
        }
    }
}

/// A transaction that has read before the grant would go on with what it had read then, which the last holder may have
/// changed since.
fn a_transaction_that_sees_no_grant_cannot_pin_it(kind: Kind) {
    for (level, is_pinned) in
        [("READ COMMITTED", true), ("REPEATABLE READ", false), ("SERIALIZABLE", true)]
    {
        let mut table = Server::from(kind).table();
        // At SERIALIZABLE, what was read is locked, and so never old.
        let read = match level {
            "SERIALIZABLE" => "SELECT 1".to_string(),
            _ => format!("SELECT COUNT(*) FROM {} WHERE name = 'b'", table.place.table()),
        };
        let view = |table: &AnyTable| {
            let mut user = User::of(&table.place);
            user.does(&format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}"));
            user.begin();
            user.does(&read);
            user
        };
        let mut before = view(&table);
        let fence = table.granted("a", 1, LONG).expect("free");
        let pin = table.pin("a", fence);
        let pinned = [fence.get() as i64];
        let expected: &[i64] = if is_pinned { &pinned } else { &[] };
        assert_eq!(before.does(&pin), expected, "{level}");
        before.does("ROLLBACK");
        // A renewal since the grant does no harm, before the view and after it.
        let mut after = view(&table);
        assert_eq!(at_once(|| table.renew(&["a"], 1, LONG)), [true]);
        assert_eq!(after.does(&pin), pinned, "{level}");
        assert_eq!(at_once(|| table.renew(&["a"], 1, LONG)), [true]);
        assert_eq!(after.does(&pin), pinned, "{level}");
    }
}

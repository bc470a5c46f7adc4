//! Pins: a transaction of a user's that commits before anybody else is granted the lock.

use lock_core::http::Method;
use lock_core::sql::{postgres, sqlite};
use lock_sync::{Error, LockName, LostReason, NotPinnable, PinError, PinParam};
use lock_tests::consul::Consul;
use lock_tests::drivers::{Admin, Client, Driven, Driver, Guard, Locks, in_transaction};
use lock_tests::on_mysql_and_mariadb;
use lock_tests::place::{Place, client};
use lock_tests::servers::Kind;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(20);

/// Each driver, with each client that it knows for a database.
const ALL: [(Driver, Client); 3] =
    [(Driver::Blocking, Client::Own), (Driver::Tokio, Client::Own), (Driver::Tokio, Client::Sqlx)];

on_mysql_and_mariadb! {
    the_next_holder_waits_for_the_transaction
    a_pin_of_a_lost_lock_says_so
    a_pin_of_several_locks_pins_each
    a_pin_of_a_permit_pins_it
    renewals_pass_a_long_transaction
    a_wait_for_a_pinned_lock_holds_up_no_other_lock
    a_table_without_the_index_for_pins_is_told
    a_lock_that_is_pinned_is_not_broken_and_that_is_told
}

macro_rules! on_postgres {
    ($($name:ident)*) => {
        mod postgres_server {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() {
                super::$name(super::Kind::Postgres);
            })*
        }
    };
}

on_postgres! {
    the_next_holder_waits_for_the_transaction
    a_pin_of_a_lost_lock_says_so
    a_pin_of_several_locks_pins_each
    a_pin_of_a_permit_pins_it
    renewals_pass_a_long_transaction
    a_wait_for_a_pinned_lock_holds_up_no_other_lock
}

fn expire(place: &Place) {
    place.tamper(if place.url().starts_with('p') {
        "UPDATE {table} SET expires_at = clock_timestamp() - interval '1 ms'"
    } else {
        "UPDATE {table} SET expires_us = 1"
    });
}

fn pinned(guard: &Guard, by: Client, place: &Place, meanwhile: impl FnOnce()) {
    in_transaction(guard, by, place.url(), &[], meanwhile).expect("pinned and committed");
}

/// Its lease has ended, and others want it: one is told that the lock is busy, the other gets it at the end.
fn the_next_holder_waits_for_the_transaction(kind: Kind) {
    for (driver, by) in ALL {
        let place = Driven::new(driver, kind.place());
        let (ours, theirs) = (place.locks(LONG), place.locks(LONG));
        let guard = ours.lock("a").expect("free");
        let fence = guard.fence();
        // Whether somebody is known to have it.
        let denied = || match place.locks(LONG).acquire("a").no_wait().wait() {
            Err(Error::Busy(busy)) => (busy.holder.is_some(), busy.withheld),
            other => panic!("{driver:?} {by:?}: it is pinned: {:?}", other.map(drop)),
        };
        std::thread::scope(|scope| {
            let mut waiter = None;
            pinned(&guard, by, &place, || {
                assert_eq!(denied(), (true, false), "{driver:?} {by:?}: by its holder");
                expire(&place);
                let theirs = &theirs;
                let waits = scope.spawn(|| {
                    let next = theirs.try_lock_for("a", SOON).expect("asked").expect("in time");
                    (Instant::now(), next)
                });
                assert_eq!(denied(), (false, true), "{driver:?} {by:?}: by one who had it");
                std::thread::sleep(Duration::from_millis(1_500));
                assert!(!waits.is_finished(), "{driver:?} {by:?}: it is pinned");
                waiter = Some((Instant::now(), waits));
            });
            let (committed, waits) = waiter.expect("it was called");
            let (granted, next) = waits.join().expect("no panic");
            assert!(next.fence() > fence);
            let took = granted - committed;
            assert!(took < Duration::from_secs(5), "{driver:?} {by:?}: {took:?}");
        });
    }
}

fn says_lost(guard: &Guard, by: Client, place: &Place, why: impl FnOnce(&LostReason) -> bool) {
    match in_transaction(guard, by, place.url(), &[], || panic!("it is not pinned")) {
        Err(PinError::Lost(reason)) => assert!(why(&reason), "{reason:?}"),
        other => panic!("{other:?}"),
    }
}

fn says_taken(guard: &Guard, by: Client, place: &Place) {
    let told = in_transaction(guard, by, place.url(), &[], || panic!("it is not pinned"));
    assert_eq!(told, Err(PinError::Unseen));
}

fn a_pin_of_a_lost_lock_says_so(kind: Kind) {
    for (driver, by) in ALL {
        let place = Driven::new(driver, kind.place());
        let guard = place.locks(LONG).lock("a").expect("free");
        expire(&place);
        let next = place.locks(LONG).lock("a").expect("expired");
        assert!(guard.is_held(), "it does not know yet");
        says_taken(&guard, by, &place);
        pinned(&next, by, &place, || {});
        // The guard itself knows by its clock.
        let (guard, _network) = place.abandon("b", Duration::from_secs(2));
        std::thread::sleep(Duration::from_secs(2));
        let is_overdue = |reason: &LostReason| matches!(reason, LostReason::Deadline { .. });
        says_lost(&Guard::Blocking(guard), by, &place, is_overdue);
    }
}

fn a_pin_of_several_locks_pins_each(kind: Kind) {
    for (driver, by) in ALL {
        several_are_pinned(&Driven::new(driver, kind.place()), by);
    }
}

#[test]
fn a_pin_of_several_locks_in_a_file_pins_each() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        several_are_pinned(&Driven::new(driver, Place::sqlite()), Client::Own);
    }
}

fn a_pin_of_a_permit_pins_it(kind: Kind) {
    for (driver, by) in ALL {
        a_permit_is_pinned(&Driven::new(driver, kind.place()), by);
    }
}

#[test]
fn a_pin_of_a_permit_in_a_file_pins_it() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        a_permit_is_pinned(&Driven::new(driver, Place::sqlite()), Client::Own);
    }
}

/// It is a lock of its own, and not that of the semaphore's name.
fn a_permit_is_pinned(place: &Driven, by: Client) {
    let locks = place.locks(LONG);
    let other = locks.lock("a").expect("free");
    let permit = locks.acquire("a").permits(2).wait().expect("free");
    drop(other);
    pinned(&permit, by, place, || {});
    place.tamper("UPDATE {table} SET fence = fence + 1");
    says_taken(&permit, by, place);
}

/// One of them is another's by now, and the guard has not heard of it.
fn several_are_pinned(place: &Driven, by: Client) {
    let locks = place.locks(LONG);
    for taken in ["a", "b"] {
        let guard = locks.acquire("b").and("a").wait().expect("free");
        pinned(&guard, by, place, || {});
        place.tamper(&format!("UPDATE {{table}} SET fence = fence + 1 WHERE name = '{taken}'"));
        says_taken(&guard, by, place);
        drop(guard);
        place.tamper("DELETE FROM {table}");
    }
}

fn renewals_pass_a_long_transaction(kind: Kind) {
    let ttl = Duration::from_secs(4);
    std::thread::scope(|scope| {
        for (driver, by) in ALL {
            scope.spawn(move || {
                let place = Driven::new(driver, kind.place());
                let guard = place.locks(ttl).lock("a").expect("free");
                pinned(&guard, by, &place, || {
                    let lost = guard.wait_lost(ttl * 3);
                    assert_eq!(lost, None, "{driver:?} {by:?}");
                });
                assert!(guard.is_held());
            });
        }
    });
}

/// The claim waits at the server for a moment at a time, on the connection that renews the process's other locks.
fn a_wait_for_a_pinned_lock_holds_up_no_other_lock(kind: Kind) {
    let ttl = Duration::from_secs(6);
    std::thread::scope(|scope| {
        for (driver, by) in ALL.into_iter().take(2) {
            scope.spawn(move || {
                let place = Driven::new(driver, kind.place());
                let theirs = place.locks(ttl);
                let guard = place.locks(LONG).lock("a").expect("free");
                let other = theirs.lock("other").expect("free");
                std::thread::scope(|scope| {
                    pinned(&guard, by, &place, || {
                        place.tamper(if place.url().starts_with('p') {
                            "UPDATE {table} SET expires_at = clock_timestamp() - interval '1 ms' WHERE name = 'a'"
                        } else {
                            "UPDATE {table} SET expires_us = 1 WHERE name = 'a'"
                        });
                        let waits = theirs.clone();
                        scope.spawn(move || waits.try_lock_for("a", SOON * 2).expect("asked").is_some());
                        let until = Instant::now() + ttl * 2;
                        while Instant::now() < until {
                            assert!(other.is_held(), "{driver:?}: {:?}", other.lost_reason());
                            let next = theirs.try_lock_for("next", SOON).expect("asked").expect("free");
                            next.release().expect("released");
                            std::thread::sleep(Duration::from_millis(300));
                        }
                    });
                });
                assert!(other.is_held());
            });
        }
    });
}

/// The new fence is in the index that is locked.
fn a_lock_that_is_pinned_is_not_broken_and_that_is_told(kind: Kind) {
    for (driver, by) in ALL {
        let place = Driven::new(driver, kind.place());
        let guard = place.locks(LONG).lock("a").expect("free");
        let mut admin = Admin::connect(driver, &place.whole_url(), LONG);
        pinned(&guard, by, &place, || {
            let told = admin.break_hold("a", guard.fence()).expect_err("pinned").to_string();
            assert!(told.contains("end that transaction, or try again later"), "{told}");
        });
        assert!(admin.break_hold("a", guard.fence()).expect("broken").is_some());
    }
}

fn a_table_without_the_index_for_pins_is_told(kind: Kind) {
    for (driver, by) in ALL {
        let place = Driven::new(driver, kind.place());
        drop(place.locks(LONG));
        place.tamper("ALTER TABLE {table} DROP INDEX pin");
        let guard = place.locks(LONG).lock("a").expect("free");
        match in_transaction(&guard, by, place.url(), &[], || panic!("it is not pinned")) {
            Err(PinError::Unsupported(NotPinnable::NoIndex { ddl, .. })) => place.tamper(&ddl),
            other => panic!("{other:?}"),
        }
        pinned(&guard, by, &place, || {});
    }
}

/// The file is the transaction's until it ends: the lease ends, and the next holder waits.
#[test]
fn the_next_holder_waits_for_the_transaction_in_a_file() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let place = Driven::new(driver, Place::sqlite());
        let (ours, theirs) = (place.locks(Duration::from_secs(1)), place.locks(LONG));
        let guard = ours.lock("a").expect("free");
        let fence = guard.fence();
        std::thread::scope(|scope| {
            let mut waiter = None;
            pinned(&guard, Client::Own, &place, || {
                assert!(guard.wait_lost(SOON).is_some(), "nobody can renew it");
                let theirs = &theirs;
                let waits = scope.spawn(|| theirs.try_lock_for("a", SOON).expect("asked"));
                std::thread::sleep(Duration::from_secs(1));
                assert!(!waits.is_finished(), "{driver:?}: it is pinned");
                waiter = Some(waits);
            });
            let next = waiter.expect("it was called").join().expect("no panic");
            assert!(next.expect("in time").fence() > fence);
        });
        // The guard has known it for longer than the table.
        let known = guard.lost_reason();
        says_lost(&guard, Client::Own, &place, |reason| known.as_ref() == Some(reason));
    }
}

#[test]
fn a_pin_in_a_file_needs_that_file() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let (place, other) = (Driven::new(driver, Place::sqlite()), Place::sqlite());
        let guard = place.locks(LONG).lock("a").expect("free");
        let path = |place: &Place| place.url().trim_start_matches("sqlite:").to_string();
        match in_transaction(&guard, Client::Own, other.url(), &[], || panic!("not pinned")) {
            Err(PinError::Unsupported(why @ NotPinnable::OtherFile { .. })) => {
                assert!(why.to_string().contains(&path(&place)), "{why}");
            }
            other => panic!("{other:?}"),
        }
        // By another name, and beside another database.
        let Guard::Blocking(guard) = &guard else { continue };
        let mut connection = rusqlite::Connection::open(path(&other)).expect("opened");
        let link = format!("{}.link", path(&place));
        std::os::unix::fs::symlink(path(&place), &link).expect("made");
        connection.execute("ATTACH ?1 AS \"its \"\"file\"\"\"", [&link]).expect("attached");
        let mut transaction = connection.transaction().expect("begun");
        guard.pin(&mut transaction).expect("pinned");
    }
}

/// A transaction that has read before, and then writes: SQLite refuses it if the file has changed.
#[test]
fn a_pin_in_a_file_is_not_made_in_a_view_that_is_out_of_date() {
    let place = Driven::new(Driver::Blocking, Place::sqlite());
    let locks = place.locks(LONG);
    let guard = locks.lock("a").expect("free");
    let Guard::Blocking(guard) = &guard else { panic!() };
    let path = place.url().trim_start_matches("sqlite:");
    let mut connection = rusqlite::Connection::open(path).expect("opened");
    let mut transaction = connection.transaction().expect("begun");
    let read = |transaction: &rusqlite::Transaction| {
        transaction.query_row("SELECT count(*) FROM locks", [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(read(&transaction), Ok(1));
    drop(locks.lock("b").expect("free"));
    match guard.pin(&mut transaction) {
        Err(PinError::Client(error)) => assert!(error.to_string().contains("locked"), "{error}"),
        other => panic!("{other:?}"),
    }
}

fn not_pinnable(guard: &Guard, url: &str) -> NotPinnable {
    match in_transaction(guard, Client::Own, url, &[], || panic!("it is not pinned")) {
        Err(PinError::Unsupported(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs all servers: tests/run starts them"]
fn a_lock_that_is_kept_elsewhere_cannot_be_pinned() {
    let (pg, mysql, file) = (Place::postgres(), Place::mysql(), Place::sqlite());
    for driver in [Driver::Blocking, Driver::Tokio] {
        let guard = |place: Place| {
            let place = Driven::new(driver, place);
            (place.locks(LONG).lock("a").expect("free"), place)
        };
        for (elsewhere, urls) in [
            (Place::postgres as fn() -> Place, [mysql.url(), file.url()]),
            (Place::mysql, [pg.url(), file.url()]),
            (Place::sqlite, [pg.url(), mysql.url()]),
        ] {
            let (guard, _place) = guard(elsewhere());
            for url in urls {
                let why = not_pinnable(&guard, url);
                assert!(matches!(why, NotPinnable::OtherDatabase { .. }), "{why:?}");
            }
        }
        for elsewhere in [Place::postgres_advisory(), Place::mysql_advisory()] {
            let (guard, place) = guard(elsewhere);
            assert_eq!(not_pinnable(&guard, place.url()), NotPinnable::Advisory);
        }
        let (guard, _place) = guard(Place::consul());
        assert_eq!(not_pinnable(&guard, pg.url()), NotPinnable::InConsul);
    }
}

/// With its parameters, for clients that know no guard. In another schema than the first of the search path, too.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_pin_is_a_statement_for_any_client() {
    let place = Place::postgres();
    let guard = place.locks(LONG).lock("it's \"a\"").expect("free");
    let pin = guard.pin_statement().expect("a table");
    let named = format!("\"public\".\"{}\"", place.table());
    assert!(pin.text.contains(&named), "{}", pin.text);
    let [PinParam::Text(name), PinParam::Int(fence)] = &pin.params[..] else { panic!("{pin:?}") };
    assert_eq!((&**name, *fence as u64), (guard.name().as_str(), guard.fence().get()));
    assert_eq!(*pin.text, postgres_pin(&place, &guard).replace("\"locks\"", &named)[..]);
    let mut client = client(place.url());
    for pins in [true, false] {
        let mut transaction = client.transaction().expect("begun");
        let rows = transaction.query(&*pin.text, &[name, fence]).expect("asked");
        assert_eq!(rows.len(), usize::from(pins));
        transaction.rollback().expect("ended");
        place.tamper("UPDATE {table} SET owner = NULL");
    }
    let file = Place::sqlite();
    let guard = file.locks(LONG).lock("it's ?1").expect("free");
    let own = sqlite::codec(lock_sync::TableName::default(), "").pin(guard.name(), guard.fence());
    assert_eq!(guard.pin_statement(), Ok(own));
    assert_eq!(guard.pin_operation(), Err(NotPinnable::NotInConsul));
}

fn postgres_pin(place: &Place, guard: &lock_sync::Guard) -> String {
    assert!(!place.table().is_empty());
    let codec = postgres::codec(lock_sync::TableName::default());
    codec.pin(guard.name(), guard.fence()).text.to_string()
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_transaction_in_consul_depends_on_the_lock() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let place = Driven::new(driver, Place::consul());
        let (server, prefix) = place.url().rsplit_once('/').expect("a prefix");
        let consul = Consul::at(&server.replacen("consul://", "http://", 1));
        let locks = place.locks(Duration::from_secs(10));
        let guard = locks.lock("a").expect("free");
        let operation = match &guard {
            Guard::Blocking(guard) => guard.pin_operation(),
            Guard::Tokio(guard) => guard.pin_operation(),
        };
        let own = format!(r#"{{"KV":{{"Verb":"set","Key":"{prefix}/total","Value":"MQ=="}}}}"#);
        let body = format!("[{},{own}]", operation.expect("in Consul"));
        assert_eq!(consul.raw(Method::Put, "/v1/txn", &body).status, 200);
        // A renewal changes nothing of the key.
        std::thread::sleep(Duration::from_secs(4));
        assert!(guard.is_held());
        assert_eq!(consul.raw(Method::Put, "/v1/txn", &body).status, 200);
        guard.release().expect("released");
        assert_eq!(consul.raw(Method::Put, "/v1/txn", &body).status, 409);
        let again = locks.lock("a").expect("free");
        assert_eq!(consul.raw(Method::Put, "/v1/txn", &body).status, 409);
        drop(again);
    }
}

/// A name is a name, whatever is in it.
#[test]
#[ignore = "needs a MySQL, MariaDB and PostgreSQL server: tests/run starts them"]
fn names_of_all_kinds_are_pinned() {
    let names = ["it's", "Foo", "foo ", "f\u{f6}o", "\u{1f512}", "$1", "? OR 1", "\\", "\"`%_"];
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
        for (driver, by) in ALL {
            let place = Driven::new(driver, kind.place());
            let locks: Locks = place.locks(LONG);
            for name in names {
                LockName::new(name).expect("good");
                let guard = locks.lock(name).expect("free");
                pinned(&guard, by, &place, || {});
                guard.release().expect("released");
            }
        }
    }
}

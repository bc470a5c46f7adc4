//! Statements that a PostgreSQL server forgets, or carries out only in part.

use lock_sync::Admin;
use lock_tests::drivers::{Driven, Driver, Locks, wait};
use lock_tests::place::{Place, client, with_settings};
use lock_tests::proxy::{Proxy, eventually, server_of};
use std::collections::BTreeSet;
use std::time::Duration;

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];
const TTL: Duration = Duration::from_secs(30);
/// Of leases that are renewed while a test waits.
const SHORT: Duration = Duration::from_secs(3);

/// A client of the caller's that was handed over, and one that the driver made.
fn everywhere(ttl: Duration) -> Vec<(Place, Locks)> {
    let mut all = Vec::new();
    for driver in DRIVERS {
        let own = Driven::new(driver, Place::postgres());
        let locks = own.locks(ttl);
        all.push((own.through(own.url()), locks));
        let place = Place::postgres();
        let table = lock_sync::TableName::new(place.table()).expect("good");
        let config = lock_sync::Config::new().table(table).ttl(ttl);
        let locks = match driver {
            Driver::Tokio => Locks::Tokio(wait(async {
                let connect =
                    tokio_postgres::connect(&with_settings(place.url()), tokio_postgres::NoTls)
                        .await;
                let (client, connection) = connect.expect("connected");
                tokio::spawn(connection);
                lock_async::Locks::with_postgres(client, config).await.expect("connected")
            })),
            _ => {
                let locks =
                    lock_sync::Locks::with_postgres(client(&with_settings(place.url())), config);
                Locks::Blocking(locks.expect("connected"))
            }
        };
        all.push((place, locks));
    }
    all
}

fn pairs(count: usize, locks: &Locks) {
    for _ in 0..count {
        locks.lock("a").expect("taken").release().expect("released");
    }
}

/// Has the session forget all prepared statements whenever a row was updated, as poolers and other users of a
/// connection do.
fn forgetful(place: &Place) {
    place.tamper(
        "CREATE FUNCTION {table}_forget() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN NULL; END $$;
         CREATE TRIGGER forget AFTER UPDATE ON {table}
           FOR EACH STATEMENT EXECUTE FUNCTION {table}_forget()",
    );
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn forgotten_statements_are_prepared_anew() {
    for (place, locks) in everywhere(TTL) {
        pairs(3, &locks);
        forgetful(&place);
        pairs(4, &locks);
        place.tamper("DROP TRIGGER forget ON {table}");
        pairs(2, &locks);
    }
}

/// How often the lease was renewed, at least.
fn is_renewed(place: &Place, name: &str, times: usize) -> bool {
    let mut seen = BTreeSet::new();
    let mut watch = client(place.url());
    let sql = format!("SELECT expires_at::text FROM {} WHERE name = $1", place.table());
    eventually(|| {
        let row = watch.query_one(&sql, &[&name]).expect("a row");
        seen.insert(row.get::<_, String>(0));
        seen.len() > times
    })
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn renewals_go_on_when_statements_were_forgotten_or_the_table_changed() {
    for (place, locks) in everywhere(SHORT) {
        pairs(3, &locks);
        let guard = locks.lock("held").expect("taken");
        assert!(is_renewed(&place, "held", 2), "prepared by now");
        forgetful(&place);
        assert!(is_renewed(&place, "held", 2));
        place.tamper("DROP TRIGGER forget ON {table}; ALTER TABLE {table} ADD COLUMN note text");
        assert!(is_renewed(&place, "held", 1));
        // The result's type has its collation in it: "cached plan must not change result type".
        place.tamper("ALTER TABLE {table} ALTER COLUMN name TYPE text COLLATE \"POSIX\"");
        assert!(is_renewed(&place, "held", 1));
        pairs(2, &locks);
        assert!(guard.is_held());
        guard.release().expect("released");
    }
}

/// Has a transaction that notifies fail when it commits, as it does when the server's queue is full.
fn full_queue(place: &Place) -> String {
    let shadow = format!("{}_shadow", place.table());
    place.tamper(&format!(
        "CREATE SCHEMA {shadow};
         CREATE FUNCTION {shadow}.pg_notify(text, text) RETURNS text LANGUAGE sql AS
           $$ SELECT set_config('test.notified', 'yes', true) $$;
         CREATE FUNCTION {shadow}.queue_full() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN
             IF current_setting('test.notified', true) = 'yes' THEN
               RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000';
             END IF;
             RETURN NULL;
           END $$;
         CREATE CONSTRAINT TRIGGER queue_full AFTER UPDATE ON {{table}} DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION {shadow}.queue_full()"
    ));
    format!("{}?options=-c%20search_path%3D{shadow},pg_catalog,public", place.url())
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_release_that_nobody_can_be_told_of_is_a_release() {
    for driver in DRIVERS {
        let place = Driven::new(driver, Place::postgres());
        drop(place.locks(TTL));
        let url = full_queue(&place);
        let through = Driven::new(driver, place.through(&url));
        let [ours, theirs] = [through.locks(TTL), place.locks(TTL)];
        for _ in 0..3 {
            let guard = ours.lock("a").expect("taken");
            assert!(theirs.try_lock("a").expect("asked").is_none(), "and says that it waits");
            guard.release().expect("released");
            let guard = theirs.try_lock("a").expect("asked").expect("free");
            guard.release().expect("released");
        }
        let mut admin = Admin::connect(&through.whole_url()).expect("connected");
        let guard = theirs.lock("a").expect("taken");
        assert!(ours.try_lock("a").expect("asked").is_none());
        assert!(admin.break_hold("a", guard.fence()).expect("broken").is_some());
        assert!(ours.try_lock("a").expect("asked").is_some());
    }
}

/// A trigger of somebody's has something to say about each change.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_warning_of_the_server_ends_no_connection() {
    for driver in DRIVERS {
        let place = Driven::new(driver, Place::postgres());
        let proxy = Proxy::start(&server_of(place.url()));
        let locks = Driven::new(driver, place.through(&proxy.url(place.url()))).locks(TTL);
        pairs(1, &locks);
        let says = format!("{}_says", place.table());
        place.tamper(&format!(
            "CREATE FUNCTION {says}() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE WARNING 'a row has changed'; RETURN NEW; END $$;
             CREATE TRIGGER says BEFORE UPDATE ON {{table}} FOR EACH ROW EXECUTE FUNCTION {says}()"
        ));
        let connections = proxy.connections();
        for _ in 0..3 {
            let guard = locks.try_lock_for("a", TTL).expect("asked").expect("free");
            guard.release().expect("released");
        }
        assert_eq!(proxy.connections(), connections, "{driver:?}");
    }
}

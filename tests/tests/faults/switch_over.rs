//! A server that takes no writes for a while, as in a switch-over: waiters go on waiting, and holders lose
//! by their deadline.

use lock_sync::{Error, LostReason};
use lock_tests::drivers::{Driven, Driver, Locks};
use lock_tests::place::{Place, client, mysql_client};
use lock_tests::servers::{Kind, Server};
use lock_tests::withlock::eventually;
use mysql::prelude::Queryable;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(3);
/// Longer than any step of these tests takes.
const LONG: Duration = Duration::from_secs(60);

pub(super) const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

/// Locks in a table, and the server's own, of both drivers.
fn everywhere(url: &str) -> Vec<(Driven, Locks)> {
    let places = || [Place::at(url), Place::advisory_at(url)];
    let driven =
        DRIVERS.iter().flat_map(|driver| places().map(|place| Driven::new(*driver, place)));
    let connected = |driven: Driven| {
        let locks = driven.locks(TTL);
        (driven, locks)
    };
    driven.map(connected).collect()
}

fn locks(all: &[(Driven, Locks)]) -> Vec<&Locks> {
    all.iter().map(|(_, locks)| locks).collect()
}

/// Waiters meet what `bad` made of the server, which is named by `why`; after `good` they get the lock.
pub(super) fn waiters_stay(all: &[&Locks], why: &str, bad: impl FnOnce(), good: impl FnOnce()) {
    for locks in all {
        locks.lock("before").expect("taken").release().expect("released");
    }
    bad();
    std::thread::scope(|scope| {
        let told = all.iter().map(|locks| scope.spawn(|| is_told(locks, why)));
        told.collect::<Vec<_>>().into_iter().for_each(|told| told.join().expect("told"));
        let waits = all
            .iter()
            .map(|locks| scope.spawn(|| locks.try_lock_for("a", LONG).map(|got| got.is_some())));
        let waits: Vec<_> = waits.collect();
        good();
        for waits in waits {
            assert_eq!(waits.join().expect("no panic"), Ok(true));
        }
    });
}

/// Whoever waits for less long than it lasts is told, by the words `why`, as soon as a connection that was cut is back.
fn is_told(locks: &Locks, why: &str) {
    eventually(why, || {
        let met = locks.try_lock_for("a", TTL).map(drop);
        assert!(met.as_ref().is_err_and(Error::is_transient), "{met:?}");
        matches!(&met, Err(Error::Unavailable(told)) if told.contains(why))
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn postgres_as_a_standby() {
    let server = Kind::Postgres.server();
    let standby = || {
        std::fs::write(server.folder().join("data/standby.signal"), "").expect("written");
        server.restart();
    };
    let promoted = || client(server.url()).batch_execute("SELECT pg_promote()").expect("asked");
    let all = everywhere(server.url());
    waiters_stay(&locks(&all), "standby", standby, promoted);
}

fn frozen(server: &Server, frozen: bool) {
    let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {frozen}");
    client(server.url()).batch_execute(&sql).expect("set");
    client(server.url()).batch_execute("SELECT pg_reload_conf()").expect("reloaded");
    // The server tells its connections before it takes a new one.
    eventually("reloaded", || {
        let shown = client(server.url()).query_one("SHOW default_transaction_read_only", &[]);
        shown.expect("shown").get::<_, &str>(0) == if frozen { "on" } else { "off" }
    });
}

fn cut(server: &Server) {
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    client(server.url()).batch_execute(cut).expect("cut");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn postgres_that_is_read_only() {
    for cuts in [false, true] {
        let server = Kind::Postgres.server();
        let tables = DRIVERS.map(|driver| Driven::new(driver, Place::at(server.url())).locks(TTL));
        let guards = tables.each_ref().map(|locks| locks.lock("held").expect("taken"));
        let bad = || {
            frozen(&server, true);
            if cuts {
                cut(&server);
            }
        };
        waiters_stay(&tables.each_ref(), "read-only", bad, || {
            for guard in &guards {
                let lost = guard.wait_lost(LONG);
                assert!(matches!(lost, Some(LostReason::Deadline { .. })), "{lost:?}");
            }
            frozen(&server, false);
        });
    }
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn mysql_that_is_read_only() {
    read_only(Kind::Mysql, "super_read_only");
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn mariadb_that_is_read_only() {
    read_only(Kind::Mariadb, "read_only");
}

/// Also over connections that live on; some are cut.
fn read_only(kind: Kind, variable: &str) {
    let server = kind.server();
    let url = server.url().replacen("root:hunter2", "app:secret", 1);
    let all = everywhere(&url);
    let guard = all[0].1.lock("held").expect("taken");
    let set = |value: u8| {
        let set = format!("SET GLOBAL {variable} = {value}");
        mysql_client(server.url()).query_drop(set).expect("set");
        if value == 0 && variable.starts_with("super") {
            mysql_client(server.url()).query_drop("SET GLOBAL read_only = 0").expect("set");
        }
    };
    waiters_stay(
        &locks(&all),
        "read",
        || set(1),
        || {
            let lost = guard.wait_lost(LONG);
            assert!(matches!(lost, Some(LostReason::Deadline { .. })), "{lost:?}");
            set(0);
        },
    );
    let cut = || {
        set(1);
        let mut client = mysql_client(server.url());
        let ids = "SELECT id FROM information_schema.processlist WHERE user = 'app'";
        let ids: Vec<u64> = client.query(ids).expect("listed");
        for id in ids {
            // It may have ended by itself.
            let _ = client.query_drop(format!("KILL {id}"));
        }
    };
    waiters_stay(&locks(&all), "read-only", cut, || set(0));
}

//! How many statements it takes, counted at the server.

use crate::crowd::contest;
use lock_tests::drivers::{Admin, Driven, Driver, Guard};
use lock_tests::observer::Observer;
use lock_tests::place::{Keeps, Place};
use lock_tests::servers::{Kind, Server};
use std::time::Duration;

macro_rules! counted {
    ($($name:ident)*) => {
        mod postgres {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Postgres, super::Driver::Blocking) })*
        }
        mod postgres_with_tokio {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Postgres, super::Driver::Tokio) })*
        }
        mod mysql {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mysql, super::Driver::Blocking) })*
        }
        mod mariadb {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mariadb, super::Driver::Blocking) })*
        }
        mod mysql_with_tokio {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mysql, super::Driver::Tokio) })*
        }
        mod mariadb_with_tokio {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mariadb, super::Driver::Tokio) })*
        }
    };
}

counted! {
    one_statement_to_acquire_and_one_to_release
    an_observer_looks_once_an_interval
    a_thousand_leases_are_renewed_by_a_handful
}

macro_rules! sessions_counted {
    ($($name:ident)* ; queues: $($queue:ident)*) => {
        mod postgres_advisory {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(&super::Kind::Postgres.server(), super::Driver::Blocking) })*
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $queue() { super::$queue(super::Kind::Postgres, super::Driver::Blocking) })*
        }
        mod postgres_advisory_with_tokio {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(&super::Kind::Postgres.server(), super::Driver::Tokio) })*
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $queue() { super::$queue(super::Kind::Postgres, super::Driver::Tokio) })*
        }
        mod mysql_advisory {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name(&super::Kind::Mysql.server(), super::Driver::Blocking) })*
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $queue() { super::$queue(super::Kind::Mysql, super::Driver::Blocking) })*
        }
        mod mysql_advisory_with_tokio {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name(&super::Kind::Mysql.server(), super::Driver::Tokio) })*
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $queue() { super::$queue(super::Kind::Mysql, super::Driver::Tokio) })*
        }
        mod mariadb_advisory {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name(&super::Kind::Mariadb.server(), super::Driver::Blocking) })*
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $queue() { super::$queue(super::Kind::Mariadb, super::Driver::Blocking) })*
        }
        mod mariadb_advisory_with_tokio {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name(&super::Kind::Mariadb.server(), super::Driver::Tokio) })*
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $queue() { super::$queue(super::Kind::Mariadb, super::Driver::Tokio) })*
        }
        mod consul {
            $(#[test]
            #[ignore = "needs a Consul server: tests/run starts one"]
            fn $name() { super::$name(&super::Server::consul(), super::Driver::Blocking) })*
        }
        mod consul_with_tokio {
            $(#[test]
            #[ignore = "needs a Consul server: tests/run starts one"]
            fn $name() { super::$name(&super::Server::consul(), super::Driver::Tokio) })*
        }
    };
}

sessions_counted! {
    in_a_session_it_takes_one_request_to_acquire_and_one_to_release
    one_request_keeps_a_thousand_locks
    waiters_wait_at_the_server
    ; queues:
    a_hand_off_takes_two_requests
}

/// A server's own locks, or Consul's keys.
fn own(server: &Server, driver: Driver) -> Driven {
    let url = server.url();
    let consul = url.starts_with("http");
    Driven::new(driver, if consul { Place::consul_at(url) } else { Place::advisory_at(url) })
}

fn in_a_session_it_takes_one_request_to_acquire_and_one_to_release(
    server: &Server,
    driver: Driver,
) {
    let place = own(server, driver);
    // The server must have run for as long as a lease lasts.
    let locks = place.locks(Duration::from_secs(6));
    locks.lock("first").expect("the session exists now").release().expect("released");
    let mut observer = Observer::new(server);
    for _ in 0..10 {
        let guard = locks.lock("a").expect("taken");
        assert!(guard.fence().get() > 0, "the fence comes with it");
        guard.release().expect("released");
    }
    let mut counted = observer.counted();
    counted.retain(|(text, _)| !keeps(text));
    match place.keeps() {
        Keeps::Keys => assert_eq!(counted, [("PUT /v1/txn".to_string(), 20)]),
        _ => {
            let calls: Vec<i64> = counted.iter().map(|(_, calls)| *calls).collect();
            assert_eq!(calls, [10, 10], "{counted:?}");
        }
    }
}

fn one_request_keeps_a_thousand_locks(server: &Server, driver: Driver) {
    let ttl = Duration::from_secs(6);
    let place = own(server, driver);
    let locks = place.locks(ttl);
    let guards: Vec<_> = (0..1000).map(|n| locks.lock(&format!("n{n}")).expect("taken")).collect();
    let mut observer = Observer::new(server);
    let periods = 5;
    std::thread::sleep(ttl / 3 * periods);
    let counted = observer.counted();
    assert!(counted.iter().all(|(text, _)| keeps(text)), "nothing else: {counted:?}");
    let calls: i64 = counted.iter().map(|(_, calls)| *calls).sum();
    assert!((3..=6).contains(&calls), "{calls} in {periods} periods: {counted:?}");
    assert!(guards.iter().all(Guard::is_held));
}

/// Whether it is what keeps a session alive.
fn keeps(text: &str) -> bool {
    // PostgreSQL shows a statement that it has just read without its constants.
    let same = ["@withlock_session", "pg_backend_pid()"].iter().any(|what| text.contains(what));
    let locks = ["place", "_LOCK(", "advisory_lock"].iter().any(|what| text.contains(what));
    let sql = !locks && same;
    text.contains("/v1/session/renew/") || sql
}

fn waiters_wait_at_the_server(server: &Server, driver: Driver) {
    let place = own(server, driver);
    let ttl = Duration::from_secs(12);
    let guard = place.locks(ttl).lock("a").expect("taken");
    let mut observer = Observer::new(server);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..15)
            .map(|_| {
                let locks = place.locks(ttl);
                scope.spawn(move || locks.lock("a").map(drop))
            })
            .collect();
        // They connect first, and on a busy machine that takes a while.
        let waits = (0..10).any(|_| {
            std::thread::sleep(Duration::from_secs(2));
            observer.reset();
            std::thread::sleep(Duration::from_secs(3));
            let mut counted = observer.counted();
            counted.retain(|(text, _)| !keeps(text));
            let calls: i64 = counted.iter().map(|(_, calls)| *calls).sum();
            println!("{calls}: {counted:?}");
            // Each waits for a quarter of the TTL before it asks again, which is those 3 s.
            calls <= 15 * 2
        });
        assert!(waits);
        assert!(guard.is_held());
        guard.release().expect("ours");
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), Ok(()));
        }
    });
}

fn an_observer_looks_once_an_interval(kind: Kind, driver: Driver) {
    let server = kind.server();
    let place = Driven::new(driver, Place::at(server.url()));
    let ttl = Duration::from_secs(600);
    let _guard = place.locks(ttl).lock("leader").expect("taken");
    let interval = Duration::from_millis(250);
    let admin = Admin::connect(driver, &place.whole_url(), ttl);
    let mut observer = admin.observe("leader", interval);
    assert!(observer.changed_within(ttl).expect("told").expect("known").is_some());
    let mut looks = || {
        let mut counter = Observer::new(&server);
        let changed = observer.changed_within(interval * 12);
        assert!(changed.is_none(), "{changed:?}");
        let mut counted = counter.counted();
        // Once, to be notified.
        counted.retain(|(text, calls)| !(text.contains("LISTEN") && *calls == 1));
        let looks: i64 = counted.iter().map(|(_, calls)| *calls).sum();
        assert!((1..=13).contains(&looks), "{counted:?}");
        assert_eq!(counted.len(), 1, "one statement each: {counted:?}");
        looks
    };
    // A busy machine has fewer of them, but not each time.
    assert!((0..5).any(|_| looks() > 8));
}

/// Eight that want one lock again and again join the server's queue without a try. Each tries once a second, which a busy
/// machine has more of, and may have to open the connection on which it waits, by some statements.
fn a_hand_off_takes_two_requests(kind: Kind, driver: Driver) {
    let server = kind.server();
    const CONTENDERS: i64 = 8;
    const EACH: i64 = 50;
    let place = own(&server, driver);
    let ttl = Duration::from_secs(12);
    let all: Vec<_> = (0..CONTENDERS).map(|_| place.locks(ttl)).collect();
    let mut observer = Observer::new(&server);
    // Each opens the connection on which it waits.
    contest(&all, EACH, &mut observer);
    let (mut counted, took) = contest(&all, EACH, &mut observer);
    counted.retain(|(text, _)| !keeps(text));
    let requests: i64 = counted.iter().map(|(_, calls)| *calls).sum();
    let tries = CONTENDERS * (8 + took.as_secs() as i64);
    println!("{requests} requests for {} hand-offs in {took:?}: {counted:?}", CONTENDERS * EACH);
    assert!(requests <= 2 * CONTENDERS * EACH + tries, "{requests} in {took:?}: {counted:?}");
}

fn one_statement_to_acquire_and_one_to_release(kind: Kind, driver: Driver) {
    let server = kind.server();
    let mut observer = Observer::new(&server);
    let place = Driven::new(driver, Place::at(server.url()));
    let locks = place.locks(Duration::from_secs(30));
    observer.reset();
    for _ in 0..10 {
        let guard = locks.lock("a").expect("taken");
        assert!(guard.fence().get() > 0, "the fence comes with it");
        guard.release().expect("released");
    }
    let counted = observer.counted();
    assert_eq!(
        counted.iter().map(|(_, calls)| *calls).collect::<Vec<_>>(),
        [10, 10],
        "{counted:?}"
    );
    assert!(counted[0].0.contains("INSERT INTO"), "{counted:?}");
    assert!(counted[1].0.contains("UPDATE"), "{counted:?}");
}

fn a_thousand_leases_are_renewed_by_a_handful(kind: Kind, driver: Driver) {
    let server = kind.server();
    let mut observer = Observer::new(&server);
    let place = Driven::new(driver, Place::at(server.url()));
    let ttl = Duration::from_secs(6);
    let locks = place.locks(ttl);
    let guards: Vec<_> = (0..1000).map(|n| locks.lock(&format!("n{n}")).expect("taken")).collect();
    std::thread::sleep(ttl);
    observer.reset();
    let periods = 6;
    std::thread::sleep(ttl / 3 * periods);
    let counted = observer.counted();
    let calls: i64 = counted.iter().map(|(_, calls)| *calls).sum();
    let renews = |text: &str| {
        text.contains("SET expires_at")
            || text.contains("AS ttl")
            || text.starts_with("SELECT l.name,")
    };
    assert!(counted.iter().all(|(text, _)| renews(text)), "renewals alone: {counted:?}");
    // Two of 512 leases each, a period; a third when they are not quite in step. Where a statement
    // cannot say what became of each lease, another one asks.
    let most = if kind == Kind::Postgres { 4.0 } else { 8.0 };
    let per_period = calls as f64 / f64::from(periods);
    assert!((1.0..=most).contains(&per_period), "{per_period} statements a period: {counted:?}");
    assert!(guards.iter().all(Guard::is_held));
    println!("{per_period:.1} statements a period renew 1000 leases");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_thousand_wishes_at_once_leave_together() {
    let (server, mut observer) = tokio::task::spawn_blocking(|| {
        let server = Kind::Postgres.server();
        let observer = Observer::new(&server);
        (server, observer)
    })
    .await
    .expect("no panic");
    let place = Place::at(server.url());
    let locks =
        lock_async::Locks::open(place.config(Duration::from_secs(30))).await.expect("connected");
    let mut observer = tokio::task::spawn_blocking(move || {
        observer.reset();
        observer
    })
    .await
    .expect("no panic");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let locks = locks.clone();
        tasks.spawn(async move { locks.lock(&format!("n{n}")).await.expect("taken") });
    }
    let guards = tasks.join_all().await;
    let counted = tokio::task::spawn_blocking(move || observer.counted()).await;
    let counted = counted.expect("no panic");
    let calls: i64 = counted.iter().map(|(_, calls)| *calls).sum();
    assert!((2..=20).contains(&calls), "{counted:?}");
    assert!(guards.iter().all(lock_async::Guard::is_held));
    println!("{calls} statements take 1000 locks");
}

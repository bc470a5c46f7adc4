//! How many statements it takes, counted at the server.

use lock_tests::drivers::{Driven, Driver, Guard, tokio_config};
use lock_tests::observer::Observer;
use lock_tests::place::Place;
use lock_tests::servers::Kind;
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
    a_thousand_leases_are_renewed_by_a_handful
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
    let locks = tokio_config(&place, Duration::from_secs(30)).connect().await.expect("connected");
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

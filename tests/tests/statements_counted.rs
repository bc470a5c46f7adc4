//! How many statements it takes, counted at the server.

use lock_tests::observer::Observer;
use lock_tests::place::Place;
use lock_tests::servers::Kind;
use std::time::Duration;

macro_rules! counted {
    ($($name:ident)*) => {
        mod postgres {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Postgres) })*
        }
        mod mysql {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mysql) })*
        }
        mod mariadb {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mariadb) })*
        }
    };
}

counted! {
    one_statement_to_acquire_and_one_to_release
    a_thousand_leases_are_renewed_by_a_handful
}

fn one_statement_to_acquire_and_one_to_release(kind: Kind) {
    let server = kind.server();
    let mut observer = Observer::new(&server);
    let place = Place::at(server.url());
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

fn a_thousand_leases_are_renewed_by_a_handful(kind: Kind) {
    let server = kind.server();
    let mut observer = Observer::new(&server);
    let place = Place::at(server.url());
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
    assert!(guards.iter().all(lock_sync::Guard::is_held));
    println!("{per_period:.1} statements a period renew 1000 leases");
}

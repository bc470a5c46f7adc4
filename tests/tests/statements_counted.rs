//! How many statements it takes, counted at the server.

use lock_tests::drivers::{Driven, Driver, Guard, tokio_config};
use lock_tests::place::{Place, client};
use lock_tests::servers::Server;
use std::time::Duration;

/// What the server ran since the last reset: each statement, and how often.
fn counted(observer: &mut postgres::Client) -> Vec<(String, i64)> {
    let rows = observer.query(
        "SELECT query, calls FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' ORDER BY query",
        &[],
    );
    rows.expect("counted").iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn observer(server: &Server) -> postgres::Client {
    let mut observer = client(server.url());
    observer
        .batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        .expect("the extension is there");
    observer
}

fn reset(observer: &mut postgres::Client) {
    observer.batch_execute("SELECT pg_stat_statements_reset()").expect("reset");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn one_statement_to_acquire_and_one_to_release() {
    one_statement(Driver::Blocking);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn one_statement_to_acquire_and_one_to_release_with_tokio() {
    one_statement(Driver::Tokio);
}

fn one_statement(driver: Driver) {
    let server = Server::postgres();
    let mut observer = observer(&server);
    let place = Driven::new(driver, Place::at(server.url()));
    let locks = place.locks(Duration::from_secs(30));
    reset(&mut observer);
    for _ in 0..10 {
        let guard = locks.lock("a").expect("taken");
        assert!(guard.fence().get() > 0, "the fence comes with it");
        guard.release().expect("released");
    }
    let counted = counted(&mut observer);
    assert_eq!(
        counted.iter().map(|(_, calls)| *calls).collect::<Vec<_>>(),
        [10, 10],
        "{counted:?}"
    );
    assert!(counted[0].0.contains("INSERT INTO"), "{counted:?}");
    assert!(counted[1].0.contains("SET owner = "), "{counted:?}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_thousand_leases_are_renewed_by_a_handful() {
    few_renewals(Driver::Blocking);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_thousand_leases_are_renewed_by_a_handful_with_tokio() {
    few_renewals(Driver::Tokio);
}

fn few_renewals(driver: Driver) {
    let server = Server::postgres();
    let mut observer = observer(&server);
    let place = Driven::new(driver, Place::at(server.url()));
    let ttl = Duration::from_secs(6);
    let locks = place.locks(ttl);
    let guards: Vec<_> = (0..1000).map(|n| locks.lock(&format!("n{n}")).expect("taken")).collect();
    std::thread::sleep(ttl);
    reset(&mut observer);
    let periods = 6;
    std::thread::sleep(ttl / 3 * periods);
    let counted = counted(&mut observer);
    let calls: i64 = counted.iter().map(|(_, calls)| *calls).sum();
    assert!(
        counted.iter().all(|(query, _)| query.contains("SET expires_at")),
        "renewals alone: {counted:?}"
    );
    // Two of 512 leases each, a period; a third when they are not quite in step.
    let per_period = calls as f64 / f64::from(periods);
    assert!((1.0..=4.0).contains(&per_period), "{per_period} statements a period");
    assert!(guards.iter().all(Guard::is_held));
    println!("{per_period:.1} statements a period renew 1000 leases");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_thousand_wishes_at_once_leave_together() {
    let (server, mut observer) = tokio::task::spawn_blocking(|| {
        let server = Server::postgres();
        let observer = observer(&server);
        (server, observer)
    })
    .await
    .expect("no panic");
    let place = Place::at(server.url());
    let locks = tokio_config(&place, Duration::from_secs(30)).connect().await.expect("connected");
    let mut observer = tokio::task::spawn_blocking(move || {
        reset(&mut observer);
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
    let counted = tokio::task::spawn_blocking(move || counted(&mut observer)).await;
    let counted = counted.expect("no panic");
    let calls: i64 = counted.iter().map(|(_, calls)| *calls).sum();
    assert!((2..=20).contains(&calls), "{counted:?}");
    assert!(guards.iter().all(lock_async::Guard::is_held));
    println!("{calls} statements take 1000 locks");
}

//! A look at locks whose future is dropped while its answer is missing.

use lock_async::{Admin, Locks};
use lock_tests::place::Place;
use lock_tests::proxy::{Mode, Proxy, server_of};
use std::time::Duration;
use tokio::time::timeout;

const TTL: Duration = Duration::from_secs(30);

/// The answer never comes: over the same connection, the next look would get none, or the wrong one.
async fn the_next_look_uses_another_connection(place: fn() -> Place) {
    let place = tokio::task::spawn_blocking(place).await.expect("a place");
    let locks = Locks::open(place.config(TTL)).await.expect("connected");
    let guard = locks.lock("a").await.expect("taken");
    let proxy = Proxy::start(&server_of(place.url()));
    // TLS would notice that bytes are missing.
    let through = place.through(&format!("{}?sslmode=disable", proxy.url(place.url())));
    let mut admin = Admin::open(through.config(TTL)).await.expect("connected");
    for _ in 0..2 {
        assert_eq!(admin.list().await.expect("listed").len(), 1);
        let before = proxy.connections();
        proxy.set(Mode::NoReplies);
        let look = timeout(Duration::from_millis(300), admin.list()).await;
        assert!(look.is_err(), "nothing answers");
        proxy.set(Mode::Pass);
        assert_eq!(admin.list().await.expect("listed").len(), 1);
        assert!(proxy.connections() > before, "it was used again");
    }
    guard.release().await.expect("released");
    tokio::task::spawn_blocking(move || drop(place)).await.expect("no panic");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_look_that_was_dropped_on_postgres_spoils_no_other() {
    the_next_look_uses_another_connection(Place::postgres).await;
}

#[tokio::test]
#[ignore = "needs a MySQL server: tests/run starts one"]
async fn a_look_that_was_dropped_on_mysql_spoils_no_other() {
    the_next_look_uses_another_connection(Place::mysql).await;
}

#[tokio::test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
async fn a_look_that_was_dropped_on_mariadb_spoils_no_other() {
    the_next_look_uses_another_connection(Place::mariadb).await;
}

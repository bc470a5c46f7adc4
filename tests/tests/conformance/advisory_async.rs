//! What lock-async's advisory locks have that its others do not: connections of the caller's, a limit
//! for those that wait, a name at the server.

use lock_async::{Config, Error, Key, Locks, LostReason, Protocol};
use lock_tests::place::{Place, client};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(300);
const LATER: Duration = Duration::from_secs(10);

/// What blocks, as all that places and observers do.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(call).await.expect("no panic")
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn a_postgres_client_of_the_callers_is_the_only_connection() {
    let place = blocking(Place::postgres_advisory).await;
    let connecting = tokio_postgres::connect(place.url(), tokio_postgres::NoTls);
    let (own, connection) = connecting.await.expect("connected");
    tokio::spawn(connection);
    let config =
        Config::new().protocol(Protocol::Advisory).longest_ttl(SOON).ttl(Duration::from_secs(3));
    only(place, Locks::with_postgres(own, config).await).await;
}

#[tokio::test]
#[ignore = "needs a MySQL server: tests/run starts one"]
async fn a_mysql_connection_of_the_callers_is_the_only_connection() {
    let place = blocking(Place::mysql_advisory).await;
    let url = place.whole_url();
    let (_, prefix) = url.split_once("prefix=").expect("it has one");
    let own = mysql_async::Conn::from_url(place.url()).await.expect("connected");
    let config = Config::new().protocol(Protocol::Advisory).longest_ttl(SOON).prefix(prefix);
    only(place, Locks::with_mysql(own, config.ttl(Duration::from_secs(3))).await).await;
}

async fn only(place: Place, ours: Result<Locks, Error>) {
    let ours = ours.expect("connected");
    // The server ends connections that are idle for a TTL, and there is no way to another.
    sleep(Duration::from_secs(4)).await;
    let theirs = Locks::open(place.config(TTL)).await.expect("connected");
    let held = theirs.lock("a").await.expect("taken");
    let waited = ours.try_lock_for("a", SOON).await.expect("asked");
    assert!(waited.is_none(), "without a connection to wait on");
    let wanted = ours.clone();
    let wait = tokio::spawn(async move { wanted.lock("a").await.expect("taken") });
    sleep(SOON).await;
    assert!(!wait.is_finished());
    held.release().await.expect("released");
    let guard = timeout(LATER, wait).await.expect("soon").expect("no panic");
    let place = blocking(move || {
        place.rob("a");
        place
    })
    .await;
    let lost = timeout(Duration::from_secs(3), guard.lost()).await;
    assert!(matches!(lost, Ok(LostReason::Disconnected { .. })), "{lost:?}");
    let refused = ours.lock("a").await.map(drop);
    assert!(
        matches!(&refused, Err(Error::NoConnection(why)) if why.contains("connect again")),
        "{refused:?}"
    );
    blocking(move || drop(place)).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn no_more_connections_wait_than_may() {
    let place = blocking(Place::postgres_advisory).await;
    let label = format!("of {}", place.table());
    let config = place.config(TTL).waiting(2).label(&label);
    let locks = Locks::open(config).await.expect("connected");
    let theirs = Locks::open(place.config(TTL)).await.expect("connected");
    let mut held = Vec::new();
    for n in 0..6 {
        held.push(theirs.lock(&format!("n{n}")).await.expect("taken"));
    }
    let waits: Vec<_> = (0..6)
        .map(|n| {
            let wanted = locks.clone();
            tokio::spawn(async move { wanted.lock(&format!("n{n}")).await.map(drop) })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    let (url, shown) = (place.url().to_string(), label.clone());
    let connections: i64 = blocking(move || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%' || $1 || '%'";
        client(&url).query_one(sql, &[&shown]).expect("asked").get(0)
    })
    .await;
    assert_eq!(connections, 3, "a home and two that wait, all with the holder's name");
    for guard in held {
        guard.release().await.expect("released");
    }
    for wait in waits {
        timeout(LATER, wait).await.expect("soon").expect("no panic").expect("taken in the end");
    }
    blocking(move || drop(place)).await;
}

/// The keys are others' keys, too.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
async fn keys_are_those_that_others_use() {
    let place = blocking(Place::postgres_advisory).await;
    for (keys, name, call) in [
        (Key::Hash, "test-lock", "-107789403, -1898803861"),
        (Key::Int, "-7", "-7"),
        (Key::Pair, "12,-7", "12, -7"),
    ] {
        let locks = Locks::open(place.config(TTL).keys(keys)).await.expect("connected");
        let guard = locks.lock(name).await.expect("taken");
        let url = place.url().to_string();
        let taken = blocking(move || {
            let sql = format!("SELECT pg_try_advisory_lock({call})");
            client(&url).query_one(&sql, &[]).expect("asked").get::<_, bool>(0)
        });
        assert!(!taken.await, "{name}: it is the same lock");
        guard.release().await.expect("released");
    }
    let locks = Locks::open(place.config(TTL).keys(Key::Int)).await.expect("connected");
    assert!(matches!(locks.try_lock("a").await.map(drop), Err(Error::Claim(_))));
    drop(locks);
    blocking(move || drop(place)).await;
}

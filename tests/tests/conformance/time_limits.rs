//! Limits that a server, or an account, sets to the time of statements and transactions. They end no wait of ours.

use lock_sync::Progress;
use lock_tests::drivers::{Driven, Driver};
use lock_tests::place::{Place, client, mysql_client};
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(6);
/// Longer than the limits.
const WAIT: Duration = Duration::from_millis(1500);

const HELD: &str = "someone else holds";

/// The same place for an account with limits.
fn limited(place: &Place, account: &str) -> Place {
    let (scheme, rest) = place.url().split_once("://").expect("a URL");
    let (_, server) = rest.split_once('@').expect("an account");
    place.through(&format!("{scheme}://{account}@{server}"))
}

/// The account with limits waits for what another has. While the value that `takes` returns lives, that is so.
fn waits_without_trouble<T>(place: &Place, account: &str, takes: impl Fn() -> T, says: &str) {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let held = takes();
        let locks = Driven::new(driver, limited(place, account)).locks(TTL);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = told.clone();
        let waited = locks.acquire("a").timeout(WAIT).on_waiting(move |news| {
            if let Progress::Trouble(why) = news {
                tells.lock().expect("no panic").push(why.clone());
            }
        });
        let refused = waited.wait().map(drop).expect_err("it is the other's").to_string();
        assert!(refused.starts_with(says), "{refused}");
        assert!(told.lock().expect("no panic").is_empty(), "{told:?}");
        drop(held);
        locks.lock("a").expect("free").release().expect("released");
    }
}

/// In the server's queue, a wait is one statement.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn one_for_statements_or_transactions_ends_no_wait_on_postgres() {
    let place = Place::postgres_advisory();
    let (_, role) = place.url().rsplit_once('/').expect("a database of its own");
    let mut client = client(place.url());
    let make = format!("CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET");
    client.batch_execute(&format!("{make} statement_timeout = '300ms'")).expect("made");
    let known = "SELECT current_setting('transaction_timeout', true) IS NOT NULL";
    // From PostgreSQL 17 on.
    if client.query_one(known, &[]).expect("asked").get(0) {
        let set = format!("ALTER ROLE {role} SET transaction_timeout = '300ms'");
        client.batch_execute(&set).expect("set");
    }
    let takes = || place.locks(TTL).lock("a").expect("taken");
    waits_without_trouble(&place, role, takes, HELD);
}

/// An account whose statements may take 300 ms.
fn limited_on_mariadb(place: &Place) -> &'static str {
    mysql_client(place.url())
        .query_drop(
            "CREATE USER IF NOT EXISTS limited IDENTIFIED BY 'secret' WITH MAX_STATEMENT_TIME 0.3",
        )
        .expect("made");
    mysql_client(place.url()).query_drop("GRANT ALL ON *.* TO limited").expect("granted");
    "limited:secret"
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn one_for_statements_ends_no_wait_for_a_held_lock_of_mariadb() {
    let sql_lock = Place::sql_lock_at(Kind::Mariadb.place().url());
    for place in [Place::mariadb_advisory(), sql_lock] {
        let account = limited_on_mariadb(&place);
        let takes = || place.locks(TTL).lock("a").expect("taken");
        waits_without_trouble(&place, account, takes, HELD);
    }
}

/// A transaction has the lock's row, as one that pinned it.
#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn one_for_statements_ends_no_wait_for_a_row_of_mariadb() {
    let place = Kind::Mariadb.place();
    let account = limited_on_mariadb(&place);
    let takes = || {
        place.locks(TTL).lock("a").expect("free").release().expect("released");
        let mut other = mysql_client(place.url());
        other.query_drop("START TRANSACTION").expect("begun");
        let row = format!("SELECT * FROM {} WHERE name = 'a' FOR UPDATE", place.table());
        other.query_drop(row).expect("locked");
        other
    };
    waits_without_trouble(&place, account, takes, "nobody is known to hold");
}

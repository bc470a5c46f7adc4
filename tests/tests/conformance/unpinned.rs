//! Pins that fail by an error of the server: nobody knows then whose the lock is.

use lock_sync::PinError;
use lock_tests::drivers::{Client, Driven, Driver, Guard, in_transaction, wait};
use lock_tests::on_mysql_and_mariadb;
use lock_tests::place::mysql_client;
use lock_tests::servers::Kind;
use mysql::TxOpts;
use mysql::prelude::Queryable;
use mysql_async::prelude::Queryable as _;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

on_mysql_and_mariadb! {
    an_error_of_the_server_is_no_loss
    a_pin_that_waits_too_long_is_no_loss
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_error_of_postgres_is_no_loss() {
    an_error_of_the_server_is_no_loss(Kind::Postgres);
}

fn an_error_of_the_server_is_no_loss(kind: Kind) {
    for (driver, by) in [
        (Driver::Blocking, Client::Own),
        (Driver::Tokio, Client::Own),
        (Driver::Tokio, Client::Sqlx),
    ] {
        let place = Driven::new(driver, kind.place());
        let guard = place.locks(LONG).lock("a").expect("free");
        place.tamper("ALTER TABLE {table} RENAME TO {table}_gone");
        let told = in_transaction(&guard, by, place.url(), &[], || panic!("it is not pinned"));
        assert!(matches!(told, Err(PinError::Client(_))), "{driver:?} {by:?}: {told:?}");
        place.tamper("ALTER TABLE {table}_gone RENAME TO {table}");
        in_transaction(&guard, by, place.url(), &[], || {}).expect("pinned");
    }
}

/// Another's transaction has changed the row, and does not end within the session's limit.
fn a_pin_that_waits_too_long_is_no_loss(kind: Kind) {
    let impatient = "SET innodb_lock_wait_timeout = 1";
    for driver in [Driver::Blocking, Driver::Tokio] {
        let place = Driven::new(driver, kind.place());
        let guard = place.locks(LONG).lock("a").expect("free");
        let mut other = mysql_client(place.url());
        let mut other = other.start_transaction(TxOpts::default()).expect("begun");
        let grants = format!("UPDATE {} SET fence = fence + 1", place.table());
        other.query_drop(grants).expect("changed");
        let told = match &guard {
            Guard::Blocking(guard) => {
                let mut client = mysql_client(place.url());
                client.query_drop(impatient).expect("set");
                let mut ours = client.start_transaction(TxOpts::default()).expect("begun");
                guard.pin(&mut ours).map_err(|error| error.to_string())
            }
            Guard::Tokio(guard) => wait(async {
                let url = place.url().replacen("mariadb://", "mysql://", 1);
                let mut client = mysql_async::Conn::from_url(url).await.expect("connected");
                client.query_drop(impatient).await.expect("set");
                let begun = client.start_transaction(mysql_async::TxOpts::default()).await;
                let told = guard.pin(&mut begun.expect("begun")).await;
                told.map_err(|error| error.to_string())
            }),
        };
        let told = told.expect_err("it waits");
        assert!(told.contains("Lock wait timeout exceeded"), "{driver:?}: {told}");
        drop(other);
        in_transaction(&guard, Client::Own, place.url(), &[], || {}).expect("pinned");
    }
}

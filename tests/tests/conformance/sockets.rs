//! MySQL and MariaDB over a Unix socket.

use lock_tests::advisory::fresh;
use lock_tests::drivers::{Driver, Locks, connect};
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::server_of;
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(200);

lock_tests::on_mysql_and_mariadb! { a_socket_is_used_instead_of_the_host }

/// Nothing listens at the host of the URL.
fn a_socket_is_used_instead_of_the_host(kind: Kind) {
    let (table, mut asked) = (kind.place(), mysql_client(kind.place().url()));
    drop(table.locks(Duration::from_secs(30)));
    let query = "SELECT @@datadir, @@socket";
    let told: Option<(String, String)> = asked.query_first(query).expect("asked");
    let (folder, socket) = told.expect("one row");
    let advisory = Place::advisory_at(table.url());
    for place in [&table, &advisory] {
        let url = place.whole_url().replacen(&server_of(place.url()), "127.0.0.1:1", 1);
        let url = url.replacen("root:hunter2", "app:secret", 1);
        let url = format!("{url}&socket={folder}/{socket}");
        for driver in [Driver::Blocking, Driver::Tokio] {
            let (ours, theirs) = [0; 2].map(|_| connect(driver, &url).expect("connected")).into();
            excludes(&ours, &theirs);
            let gone = connect(driver, &format!("{url}.gone")).map(drop).expect_err("no socket");
            assert!(gone.to_string().contains(&format!("{socket}.gone: ")), "{gone}");
            // A connection that has ended is replaced over the socket, too.
            end_those_over_sockets(&mut asked);
            excludes(&ours, &theirs);
        }
    }
}

fn excludes(ours: &Locks, theirs: &Locks) {
    let name = fresh("socket");
    let guard = ours.lock(&name).expect("free");
    assert!(theirs.try_lock_for(&name, SOON).expect("asked").is_none());
    guard.release().expect("ours");
    theirs.lock(&name).expect("free again").release().expect("theirs");
}

fn end_those_over_sockets(asked: &mut mysql::Conn) {
    let query =
        "SELECT id FROM information_schema.processlist WHERE host = 'localhost' AND user = 'app'";
    let connections: Vec<u64> = asked.query(query).expect("asked");
    assert!(!connections.is_empty(), "the host of a connection over a socket");
    for id in connections {
        // It may have ended by itself.
        let _ = asked.query_drop(format!("KILL {id}"));
    }
}

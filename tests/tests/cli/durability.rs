//! Servers and tables that may forget locks when their machine crashes.

use lock_tests::place::{Place, client, mysql_client};
use lock_tests::servers::Kind;
use lock_tests::withlock::{Sandbox, url};
use mysql::prelude::Queryable;

/// The place, after `forget` made it forgetful. A lock was acquired before.
fn behaves(place: &Place, forget: impl FnOnce()) {
    let (sandbox, url) = (Sandbox::new(), url(place));
    sandbox.run(&url, &["before", "--", "true"]).expect(0);
    forget();
    for args in [&["--list"][..], &["--status", "before"], &["--break", "--yes", "before"]] {
        let ended = sandbox.run(&url, args).expect(0);
        assert!(!ended.stderr.contains("crash"), "{ended:?}");
    }
    let refused = sandbox.run(&url, &["n", "--", "true"]).expect(125).stderr;
    assert!(refused.contains("durability=relaxed") && refused.lines().count() == 1, "{refused}");
    let relaxed = format!("{url}&durability=relaxed");
    let told = sandbox.run(&relaxed, &["-v", "n", "--", "true"]).expect(0).stderr;
    assert!(told.contains("durability relaxed"), "{told}");
    let told = sandbox.run(&url, &["--list"]).expect(0).stdout;
    assert_eq!(told, "no lock is held\n");
}

fn flushes_once_a_second(kind: Kind) {
    let server = kind.server();
    behaves(&Place::at(server.url()), || {
        let set = "SET GLOBAL innodb_flush_log_at_trx_commit = 2";
        mysql_client(server.url()).query_drop(set).expect("set");
    });
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_mysql_that_flushes_once_a_second_is_used_if_that_was_asked_for() {
    flushes_once_a_second(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_mariadb_that_flushes_once_a_second_is_used_if_that_was_asked_for() {
    flushes_once_a_second(Kind::Mariadb);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_unlogged_table_is_used_if_that_was_asked_for() {
    let place = Place::postgres();
    behaves(&place, || place.tamper("ALTER TABLE {table} SET UNLOGGED"));
}

/// The server's own setting stays as it is, also for a session of ours.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn commits_wait_for_the_disk_unless_that_was_asked_for() {
    let server = Kind::Postgres.server();
    let place = Place::at(server.url());
    let off = "ALTER DATABASE postgres SET synchronous_commit = off";
    client(server.url()).batch_execute(off).expect("set");
    let sandbox = Sandbox::new();
    sandbox.run(&url(&place), &["n", "--", "true"]).expect(0);
    place.log_commits();
    for (parameter, commits) in [("", "on"), ("&durability=relaxed", "off")] {
        sandbox.run(&(url(&place) + parameter), &["n", "--", "true"]).expect(0);
        assert_eq!(place.logged_commits(), [commits], "one grant");
    }
}

#[test]
fn where_there_is_nothing_to_relax_the_setting_is_refused() {
    let sandbox = Sandbox::new();
    for place in ["postgres://localhost/d?protocol=advisory&", "consul://localhost?", "sqlite:a?"] {
        let url = format!("{place}durability=relaxed");
        let told = sandbox.run(&url, &["n", "--", "true"]).expect(125).stderr;
        assert!(told.contains("durability"), "{told}");
    }
}

//! The variables of the clients of MySQL and MariaDB.

use super::{is_refused, leads_to};
use lock_tests::place::Place;
use lock_tests::proxy::server_of;
use lock_tests::withlock::Sandbox;

fn completed(place: &Place) {
    let sandbox = Sandbox::new();
    let server = server_of(place.url());
    let (_, port) = server.split_once(':').expect("a port");
    let table = format!("?table={}", place.table());
    let shown = format!("mysql://app@127.0.0.1:{port}/test");
    let password = ("MYSQL_PWD", "secret");
    let host = [("MYSQL_HOST", "127.0.0.1"), ("MYSQL_TCP_PORT", port), password];
    leads_to(&sandbox, &format!("mysql://app@/test{table}"), &host, &shown);
    leads_to(&sandbox, &format!("mariadb://app@{server}/test{table}"), &[password], &shown);
    // The URL goes first.
    let others = [("MYSQL_HOST", "192.0.2.1"), ("MYSQL_TCP_PORT", "1"), ("MYSQL_PWD", "hunter2")];
    let whole = format!("mysql://app:secret@{server}/test{table}");
    leads_to(&sandbox, &whole, &others, &shown);
    is_refused(&sandbox, "mysql://app@/test", &[("MYSQL_TCP_PORT", "hunter2")], "MYSQL_TCP_PORT");
    let wrong = format!("mysql://app@{server}/test");
    is_refused(&sandbox, &wrong, &[("MYSQL_PWD", "hunter2")], "Access denied");
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn variables_complete_the_url_of_mysql() {
    completed(&Place::mysql());
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn variables_complete_the_url_of_mariadb() {
    completed(&Place::mariadb());
}

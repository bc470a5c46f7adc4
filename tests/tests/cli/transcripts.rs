//! The sessions in `tests/transcripts`, on every database.

use lock_tests::place::Place;
use lock_tests::transcript::run;
use lock_tests::withlock::url;
use std::path::Path;

/// With locks in a table.
fn all(place: impl Fn() -> Place) {
    let place = |_: &str| {
        let place = place();
        (url(&place), place)
    };
    run_all(&["codes", "leader", "looking", "signals"], place);
}

/// Runs these sessions, with locks at the URL that is made for each; what comes with it is kept
/// until its end.
fn run_all<T>(names: &[&str], url: impl Fn(&str) -> (String, T)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    for name in names {
        let file = folder.join(name).with_extension("md");
        let text = std::fs::read_to_string(&file).expect("read");
        let (url, kept) = url(name);
        let count = run(&file.display().to_string(), &text, &url);
        println!("{}: {count} commands", file.display());
        drop(kept);
    }
}

#[test]
fn they_go_as_written_on_sqlite() {
    all(Place::sqlite);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn they_go_as_written_on_postgres() {
    all(Place::postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn they_go_as_written_on_mysql() {
    all(Place::mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn they_go_as_written_on_mariadb() {
    all(Place::mariadb);
}

fn server(variable: &str) -> String {
    let missing = |_| panic!("{variable}: tests/run starts a server and sets it");
    std::env::var(variable).unwrap_or_else(missing)
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn they_go_as_written_with_advisory_locks_on_postgres() {
    let url = server("POSTGRES_URL") + "?protocol=advisory";
    run_all(&["codes", "leader", "signals", "shared"], |_| (url.clone(), ()));
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn they_go_as_written_with_advisory_locks_on_mysql() {
    let url = server("MYSQL_URL") + "?protocol=advisory";
    run_all(&["codes", "leader", "signals"], |_| (url.clone(), ()));
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn they_go_as_written_with_advisory_locks_on_mariadb() {
    let url = server("MARIADB_URL") + "?protocol=advisory";
    run_all(&["codes", "leader", "signals"], |_| (url.clone(), ()));
}

/// A session outlives its holder by more than these sessions wait.
#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn they_go_as_written_on_consul() {
    let (_, host) = server("CONSUL_URL")
        .split_once("://")
        .map(|(a, b)| (a.to_string(), b.to_string()))
        .expect("a URL");
    let host = host.trim_end_matches('/').to_string();
    run_all(&["codes", "consul"], |name| {
        (format!("consul://{host}/withlock-{name}-{}", std::process::id()), ())
    });
}

//! The sessions in `tests/transcripts`, on every database.

use lock_tests::place::Place;
use lock_tests::transcript::run;
use lock_tests::withlock::url;
use std::path::Path;

fn all(place: impl Fn() -> Place) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("read");
        let place = place();
        let count = run(&file.display().to_string(), &text, &url(&place));
        println!("{}: {count} commands", file.display());
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

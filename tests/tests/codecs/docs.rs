//! The documentation does what it says: its shell sessions and its SQL are run, its links lead
//! somewhere, and the tests that it names exist. Its Rust is compiled by `tests/src/docs.rs`.

use lock_tests::place::{Place, client, mysql_client};
use lock_tests::transcript;
use lock_tests::withlock::url;
use mysql::prelude::Queryable;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("docs"))
        .expect("there")
        .map(|entry| format!("docs/{}", entry.expect("an entry").file_name().to_string_lossy()))
        .chain(["README.md", "CONTRIBUTING.md", "lock-core/MODEL.md"].map(str::to_string))
        .collect();
    files.sort();
    let read = |file: String| {
        let text = std::fs::read_to_string(root().join(&file)).expect("read");
        (file, text)
    };
    files.into_iter().map(read).collect()
}

/// The blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("```") {
            inside = told == language;
            if inside {
                blocks.push(String::new());
            }
        } else if inside && let Some(block) = blocks.last_mut() {
            *block += line;
            *block += "\n";
        }
    }
    blocks
}

/// The SQL of a page for one kind of server, a statement each.
fn statements(text: &str, server: &str) -> Vec<String> {
    let heading = format!("-- {server}, as its administrator\n");
    let of = |block: String| block.strip_prefix(&heading).map(str::to_string);
    let sql: String = blocks(text, "sql").into_iter().filter_map(of).collect();
    sql.split(";\n").map(|part| part.trim().to_string()).filter(|part| !part.is_empty()).collect()
}

/// The URL as an application would have it: that user, that database.
fn as_app(url: &str, scheme: &str, user: &str, database: &str) -> String {
    let (_, rest) = url.split_once('@').expect("a user");
    let (server, _) = rest.split_once('/').expect("a database");
    format!("{scheme}://{user}:secret@{server}/{database}")
}

#[test]
#[ignore = "needs the servers: tests/run starts them"]
fn sessions_and_sql_go_as_written() {
    let (postgres, sqlite) = (Place::postgres(), Place::sqlite());
    let mut admin = client(postgres.url());
    let old = "DROP DATABASE IF EXISTS withlock_demo; DROP SCHEMA IF EXISTS withlock_ops CASCADE; \
               DROP ROLE IF EXISTS withlock_demo, withlock_app";
    for sql in old.split("; ") {
        admin.batch_execute(sql).expect(sql);
    }
    let place = Place::mysql();
    let mut mysql_admin = mysql_client(place.url());
    let mysql_old = "DROP DATABASE IF EXISTS withlock_demo; DROP DATABASE IF EXISTS withlock_ops; \
                     DROP USER IF EXISTS withlock_demo@'%', withlock_app@'%'";
    for sql in mysql_old.split("; ") {
        mysql_admin.query_drop(sql).expect(sql);
    }
    let consul = std::env::var("CONSUL_URL").expect("tests/run starts a server and sets it");
    let consul = consul.replace("http://", "consul://").trim_end_matches('/').to_string();
    for (file, text) in pages() {
        for sql in statements(&text, "PostgreSQL") {
            admin.batch_execute(&sql).unwrap_or_else(|error| panic!("{file}: {sql}: {error}"));
        }
        for sql in statements(&text, "MySQL") {
            mysql_admin.query_drop(&sql).unwrap_or_else(|error| panic!("{file}: {sql}: {error}"));
        }
        if blocks(&text, "console").is_empty() {
            continue;
        }
        let demo = "withlock_demo:secret@localhost/withlock_demo";
        let there = |scheme, url| as_app(url, scheme, "withlock_demo", "withlock_demo");
        let text = text
            .replace(&format!("postgres://{demo}"), &there("postgres", postgres.url()))
            .replace(&format!("mysql://{demo}"), &there("mysql", place.url()))
            .replace("consul://localhost:8500", &consul);
        // The first words of the quick start are about a machine where nothing is set up.
        let url = if file.ends_with("quickstart.md") { String::new() } else { url(&sqlite) };
        let count = transcript::run(&file, &text, &url);
        println!("{file}: {count} commands");
    }
    // Who got three rights can lock, and cannot purge.
    for url in [
        as_app(postgres.url(), "postgres", "withlock_app", "postgres")
            + "?table=withlock_ops.locks",
        as_app(place.url(), "mysql", "withlock_app", "withlock_ops"),
    ] {
        let locks = lock_sync::Locks::connect(&url).expect("connected");
        let guard = locks.lock("n").expect("got");
        let mut admin = lock_sync::Admin::connect(&url).expect("connected");
        assert_eq!(admin.list().expect("listed").len(), 1);
        assert!(admin.break_hold("n", guard.fence()).expect("asked").is_some());
        let refused =
            admin.purge(std::time::Duration::from_secs(3_600)).expect_err("no right to DELETE");
        assert!(matches!(refused, lock_sync::Error::Refused(_)), "{refused}");
    }
    for sql in old.split("; ") {
        admin.batch_execute(sql).expect(sql);
    }
    for sql in mysql_old.split("; ") {
        mysql_admin.query_drop(sql).expect(sql);
    }
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for (file, text) in pages() {
        let folder = root().join(&file).parent().expect("a folder").to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !path.contains(' ') {
                assert!(folder.join(path).exists(), "{file}: {link}");
                count += 1;
            }
        }
    }
    assert!(count > 10, "{count} links");
}

/// Each row of the table of exit codes ends with the name of a test.
#[test]
fn the_tests_that_are_named_exist() {
    let mut sources = String::new();
    let mut folders = vec![root().join("tests/tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources += &std::fs::read_to_string(path).expect("read");
            }
        }
    }
    let text = std::fs::read_to_string(root().join("docs/exit-codes.md")).expect("read");
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let name = row.trim_end_matches(" |").rsplit('`').nth(1).expect("a name");
        assert!(sources.contains(&format!("fn {name}(")), "{row}");
    }
}

//! The documentation does what it says: its shell sessions and its SQL are run, its links lead
//! somewhere, and the tests that it names exist. Its Rust is compiled by `tests/src/docs.rs`.

use lock_tests::place::{Place, client, mysql_client};
use lock_tests::transcript::{self, blocks};
use lock_tests::withlock::{cargo, url};
use mysql::prelude::Queryable;
use std::collections::BTreeSet;
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
        // Recipes have a test of their own.
        if blocks(&text, "console").is_empty() || file.ends_with("recipes.md") {
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
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            if path.is_empty() || path.contains("://") || path.contains(' ') {
                continue;
            }
            assert!(folder.join(path).exists(), "{file}: {link}");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(folder.join(path)).expect("read");
                let found = text
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|it| anchor(it) == heading);
                assert!(found, "{file}: {link}");
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count} links");
}

/// What a link to a heading has after its `#`.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|it| it.is_alphanumeric() || "-_".contains(*it)).collect()
}

/// Each row of the table of exit codes ends with the name of a test. The page of evidence has no other names in code
/// spans, and every page names commands that run at least one test.
#[test]
fn the_tests_that_are_named_exist() {
    let text = page("docs/exit-codes.md");
    let all = sources("tests/tests");
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let name = row.trim_end_matches(" |").rsplit('`').nth(1).expect("a name");
        assert!(all.contains(&format!("fn {name}(")), "{row}");
    }
    let front = page("README.md");
    let (_, beside) = front.split_once("\n## Beside others\n").expect("a section");
    let beside = beside.split("\n## ").next().unwrap_or_default();
    let evidence = page("docs/evidence.md") + &page("docs/features.md") + beside;
    let inside = [
        "lock-async/tests",
        "lock-async/src",
        "lock-sync/src",
        "lock-sync/tests",
        "lock-core/shared/src",
        "lock-core/src",
        "lock-core/tests",
        "tests/src",
    ];
    let inside = inside.map(sources).concat();
    let is_name = |span: &&str| span.matches('_').count() > 1 && !span.contains([' ', '=']);
    let names: Vec<_> = spans(&evidence).filter(is_name).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let function = format!("fn {name}(");
        assert!(all.contains(&function) || inside.contains(&function), "{name}");
    }
}

/// The groups, packages and names of the commands that run tests.
#[test]
fn the_commands_that_are_named_run_tests() {
    let mut count = 0;
    for (file, text) in pages() {
        let commands = spans(&text).filter(|span| {
            span.contains("tests/run ")
                || span.contains("cargo test ")
                || span.contains("cargo run -p")
        });
        for command in commands {
            let words = command.split(" -- ").next().unwrap_or_default().split_whitespace();
            let mut words = words.skip_while(|word| !["tests/run", "test", "run"].contains(word));
            let mut folder = match words.next() {
                Some("tests/run") => "tests/tests".to_string(),
                _ => String::new(),
            };
            let mut filters = Vec::new();
            while let Some(word) = words.next() {
                match word {
                    "-p" => {
                        let package = words.next().expect("a package");
                        let at = match package {
                            "lock-tests" => "tests".to_string(),
                            "lock-mutants" => "tests/mutants".to_string(),
                            other => other.to_string(),
                        };
                        assert!(root().join(&at).join("Cargo.toml").exists(), "{file}: {command}");
                        folder = format!("{at}/tests");
                    }
                    "--test" => {
                        let group = words.next().expect("a group");
                        let at = root().join(&folder);
                        let is_there = at.join(group).join("main.rs").exists()
                            || at.join(group).with_extension("rs").exists()
                            || group == "GROUP";
                        assert!(is_there, "{file}: {command}");
                        if at.join(group).is_dir() {
                            folder = format!("{folder}/{group}");
                        }
                    }
                    "--example" => {
                        let name = words.next().expect("an example");
                        let crate_folder = folder.trim_end_matches("/tests");
                        let path = format!("{crate_folder}/examples/{name}.rs");
                        assert!(root().join(path).exists(), "{file}: {command}");
                    }
                    "--features" => drop(words.next()),
                    word if word.starts_with('-') => {}
                    word if word.chars().all(|letter| letter.is_uppercase()) => {}
                    filter => filters.push(filter),
                }
            }
            let tests = sources(&folder);
            for filter in filters {
                let is_there = tests.lines().any(|line| {
                    let name = line.split("fn ").nth(1).map(|rest| rest.split('(').next());
                    line.strip_prefix("// ")
                        .or(name.flatten())
                        .is_some_and(|it| it.contains(filter))
                });
                assert!(is_there, "{file}: {command}: nothing is called {filter}");
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count} commands");
}

/// The table of seeded bugs has a row for each, and no other.
/// A program with a client of another version would not compile.
#[test]
fn clients_have_the_versions_that_the_page_says() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect("read");
    let (page, manifest) = (read("docs/connections.md"), read("Cargo.toml"));
    let rows = page.split("| crate | version | used by |").nth(1).expect("a table");
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
    let said: Vec<_> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            (cells[1].to_string(), cells[2].to_string())
        })
        .collect();
    let clients = ["tokio-postgres", "postgres", "mysql_async", "mysql", "rusqlite", "sqlx"];
    let wanted = clients.map(|client| {
        let start = format!("\n{client} = {{ version = \"");
        let version = manifest.split(&start).nth(1).expect(client);
        let mut parts = version.split(['.', '"']);
        let major = parts.next().expect("a version");
        let mut minor = || format!("0.{}", parts.next().expect("a minor version"));
        (client.to_string(), if major == "0" { minor() } else { major.to_string() })
    });
    assert_eq!(said, wanted);
}

#[test]
fn every_seeded_bug_is_in_the_table() {
    let table = sources("tests/mutants/table") + &page("tests/mutants/table.rs");
    let names: BTreeSet<_> =
        table.split("name: \"").skip(1).filter_map(|it| it.split('"').next()).collect();
    let text = page("lock-core/MODEL.md");
    let rows =
        text.split("| bug | found by | after |\n").nth(1).and_then(|it| it.split("\n\n").next());
    let rows = rows.expect("a table").lines().skip(1);
    let rows: BTreeSet<_> =
        rows.filter_map(|row| row.split(" | ").next()?.strip_prefix("| ")).collect();
    assert_eq!(rows, names, "lock-core/MODEL.md beside tests/mutants");
}

/// How many crates each feature of a driver brings. Dependencies come and go, so a few more or less will do.
#[test]
fn features_bring_as_many_crates_as_the_front_pages_say() {
    for package in ["lock-sync", "lock-async"] {
        let front = page(&format!("{package}/src/lib.rs"));
        let rows = front.lines().filter(|line| line.starts_with("//! | ") && line.ends_with("|"));
        let rows: Vec<Vec<_>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
        let pools = if package == "lock-async" { 2 } else { 0 };
        assert_eq!(rows.len(), 6 + pools, "{package}: {rows:?}");
        let crates = |features: &str| {
            let tree = cargo()
                .args(["tree", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}"])
                .args(["--no-dedupe", "-p", package, "--features", features])
                .output()
                .expect("cargo runs");
            let tree = String::from_utf8_lossy(&tree.stdout);
            tree.lines().collect::<BTreeSet<_>>().len()
        };
        assert!(front.contains("`metrics` records") && front.contains("three crates more"));
        assert_eq!(crates("sqlite,metrics") - crates("sqlite"), 3, "{package}");
        for row in &rows[1..] {
            let feature =
                row[1].trim_matches('`').replace("all four", "sqlite,postgres,mysql,consul");
            let found = crates(&feature);
            let said: usize = row[3].parse().expect("a number");
            assert!(found.abs_diff(said) <= 5, "{package}: {feature} brings {found}, not {said}");
        }
    }
}

/// What a page has between single backticks, outside of its blocks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    let is_outside = |(at, _): &(usize, &str)| at % 2 == 0;
    let outside = text.split("```").enumerate().filter(is_outside).map(|(_, part)| part);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2))
}

pub(crate) fn page(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect("read")
}

/// The sources in a folder and below, each after a line with its path.
fn sources(folder: &str) -> String {
    let mut sources = String::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("read");
                let path = path.strip_prefix(root()).expect("below").with_extension("");
                sources += &format!("// {}\n{text}", path.display());
            }
        }
    }
    sources
}

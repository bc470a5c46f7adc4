//! What locks cost on real servers, each figure beside its floor from the same run: what the raw
//! driver needs for the least that must happen. `tests/bench` starts the servers and runs it.
//!
//! `bench [SECTION...]` runs only those sections: uncontended, handoff, throughput, held, fairness,
//! waiters.

mod floor;
mod handoff;
mod held;
mod throughput;
mod times;
mod uncontended;

use std::time::{SystemTime, UNIX_EPOCH};

/// A backend under test.
pub(crate) struct Backend {
    /// For people.
    pub(crate) name: &'static str,
    /// Where its locks are kept.
    pub(crate) url: String,
    /// What the floor is measured with.
    pub(crate) floor: floor::Kind,
}

/// A section's name, and what prints it.
type Section = (&'static str, fn(&[Backend]));

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |section: &str| wanted.is_empty() || wanted.iter().any(|one| one == section);
    let folder = tempfile::tempdir().expect("a folder");
    let backends = backends(folder.path());
    let sections: [Section; 6] = [
        ("uncontended", uncontended::run),
        ("handoff", handoff::run),
        ("fairness", handoff::fairness),
        ("waiters", handoff::waiters),
        ("throughput", throughput::run),
        ("held", held::run),
    ];
    for (section, run) in sections {
        if is_wanted(section) {
            run(&backends);
        }
    }
}

fn backends(folder: &std::path::Path) -> Vec<Backend> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_millis();
    let table = format!("bench_{now}");
    let mut backends = vec![Backend {
        name: "SQLite table",
        url: format!("sqlite:{}/locks.db", folder.display()),
        floor: floor::Kind::Sqlite(folder.join("floor.db")),
    }];
    let servers = [
        ("POSTGRES_URL", "PostgreSQL table", floor::Kind::Postgres as fn(String) -> floor::Kind),
        ("MYSQL_URL", "MySQL table", floor::Kind::Mysql),
        ("MARIADB_URL", "MariaDB table", floor::Kind::Mysql),
    ];
    for (variable, name, kind) in servers {
        let Ok(url) = std::env::var(variable) else {
            println!("{name} is not measured: {variable} is not set");
            continue;
        };
        let joint = if url.contains('?') { '&' } else { '?' };
        let floor = kind(url.clone());
        backends.push(Backend { name, url: format!("{url}{joint}table={table}"), floor });
    }
    backends
}

//! What locks cost on real servers, each figure beside its floor from the same run: what the raw
//! driver needs for the least that must happen. `tests/bench` starts the servers and runs it.
//!
//! `bench [SECTION...]` runs only those sections: uncontended, handoff, throughput, held, fairness,
//! waiters, crowd, pins. `bench peers` and `bench counts` have servers of their own.

mod crowd;
mod fairness;
mod floor;
mod handoff;
mod held;
mod ours;
mod peers;
mod pins;
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
    /// Whether a lock must be written to the disk.
    pub(crate) writes: bool,
}

impl Backend {
    /// The least that a lock and an unlock must cost.
    pub(crate) fn pair(&self, floor: &mut floor::Floor) {
        if self.writes {
            floor.write();
            floor.free();
        } else {
            floor.trip();
            floor.trip();
        }
    }
}

/// A section's name, and what prints it.
type Section = (&'static str, fn(&[Backend]));

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(fairness::CONTENDER) => return fairness::contend(&args.next().expect("a URL")),
        Some(peers::PAIRS) => return peers::make(args),
        Some("peers") => return peers::run(),
        Some("counts") => return peers::counts(),
        _ => {}
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |section: &str| wanted.is_empty() || wanted.iter().any(|one| one == section);
    let folder = tempfile::tempdir().expect("a folder");
    let backends = backends(folder.path());
    let sections: [Section; 8] = [
        ("uncontended", uncontended::run),
        ("handoff", handoff::run),
        ("fairness", fairness::run),
        ("waiters", handoff::waiters),
        ("crowd", crowd::run),
        ("throughput", throughput::run),
        ("held", held::run),
        ("pins", pins::run),
    ];
    for (section, run) in sections {
        if is_wanted(section) {
            run(&backends);
        }
    }
}

fn backends(folder: &std::path::Path) -> Vec<Backend> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_millis();
    let mut backends = vec![Backend {
        name: "SQLite table",
        url: format!("sqlite:{}/locks.db", folder.display()),
        floor: floor::Kind::Sqlite(folder.join("floor.db")),
        writes: true,
    }];
    type Make = fn(String) -> floor::Kind;
    let servers: [(&str, &str, &str, Make); 3] = [
        ("POSTGRES_URL", "PostgreSQL table", "PostgreSQL advisory", floor::Kind::Postgres),
        ("MYSQL_URL", "MySQL table", "MySQL advisory", floor::Kind::Mysql),
        ("MARIADB_URL", "MariaDB table", "MariaDB advisory", floor::Kind::Mysql),
    ];
    for (variable, table, advisory, kind) in servers {
        let Ok(url) = std::env::var(variable) else {
            println!("{table} is not measured: {variable} is not set");
            continue;
        };
        let joint = if url.contains('?') { '&' } else { '?' };
        // The raw drivers do not encrypt here, so neither do we.
        let with = |setting: &str| format!("{url}{joint}sslmode=disable&{setting}");
        let floor = || kind(url.clone());
        let url = with(&format!("table=bench_{now}"));
        backends.push(Backend { name: table, url, floor: floor(), writes: true });
        let url = with("protocol=advisory&waiting=64");
        backends.push(Backend { name: advisory, url, floor: floor(), writes: false });
    }
    match std::env::var("CONSUL_URL") {
        Ok(server) => backends.push(Backend {
            name: "Consul",
            url: format!("{}/bench-{now}", server.replacen("http", "consul", 1)),
            floor: floor::Kind::Consul(server),
            writes: true,
        }),
        Err(_) => println!("Consul is not measured: CONSUL_URL is not set"),
    }
    backends
}

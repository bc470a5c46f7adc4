//! Where locks are kept.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A place, and a table or prefix in it for this run.
pub(crate) struct Place {
    /// For people.
    pub(crate) name: &'static str,
    /// The URL of the locks.
    pub(crate) url: String,
}

/// SQLite, and the places on the servers that the environment names; only those with a name that contains one of `wanted`, if there are any.
pub(crate) fn all(folder: &Path, wanted: &[&str]) -> Vec<Place> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_millis();
    let file = folder.join("locks.db");
    let mut places =
        vec![Place { name: "SQLite table", url: format!("sqlite:{}?ttl=30s", file.display()) }];
    let servers = [
        ("POSTGRES_URL", "PostgreSQL table", "PostgreSQL advisory"),
        ("MYSQL_URL", "MySQL table", "MySQL advisory"),
        ("MARIADB_URL", "MariaDB table", "MariaDB advisory"),
    ];
    for (variable, table, advisory) in servers {
        if let Ok(url) = std::env::var(variable) {
            let url = format!("{url}{}ttl=30s", if url.contains('?') { '&' } else { '?' });
            places.push(Place { name: table, url: format!("{url}&table=soak_{now}") });
            places.push(Place { name: advisory, url: format!("{url}&protocol=advisory") });
        }
    }
    if let Ok(url) = std::env::var("CONSUL_URL") {
        let url = format!("{}/soak-{now}?ttl=30s", url.replacen("http", "consul", 1));
        places.push(Place { name: "Consul", url });
    }
    let is_wanted = |place: &Place| {
        let name = place.name.to_lowercase();
        wanted.is_empty() || wanted.iter().any(|one| name.contains(&one.to_lowercase()))
    };
    places.into_iter().filter(is_wanted).collect()
}

//! The places of trials, and the faults that can be had there.

use super::plan::Act;
use crate::place::{Keeps, Place};
use crate::proxy::server_of;
use crate::servers::{Kind, Server};
use std::time::Duration;

/// The names of all sites.
pub const ALL: [&str; 9] = [
    "sqlite",
    "postgres",
    "postgres-observed",
    "postgres-advisory",
    "mysql",
    "mysql-observed",
    "mariadb",
    "mariadb-observed",
    "consul",
];

/// A place with a server of its own.
pub struct Site {
    /// The place, without proxies.
    pub place: Place,
    /// The server. None for a file.
    pub server: Option<Server>,
    /// The TTL of its locks: a short one. A quarter of the time that a lease counts is enough for a request, also on a busy
    /// machine, or else nobody gets a lock.
    pub ttl: Duration,
    /// Whether the server's clock may be set.
    observed: bool,
}

impl Site {
    /// The site of this name, whose server is started.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn open(name: &str, ttl: Option<Duration>) -> Result<Self, String> {
        let [short, long] = [2, 10].map(|seconds| ttl.unwrap_or(Duration::from_secs(seconds)));
        let (server, observed) = match name {
            "sqlite" => {
                let place = Place::sqlite();
                return Ok(Self { place, server: None, ttl: short, observed: false });
            }
            // A server whose clock runs faster than ours, within what is promised.
            "postgres" => (Server::with_clock_at(Kind::Postgres, "+0 x1.1"), false),
            "mysql" => (Server::with_clock_at(Kind::Mysql, "+0 x1.1"), false),
            "mariadb" => (Server::with_clock_at(Kind::Mariadb, "+0 x1.1"), false),
            "postgres-observed" => (Server::with_clock(Kind::Postgres, 0), true),
            "mysql-observed" => (Server::with_clock(Kind::Mysql, 0), true),
            "mariadb-observed" => (Server::with_clock(Kind::Mariadb, 0), true),
            "postgres-advisory" => (Server::postgres(), false),
            "consul" => (Server::consul(), false),
            _ => return Err(format!("there is no place {name}; there are {}", ALL.join(", "))),
        };
        let (place, ttl) = match name {
            "postgres-advisory" => (Place::advisory_at(server.url()), short),
            "consul" => (Place::consul_at(server.url()), long),
            _ => (Place::at(server.url()), short),
        };
        Ok(Self { place, server: Some(server), ttl, observed })
    }

    /// The faults that can be had there, in networks that are namespaces or not.
    pub fn acts(&self, namespaces: bool) -> Vec<Act> {
        let mut acts = vec![Act::Kill, Act::Stop];
        let advisory = self.place.keeps() == Keeps::Advisory;
        // A connection that is reset frees its advisory locks before their holder knows.
        if self.server.is_some() && !advisory {
            acts.push(Act::Reset);
        }
        // Without namespaces, a cut ends with a reset.
        if self.server.is_some() && (namespaces || !advisory) {
            acts.extend([Act::CutBoth, Act::CutRequests, Act::CutAnswers]);
        }
        if self.server.is_some() {
            acts.extend([Act::Freeze, Act::Restart, Act::Crash]);
        }
        if self.observed {
            acts.push(Act::Clock);
        }
        acts
    }

    /// The server's host and port. None for a file.
    pub fn host(&self) -> Option<String> {
        self.server.as_ref().map(|_| server_of(self.place.url()))
    }

    /// The whole URL for a client that finds the server at `url`.
    pub fn url(&self, url: &str) -> String {
        let mut whole = self.place.through(url).whole_url();
        let mut add = |parameter: &str| {
            whole.push(if whole.contains('?') { '&' } else { '?' });
            whole.push_str(parameter);
        };
        add(&format!("ttl={}s", self.ttl.as_secs()));
        match self.place.url().split(':').next() {
            Some("sqlite") => {}
            Some("consul") => add("sslmode=disable"),
            _ => add("sslmode=prefer"),
        }
        if self.observed {
            add("expiry=observed");
        }
        whole
    }
}

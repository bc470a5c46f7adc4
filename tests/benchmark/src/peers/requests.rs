//! How many requests a server has carried out.

use super::Setting;
use super::peer::Peer;
use lock_tests::place::client;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Counts at the server of one peer.
pub(crate) enum Requests {
    Postgres(Box<postgres::Client>),
    Valkey(String),
    Etcd(String),
}

impl Requests {
    pub(crate) fn at(peer: Peer, setting: &Setting) -> Self {
        match peer {
            Peer::Rslock | Peer::EagerRslock => {
                Self::Valkey(setting.valkey.replacen("redis://", "", 1))
            }
            Peer::Etcd => Self::Etcd(format!("{}/metrics", setting.etcd)),
            _ => {
                let mut server = client(&setting.postgres);
                // Without it, nothing is counted.
                let _ = server.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
                Self::Postgres(Box::new(server))
            }
        }
    }

    /// Statements, commands (a script is one), or calls, if the server counts them.
    pub(crate) fn count(&mut self) -> Option<f64> {
        match self {
            Self::Postgres(server) => {
                let sum = "SELECT sum(calls)::float8 FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat%'";
                server.query_one(sum, &[]).ok()?.get(0)
            }
            Self::Valkey(server) => {
                let mut server = TcpStream::connect(server.as_str()).ok()?;
                server.write_all(b"INFO commandstats\r\nQUIT\r\n").ok()?;
                let mut told = String::new();
                server.read_to_string(&mut told).ok()?;
                let ours = ["cmdstat_set:", "cmdstat_eval:", "cmdstat_evalsha:"];
                let calls = told.lines().filter_map(|line| {
                    let rest = ours.iter().find_map(|one| line.strip_prefix(one))?;
                    rest.strip_prefix("calls=")?.split(',').next()?.parse::<f64>().ok()
                });
                Some(calls.sum())
            }
            Self::Etcd(url) => {
                let told = ureq::get(&*url).call().ok()?.into_body().read_to_string().ok()?;
                let lines =
                    told.lines().filter(|line| line.starts_with("grpc_server_handled_total"));
                Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
            }
        }
    }
}

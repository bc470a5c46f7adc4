//! Counts of the statements that a server ran, by the server itself.

use crate::place::{client, mysql_client};
use crate::servers::Server;
use mysql::prelude::Queryable;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A connection that counts the statements of a whole server, except its own.
pub enum Observer {
    /// Counts by the extension `pg_stat_statements`.
    Postgres(Box<postgres::Client>),
    /// Counts by the general log, in a table.
    Mysql(Box<mysql::Conn>),
    /// Counts by Consul's log, which is read over HTTP.
    Consul(Arc<Mutex<Vec<String>>>),
}

impl Observer {
    /// Begins to count.
    pub fn new(server: &Server) -> Self {
        let mut observer = if server.url().starts_with("http") {
            Self::Consul(log(server))
        } else if server.url().starts_with("postgres") {
            let mut observer = client(server.url());
            observer
                .batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
                .expect("the extension is there");
            Self::Postgres(Box::new(observer))
        } else {
            let mut observer = mysql_client(server.url());
            observer
                .query_drop("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = 1")
                .expect("it logs");
            Self::Mysql(Box::new(observer))
        };
        observer.reset();
        observer
    }

    /// Forgets what was counted.
    pub fn reset(&mut self) {
        match self {
            Self::Postgres(observer) => {
                observer.batch_execute("SELECT pg_stat_statements_reset()").expect("reset");
            }
            Self::Mysql(observer) => {
                observer.query_drop("TRUNCATE mysql.general_log").expect("reset");
            }
            Self::Consul(lines) => {
                settled(lines);
                lines.lock().expect("unpoisoned").clear();
            }
        }
    }

    /// Each statement, and how often it was run. A log that contains the parameters gives only the first line
    /// of a statement. Preparing is not counted.
    pub fn counted(&mut self) -> Vec<(String, i64)> {
        match self {
            Self::Postgres(observer) => {
                let query = "SELECT query, calls FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' ORDER BY query";
                let rows = observer.query(query, &[]).expect("counted");
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
            Self::Mysql(observer) => {
                let query = "SELECT SUBSTRING_INDEX(TRIM(LEADING '\\n' FROM CONVERT(argument USING utf8mb4)), '\\n', 1) AS line, COUNT(*) FROM mysql.general_log WHERE command_type IN ('Query', 'Execute') AND argument NOT LIKE '%general_log%' GROUP BY line ORDER BY line";
                observer.query(query).expect("counted")
            }
            Self::Consul(lines) => {
                settled(lines);
                let mut counted = BTreeMap::new();
                for line in &*lines.lock().expect("unpoisoned") {
                    let word = |name: &str| {
                        let rest = line.split(name).nth(1)?;
                        rest.split([' ', '?']).next()
                    };
                    let (method, url) = (word("method="), word("url="));
                    let what = format!("{} {}", method.unwrap_or(line), url.unwrap_or_default());
                    *counted.entry(what).or_default() += 1;
                }
                counted.into_iter().collect()
            }
        }
    }
}

/// The requests that Consul has answered, as they arrive.
fn log(server: &Server) -> Arc<Mutex<Vec<String>>> {
    let address = server.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let ask = "GET /v1/agent/monitor?loglevel=debug HTTP/1.0\r\n\r\n";
    stream.write_all(ask.as_bytes()).expect("sent");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let list = lines.clone();
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).expect("an answer");
    assert!(status.contains(" 200 "), "{status}");
    std::thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            if line.contains("Request finished") {
                list.lock().expect("unpoisoned").push(line);
            }
        }
    });
    // The log begins a moment after the request for it.
    std::thread::sleep(Duration::from_millis(500));
    lines
}

/// Waits until no more lines arrive.
fn settled(lines: &Mutex<Vec<String>>) {
    let count = || lines.lock().expect("unpoisoned").len();
    let mut before = usize::MAX;
    while count() != before {
        before = count();
        std::thread::sleep(Duration::from_millis(300));
    }
}

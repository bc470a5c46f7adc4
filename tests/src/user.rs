//! A connection of a user's program to the database that has the locks, and its transactions.

use crate::place::{Place, client, mysql_client};
use mysql::prelude::Queryable;
use postgres::SimpleQueryMessage;
use std::time::Duration;

/// The connection.
pub enum User {
    /// To PostgreSQL.
    Postgres(Box<postgres::Client>),
    /// To MySQL or MariaDB.
    Mysql(Box<mysql::Conn>),
    /// To SQLite's file.
    Sqlite(rusqlite::Connection),
}

impl User {
    /// Connects to the database of a place.
    pub fn of(place: &Place) -> Self {
        let url = place.url();
        if let Some(path) = url.strip_prefix("sqlite:") {
            let connection = rusqlite::Connection::open(path).expect("opened");
            connection.busy_timeout(Duration::from_secs(60)).expect("set");
            return Self::Sqlite(connection);
        }
        if url.starts_with("postgres") {
            return Self::Postgres(Box::new(client(url)));
        }
        Self::Mysql(Box::new(mysql_client(url)))
    }

    /// Runs one statement. Returns the first column of its rows.
    ///
    /// # Errors
    /// The server's error, with its code.
    pub fn run(&mut self, sql: &str) -> Result<Vec<i64>, String> {
        match self {
            Self::Postgres(client) => {
                let told = client.simple_query(sql).map_err(|error| {
                    let code = error.code().map(|code| code.code().to_string());
                    format!("{}: {error:?}", code.unwrap_or_default())
                })?;
                let first = |message: &SimpleQueryMessage| match message {
                    SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
                    _ => None,
                };
                Ok(told.iter().filter_map(first).collect())
            }
            Self::Mysql(conn) => conn.query(sql).map_err(|error| error.to_string()),
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare(sql).map_err(|error| error.to_string())?;
                let mut rows = statement.query([]).map_err(|error| error.to_string())?;
                let mut all = Vec::new();
                while let Some(row) = rows.next().map_err(|error| error.to_string())? {
                    all.push(row.get(0).map_err(|error| error.to_string())?);
                }
                Ok(all)
            }
        }
    }

    /// The same, which must succeed.
    pub fn does(&mut self, sql: &str) -> Vec<i64> {
        self.run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Begins a transaction in which it may write.
    pub fn begin(&mut self) {
        match self {
            Self::Sqlite(_) => self.does("BEGIN IMMEDIATE"),
            _ => self.does("BEGIN"),
        };
    }
}

//! What a server ran, counted there.

use crate::place::{client, mysql_client};
use crate::servers::Server;
use mysql::prelude::Queryable;

/// A connection that counts the statements of a whole server, except its own.
pub enum Observer {
    /// By the extension `pg_stat_statements`.
    Postgres(Box<postgres::Client>),
    /// By the general log, kept in a table.
    Mysql(Box<mysql::Conn>),
}

impl Observer {
    /// Begins to count.
    pub fn new(server: &Server) -> Self {
        let mut observer = if server.url().starts_with("postgres") {
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
        }
    }

    /// Each statement, or its first line where it is logged with what it is about, and how often it
    /// was run.
    pub fn counted(&mut self) -> Vec<(String, i64)> {
        match self {
            Self::Postgres(observer) => {
                let query = "SELECT query, calls FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' ORDER BY query";
                let rows = observer.query(query, &[]).expect("counted");
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
            Self::Mysql(observer) => {
                let query = "SELECT SUBSTRING_INDEX(TRIM(LEADING '\\n' FROM CONVERT(argument USING utf8mb4)), '\\n', 1) AS line, COUNT(*) FROM mysql.general_log WHERE command_type NOT IN ('Connect', 'Quit') AND argument NOT LIKE '%general_log%' GROUP BY line ORDER BY line";
                observer.query(query).expect("counted")
            }
        }
    }
}

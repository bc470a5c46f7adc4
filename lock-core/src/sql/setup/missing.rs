//! A table that is not there: it is made for locks, and told of to those that only look.

use super::{MOST, Setup, Stage, Step};
use crate::error::Failure;
use crate::sql::{Dialect, Refusal, mysql, rights, sqlite};
use alloc::string::{String, ToString};
use alloc::vec;

impl Setup {
    pub(super) fn table_missing(&mut self) -> Step {
        match (self.codec.creates, &self.codec.dialect) {
            (true, _) => {}
            // MySQL's catalogue hides what the user has no rights on.
            (false, Dialect::Mysql { .. }) => return self.run(Stage::Probe, mysql::PROBE, vec![]),
            (false, _) => return self.nothing_there(),
        }
        self.again += 1;
        if self.again > MOST {
            let gone = "it is not there after it was created".to_string();
            return self.no_table(&Failure::refused(gone));
        }
        match self.codec.dialect {
            Dialect::Postgres { .. }
            | Dialect::Mysql { .. }
            | Dialect::Sqlite { log: false, .. } => self.create(),
            Dialect::Sqlite { .. } => self.run(Stage::Journal, sqlite::JOURNAL, vec![]),
        }
    }

    /// It was made since it was looked for.
    pub(super) fn appeared(&mut self) -> Step {
        self.again += 1;
        if self.again > MOST { Step::Refuse(Refusal::UnexpectedResponse) } else { self.check() }
    }

    pub(super) fn nothing_there(&self) -> Step {
        Step::Refuse(Refusal::NothingThere(self.quoted()))
    }

    pub(super) fn create(&mut self) -> Step {
        self.run(Stage::Create, self.codec.creation(), vec![])
    }

    pub(super) fn no_table(&self, failure: &Failure) -> Step {
        Step::Refuse(Refusal::NoTable {
            table: self.quoted(),
            reason: failure.to_string(),
            grant: match rights::is_denied(failure) {
                true => self.codec.grant(rights::CREATE) + ", or ",
                false => String::new(),
            },
            ddl: one_line(&self.codec.create_table()),
        })
    }
}

/// A statement without its comments and line breaks.
fn one_line(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or("").trim());
    lines.filter(|line| !line.is_empty()).collect::<vec::Vec<_>>().join(" ")
}

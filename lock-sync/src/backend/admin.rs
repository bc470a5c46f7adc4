//! An operator's questions about a lock table.

use super::{Session, SqlTable};
use crate::admin::Ask;
use crate::clock;
use crate::error::Error;
use lock_core::admin::{Answer, Question};
use lock_core::sql::Codec;
use std::time::Duration;

/// A lock table, and how long each statement about it may take.
pub(crate) struct TableAdmin<S> {
    table: SqlTable<S>,
    budget: Duration,
}

impl<S: Session> TableAdmin<S> {
    pub(crate) fn open(codec: Codec, session: S, budget: Duration) -> Result<Self, Error> {
        Ok(Self { table: SqlTable::open(codec, session, budget)?, budget })
    }
}

impl<S: Session> Ask for TableAdmin<S> {
    fn ask(&mut self, question: &Question) -> Result<Answer, Error> {
        let Self { table, budget } = self;
        table.ready(|| *budget)?;
        let mut rows = Vec::new();
        for statement in table.codec.ask(question, clock::now()) {
            let ran = table.run(&statement, *budget);
            rows = match ran.as_ref().err().and_then(|why| table.codec.ask_untold(question, why)) {
                Some(statement) => table.run(&statement, *budget)?,
                None => ran?,
            };
        }
        Ok(table.codec.answer(question, rows)?)
    }
}

//! Which statements are prepared on a connection to a server, and when.
//!
//! ```text
//!              1st run         2nd run                 from then on
//! repeated     text            prepare, execute        execute
//!                                 │  ▲                    │ forgotten: not run
//!                                 │  └──── the 1st time ──┤
//!                                 └── not possible ──▶  text, for as long as the connection lasts
//! all others   text            text                    text
//! ```
//!
//! Preparing takes a round trip of its own, so that who takes one lock and ends pays nothing for it, and
//! executing saves the server the parsing. Where a proxy or the server's limits leave no way to it, each
//! statement means the same as text.
//!
//! Nothing is prepared when the time that is left is not enough for two answers, each as slow as the last
//! one: the statement is sent as text, and prepared another time. So a link that became slow loses no lease
//! to a prepare that was meant to save time.
//!
//! | code | meaning |
//! |---|---|
//! | PostgreSQL 26000, MySQL 1243 | the server has no such prepared statement: `DISCARD ALL`, `DEALLOCATE`, a pooler |
//! | PostgreSQL 0A000, MySQL 1615 | the table was changed since, and the statement cannot be planned anew |
//! | PostgreSQL 42P05, MySQL 1461 | it cannot be prepared: a pooler has one of that name, there are too many |

use super::Statement;
use crate::error::{Code, Failure};
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::time::Duration;

/// The repeated texts that were run on one connection. They are few, and stay prepared until it ends.
/// `S` is what the client has of a statement that is prepared.
#[derive(Clone, Debug)]
pub struct Prepared<S> {
    forms: BTreeMap<Arc<str>, Form<S>>,
    /// How long the last answer took.
    round_trip: Duration,
}

/// The next step for a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run<S> {
    /// Send it as text: on PostgreSQL unnamed, on MySQL with its parameters [put
    /// in](super::mysql::inline). That was it.
    Text,
    /// Have its text prepared, and [say](Prepared::prepared) how that went.
    Prepare,
    /// Execute this with its parameters. That was it, unless it [was lost](Prepared::was_lost).
    Execute(S),
}

#[derive(Clone, Debug)]
enum Form<S> {
    Once,
    Prepared(S),
    /// The server forgot it once.
    Lost,
    Anew(S),
    Text,
}

impl<S> Default for Prepared<S> {
    fn default() -> Self {
        Self { forms: BTreeMap::new(), round_trip: Duration::ZERO }
    }
}

impl<S: Clone> Prepared<S> {
    /// How `statement` is to be run with so much time `left`. A driver asks until it has run it: four times
    /// more at the most.
    pub fn run(&mut self, statement: &Statement, left: Duration) -> Run<S> {
        if !statement.repeated {
            return Run::Text;
        }
        match self.forms.get(&statement.text) {
            None => {
                self.forms.insert(statement.text.clone(), Form::Once);
                Run::Text
            }
            Some(Form::Once | Form::Lost) if self.round_trip * 2 > left => Run::Text,
            Some(Form::Once | Form::Lost) => Run::Prepare,
            Some(Form::Prepared(prepared) | Form::Anew(prepared)) => Run::Execute(prepared.clone()),
            Some(Form::Text) => Run::Text,
        }
    }

    /// The server answered after `took` that it has run a statement.
    pub fn ran(&mut self, took: Duration) {
        self.round_trip = took;
    }

    /// The server has prepared `statement`, or would not, and answered after `took`; so much time is `left`.
    ///
    /// # Errors
    ///
    /// `result`'s own, if the connection broke over it, or the server could not do it just now: nothing
    /// was run. [`Failure::NotSent`] if no time is left for another answer: the next time, it is executed at
    /// once. All else is no error: if the text itself is at fault, it will fail by itself.
    pub fn prepared(
        &mut self,
        statement: &Statement,
        result: Result<S, Failure>,
        took: Duration,
        left: Duration,
    ) -> Result<(), Failure> {
        let was_lost = matches!(self.forms.get(&statement.text), Some(Form::Lost));
        let form = match result {
            Ok(prepared) if was_lost => Form::Anew(prepared),
            Ok(prepared) => Form::Prepared(prepared),
            Err(failure @ (Failure::Unknown(_) | Failure::Rejected { retry: true, .. })) => {
                return Err(failure);
            }
            Err(_) => Form::Text,
        };
        self.forms.insert(statement.text.clone(), form);
        self.round_trip = took;
        if took > left {
            return Err(Failure::NotSent("no answer in time".to_string()));
        }
        Ok(())
    }

    /// Whether `failure` says that `statement` was not run only because it is not prepared, or no longer
    /// as it would have to be. Then it is to be [run](Self::run) again.
    pub fn was_lost(&mut self, statement: &Statement, failure: &Failure) -> bool {
        let forgotten = match failure.code() {
            Some(Code::SqlState(state)) => matches!(&state, b"26000" | b"0A000"),
            Some(Code::Mysql(number)) => matches!(number, 1243 | 1615),
            _ => false,
        };
        let next = match self.forms.get(&statement.text) {
            Some(Form::Prepared(_)) if forgotten => Form::Lost,
            Some(Form::Anew(_)) if forgotten => Form::Text,
            _ => return false,
        };
        self.forms.insert(statement.text.clone(), next);
        true
    }
}

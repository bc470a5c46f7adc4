//! Which statements are prepared on a connection, and when.
//!
//! ```text
//!              1st run         2nd run                 from then on
//! repeated     text            prepare, execute        execute
//!                                 │                       │ 1243, 1615: not run
//!                                 └── not possible ──▶  text, for as long as the connection lasts
//! all others   text            text                    text
//! ```
//!
//! Preparing takes a round trip of its own, so that who takes one lock and ends pays nothing for it, and
//! executing saves the server the parsing. Where a proxy or the server's limits
//! (`max_prepared_stmt_count`) leave no way to it, each statement means the same as text.

use super::super::Statement;
use crate::error::Failure;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// The repeated texts that were run on one connection. They are few, and stay prepared until it ends.
/// `S` is what the client has of a statement that is prepared.
#[derive(Clone, Debug)]
pub struct Prepared<S>(BTreeMap<Arc<str>, Form<S>>);

/// What is to be done with a statement next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run<S> {
    /// Send it as text, with its parameters [put in](super::inline). That was it.
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
    Text,
}

impl<S> Default for Prepared<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<S: Clone> Prepared<S> {
    /// How `statement` is to be run. A driver asks until it has run it: twice more at the most.
    pub fn run(&mut self, statement: &Statement) -> Run<S> {
        if !statement.repeated {
            return Run::Text;
        }
        match self.0.get(&statement.text) {
            None => {
                self.0.insert(statement.text.clone(), Form::Once);
                Run::Text
            }
            Some(Form::Once) => Run::Prepare,
            Some(Form::Prepared(prepared)) => Run::Execute(prepared.clone()),
            Some(Form::Text) => Run::Text,
        }
    }

    /// The server has prepared `statement`, or would not.
    ///
    /// # Errors
    ///
    /// `result`'s own, if the connection broke over it. All else is no error: if the text itself is at
    /// fault, it will fail by itself.
    pub fn prepared(
        &mut self,
        statement: &Statement,
        result: Result<S, Failure>,
    ) -> Result<(), Failure> {
        let form = match result {
            Ok(prepared) => Form::Prepared(prepared),
            Err(failure @ Failure::Unknown(_)) => return Err(failure),
            Err(_) => Form::Text,
        };
        self.0.insert(statement.text.clone(), form);
        Ok(())
    }

    /// Whether the server's error says that `statement` was not run only because it is not prepared: it
    /// was forgotten on the way (1243), or the server, which prepares it anew when the table was changed,
    /// gave that up (1615). Then it is to be [run](Self::run) again, as text.
    pub fn was_lost(&mut self, statement: &Statement, code: Option<u16>) -> bool {
        match self.0.get_mut(&statement.text) {
            Some(form @ Form::Prepared(_)) if matches!(code, Some(1243 | 1615)) => {
                *form = Form::Text;
                true
            }
            _ => false,
        }
    }
}

//! The rights that an account lacks, and the statement that grants them.

use super::{Codec, Dialect};
use crate::error::{Code, Failure};
use alloc::format;
use alloc::string::String;

/// The rights that requests about locks need.
pub(super) const COMMANDS: &str = "SELECT, INSERT, UPDATE";

/// The same where a release deletes the lock's row.
const DELETING: &str = "SELECT, INSERT, UPDATE, DELETE";

/// The right that creating the table needs.
pub(super) const CREATE: &str = "CREATE";

/// Whether the server says that the account may not do that.
pub(super) fn is_denied(failure: &Failure) -> bool {
    match failure.code() {
        Some(Code::SqlState(state)) => state == *b"42501",
        // A database, a table, a column, a privilege.
        Some(Code::Mysql(number)) => matches!(number, 1044 | 1142 | 1143 | 1227),
        _ => false,
    }
}

impl Codec {
    /// The failure, with the statement that would help if it is one of missing rights.
    pub(super) fn explain(&self, failure: Failure, rights: &str) -> Failure {
        let denied = self.account.is_some() && is_denied(&failure);
        match failure {
            Failure::Rejected { retry, code, message } if denied => {
                let message = format!("{message}; to allow it: {}", self.grant(rights));
                Failure::Rejected { retry, code, message }
            }
            other => other,
        }
    }

    /// The statement that gives the account these rights.
    pub(super) fn grant(&self, rights: &str) -> String {
        let deletes = self.terms.fleet.is_some() && rights.contains("UPDATE");
        let rights = if deletes { DELETING } else { rights };
        let table = self.dialect.quoted(&self.table);
        let schema = self.table.parts().0.unwrap_or("public");
        match &self.dialect {
            Dialect::Mysql { .. } => {
                let account = self.account.as_deref().unwrap_or("...");
                let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
                let literal = |part: &str| format!("'{}'", part.replace('\'', "''"));
                let account = format!("{}@{}", literal(user), literal(host));
                // The right to create the table is of no use alone.
                let rights =
                    if rights == CREATE { format!("{CREATE}, {COMMANDS}") } else { rights.into() };
                format!("GRANT {rights} ON {table} TO {account}")
            }
            _ => {
                let role = self.account.as_deref().unwrap_or("...").replace('"', "\"\"");
                if rights == CREATE {
                    return format!("GRANT USAGE, CREATE ON SCHEMA \"{schema}\" TO \"{role}\"");
                }
                format!(
                    "GRANT USAGE ON SCHEMA \"{schema}\" TO \"{role}\"; GRANT {rights} ON {table} TO \"{role}\""
                )
            }
        }
    }
}

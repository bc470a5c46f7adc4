//! The rights that an account lacks, and the statement that grants them.

use super::{Codec, Dialect};
use crate::error::{Code, Failure};
use alloc::format;
use alloc::string::{String, ToString};

/// The rights that requests about locks need.
pub(super) const COMMANDS: &str = "SELECT, INSERT, UPDATE";

/// The same where a release deletes the lock's row.
const DELETING: &str = "SELECT, INSERT, UPDATE, DELETE";

/// The right that creating the table needs.
pub(super) const CREATE: &str = "CREATE";

/// What to do where the table's row-level security denies a row. No right would help.
const BY_POLICY: &str = "let the role bypass the table's row-level security (ALTER ROLE ... BYPASSRLS), or disable it (ALTER TABLE ... DISABLE ROW LEVEL SECURITY)";

/// Whether the server says that the account may not do that.
pub(super) fn is_denied(failure: &Failure) -> bool {
    match failure.code() {
        Some(Code::SqlState(state)) => state == *b"42501",
        // A database, a table, a column, a privilege.
        Some(Code::Mysql(number)) => matches!(number, 1044 | 1142 | 1143 | 1227),
        _ => false,
    }
}

/// Whether row-level security denied it, whose SQLSTATE is that of a missing right. Only the text tells, in English.
fn is_by_policy(message: &str) -> bool {
    message.contains("row-level security")
}

impl Codec {
    /// The failure, with the statement that would help if it is one of missing rights.
    pub(super) fn explain(&self, failure: Failure, rights: &str) -> Failure {
        let denied = self.account.is_some() && is_denied(&failure);
        match failure {
            Failure::Rejected { retry, code, message } if denied => {
                let help = match is_by_policy(&message) {
                    true => BY_POLICY.to_string(),
                    false => self.grant(rights),
                };
                let message = format!("{message}; to allow it: {help}");
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

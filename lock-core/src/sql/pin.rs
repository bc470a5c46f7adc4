//! The statements that [pin](crate::PinStatement) a row.

use super::{Codec, Dialect, Statement, Value, mysql, postgres};
use crate::fence::Fence;
use crate::name::LockName;
use crate::pin::{NotPinnable, PinParam, PinStatement};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// `$1` the name, `$2` the fence.
///
/// A renewal or a release writes no column of the key, and passes this lock. A claim names the key, and waits for it: see
/// `CLAIM` in `postgres.rs`. `FOR SHARE` would hold up the holder's own renewals.
const POSTGRES: &str = r#"
SELECT fence
  FROM {table}
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
   FOR KEY SHARE"#;

/// `?1` the name, `?2` the fence.
///
/// It writes, so that the transaction has the file's write lock from here on, however it began. A transaction that has
/// read before, and whose view is out of date, fails here.
const SQLITE: &str = r#"
UPDATE {table}
   SET fence = fence
 WHERE name = ?1 AND fence = ?2 AND owner IS NOT NULL
RETURNING fence"#;

/// The name, the fence, and both again.
///
/// A locking read goes by the last grant, whatever else the transaction sees. So the grant is looked for in what the
/// transaction sees, too: a subquery locks nothing, and reads as all that follows will. A transaction that has read
/// before, and whose view is older than the grant, must not go on with it. (At SERIALIZABLE every read locks: the subquery
/// does so, too, and by the index it holds up no renewal.)
///
/// The index has all that is read, so a shared lock is on the index's record alone. A renewal or a release changes no
/// column of the index, and passes; a grant changes the fence, and waits. The owner is in no index: reading it would lock
/// the row.
///
/// Claims of other names pass, also at REPEATABLE READ. There, MySQL locks no gap besides a record of a unique index, and
/// MariaDB the one before the record. The fence comes first in the index, so no claim ever has to do with that gap: its
/// fence is a new one, which goes to the end.
const MYSQL: &str = r#"
SELECT fence
  FROM {table} FORCE INDEX (pin)
 WHERE name = ? AND fence = ?
   AND (SELECT COUNT(*) FROM {table} AS seen FORCE INDEX (pin) WHERE seen.name = ? AND seen.fence = ?) = 1
  LOCK IN SHARE MODE"#;

/// Adds the index to a table that was made without it.
const ADD_INDEX: &str = "ALTER TABLE {table} ADD UNIQUE KEY pin (fence, name)";

/// The server's error for an index that a table does not have.
const NO_SUCH_INDEX: u16 = 1176;

impl Codec {
    /// The statement that pins the lock `name` for the holder that was granted `fence`. It returns one row if the lock
    /// is pinned, and none if the transaction sees no such grant: see [`PinError::Unseen`](crate::PinError::Unseen).
    pub fn pin(&self, name: &LockName, fence: Fence) -> PinStatement {
        self.pin_in(&self.dialect.quoted(&self.table), name, fence)
    }

    /// The same for a connection of SQLite's that calls the file's database `database`.
    pub fn pin_within(&self, database: &str, name: &LockName, fence: Fence) -> PinStatement {
        let table = self.table.parts().1;
        self.pin_in(&format!("\"{}\".\"{table}\"", database.replace('"', "\"\"")), name, fence)
    }

    fn pin_in(&self, table: &str, name: &LockName, fence: Fence) -> PinStatement {
        let number = i64::try_from(fence.get()).unwrap_or(i64::MAX);
        let text = |text: &str| text.trim_start().replace("{table}", table);
        let (text, name_as) = match self.dialect {
            Dialect::Postgres { .. } => (text(POSTGRES), PinParam::Text(name.to_string())),
            Dialect::Sqlite { .. } => (text(SQLITE), PinParam::Text(name.to_string())),
            Dialect::Mysql { .. } => (text(MYSQL), PinParam::Bytes(name.as_str().into())),
        };
        let mut params = Vec::from([name_as, PinParam::Int(number)]);
        if let Dialect::Mysql { .. } = self.dialect {
            params.extend_from_within(..);
        }
        let inlined = self.inlined(&text, name, number);
        PinStatement { text: text.into(), params, inlined }
    }

    fn inlined(&self, text: &str, name: &LockName, fence: i64) -> String {
        let mut params = Vec::from([Value::Text(name.to_string()), Value::Int(fence)]);
        match self.dialect {
            Dialect::Postgres { .. } => postgres::inline(&Statement::new(text, params)),
            Dialect::Mysql { .. } => {
                params.extend_from_within(..);
                mysql::inline(&Statement::new(text, params))
            }
            Dialect::Sqlite { .. } => {
                // A name has no NUL, and in SQLite a backslash is a character like any other.
                let name = format!("'{}'", name.as_str().replace('\'', "''"));
                text.replace("?2", &fence.to_string()).replace("?1", &name)
            }
        }
    }

    /// Whether a pin means anything where the table is, as far as a [setup](super::Setup) found out.
    ///
    /// # Errors
    /// [`NotPinnable::Cluster`], [`NotPinnable::InPeersTable`].
    pub fn check_pins(&self) -> Result<(), NotPinnable> {
        match (self.terms.cluster, self.terms.fleet) {
            (true, _) => Err(NotPinnable::Cluster),
            (_, Some(_)) => Err(NotPinnable::InPeersTable),
            _ => Ok(()),
        }
    }

    /// The database that the codec is for, for people.
    pub fn database(&self) -> &'static str {
        match self.dialect {
            Dialect::Postgres { .. } => "PostgreSQL",
            Dialect::Sqlite { .. } => "SQLite",
            Dialect::Mysql { .. } => "MySQL or MariaDB",
        }
    }

    /// Why a pin failed with this number of an error of MySQL's or MariaDB's, if it is the table's fault.
    pub fn not_pinnable(&self, error: u16) -> Option<NotPinnable> {
        let ddl = || self.dialect.text(ADD_INDEX, &self.table);
        (error == NO_SUCH_INDEX).then(|| NotPinnable::NoIndex { ddl: ddl() })
    }
}

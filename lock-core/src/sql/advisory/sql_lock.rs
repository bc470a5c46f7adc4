//! The row locks of the npm package `sql-lock`, on MySQL, from version 8.0, and MariaDB, from 10.6, for a fleet in which both are
//! used.
//!
//! * A lock is an open transaction that has locked a row of the table `lockings`, in the connection's database. So each lock
//!   takes a connection of its own, for as long as it is held.
//! * The package waits in the server's queue for the row, and so do we, for whole seconds: a shorter time is not waited,
//!   but tried. A try locks the row unless somebody has it. Where there is no row, an `INSERT` makes it, and waits for a second if
//!   somebody else makes the same one.
//! * Each transaction ends with `COMMIT`, also one that was denied. To roll back a row that was inserted makes deadlocks among those
//!   that wait for it.
//! * Rows stay, unless the package deletes them after its releases. A `DELETE` of ours would wait behind all that
//!   want the lock.
//! * The server ends a connection that is silent for a TTL, and so its transaction. In a transaction, MariaDB may have another limit for
//!   that, which is set aside.
//! * A fence is the server's clock in µs, read when the row is locked: the table has no column for one.
//! * Names that are equal by the column's collation are one lock, in upper and lower case, say. No two are locked
//!   on one connection, so that the server excludes them everywhere.

mod exchange;

use super::{Codec, Dialect, mysql};
use crate::advisory;
use crate::capabilities::{Capabilities, Sessions};
use crate::sql::Text;
use alloc::string::String;

pub(super) use exchange::Stage;

/// The codec for the package's table.
pub fn codec() -> Codec {
    let [lock, same] = [LOCK, SAME].map(|text| mysql::text(text, mysql::CLAIM));
    let nothing = || Text { any: "".into(), one: None };
    let lock = Text { any: lock.into(), one: None };
    let texts = [String::new(), same, mysql::text(mysql::KEEP, mysql::CLAIM)];
    Codec::new(Dialect::SqlLock, [lock, nothing()], texts)
}

/// A connection for each lock, and for each attempt. The server tells nobody who has a lock; attempts that wait for each other in
/// one process are told the `label`.
pub fn capabilities(label: Option<&str>) -> Capabilities {
    let sessions = Sessions::Connections { waiting: 0, one_lock: true };
    let known = advisory::capabilities(0, label);
    Capabilities { shared: false, batch: 1, sessions: Some(sessions), ..known }
}

/// The table, for messages.
pub(super) const TABLE: &str = "`lockings`";

/// The table as the package creates it.
pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS `lockings` (`id` VARCHAR(255), `createdAt` DATETIME NOT NULL, `updatedAt` DATETIME NOT NULL, PRIMARY KEY (`id`)) ENGINE=InnoDB";

/// One row: the table's engine, its columns, and 1 if its key is the name alone, and all of it.
pub(super) const CHECK: &str = "SELECT \
     (SELECT COALESCE(engine, table_type) FROM information_schema.tables \
       WHERE table_schema = DATABASE() AND table_name = 'lockings'), \
     (SELECT GROUP_CONCAT(column_name ORDER BY column_name SEPARATOR ', ') FROM information_schema.columns \
       WHERE table_schema = DATABASE() AND table_name = 'lockings' AND column_name IN ('id', 'createdAt', 'updatedAt')), \
     (SELECT CAST(SUM(IF(column_name = 'id' AND sub_part IS NULL, 1, 2)) AS SIGNED) FROM information_schema.statistics \
       WHERE table_schema = DATABASE() AND table_name = 'lockings' AND index_name = 'PRIMARY')";

/// The columns that [`CREATE`] makes, as [`CHECK`] reports them. Others are nobody's business.
pub(super) const COLUMNS: &str = "createdAt, id, updatedAt";

/// A session's settings besides those of advisory locks: a statement locks nothing but the row that is meant, and
/// `wait_timeout` counts in a transaction, too.
pub(super) const SESSION: &str = ", lock_wait_timeout = 5 \
     /*!80000 , SESSION transaction_isolation = 'READ-COMMITTED', SESSION transaction_read_only = 0 */ \
     /*M! , SESSION tx_isolation = 'READ-COMMITTED', SESSION tx_read_only = 0, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, idle_write_transaction_timeout = 0 */";

/// From now on, a locked row stays locked until a `COMMIT`.
pub(super) const OPEN: &str = "SET autocommit = 0";

/// The session, the time before which nothing is granted, a name. Place and fence, or why there is none; no row if there is
/// none in the table. Fails if somebody else has the row.
const LOCK: &str = "SELECT 1, CAST(IF({same}, IF({writable}, IF({now} >= ?, {now}, -1), -2), -3) AS SIGNED) FROM `lockings` WHERE `id` = ? FOR UPDATE NOWAIT";

/// In whole seconds, how long an `INSERT` waits for a row.
const LIMIT: &str = "SET innodb_lock_wait_timeout = ?";

/// A name. Locks its row, after making it if there is none.
const INSERT: &str = "INSERT INTO `lockings` (`id`, `createdAt`, `updatedAt`) VALUES (?, UTC_TIMESTAMP(), UTC_TIMESTAMP()) ON DUPLICATE KEY UPDATE `id` = `id`";

/// The session. 1 if this is its connection.
const SAME: &str = "SELECT COALESCE({same}, 0)";

/// Ends the transaction, and so the lock.
const COMMIT: &str = "COMMIT AND NO CHAIN NO RELEASE";

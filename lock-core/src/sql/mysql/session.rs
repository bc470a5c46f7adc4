//! What a session is told before it serves requests.

use crate::error::{Code, Failure};

/// Ends what `init_connect` may have begun.
pub(in crate::sql) const ROLLBACK: &str = "ROLLBACK AND NO CHAIN NO RELEASE";

/// Fails with 1568 if the connection is inside a transaction, and else changes nothing that matters.
pub(in crate::sql) const INSIDE: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Whether [`INSIDE`] failed because there is a transaction.
pub(in crate::sql) fn is_inside(failure: &Failure) -> bool {
    failure.code() == Some(Code::Mysql(1568))
}

/// The server's number for the connection on which this arrives. A limit of its own goes before that of the session.
pub(in crate::sql) const KNOWN: &str = "SELECT CAST(CONNECTION_ID() AS SIGNED) LIMIT 1";

/// After so many seconds, the server ends a statement that waits for a row, or for the table's definition. It cuts off no
/// result, and refuses none as too large (`max_join_size`).
macro_rules! limits {
    () => {
        "innodb_lock_wait_timeout = 1, lock_wait_timeout = 5, \
         sql_select_limit = 18446744073709551615, sql_big_selects = 1, group_concat_max_len = 1024"
    };
}
/// The limits of statements that wait, and of results, for a session that has other settings of its own.
pub const LIMITS: &str = limits!();

/// The session's settings, in place of the server's, the user's or `init_connect`'s. Each statement commits by
/// itself, and locks nothing but the rows that are meant. The server ends a statement that waits for a row or for
/// the table's definition, no other, and cuts off no result. The two kinds of server call three settings differently, and
/// read each other's as comments.
pub(in crate::sql) const SESSION: &str = concat!(
    "SET NAMES utf8mb4, autocommit = 1, completion_type = 0, sql_mode = 'STRICT_TRANS_TABLES', time_zone = '+00:00', ",
    limits!(),
    ", sql_safe_updates = 0 \
     /*!80000 , SESSION transaction_isolation = 'READ-COMMITTED', SESSION transaction_read_only = 0, SESSION max_execution_time = 0 */ \
     /*M! , SESSION tx_isolation = 'READ-COMMITTED', SESSION tx_read_only = 0, max_statement_time = 0 */"
);

/// Has the session go by the server's clock. Where only some accounts may set its time, this is refused, and nobody else has.
pub(in crate::sql) const CLOCK: &str = "SET SESSION timestamp = DEFAULT";

/// The setting of a session on a node of a Galera cluster: each statement sees what was committed at the other nodes
/// before it.
pub(in crate::sql) const SYNCED: &str = "SET SESSION wsrep_sync_wait = 7";

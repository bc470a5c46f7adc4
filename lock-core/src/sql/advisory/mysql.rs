//! MySQL, from version 8.0, and MariaDB, from 10.6: the same statements serve both.
//!
//! * `GET_LOCK` says 1, 0, or NULL for an error; `ELT` makes the clock's time, 0 and NULL of that. It
//!   evaluates its first argument once, and of the others only the one that is wanted: the clock is
//!   read when the lock is there.
//! * `SYSDATE(6)` is the time when it is evaluated, where the other functions give that of the
//!   statement's start; so it is unless the server was told otherwise, which is refused.
//! * MariaDB waits for fractions of a second. MySQL rounds them: it is given whole seconds, and a time
//!   limit for the statement. When that ends a wait, the lock may have been granted in the last
//!   moment. To MariaDB the limit is a comment.
//! * The server counts how often a connection took a lock. There are no shared locks.
//! * A connection that waits is not idle: `wait_timeout` does not end it.
//! * Statements are sent as text or prepared, as [those for a table](crate::sql::mysql) are. The one that
//!   waits cannot be prepared: there is no parameter in a hint.

use super::key::Digest;
use super::{Codec, Dialect, Prefix, millis};
use crate::error::{Code, Failure};
use crate::request::Claim;
use crate::sql::{Text, Value};
use alloc::string::String;
use core::time::Duration;

/// The codec for locks whose names begin with `prefix`.
pub fn codec(prefix: Prefix) -> Codec {
    let claims = |of: &str| {
        let [any, one] = [CLAIMS, CLAIM].map(|claims| text(of, claims));
        Text { any: any.into(), one: Some(one.into()) }
    };
    let texts = [WAIT, HELD, KEEP].map(|of| text(of, CLAIMS));
    Codec::new(Dialect::Mysql(prefix), [claims(TRY), claims(UNLOCK)], texts)
}

pub(super) fn text(text: &str, [place, name, from]: [&str; 3]) -> String {
    text.replace("{same}", SAME)
        .replace("{writable}", WRITABLE)
        .replace("{now}", NOW)
        .replace("{place}", place)
        .replace("{name}", name)
        .replace("{from}", from)
}

/// A claim's name at the server, by the digest of its own if that is known.
pub(super) fn name(prefix: &Prefix, claim: &Claim, known: Option<Digest>) -> String {
    known.map_or_else(|| prefix.of(&claim.name), |digest| prefix.by(digest))
}

/// The claims' names at the server as a JSON array. None has a character that JSON would escape.
pub(super) fn json(prefix: &Prefix, claims: &[Claim]) -> Value {
    let mut text = String::from("[");
    for (at, claim) in claims.iter().enumerate() {
        text += if at == 0 { "\"" } else { ",\"" };
        text += &prefix.of(&claim.name);
        text.push('"');
    }
    text.push(']');
    Value::Text(text)
}

/// The limit for the whole statement and the time to wait for the lock, both in ms: one of them is
/// `up_to`, the other is longer.
pub(super) fn limits(up_to: Duration, whole_seconds: bool) -> [Value; 2] {
    let up_to = millis(up_to).clamp(1, i64::MAX / 2);
    let longer = up_to / 1_000 * 1_000 + 1_000;
    let limits = if whole_seconds { [up_to, longer] } else { [longer, up_to] };
    limits.map(Value::Int)
}

/// Whether a wait failed only because it was over, by what
/// [`statement_failed`](crate::sql::mysql::statement_failed) made of the error.
pub(super) fn wait_ended(failure: &Failure) -> bool {
    matches!(failure.code(), Some(Code::Mysql(3024 | 1969)))
}

/// The idle time in seconds. There is no mark on a connection that is new, and no new one otherwise. On MariaDB, a limit for
/// statements would end a wait; on MySQL, each wait has one of its own.
pub(super) const SESSION: &str = "SET NAMES utf8mb4, autocommit = 1, completion_type = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_mode = 'STRICT_TRANS_TABLES', time_zone = '+00:00', wait_timeout = ?, @withlock_session = IF(@withlock_session IS NULL, UUID(), NULL) /*M! , max_statement_time = 0 */";

/// Name and value: for how many seconds the server has run.
pub(super) const UPTIME: &str = "SHOW GLOBAL STATUS LIKE 'Uptime'";

/// The server's number for the connection, the mark, version, read-only?, the time, and by how much
/// that differs from the statement's start.
pub(super) const FIND: &str = "SELECT CONNECTION_ID(), @withlock_session, VERSION(), CAST(@@GLOBAL.read_only AS CHAR), {now}, SLEEP(0.001) + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6))";

/// Name and value, where there is such a variable.
pub(super) const GALERA: &str = "SHOW GLOBAL VARIABLES LIKE 'wsrep_on'";

/// Name and value, where there is such a variable.
pub(super) const GROUP: &str = "SHOW GLOBAL VARIABLES LIKE 'group_replication_single_primary_mode'";

pub(super) const NOW: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))";

const SAME: &str = "CONNECTION_ID() = ? AND @withlock_session = ?";

/// Its type differs between versions.
const WRITABLE: &str = "CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF')";

/// Place and name, and where they are from: an array of names, or one.
const CLAIMS: [&str; 3] = [
    "c.place",
    "c.name",
    "\n  FROM JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY, name VARCHAR(64) PATH '$')) AS c",
];
pub(super) const CLAIM: [&str; 3] = ["1", "?", ""];

/// The session, the time before which nothing is granted, names. Place and fence, or why there is
/// none.
const TRY: &str = r#"
SELECT {place},
       CAST(IF({same},
               IF({writable},
                  IF({now} >= ?, ELT(1 + GET_LOCK({name}, 0), 0, {now}), -1),
                  -2),
               -3) AS SIGNED){from}"#;

/// The limit in ms, the session, the time before which nothing is granted, a name, how long to wait
/// in ms. Place and fence, or why there is none.
const WAIT: &str = r#"
SELECT /*+ MAX_EXECUTION_TIME(?) */ 1,
       CAST(IF({same},
               IF({writable},
                  IF({now} >= ?, ELT(1 + GET_LOCK(?, ? / 1000), 0, {now}), -1),
                  -2),
               -3) AS SIGNED)"#;

/// The session, names. Place and a fence, 0 for what the connection does not have.
const HELD: &str = r#"
SELECT {place}, CAST(IF({same}, IF(IS_USED_LOCK({name}) = CONNECTION_ID(), {now}, 0), -3) AS SIGNED){from}"#;

/// The session, names. Place and whether the connection had it; that nobody had it is NULL.
const UNLOCK: &str = r#"
SELECT {place}, CAST(IF({same}, COALESCE(RELEASE_LOCK({name}), 0), -3) AS SIGNED){from}"#;

/// The session. Whether it is that connection, and the server still takes writes.
pub(super) const KEEP: &str = "SELECT COALESCE({same} AND {writable}, 0)";

/// A connection's number and mark. One row if that connection is carrying out a statement of that session's.
pub(super) const WAITS: &str =
    "SELECT id FROM information_schema.processlist WHERE id = ? AND LOCATE(?, info) > 0";

/// A connection's number.
pub(super) const KILL: &str = "KILL ?";

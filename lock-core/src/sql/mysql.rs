//! MySQL, from version 8.0, and MariaDB, from 10.6: the same statements serve both.
//!
//! * The time is `UTC_TIMESTAMP(6)`, the server's when the statement began, in µs since 1970 and
//!   untouched by time zones. A statement that waited for a row goes by an earlier time than it
//!   could; that errs on the safe side, for a taker sees another's lease end later, never earlier,
//!   and a lease is counted from a moment after its request was sent.
//! * There is no `RETURNING` that both know. What a statement did, it says by `LAST_INSERT_ID(…)`,
//!   which the server sends along with its OK: **a driver hands it back as one row of one integer**
//!   wherever a statement returns no rows, by [`answer`]. Neither the number of affected rows nor the client's
//!   flags play a part. A trigger of the table's resets it, so a table with triggers is refused. Only a `DELETE`
//!   is answered by the number of its rows, which no flag changes.
//! * That is one number. Where a request is about several claims, a second statement reads which.
//!   It locks what it reads, so that a proxy does not send it to a replica.
//! * Assignments are evaluated from left to right, each seeing what those before it did. A claim first decides by the old
//!   owner, expiry and tickets, and sets the columns by that decision.
//! * Each renewal moves the expiry, by a microsecond at least: where the clock was set back, an expiry that
//!   has not moved is that of a lease that was not renewed. See [`Exchange`](super::Exchange).
//! * Claims are a JSON array of `[name, owner]`, both hexadecimal: they mean the same in every
//!   character set. Where claims have turns, or one has a TTL or a label of its own, they are `[name, owner, TTL in µs,
//!   label, turn]`. They are in the order of their names, and rows are locked in that order.
//! * Statements are sent as text, with their parameters put in by [`inline`]: one round trip. Those that
//!   are [repeated](Statement::repeated) are [prepared](super::Prepared) the second time, and executed from then
//!   on; each means the same prepared.
//! * `name` is compared as bytes (`VARBINARY`).

mod answers;
mod claims;
mod session;

use super::{Codec, Dialect, Rows, Statement, Terms, Text, Value};
use crate::error::{Code, Failure};
use crate::name::{Owner, TableName};
use alloc::format;
use alloc::string::{String, ToString};
pub(super) use answers::nothing;
pub use answers::{answer, returns_rows, value};
use claims::hex;
pub(super) use claims::{json, pair};
pub use session::LIMITS;
pub(super) use session::{CLOCK, INSIDE, KNOWN, ROLLBACK, SESSION, SYNCED, is_inside};

/// The codec for a table.
pub fn codec(table: TableName) -> Codec {
    make(table, Terms::default())
}

/// The same on these terms. Where the session may be anybody's, grants and renewals see for themselves that they commit by
/// themselves.
pub(super) fn make(table: TableName, terms: Terms) -> Codec {
    let and = commits(terms);
    let fit = if terms.carries {
        format!("{}{IN_ORDER}", and.replace("  AND", "WHERE"))
    } else {
        String::new()
    };
    let [any, one] = [CLAIMS, CLAIM_OF_ONE]
        .map(|claims| CLAIM.replace("{claims}", claims).replace("{where}", &fit));
    let watch = |text: &str| match terms.watched {
        true => WATCHED.iter().fold(text.to_string(), |text, (by, not)| text.replace(by, not)),
        false => text.to_string(),
    };
    let [all, each] = [CLAIMANTS, CLAIMANT].map(|claims| HOLDERS.replace("{claims}", claims));
    let texts = [&any, &one, RENEW, &all, &each].map(|text| text.replace("{behind}", BEHIND));
    let [any, one, renew, all, each] = texts.map(|text| watch(&text.replace("{good}", GOOD)));
    let texts = [&any, &renew, RELEASE, &all, MINE, &one, &each, RELEASE_ONE, CORRECT, KEEP, END]
        .map(|text| text.replace("{now}", NOW).replace("{pairs}", PAIRS).replace("{own}", OWN))
        .map(|text| text.replace("{and}", and))
        .map(|text| text.replace("{kept}", &Owner::KEPT.to_string()));
    let [claim, renew, release, holders, mine, one, holder, release_one, correct, keep, end] =
        &texts;
    let mine = Text { any: mine.replace("{table}", &quoted(&table)).into(), one: None };
    let codec = Codec::new(Dialect::Mysql { mine }, table, [claim, renew, release, holders])
        .with_one(one, release_one)
        .with_one_holder(holder)
        .with_draw(DRAW)
        .with_keep([keep, keep])
        .with_correction(correct);
    if terms.watched { codec.with_end(end) } else { codec }
}

/// What a statement sees to for itself on these terms: that it commits.
pub(super) fn commits(terms: Terms) -> &'static str {
    if terms.carries { "\n   AND @@SESSION.autocommit = 1" } else { "" }
}

/// The conditions that go by the server's clock, and their replacements where leases are watched: then only what is kept
/// ends by that clock, for nobody has it.
const WATCHED: [(&str, &str); 4] = [
    (
        "l.expires_us > c.now + l.ttl_us + 1000000",
        "l.owner <> X'{kept}' OR l.expires_us - l.ttl_us - 1000000 > c.now",
    ),
    (
        "c.claimant AND expires_us <= c.now",
        "c.claimant AND expires_us <= IF(owner = X'{kept}', c.now, 0)",
    ),
    (" AND l.expires_us > c.now{and}", "{and}"),
    ("l.expires_us > c.now", "l.expires_us > IF(l.owner = X'{kept}', c.now, 0)"),
];

/// A name, the fence and expiry of a lease that has ended.
const END: &str = r#"
UPDATE {table}
   SET owner = NULL
 WHERE name = ? AND fence = ? AND owner IS NOT NULL AND expires_us = ?"#;

/// The table's name as the server quotes it.
pub(super) fn quoted(table: &TableName) -> String {
    table.quoted().replace('"', "`")
}

/// A statement with its parameters in the places of its question marks. No parameter can be taken for
/// anything else: what is not made of harmless characters is written in hexadecimal.
pub fn inline(statement: &Statement) -> String {
    let mut parts = statement.text.split('?');
    let mut text = parts.next().unwrap_or_default().to_string();
    let mut params = statement.params.iter();
    for part in parts {
        match params.next() {
            Some(Value::Int(number)) => text += &number.to_string(),
            Some(Value::Text(value)) => literal(&mut text, value),
            Some(Value::Null | Value::Texts(_) | Value::Ints(_)) | None => text += "NULL",
        }
        text += part;
    }
    text
}

fn literal(text: &mut String, value: &str) {
    if value.bytes().all(|b| b.is_ascii_alphanumeric() || b" []\",.:()_-".contains(&b)) {
        text.push('\'');
        text.push_str(value);
        text.push('\'');
        return;
    }
    text.push_str("_utf8mb4 X'");
    hex(text, value.as_bytes());
    text.push('\'');
}

/// The failure that the server's error stands for. `code` is its number, absent when
/// the connection broke.
///
/// | error | meaning | failure |
/// |---|---|---|
/// | none, 1053, 1077–1079, 1152, 1158–1161, 1180, 1184, 1927, 2000–2999, 3169, 4031 | the connection or the server ended meanwhile, or the commit did | unknown |
/// | 1213, 1205, 1020, 1412, 1689, 3058, 3101, 3572 | deadlock, lock timeout, conflict | rejected, try again |
/// | 1317, 1969, 3024 | ended for taking too long | rejected, try again |
/// | 1021, 1030, 1037, 1038, 1041, 1114, 1135, 1206, 1226, 1637, 3032 | out of something, offline, or not ready yet | rejected, try again |
/// | 1047, 1290, 1792, 1836, 1874, 3100 | [read-only](Failure::is_read_only) | rejected, try again |
/// | any other | the server will not do it | rejected |
pub fn statement_failed(code: Option<u16>, message: &str) -> Failure {
    let Some(code) = code else { return Failure::Unknown(one_line(message)) };
    let message = format!("{} (error {code})", one_line(message));
    let failure = match code {
        1053
        | 1077..=1079
        | 1152
        | 1158..=1161
        | 1180
        | 1184
        | 1927
        | 2000..=2999
        | 3169
        | 4031 => Failure::Unknown(message),
        1213 | 1205 | 1020 | 1412 | 1689 | 3058 | 3101 | 3572 | 1317 | 1969 | 3024 => {
            Failure::not_now(message)
        }
        1021 | 1030 | 1037 | 1038 | 1041 | 1114 | 1135 | 1206 | 1226 | 1637 | 3032 => {
            Failure::not_now(message)
        }
        1047 | 1290 | 1792 | 1836 | 1874 | 3100 => Failure::not_now(message),
        _ => Failure::refused(message),
    };
    failure.with_code(Some(Code::Mysql(code)))
}

/// The failure of an attempt to connect: nothing was sent, and unless the server said that it
/// will not have us, it may work later.
///
/// | error | meaning | failure |
/// |---|---|---|
/// | none, 1037–1043, 1047, 1053, 1077–1079, 1135, 1158–1161, 1203, 1226, 2000–2999, 3032 | unreachable, full, offline, starting or stopping | not sent |
/// | any other | wrong password, no such database, … | rejected |
pub fn connect_failed(code: Option<u16>, message: &str) -> Failure {
    let Some(code) = code else { return Failure::NotSent(one_line(message)) };
    let message = format!("{} (error {code})", one_line(message));
    match code {
        1037..=1043
        | 1047
        | 1053
        | 1077..=1079
        | 1135
        | 1158..=1161
        | 1203
        | 1226
        | 2000..=2999
        | 3032 => Failure::NotSent(message),
        _ => Failure::refused(message).with_code(Some(Code::Mysql(code))),
    }
}

fn one_line(message: &str) -> String {
    message.trim().replace(char::is_control, " ").to_string()
}

/// Asks a server whether it is read-only, where a driver has several to choose from. One row of one text. A node of a
/// Galera cluster that is cut off from the others answers with another word.
pub const READ_ONLY: &str = "SELECT /*M! IF(EXISTS(SELECT 1 FROM information_schema.global_variables AS v, information_schema.global_status AS s \
     WHERE v.variable_name = 'WSREP_ON' AND v.variable_value = 'ON' AND s.variable_name = 'WSREP_READY' AND s.variable_value <> 'ON'), 'CUT OFF', */ \
     CAST(@@GLOBAL.read_only AS CHAR) /*M! ) */";

/// Whether a server that [answers](READ_ONLY) so takes writes. MariaDB's newer versions answer with a word.
pub fn takes_writes(read_only: &str) -> bool {
    matches!(read_only, "0" | "OFF")
}

/// Whether a server of this version has what the statements need (`JSON_TABLE`).
pub(super) fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version_of = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version_of >= if version.contains("MariaDB") { (10, 6) } else { (8, 0) }
}

pub(super) const CREATE: &str = r#"
CREATE TABLE IF NOT EXISTS {table} (
  name VARBINARY(255) NOT NULL PRIMARY KEY,
  owner BINARY(16), -- NULL: the lock is free; the row stays, for its fence
  fence BIGINT NOT NULL,
  expires_us BIGINT NOT NULL, -- in µs since 1970, UTC
  acquired_us BIGINT NOT NULL,
  ttl_us BIGINT NOT NULL DEFAULT 86400000000, -- of the lease; the longest there is, where it is not known
  queue BIGINT NOT NULL DEFAULT 0, -- the last ticket that a waiter has drawn
  served BIGINT NOT NULL DEFAULT 0, -- the last ticket that had its turn
  holder VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL, -- for people: host, process, label
  UNIQUE KEY pin (fence, name) -- for transactions that pin a lock; nothing else needs it
) ENGINE = InnoDB"#;

/// The columns that [`CREATE`] makes, as [`CHECK`] reports them. Others are nobody's business,
/// except one that counts by itself: its number would be taken for a fence.
pub(super) const COLUMNS: &str = "acquired_us bigint, expires_us bigint, fence bigint, holder varchar(255) utf8mb4, name varbinary(255), owner binary(16), queue bigint, served bigint, ttl_us bigint";

/// One row: version, read-only?, `innodb_flush_log_at_trx_commit`, whether there is a binary log that
/// a commit does not wait for, the table's engine, its columns, how many unique keys it has and
/// how many of them are the name alone, without those of the name and more, which forbid nothing, whether statements
/// commit by themselves, or 2 and more for [what else is wrong](super::Refusal::of_session) with the session, the table's database, the account, how many triggers the table has, whether it is a node of a
/// Galera cluster (`ON`). One text has its character set, without which the check would fail in a session with another.
/// Five times schema and table, without the third table.
pub(super) const CHECK: &str = r#"
SELECT VERSION(), CAST(@@GLOBAL.read_only AS CHAR), @@GLOBAL.innodb_flush_log_at_trx_commit,
       @@GLOBAL.log_bin = 1 AND @@GLOBAL.sync_binlog <> 1,
       (SELECT COALESCE(engine, table_type) FROM information_schema.tables
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?),
       (SELECT GROUP_CONCAT(CONCAT(column_name, ' ',
                 CASE WHEN data_type = 'bigint' AND column_type NOT LIKE '%unsigned%' THEN data_type ELSE column_type END,
                 CASE WHEN character_set_name IS NULL THEN '' ELSE CONCAT(' ', character_set_name) END)
                 ORDER BY column_name SEPARATOR ', ')
          FROM information_schema.columns
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?
           AND (column_name IN ('name', 'owner', 'fence', 'expires_us', 'acquired_us', 'ttl_us', 'queue', 'served', 'holder')
                OR extra LIKE _utf8mb4'%auto_increment%')),
       COUNT(*), COUNT(CASE WHEN k.fits THEN 1 END),
       CASE WHEN FIND_IN_SET('SIMULTANEOUS_ASSIGNMENT', @@SESSION.sql_mode) THEN 2
            WHEN TIMESTAMPDIFF(SECOND, NOW(), SYSDATE()) NOT BETWEEN -1 AND 10 THEN 3
            WHEN /*!80000 @@SESSION.transaction_read_only */ /*M! @@SESSION.tx_read_only */ THEN 4
            /*M! WHEN @@SESSION.sql_safe_updates THEN 5 */
            WHEN @@SESSION.character_set_connection NOT IN ('utf8mb4', 'utf8mb3', 'utf8')
              OR @@SESSION.character_set_results NOT IN ('utf8mb4', 'utf8mb3', 'utf8', 'binary') THEN 6
            ELSE @@SESSION.autocommit = 1 END, COALESCE(?, DATABASE()), CURRENT_USER(),
       (SELECT COUNT(*) FROM information_schema.triggers
         WHERE event_object_schema = COALESCE(?, DATABASE()) AND event_object_table = ?),
       COALESCE(/*M! (SELECT variable_value FROM information_schema.global_variables WHERE variable_name = 'WSREP_ON'), */ 'OFF')
  FROM (SELECT MAX(column_name = 'name' AND sub_part IS NULL) = 1 AND COUNT(*) = 1 AS fits
          FROM information_schema.statistics
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND non_unique = 0
         GROUP BY index_name
        HAVING COUNT(*) = 1 OR COALESCE(MAX(column_name = 'name' AND sub_part IS NULL), 0) = 0) AS k"#;

/// Shows what the session means by the table's name. The catalogue does not: a temporary table of that name is in none of
/// MySQL's, and in that of MariaDB from 11.2 only. One row: the name, and the statement that would make it.
pub(super) const SHOW: &str = "SHOW CREATE TABLE {table}";

/// Whether [`SHOW`] showed a temporary table.
pub(super) fn is_temporary(shown: &Rows) -> bool {
    let made = shown.first().and_then(|row| row.get(1));
    matches!(made, Some(Value::Text(made)) if made.starts_with("CREATE TEMPORARY "))
}

/// Whether the table is there, also for an account without rights on it, whose error is another.
pub(super) const PROBE: &str = "SELECT 1 FROM {table} LIMIT 0";

/// There is no such table, or no such database.
pub(super) fn is_no_table(failure: &Failure) -> bool {
    matches!(failure.code(), Some(Code::Mysql(1146 | 1049)))
}

pub(super) const NOW: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";

const PAIRS: &str =
    "JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]'))";

/// The same with what claims have of their own, or NULL.
const OWN: &str = "JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]', turn BIGINT PATH '$[4]'))";

const CLAIMS: &str = "(SELECT {now} AS now, COALESCE(j.ttl, CAST(? AS SIGNED)) AS ttl, COALESCE(CONVERT(UNHEX(j.label) USING utf8mb4), ?) AS label,
               UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, j.turn AS turn
          FROM {own} AS j) AS c{where}";
const CLAIM_OF_ONE: &str = "(SELECT {now} AS now, CAST(? AS SIGNED) AS ttl, ? AS label, UNHEX(?) AS its_name, UNHEX(?) AS claimant, CAST(? AS SIGNED) AS turn) AS c{where}";

/// The session makes assignments in their order: MariaDB has a mode in which each sees the row as it was.
const IN_ORDER: &str = " AND NOT FIND_IN_SET('SIMULTANEOUS_ASSIGNMENT', @@SESSION.sql_mode)";

/// Whether a row that is free is left to others: more are ahead of a claim than may claim, so long after it was freed. See
/// [`table`](crate::table).
const BEHIND: &str = "(c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
          AND LEAST(c.turn, queue + 1) - served > POW(2, LEAST(62, 4 * GREATEST(c.now - expires_us, 0)
              DIV LEAST(GREATEST(expires_us - acquired_us, 80000), 1000000))))";

/// Whether a ticket will have its turn.
const GOOD: &str = "(ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue)";

/// TTL in µs, the holder's text, claims or one name, owner and turn. The last claim's fence, 0 if it was not granted. If it
/// was freed before the clock was set back, its expiry is late, and is corrected as any.
///
/// Whether the lock is granted anew is decided once, by the row as it is locked, and noted as a TTL of 0, which no row has. The
/// other assignments go by that; the last puts the TTL in its place.
const CLAIM: &str = r#"
INSERT INTO {table} (name, owner, fence, expires_us, acquired_us, ttl_us, served, holder)
SELECT c.its_name, c.claimant, LAST_INSERT_ID(c.now), c.now + c.ttl, c.now, c.ttl, ABS(c.turn) % 9007199254740991, c.label
  FROM {claims}
ON DUPLICATE KEY UPDATE
       ttl_us = IF((owner IS NULL OR owner <> c.claimant AND expires_us <= c.now) AND NOT {behind}, 0, GREATEST(ttl_us, 1)),
       fence = CASE WHEN ttl_us = 0 THEN LAST_INSERT_ID(GREATEST(fence + 1, c.now))
                    WHEN owner = c.claimant THEN LAST_INSERT_ID(fence)
                    ELSE fence + LAST_INSERT_ID(0) END,
       acquired_us = IF(ttl_us = 0, c.now, acquired_us),
       owner = IF(ttl_us = 0, c.claimant, owner),
       served = IF(owner = c.claimant, GREATEST(served, LEAST(ABS(c.turn) % 9007199254740991, queue)), served),
       holder = IF(owner = c.claimant, c.label, holder),
       expires_us = IF(owner = c.claimant, GREATEST(expires_us + 1, c.now + c.ttl), expires_us),
       ttl_us = IF(owner = c.claimant, GREATEST(ttl_us, c.ttl), ttl_us)"#;

/// TTL in µs, leases. The time that they are renewed from, 0 if none was.
const RENEW: &str = r#"
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, {now} AS now, COALESCE(j.ttl, ?) AS ttl
          FROM {own} AS j) AS c
  STRAIGHT_JOIN {table} AS l ON l.name = c.its_name
   SET l.expires_us = GREATEST(l.expires_us + 1, LAST_INSERT_ID(c.now) + c.ttl),
       l.ttl_us = GREATEST(l.ttl_us, c.ttl)
 WHERE l.owner = c.claimant AND l.expires_us > c.now{and}"#;

/// Leases. Not 0 if one was released, and 2 if tickets wait for it.
const RELEASE: &str = r#"
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant
          FROM {pairs} AS j) AS c
  STRAIGHT_JOIN {table} AS l ON l.name = c.its_name
   SET l.owner = NULL,
       l.expires_us = LEAST(l.expires_us, {now}) + LAST_INSERT_ID(1 + (l.queue > l.served)) - 1 - (l.queue > l.served)
 WHERE l.owner = c.claimant"#;

/// A name and its owner. As above.
const RELEASE_ONE: &str = r#"
UPDATE {table}
   SET owner = NULL,
       expires_us = LEAST(expires_us, {now}) + LAST_INSERT_ID(1 + (queue > served)) - 1 - (queue > served)
 WHERE name = UNHEX(?) AND owner = UNHEX(?)"#;

/// The time from the grant to the end in µs, leases. As above. Each column is set by what none of the others changes, for
/// here their order is the server's. The lease's TTL is the rest of the time, so that it is not taken for late.
const KEEP: &str = r#"
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, {now} AS now, CAST(? AS SIGNED) AS keep
          FROM {pairs} AS j) AS c
  STRAIGHT_JOIN {table} AS l ON l.name = c.its_name
   SET l.ttl_us = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, LEAST(l.acquired_us, c.now) + c.keep - c.now, l.ttl_us),
       l.expires_us = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, LEAST(l.acquired_us, c.now) + c.keep, LEAST(l.expires_us, c.now))
                    + LAST_INSERT_ID(1 + (l.queue > l.served)) - 1 - (l.queue > l.served),
       l.owner = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, X'{kept}', NULL)
 WHERE l.owner = c.claimant"#;

/// The earliest expiry that counts, less a claim's TTL if it has one; claims. Name, owner, fence and whether tickets wait for
/// it, of those that are their owner's.
const MINE: &str = r#"
SELECT l.name, LOWER(HEX(l.owner)), l.fence, CAST(l.queue > l.served AS SIGNED)
  FROM (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, ? + COALESCE(j.ttl, 0) AS since
          FROM {own} AS j) AS c
  STRAIGHT_JOIN {table} AS l ON l.name = c.its_name
 WHERE l.owner = c.claimant AND l.expires_us >= c.since
  LOCK IN SHARE MODE"#;

const CLAIMANTS: &str =
    "UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, j.turn AS turn FROM {own} AS j";
const CLAIMANT: &str = "UNHEX(?) AS its_name, UNHEX(?) AS claimant, CAST(? AS SIGNED) AS turn";

/// Claims, or one name, owner and turn. Name, holder, held for and expires in, both in µs, the waiter's ticket or 0, how many
/// are ahead, fence, the expiry if it is late, and 1 if it is kept and nobody has it, or 2 if it is free, and left to those
/// ahead, of those that are not free for them. A lease that ends a second later than its TTL allows is late: the clock was set
/// back.
const HOLDERS: &str = r#"
SELECT l.name, l.holder, c.now - l.acquired_us,
       IF(l.expires_us > c.now + l.ttl_us + 1000000, l.ttl_us, l.expires_us - c.now),
       CAST(IF({good}, ABS(c.turn), 0) AS SIGNED),
       CAST(IF({good}, ABS(c.turn) - l.served - 1, GREATEST(l.queue - l.served, 0)) AS SIGNED),
       l.fence, IF(l.expires_us > c.now + l.ttl_us + 1000000, l.expires_us, 0),
       CAST(IF(l.owner IS NOT NULL AND l.expires_us > c.now, l.owner = X'{kept}', 2) AS SIGNED)
  FROM (SELECT {now} AS now, {claims}) AS c
  STRAIGHT_JOIN {table} AS l ON l.name = c.its_name
 WHERE NOT (l.owner <=> c.claimant) AND (l.owner IS NOT NULL AND l.expires_us > c.now OR {behind})"#;

/// A name and the owner that waits for it. The ticket.
const DRAW: &str = r#"
UPDATE {table}
   SET queue = LAST_INSERT_ID(GREATEST(queue, served) + 1)
 WHERE name = ? AND NOT (owner <=> UNHEX(?))"#;

/// A name, its fence, its expiry as it was seen.
const CORRECT: &str = r#"
UPDATE {table}
   SET expires_us = {now} + ttl_us, acquired_us = LEAST(acquired_us, {now})
 WHERE name = ? AND fence = ? AND owner IS NOT NULL AND expires_us = ? AND expires_us > {now} + ttl_us"#;

//! SQLite, for processes on one machine.
//!
//! * All processes share one kernel, so the time is its `CLOCK_BOOTTIME`, bound as a parameter:
//!   no clock step can end a lease early. A row of an earlier boot has no living holder, and is free.
//!   The time is read before the statement may have to wait for the file; that errs on the safe
//!   side.
//! * The first fence of a name is the wall clock in µs, every later one is higher than the last.
//! * The file must be on a local file system: over a network, neither its locks nor the shared
//!   clock would hold. The driver refuses what it can recognise.
//! * Claims are bound as one JSON array of `[name, owner]` pairs.

use super::{Codec, Dialect};
use crate::error::Failure;
use crate::name::TableName;
use crate::protocol::Claim;
use alloc::format;
use alloc::string::{String, ToString};

/// The codec for a table, on the machine whose kernel runs since `boot`.
pub fn codec(table: TableName, boot: &str) -> Codec {
    Codec::new(Dialect::Sqlite { boot: boot.to_string() }, table, [CLAIM, RENEW, RELEASE, HOLDERS])
}

/// What an error says about the fate of a statement. `code` is SQLite's primary result code.
///
/// A statement here commits by itself or not at all, so after an error it was not done:
/// `SQLITE_BUSY` (5), `SQLITE_LOCKED` (6), `SQLITE_NOMEM` (7), `SQLITE_FULL` (13) and
/// `SQLITE_PROTOCOL` (15) may pass. After `SQLITE_IOERR` (10) nobody knows. Anything else stays.
pub fn statement_failed(code: Option<i32>, message: &str) -> Failure {
    let message = message.replace(char::is_control, " ");
    match code {
        Some(5 | 6 | 7 | 13 | 15) => Failure::Rejected { retry: true, message },
        Some(10) => Failure::Unknown(message),
        _ => Failure::Rejected { retry: false, message },
    }
}

/// `claims` as a JSON array of pairs. Names have no control characters, so two escapes suffice.
pub(super) fn json(claims: &[&Claim]) -> String {
    let pairs = claims.iter().map(|claim| {
        let name = claim.name.as_str().replace('\\', "\\\\").replace('"', "\\\"");
        format!("[\"{name}\",\"{}\"]", claim.owner)
    });
    let pairs: alloc::vec::Vec<_> = pairs.collect();
    format!("[{}]", pairs.join(","))
}

pub(super) const CREATE: &str = r#"
CREATE TABLE IF NOT EXISTS {table} (
  name TEXT PRIMARY KEY NOT NULL,
  owner TEXT, -- NULL: the lock is free; the row stays, for its fence
  fence INTEGER NOT NULL,
  boot TEXT NOT NULL, -- the kernel that the times below belong to
  expires_us INTEGER NOT NULL, -- µs of its CLOCK_BOOTTIME
  acquired_us INTEGER NOT NULL,
  holder TEXT NOT NULL -- for people: host, process, label
) STRICT, WITHOUT ROWID"#;

/// The columns that [`CREATE`] makes, as [`CHECK`] reports them.
pub(super) const COLUMNS: &str = "acquired_us INTEGER, boot TEXT, expires_us INTEGER, fence INTEGER, holder TEXT, name TEXT pk BINARY, owner TEXT";

/// One row: the table's columns, with the primary key's collation; NULL if there is no such table.
/// `?1`: its name, `?2`: its schema.
pub(super) const CHECK: &str = r#"
SELECT CASE WHEN EXISTS (SELECT 1 FROM pragma_table_info(?1, ?2)) THEN coalesce(
         group_concat(c.name || ' ' || c.type || CASE WHEN c.pk > 0 THEN ' pk ' || coalesce((
           SELECT group_concat(k.coll)
             FROM pragma_index_list(?1, ?2) AS i, pragma_index_xinfo(i.name, ?2) AS k
            WHERE i.origin = 'pk' AND k.key = 1), '') ELSE '' END, ', ' ORDER BY c.name), '') END
  FROM pragma_table_info(?1, ?2) AS c
 WHERE c.pk > 0 OR c.name IN ('name', 'owner', 'fence', 'boot', 'expires_us', 'acquired_us', 'holder')"#;

/// Readers do not block the writer, and a commit is one append.
pub(super) const JOURNAL: &str = "PRAGMA journal_mode = WAL";

/// A commit is on the disk before it is answered, so that a fence survives a power cut.
pub(super) const DURABLE: &str = "PRAGMA synchronous = FULL";

/// `?1` claims, `?2` now in µs, `?3` boot, `?4` the TTL in µs, `?5` the holder's text.
const CLAIM: &str = r#"
INSERT INTO {table} AS l (name, owner, fence, boot, expires_us, acquired_us, holder)
SELECT c.value ->> 0, c.value ->> 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000, ?3, ?2 + ?4, ?2, ?5
  FROM json_each(?1) AS c
 WHERE true
ON CONFLICT (name) DO UPDATE
   SET owner = excluded.owner,
       fence = CASE WHEN l.owner = excluded.owner THEN l.fence
                    ELSE max(l.fence + 1, excluded.fence) END,
       boot = excluded.boot,
       expires_us = CASE WHEN l.owner = excluded.owner AND l.boot = excluded.boot
                         THEN max(l.expires_us, excluded.expires_us) ELSE excluded.expires_us END,
       acquired_us = CASE WHEN l.owner = excluded.owner THEN l.acquired_us ELSE excluded.acquired_us END,
       holder = excluded.holder
 WHERE l.owner IS NULL OR l.boot <> ?3 OR l.expires_us <= ?2 OR l.owner = excluded.owner
RETURNING name, fence"#;

/// `?1` leases, `?2` now in µs, `?3` boot, `?4` the TTL in µs.
const RENEW: &str = r#"
UPDATE {table}
   SET expires_us = max(expires_us, ?2 + ?4)
 WHERE (name, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
   AND boot = ?3 AND expires_us > ?2
RETURNING name, owner"#;

/// `?1` leases. SQLite returns the new values, so the owner is looked up.
const RELEASE: &str = r#"
UPDATE {table}
   SET owner = NULL
 WHERE (name, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
RETURNING name, (SELECT value ->> 1 FROM json_each(?1) WHERE value ->> 0 = name)"#;

/// `?1` names (as claims), `?2` now in µs, `?3` boot. Name, holder, held for and expires in, in µs.
const HOLDERS: &str = r#"
SELECT name, holder, ?2 - acquired_us, expires_us - ?2
  FROM {table}
 WHERE name IN (SELECT value ->> 0 FROM json_each(?1))
   AND owner IS NOT NULL AND boot = ?3 AND expires_us > ?2"#;

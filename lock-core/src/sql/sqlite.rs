//! SQLite, for processes on one machine.
//!
//! * All processes share one kernel, so the time is its `CLOCK_BOOTTIME`, bound as a parameter:
//!   no clock step can end a lease early. A row of an earlier boot has no living holder, and is free.
//!   The time is read before the statement may have to wait for the file; that errs on the safe
//!   side.
//! * The first fence of a name is the wall clock in µs, every later one is higher than the last.
//! * The file must be on a local file system: over a network, neither its locks nor the shared
//!   clock would hold. The driver refuses what it can recognise.
//! * Several claims are bound as one JSON array of `[name, owner]`, or of `[name, owner, TTL in µs, label]` if a claim has
//!   one of these of its own.

pub mod file;

use super::{Codec, Dialect};
use crate::error::{Code, Failure};
use crate::name::{Owner, PERMIT, TableName};
use crate::request::Claim;
use alloc::format;
use alloc::string::{String, ToString};

/// The codec for a table, on the machine whose kernel runs since `boot`.
pub fn codec(table: TableName, boot: &str) -> Codec {
    let [any, one] = [(CLAIMS, OWN), (CLAIM_OF_ONE, ["?3", "?4"])].map(|(claims, [ttl, label])| {
        let text = CLAIM.replace("{claims}", claims).replace("{lease}", LEASE);
        text.replace("{ttl}", ttl).replace("{label}", label)
    });
    let dialect = Dialect::Sqlite { boot: boot.to_string(), log: true };
    let [all, each] =
        [HOLDERS, HOLDER].map(|text| text.replace("{kept}", &Owner::KEPT.to_string()));
    Codec::new(dialect, table, [&any, RENEW, RELEASE, &all])
        .with_one(&one, RELEASE_ONE)
        .with_keep([KEEP, KEEP])
        .with_one_holder(&each)
        .with_mark(MARK, MARK_ONE)
}

/// The failure that an error stands for. `code` is SQLite's primary result code.
///
/// A statement here commits by itself or not at all, so after an error it was not done:
/// `SQLITE_BUSY` (5), `SQLITE_LOCKED` (6), `SQLITE_NOMEM` (7), `SQLITE_FULL` (13) and
/// `SQLITE_PROTOCOL` (15) may pass. After `SQLITE_IOERR` (10) nobody knows. Anything else stays.
pub fn statement_failed(code: Option<i32>, message: &str) -> Failure {
    let message = message.replace(char::is_control, " ");
    let failure = match code {
        Some(5 | 6 | 7 | 13 | 15) => Failure::not_now(message),
        Some(10) => Failure::Unknown(message),
        _ => Failure::refused(message),
    };
    failure.with_code(code.map(Code::Sqlite))
}

/// `claims` as a JSON array, with what each has of its own. Names and labels have no other control character than
/// [`PERMIT`], so three escapes suffice.
pub(super) fn json(claims: &[&Claim], own: impl Fn(&Claim) -> Option<(i64, String)>) -> String {
    let escaped =
        |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace(PERMIT, "\\u001f");
    let pairs = claims.iter().map(|claim| {
        let (name, owner) = (escaped(claim.name.as_str()), claim.owner);
        let own = own(claim).map(|(ttl, label)| format!(",{ttl},\"{}\"", escaped(&label)));
        format!("[\"{name}\",\"{owner}\"{}]", own.unwrap_or_default())
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
  contended INTEGER NOT NULL DEFAULT 0, -- somebody waits for the release
  holder TEXT NOT NULL -- for people: host, process, label
) STRICT, WITHOUT ROWID"#;

/// The columns that [`CREATE`] makes, as [`CHECK`] reports them.
pub(super) const COLUMNS: &str = "acquired_us INTEGER, boot TEXT, contended INTEGER, expires_us INTEGER, fence INTEGER, holder TEXT, name TEXT pk BINARY, owner TEXT";

/// One row: the table's columns, with the primary key's collation; NULL if there is no such table.
/// `?1`: its name, `?2`: its schema.
pub(super) const CHECK: &str = r#"
SELECT CASE WHEN EXISTS (SELECT 1 FROM pragma_table_info(?1, ?2)) THEN coalesce(
         group_concat(c.name || ' ' || c.type || CASE WHEN c.pk > 0 THEN ' pk ' || coalesce((
           SELECT group_concat(k.coll)
             FROM pragma_index_list(?1, ?2) AS i, pragma_index_xinfo(i.name, ?2) AS k
            WHERE i.origin = 'pk' AND k.key = 1), '') ELSE '' END, ', ' ORDER BY c.name), '') END
  FROM pragma_table_info(?1, ?2) AS c
 WHERE c.pk > 0 OR c.name IN ('name', 'owner', 'fence', 'boot', 'expires_us', 'acquired_us', 'contended', 'holder')"#;

/// Readers do not block the writer, and a commit is one append.
pub(super) const JOURNAL: &str = "PRAGMA journal_mode = WAL";

/// A commit is on the disk before it is answered, so that a fence survives a power cut.
pub(super) const DURABLE: &str = "PRAGMA synchronous = FULL";

/// The columns that a claim sets besides the name and the owner.
const CLAIMS: &str = "c.value ->> 0, c.value ->> 1, {lease}\n  FROM json_each(?5) AS c";
const CLAIM_OF_ONE: &str = "?5, ?6, {lease}";
const LEASE: &str =
    "CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000, ?2, ?1 + {ttl}, ?1, {label}";
const OWN: [&str; 2] = ["coalesce(c.value ->> 2, ?3)", "coalesce(c.value ->> 3, ?4)"];

/// `?1` now in µs, `?2` boot, `?3` the TTL in µs, `?4` the holder's text, `?5` claims; or a name and
/// `?6` its owner.
const CLAIM: &str = r#"
INSERT INTO {table} AS l (name, owner, fence, boot, expires_us, acquired_us, holder)
SELECT {claims}
 WHERE true
ON CONFLICT (name) DO UPDATE
   SET owner = excluded.owner,
       fence = CASE WHEN l.owner = excluded.owner THEN l.fence
                    ELSE max(l.fence + 1, excluded.fence) END,
       boot = excluded.boot,
       expires_us = CASE WHEN l.owner = excluded.owner AND l.boot = excluded.boot
                         THEN max(l.expires_us + 1, excluded.expires_us) ELSE excluded.expires_us END,
       acquired_us = CASE WHEN l.owner = excluded.owner THEN l.acquired_us ELSE excluded.acquired_us END,
       contended = l.contended AND l.owner IS excluded.owner,
       holder = excluded.holder
 WHERE l.owner IS NULL OR l.boot <> ?2 OR l.expires_us <= ?1 OR l.owner = excluded.owner
RETURNING name, fence"#;

/// `?1` now in µs, `?2` boot, `?3` the TTL in µs, `?4` leases.
const RENEW: &str = r#"
UPDATE {table} AS l
   SET expires_us = max(l.expires_us + 1, ?1 + coalesce(c.value ->> 2, ?3))
  FROM json_each(?4) AS c
 WHERE l.name = c.value ->> 0 AND l.owner = c.value ->> 1
   AND l.boot = ?2 AND l.expires_us > ?1
RETURNING name, owner"#;

/// `?1` leases. The owner is not returned: SQLite returns new values, and no name is among them twice.
const RELEASE: &str = r#"
UPDATE {table}
   SET owner = NULL
 WHERE (name, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
RETURNING name, contended"#;

/// `?1` a name, `?2` its owner.
const RELEASE_ONE: &str = r#"
UPDATE {table}
   SET owner = NULL
 WHERE name = ?1 AND owner = ?2
RETURNING name, contended"#;

/// `?1` now in µs, `?2` boot, `?3` the time from the grant to the end in µs, `?4` leases.
const KEEP: &str = r#"
UPDATE {table}
   SET owner = CASE WHEN min(acquired_us, ?1) + ?3 > ?1 THEN '{kept}' END,
       expires_us = CASE WHEN min(acquired_us, ?1) + ?3 > ?1 THEN min(acquired_us, ?1) + ?3 ELSE expires_us END
 WHERE (name, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?4)) AND boot = ?2
RETURNING name, contended"#;

/// `?1` now in µs, `?2` boot, `?3` claims. Name, holder, held for and expires in, in µs, whether
/// somebody waits for it, fence, 0, for this clock is never set back, and whether it is kept and nobody has it, of those that are others'. A cross join looks up the right for each on the left.
const HOLDERS: &str = r#"
SELECT l.name, l.holder, ?1 - l.acquired_us, l.expires_us - ?1, l.contended, l.fence, 0, l.owner = '{kept}'
  FROM json_each(?3) AS c
 CROSS JOIN {table} AS l ON l.name = c.value ->> 0
 WHERE l.owner <> c.value ->> 1 AND l.boot = ?2 AND l.expires_us > ?1"#;

/// `?3` a name, `?4` its owner. As above.
const HOLDER: &str = r#"
SELECT name, holder, ?1 - acquired_us, expires_us - ?1, contended, fence, 0, owner = '{kept}'
  FROM {table}
 WHERE name = ?3 AND owner <> ?4 AND boot = ?2 AND expires_us > ?1"#;

/// `?1` claims whose names others have. All owners are of the same length; of pairs, NOT IN would look
/// through all for a NULL.
const MARK: &str = r#"
UPDATE {table}
   SET contended = 1
 WHERE name IN (SELECT value ->> 0 FROM json_each(?1))
   AND owner || name NOT IN (SELECT (value ->> 1) || (value ->> 0) FROM json_each(?1))"#;

/// `?1` a name, `?2` its owner. As above.
const MARK_ONE: &str = r#"
UPDATE {table}
   SET contended = 1
 WHERE name = ?1 AND owner <> ?2"#;

//! SQLite, for processes on one machine.
//!
//! * All processes share one kernel, so the time is its `CLOCK_BOOTTIME`, bound as a parameter:
//!   no clock step can end a lease early. A row of an earlier boot has no living holder, and is free.
//!   The time is read before the statement may have to wait for the file; that errs on the safe
//!   side.
//! * The first fence of a name is the wall clock in µs, every later one is higher than the last.
//! * The file must be on a local file system: over a network, neither its locks nor the shared
//!   clock would hold. The driver refuses what it can recognise.
//! * Several claims are bound as one JSON array of `[name, owner]`; where they have turns, or one has a TTL or a label of its
//!   own, of `[name, owner, TTL in µs, label, turn]`.

pub mod file;

use super::exchange::Own;
use super::{Codec, Dialect};
use crate::error::{Code, Failure};
use crate::name::{Owner, PERMIT, TableName};
use crate::request::Claim;
use alloc::format;
use alloc::string::{String, ToString};

/// The codec for a table, on the machine whose kernel runs since `boot`.
pub fn codec(table: TableName, boot: &str) -> Codec {
    let [any, one] = [(CLAIMS, OF_MANY), (CLAIM_OF_ONE, OF_ONE)].map(|(claims, own)| {
        let [name, owner, ttl, label, turn] = own;
        let text = CLAIM.replace("{claims}", claims).replace("{lease}", LEASE);
        let text =
            text.replace("{behind}", BEHIND).replace("{name}", name).replace("{owner}", owner);
        text.replace("{ttl}", ttl).replace("{label}", label).replace("{turn}", turn)
    });
    let dialect = Dialect::Sqlite { boot: boot.to_string(), log: true };
    let [all, each] = [(HOLDERS, "(c.value ->> 4)"), (HOLDER, "?5")].map(|(text, turn)| {
        let text = text.replace("{seen}", SEEN).replace("{behind}", BEHIND);
        let text = text.replace("{good}", GOOD).replace("{turn}", turn);
        text.replace("{kept}", &Owner::KEPT.to_string())
    });
    Codec::new(dialect, table, [&any, RENEW, RELEASE, &all])
        .with_one(&one, RELEASE_ONE)
        .with_keep([KEEP, KEEP])
        .with_one_holder(&each)
        .with_draw(DRAW)
}

/// The failure that an error stands for. `code` is SQLite's primary result code.
///
/// A statement here commits by itself or not at all, so after an error it was not done:
/// `SQLITE_BUSY` (5), `SQLITE_LOCKED` (6), `SQLITE_NOMEM` (7), `SQLITE_INTERRUPT` (9), `SQLITE_FULL` (13) and
/// `SQLITE_PROTOCOL` (15) may pass. After `SQLITE_IOERR` (10) nobody knows. Anything else stays.
pub fn statement_failed(code: Option<i32>, message: &str) -> Failure {
    let message = message.replace(char::is_control, " ");
    let failure = match code {
        Some(5 | 6 | 7 | 9 | 13 | 15) => Failure::not_now(message),
        Some(10) => Failure::Unknown(message),
        _ => Failure::refused(message),
    };
    failure.with_code(code.map(Code::Sqlite))
}

/// `claims` as a JSON array, with what each has of its own. Names and labels have no other control character than
/// [`PERMIT`], so three escapes suffice.
pub(super) fn json(claims: &[&Claim], own: impl Fn(&Claim) -> Option<Own>) -> String {
    let escaped =
        |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace(PERMIT, "\\u001f");
    let pairs = claims.iter().map(|claim| {
        let (name, owner) = (escaped(claim.name.as_str()), claim.owner);
        let own = own(claim).map(|Own { ttl, label, turn }| {
            let turn = turn.map(|turn| format!(",{turn}")).unwrap_or_default();
            format!(",{ttl},\"{}\"{turn}", escaped(&label))
        });
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
  queue INTEGER NOT NULL DEFAULT 0, -- the last ticket that a waiter has drawn
  served INTEGER NOT NULL DEFAULT 0, -- the last ticket that had its turn
  holder TEXT NOT NULL -- for people: host, process, label
) STRICT, WITHOUT ROWID"#;

/// The columns that [`CREATE`] makes, as [`CHECK`] reports them.
pub(super) const COLUMNS: &str = "acquired_us INTEGER, boot TEXT, expires_us INTEGER, fence INTEGER, holder TEXT, name TEXT pk BINARY, owner TEXT, queue INTEGER, served INTEGER";

/// One row: the table's columns, with the primary key's collation; NULL if there is no such table.
/// `?1`: its name, `?2`: its schema.
pub(super) const CHECK: &str = r#"
SELECT CASE WHEN EXISTS (SELECT 1 FROM pragma_table_info(?1, ?2)) THEN coalesce(
         group_concat(c.name || ' ' || c.type || CASE WHEN c.pk > 0 THEN ' pk ' || coalesce((
           SELECT group_concat(k.coll)
             FROM pragma_index_list(?1, ?2) AS i, pragma_index_xinfo(i.name, ?2) AS k
            WHERE i.origin = 'pk' AND k.key = 1), '') ELSE '' END, ', ' ORDER BY c.name), '') END
  FROM pragma_table_info(?1, ?2) AS c
 WHERE c.pk > 0 OR c.name IN ('name', 'owner', 'fence', 'boot', 'expires_us', 'acquired_us', 'queue', 'served', 'holder')"#;

/// The database of a table that is named without one. Without it, SQLite would look among the temporary tables first,
/// which no other connection sees.
pub(super) const MAIN: &str = "main";

/// Whether the table is one of the temporary ones.
pub(super) fn is_temporary(table: &TableName) -> bool {
    table.parts().0.is_some_and(|schema| schema.eq_ignore_ascii_case("temp"))
}

/// Readers do not block the writer, and a commit is one append. Without its schema, it would be about all databases of the
/// connection.
pub(super) const JOURNAL: &str = "PRAGMA {schema}.journal_mode = WAL";

/// A commit is on the disk before it is answered, so that a fence survives a power cut.
pub(super) const DURABLE: &str = "PRAGMA {schema}.synchronous = FULL";

/// The columns that a claim sets besides the name and the owner.
const CLAIMS: &str = "c.value ->> 0, c.value ->> 1, {lease}\n  FROM json_each(?5) AS c";
const CLAIM_OF_ONE: &str = "?5, ?6, {lease}";
const LEASE: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000, ?2, ?1 + {ttl}, ?1, abs({turn}) % 9007199254740991, {label}";
/// A claim's name, owner, TTL, label and turn.
const OF_MANY: [&str; 5] = [
    "c.value ->> 0",
    "c.value ->> 1",
    "coalesce(c.value ->> 2, ?3)",
    "coalesce(c.value ->> 3, ?4)",
    "(c.value ->> 4)",
];
const OF_ONE: [&str; 5] = ["?5", "?6", "?3", "?4", "?7"];

/// Whether a row that is free is left to others: more are ahead of a claim than may claim, so long after it was freed. See
/// [`table`](crate::table).
const BEHIND: &str = "({turn} > 0 AND l.queue > l.served AND l.expires_us <= ?1 + 1000000
          AND min({turn}, l.queue + 1) - l.served > 1 << min(62, 4 * max(?1 - l.expires_us, 0)
              / min(max(l.expires_us - l.acquired_us, 80000), 1000000)))";

/// Whether a ticket will have its turn.
const GOOD: &str = "(abs({turn}) > l.served AND abs({turn}) <= l.queue)";

/// `?1` now in µs, `?2` boot, `?3` the TTL in µs, `?4` the holder's text, `?5` claims; or a name,
/// `?6` its owner and `?7` its turn.
const CLAIM: &str = r#"
INSERT INTO {table} AS l (name, owner, fence, boot, expires_us, acquired_us, served, holder)
SELECT {claims}
 WHERE NOT EXISTS (SELECT 1 FROM {table} AS l
                    WHERE l.name = {name} AND l.owner IS NOT {owner} AND l.boot = ?2 AND {behind})
ON CONFLICT (name) DO UPDATE
   SET owner = excluded.owner,
       fence = CASE WHEN l.owner = excluded.owner THEN l.fence
                    ELSE max(l.fence + 1, excluded.fence) END,
       boot = excluded.boot,
       expires_us = CASE WHEN l.owner = excluded.owner AND l.boot = excluded.boot
                         THEN max(l.expires_us + 1, excluded.expires_us) ELSE excluded.expires_us END,
       acquired_us = CASE WHEN l.owner = excluded.owner THEN l.acquired_us ELSE excluded.acquired_us END,
       served = max(l.served, min(excluded.served, l.queue)),
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

/// `?1` now in µs, `?3` leases. The owner is not returned: SQLite returns new values, and no name is among them
/// twice.
const RELEASE: &str = r#"
UPDATE {table}
   SET owner = NULL, expires_us = min(expires_us, ?1)
 WHERE (name, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?3))
RETURNING name, queue > served"#;

/// `?3` a name, `?4` its owner. As above.
const RELEASE_ONE: &str = r#"
UPDATE {table}
   SET owner = NULL, expires_us = min(expires_us, ?1)
 WHERE name = ?3 AND owner = ?4
RETURNING name, queue > served"#;

/// `?1` now in µs, `?2` boot, `?3` the time from the grant to the end in µs, `?4` leases.
const KEEP: &str = r#"
UPDATE {table}
   SET owner = CASE WHEN min(acquired_us, ?1) + ?3 > ?1 THEN '{kept}' END,
       expires_us = CASE WHEN min(acquired_us, ?1) + ?3 > ?1 THEN min(acquired_us, ?1) + ?3 ELSE min(expires_us, ?1) END
 WHERE (name, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?4)) AND boot = ?2
RETURNING name, queue > served"#;

/// Name, holder, held for and expires in, in µs, the waiter's ticket or 0, how many are ahead, fence, 0, for this clock is
/// never set back, and 1 if it is kept and nobody has it, or 2 if it is free, and left to those ahead.
const SEEN: &str = r#"
SELECT l.name, l.holder, ?1 - l.acquired_us, l.expires_us - ?1, CASE WHEN {good} THEN abs({turn}) ELSE 0 END,
       CASE WHEN {good} THEN abs({turn}) - l.served - 1 ELSE max(l.queue - l.served, 0) END, l.fence, 0,
       CASE WHEN l.owner IS NULL OR l.expires_us <= ?1 THEN 2 ELSE l.owner = '{kept}' END"#;

/// `?1` now in µs, `?2` boot, `?3` claims. What is [seen](SEEN) of those that are not free for them. A cross join looks up
/// the right for each on the left.
const HOLDERS: &str = r#"{seen}
  FROM json_each(?3) AS c
 CROSS JOIN {table} AS l ON l.name = c.value ->> 0
 WHERE l.owner IS NOT c.value ->> 1 AND l.boot = ?2 AND (l.owner IS NOT NULL AND l.expires_us > ?1 OR {behind})"#;

/// `?3` a name, `?4` its owner, `?5` its turn. As above.
const HOLDER: &str = r#"{seen}
  FROM {table} AS l
 WHERE l.name = ?3 AND l.owner IS NOT ?4 AND l.boot = ?2 AND (l.owner IS NOT NULL AND l.expires_us > ?1 OR {behind})"#;

/// `?1` a name, `?2` the owner that waits for it. The ticket.
const DRAW: &str = r#"
UPDATE {table}
   SET queue = max(queue, served) + 1
 WHERE name = ?1 AND owner IS NOT ?2
RETURNING queue"#;

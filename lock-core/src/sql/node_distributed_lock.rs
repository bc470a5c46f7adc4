//! The table of the npm package `node-distributed-lock` (before: `sequelize-distributed-lock`), on PostgreSQL, for a fleet
//! in which both are used.
//!
//! * A row is a lock that is held: `mutex` is its name, `node_id` its owner, `ts` the time of its last renewal. A
//!   release deletes it.
//! * **All members must have the same TTL**, for a row does not have its own. The package deletes the rows of all names that are
//!   older than its `lockTTLSeconds`, and renews none.
//! * The package locks the whole table for each request. One statement of ours is atomic beside that, and needs no such
//!   lock. While one runs, the package takes the table for busy, and tries again a second later.
//! * A fence is the time of the grant in µs, by the server's clock: a deleted row has no memory. It is read once the row is
//!   ours, because the row's own time may be from before another's grant and release.
//! * The package sends no notification, so nobody listens: those that wait look. Nothing is prepared, and statements
//!   [carry](Codec::carries) the settings that matter.

use super::postgres::{CHECK as OWN_CHECK, CLAIM_OF_ONE, CLAIMS, carried};
use super::{Codec, Dialect, Terms};
use crate::name::TableName;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// The longest name of a lock, in characters.
pub const MAX_NAME: usize = 36;

/// The package's `lockTTLSeconds`, unless it is told another.
pub const DEFAULT_TTL: Duration = Duration::from_secs(1200);

/// The package's table, unless it is told another.
pub const DEFAULT_TABLE: &str = "distributed_lock";

/// The codec for a table whose users all have this TTL.
pub fn codec(table: TableName, ttl: Duration) -> Codec {
    let terms = Terms { fleet: Some(ttl), carries: true, ..Terms::default() };
    let codec = make(table, terms, ttl);
    Codec { terms, ..codec }
}

pub(super) fn make(table: TableName, terms: Terms, ttl: Duration) -> Codec {
    let longest = format!("$1::bigint <= {}", ttl.as_micros());
    let ttl = interval(ttl);
    let whole =
        |text: &str| carried(text, terms).replace("{ttl}", &ttl).replace("{longest}", &longest);
    let [any, one] = [CLAIMS, CLAIM_OF_ONE].map(|claims| whole(&CLAIM.replace("{claims}", claims)));
    let none = Dialect::Postgres { listen: "".into(), unlisten: "".into(), ping: "".into() };
    Codec::new(none, table, [&any, &whole(RENEW), &whole(RELEASE), &whole(HOLDERS)])
        .with_one(&one, &whole(RELEASE_ONE))
}

/// The fleet's TTL, as it is written in statements.
pub(super) fn interval(ttl: Duration) -> String {
    format!("interval '{} microseconds'", ttl.as_micros())
}

/// As the package creates it.
pub(super) const CREATE: &str = r#"
CREATE TABLE IF NOT EXISTS {table} (
  mutex varchar(36) NOT NULL,
  ts timestamptz NOT NULL,
  node_id varchar(36) NOT NULL,
  PRIMARY KEY (mutex)
)"#;

/// The columns that [`CREATE`] makes, as the [check](check) reports them. Others are nobody's business.
pub(super) const COLUMNS: &str = "mutex varchar, node_id varchar, ts timestamptz";

/// The check of a lock table, about this one. Any order of names will do.
pub(super) fn check() -> String {
    OWN_CHECK
        .replace(
            "'name', 'owner', 'fence', 'expires_at', 'acquired_at', 'ttl_us', 'queue', 'served', 'holder'",
            "'mutex', 'ts', 'node_id'",
        )
        .replace("a.attname = 'name')", "a.attname = 'mutex')")
}

/// `$1` the TTL in µs, which is not longer than the fleet's, and `$2` the holder's text: there is a column for neither.
/// `$3` names and `$4` their owners, and three parameters that are not used; or one name and owner, and another.
const CLAIM: &str = r#"
INSERT INTO {table} AS l (mutex, ts, node_id)
SELECT c.name, clock_timestamp(), c.owner
  FROM {claims}
 WHERE {longest} AND $2::text IS NOT NULL
   AND NOT EXISTS (SELECT FROM {table} AS o
                    WHERE o.mutex = c.name AND o.node_id <> c.owner AND o.ts >= clock_timestamp() - {ttl}){durable}
 ORDER BY c.name COLLATE "C"
ON CONFLICT (mutex) DO UPDATE
   SET node_id = excluded.node_id,
       ts = greatest(l.ts + interval '1 microsecond', clock_timestamp())
 WHERE l.ts < clock_timestamp() - {ttl} OR l.node_id = excluded.node_id
RETURNING mutex::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"#;

/// `$1` the TTL in µs, `$2` names, `$3` their owners, and one that is not used.
const RENEW: &str = r#"
WITH ours AS MATERIALIZED (
  SELECT l.mutex, l.node_id
    FROM {table} AS l
    JOIN unnest($2::text[], $3::text[], $4::text[]) AS c (name, owner, ttl) ON l.mutex = c.name AND l.node_id = c.owner
     AND {longest}{durable}
   ORDER BY l.mutex
     FOR NO KEY UPDATE OF l
)
UPDATE {table} AS l
   SET ts = greatest(l.ts + interval '1 microsecond', clock_timestamp())
  FROM ours
 WHERE l.mutex = ours.mutex AND l.node_id = ours.node_id AND l.ts >= clock_timestamp() - {ttl}
RETURNING l.mutex::text, l.node_id::text"#;

/// `$1` names, `$2` their owners.
const RELEASE: &str = r#"
WITH fast AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', true)
), ours AS MATERIALIZED (
  SELECT l.mutex, l.node_id
    FROM {table} AS l
    JOIN unnest($1::text[], $2::text[]) AS c (name, owner) ON l.mutex = c.name AND l.node_id = c.owner{limited}
   ORDER BY l.mutex
     FOR UPDATE OF l
)
DELETE FROM {table} AS l
 USING ours, fast
 WHERE l.mutex = ours.mutex AND l.node_id = ours.node_id
RETURNING l.mutex::text, 0::bigint"#;

/// `$1` a name, `$2` its owner.
const RELEASE_ONE: &str = r#"
DELETE FROM {table} AS l
 WHERE l.mutex = $1::text AND l.node_id = $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL{limited}
RETURNING l.mutex::text, 0::bigint"#;

/// `$1` names; there are no turns, and who has a row asks for it all the same. Name, holder, since when it was not renewed and when it ends, both in µs, no ticket, and
/// nobody ahead; the fence, no expiry that is late, and not that it is kept.
const HOLDERS: &str = r#"
SELECT s.mutex::text, 'node ' || s.node_id::text,
       (extract(epoch FROM clock_timestamp() - s.ts) * 1000000)::bigint,
       (extract(epoch FROM s.ts + {ttl} - clock_timestamp()) * 1000000)::bigint,
       0::bigint, 0::bigint, (extract(epoch FROM s.ts) * 1000000)::bigint, 0::bigint, 0::bigint
  FROM {table} AS s
 WHERE s.mutex = ANY ($1::text[]) AND $2::text[] IS NOT NULL AND $3::text[] IS NOT NULL AND s.ts >= clock_timestamp() - {ttl}"#;

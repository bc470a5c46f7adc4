//! Releases: rows are freed, or stay taken for a while.

use crate::error::{Code, Failure};

/// Notifies the listeners whose turn it is; 1. When the server's queue of notifications is full, the statement fails, as its
/// commit does.
pub(super) const TELL: &str = r"(pg_notify({channel},
                      E'\x02' || (l.served + 1) || ' 0 ' || l.name) IS NOT NULL)::int";

/// Whether a statement failed only because the listeners could not be [notified](TELL).
pub(in super::super) fn could_not_tell(failure: &Failure) -> bool {
    failure.code() == Some(Code::SqlState(*b"54000"))
}

/// `$1` names, `$2` their owners.
pub(super) const RELEASE: &str = r#"
WITH fast AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', true)
), ours AS MATERIALIZED (
  SELECT l.name, l.owner
    FROM {table} AS l
    JOIN unnest($1::text[], $2::text[]) AS c (name, owner) ON l.name = c.name AND l.owner = c.owner{limited}
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE {table} AS l
   SET owner = NULL, expires_at = least(l.expires_at, clock_timestamp())
  FROM ours, fast
 WHERE l.name = ours.name AND l.owner = ours.owner
RETURNING l.name,
          CASE WHEN l.queue > l.served THEN {tell}
               ELSE 0 END::bigint"#;

/// `$1` a name, `$2` its owner.
pub(super) const RELEASE_ONE: &str = r#"
UPDATE {table} AS l
   SET owner = NULL, expires_at = least(l.expires_at, clock_timestamp())
 WHERE l.name = $1::text AND l.owner = $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL{limited}
RETURNING l.name,
          CASE WHEN l.queue > l.served THEN {tell}
               ELSE 0 END::bigint"#;

/// `$1` the time from the grant to the end in µs, `$2` names, `$3` their owners. The clock is read once, before a row is
/// waited for: at worst a row is kept whose time is over by then, and anybody may take it.
///
/// A grant that the clock, once it is set back, shows in the future counts from now. The lease's TTL is the rest of the time, so that it is
/// not taken for [late](super::LATE).
pub(super) const KEEP: &str = r#"
WITH clock AS MATERIALIZED (
  SELECT clock_timestamp() AS now
), ours AS MATERIALIZED (
  SELECT l.name, l.owner, clock.now, least(l.acquired_at, clock.now) + $1::bigint * interval '1 microsecond' AS ends
    FROM clock, {table} AS l
    JOIN unnest($2::text[], $3::text[]) AS c (name, owner) ON l.name = c.name AND l.owner = c.owner{durable}
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE {table} AS l
   SET owner = CASE WHEN ours.ends > ours.now THEN '{kept}' END,
       expires_at = CASE WHEN ours.ends > ours.now THEN ours.ends ELSE least(l.expires_at, ours.now) END,
       ttl_us = CASE WHEN ours.ends > ours.now THEN (extract(epoch FROM ours.ends - ours.now) * 1000000)::bigint
                     ELSE l.ttl_us END
  FROM ours
 WHERE l.name = ours.name AND l.owner = ours.owner
RETURNING l.name,
          CASE WHEN l.queue > l.served THEN {tell}
               ELSE 0 END::bigint"#;

/// Notifies the listeners of a lock that is kept, or that was freed after all; 1.
pub(super) const TELL_KEPT: &str = r"(pg_notify({channel},
                      E'\x02' || (l.served + 1) || ' ' || CASE WHEN l.owner IS NULL THEN 0 ELSE l.ttl_us END || ' ' || l.name) IS NOT NULL)::int";

//! The statements for operators, of each dialect.

/// Statements of one dialect. `list` and `status` return the rows of [`state`](super::state). In `purge`, `{ends}` is what else
/// must be so of a lease that the server's clock ends.
pub(super) struct Texts {
    pub(super) list: &'static str,
    pub(super) status: &'static str,
    pub(super) force: &'static str,
    pub(super) purge: &'static str,
}

/// `$1`: the name, after which; the name; the name, `$2` the fence; the time unused, in µs. For `{tell}`, [`TELL`] or
/// [`TELL_NOBODY`].
pub(super) const POSTGRES: Texts = Texts {
    list: r#"
SELECT l.name, l.fence, l.holder,
       (extract(epoch FROM clock_timestamp() - l.acquired_at) * 1000000)::bigint,
       (extract(epoch FROM l.expires_at - clock_timestamp()) * 1000000)::bigint,
       (l.expires_at > clock_timestamp() + (l.ttl_us + 1000000) * interval '1 microsecond')::int::bigint,
       coalesce(l.owner = '{kept}', false)::int::bigint
  FROM {table} AS l
 WHERE l.owner IS NOT NULL AND l.expires_at > clock_timestamp() AND l.name > $1::text
 ORDER BY l.name
 LIMIT 500"#,
    status: r#"
SELECT l.name, l.fence, l.holder,
       (extract(epoch FROM clock_timestamp() - l.acquired_at) * 1000000)::bigint,
       CASE WHEN l.owner IS NULL THEN 0
            ELSE (extract(epoch FROM l.expires_at - clock_timestamp()) * 1000000)::bigint END,
       (l.expires_at > clock_timestamp() + (l.ttl_us + 1000000) * interval '1 microsecond')::int::bigint,
       coalesce(l.owner = '{kept}', false)::int::bigint
  FROM {table} AS l
 WHERE l.name = $1::text"#,
    force: r#"
UPDATE {table}
   SET owner = NULL, expires_at = least(expires_at, clock_timestamp()),
       fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL{durable}
RETURNING CASE WHEN queue > served AND {tell} THEN NULL
               ELSE fence END"#,
    purge: r#"
DELETE FROM {table}
 WHERE name IN (
   SELECT l.name
     FROM {table} AS l
    WHERE (l.owner IS NULL OR ({ends}l.expires_at <= clock_timestamp()))
      AND l.fence < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1::bigint
    ORDER BY l.name
    LIMIT 500
      FOR UPDATE SKIP LOCKED
 )
RETURNING name"#,
};

/// As for PostgreSQL, in the table of [another package](crate::sql::node_distributed_lock). A lock's fence is the time of its
/// last renewal there.
pub(super) const PEERS: Texts = Texts {
    list: r#"
SELECT l.mutex::text, (extract(epoch FROM l.ts) * 1000000)::bigint, 'node ' || l.node_id::text,
       (extract(epoch FROM clock_timestamp() - l.ts) * 1000000)::bigint,
       (extract(epoch FROM l.ts + {ttl} - clock_timestamp()) * 1000000)::bigint, 0::bigint, 0::bigint
  FROM {table} AS l
 WHERE l.ts >= clock_timestamp() - {ttl} AND l.mutex > $1::text
 ORDER BY l.mutex
 LIMIT 500"#,
    status: r#"
SELECT l.mutex::text, (extract(epoch FROM l.ts) * 1000000)::bigint, 'node ' || l.node_id::text,
       (extract(epoch FROM clock_timestamp() - l.ts) * 1000000)::bigint,
       (extract(epoch FROM l.ts + {ttl} - clock_timestamp()) * 1000000)::bigint, 0::bigint, 0::bigint
  FROM {table} AS l
 WHERE l.mutex = $1::text"#,
    force: r#"
DELETE FROM {table}
 WHERE mutex = $1::text AND (extract(epoch FROM ts) * 1000000)::bigint = $2::bigint{durable}
RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"#,
    purge: r#"
DELETE FROM {table}
 WHERE mutex IN (
   SELECT l.mutex
     FROM {table} AS l
    WHERE l.ts < clock_timestamp() - {ttl} - $1::bigint * interval '1 microsecond'
    ORDER BY l.mutex
    LIMIT 500
      FOR UPDATE SKIP LOCKED
 )
RETURNING mutex::text"#,
};

/// `?1` now in µs, `?2` boot, `?3` as for PostgreSQL; to break, `?1` the name, `?2` the fence.
pub(super) const SQLITE: Texts = Texts {
    list: r#"
SELECT name, fence, holder, ?1 - acquired_us, expires_us - ?1, 0, owner = '{kept}'
  FROM {table}
 WHERE owner IS NOT NULL AND boot = ?2 AND expires_us > ?1 AND name > ?3
 ORDER BY name
 LIMIT 500"#,
    status: r#"
SELECT name, fence, holder, ?1 - acquired_us,
       CASE WHEN owner IS NULL OR boot <> ?2 THEN 0 ELSE expires_us - ?1 END, 0, coalesce(owner = '{kept}', 0)
  FROM {table}
 WHERE name = ?3"#,
    force: r#"
UPDATE {table}
   SET owner = NULL, expires_us = 0,
       fence = max(fence + 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000)
 WHERE name = ?1 AND fence = ?2 AND owner IS NOT NULL
RETURNING fence"#,
    purge: r#"
DELETE FROM {table}
 WHERE name IN (
   SELECT name
     FROM {table}
    WHERE (owner IS NULL OR boot <> ?2 OR expires_us <= ?1)
      AND fence < CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000 - ?3
    ORDER BY name
    LIMIT 500
 )
RETURNING name"#,
};

/// Parameters as for PostgreSQL.
pub(super) const MYSQL: Texts = Texts {
    list: r#"
SELECT name, fence, holder, {now} - acquired_us, expires_us - {now}, expires_us > {now} + ttl_us + 1000000,
       COALESCE(owner = X'{kept}', 0)
  FROM {table}
 WHERE owner IS NOT NULL AND expires_us > {now} AND name > ?
 ORDER BY name
 LIMIT 500"#,
    status: r#"
SELECT name, fence, holder, {now} - acquired_us,
       CASE WHEN owner IS NULL THEN 0 ELSE expires_us - {now} END, expires_us > {now} + ttl_us + 1000000,
       COALESCE(owner = X'{kept}', 0)
  FROM {table}
 WHERE name = ?"#,
    force: r#"
UPDATE {table}
   SET fence = LAST_INSERT_ID(GREATEST(fence + 1, {now})), owner = NULL, expires_us = 0
 WHERE name = ? AND fence = ? AND owner IS NOT NULL{and}"#,
    purge: r#"
DELETE FROM {table}
 WHERE (owner IS NULL OR ({ends}expires_us <= {now})) AND fence < {now} - ?{and}
 ORDER BY name
 LIMIT 500"#,
};

/// Notifies waiters on PostgreSQL that the lock is free; never true. When the server's queue of notifications
/// is full, the statement fails.
pub(super) const TELL: &str =
    r"pg_notify({channel}, E'\x02' || (served + 1) || ' 0 ' || name) IS NULL";

/// In its place, where waiters cannot be notified.
pub(super) const TELL_NOBODY: &str = "false";

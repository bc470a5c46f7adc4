//! Who holds the locks that are waited for.

/// Name, holder, held for and expires in, both in µs, whether somebody else had asked to be told of the release,
/// fence, the expiry if it is [late](super::LATE), and whether it is kept, and nobody has it.
pub(super) const SEEN: &str = r#"
SELECT s.name, s.holder,
       (extract(epoch FROM clock_timestamp() - s.acquired_at) * 1000000)::bigint,
       CASE WHEN {late} THEN s.ttl_us
            ELSE (extract(epoch FROM s.expires_at - clock_timestamp()) * 1000000)::bigint END,
       s.contended::int::bigint, s.fence,
       CASE WHEN {late} THEN (extract(epoch FROM s.expires_at) * 1000000)::bigint ELSE 0 END, (s.owner = '{kept}')::int::bigint"#;

/// `$1` names. What is [seen](SEEN) of the locks that are certain to be told of when they are freed; of others in the
/// way, nothing.
pub(super) const HOLDERS: &str = r#"
WITH fast AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', true)
), unmarked AS MATERIALIZED (
  SELECT l.name
    FROM {table} AS l
   WHERE l.name = ANY ($1::text[]) AND l.owner IS NOT NULL AND NOT l.contended
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
), marked AS (
  UPDATE {table} AS l
     SET contended = true
    FROM unmarked, fast
   WHERE l.name = unmarked.name AND l.owner IS NOT NULL
  RETURNING l.name, l.owner, l.holder, l.acquired_at, l.expires_at, l.ttl_us, l.fence
), seen AS (
  SELECT l.name, l.owner, l.holder, l.acquired_at, l.expires_at, l.ttl_us, l.fence, true AS contended
    FROM {table} AS l
   WHERE l.name = ANY ($1::text[]) AND l.owner IS NOT NULL AND l.contended
   UNION ALL
  SELECT m.*, false FROM marked AS m
){seen}
  FROM seen AS s{held}"#;

/// `$1` names. What is [seen](SEEN) of those in the way. Where nothing is prepared, the server plans each statement anew,
/// and those that wait look often: this is planned in a fifth of the time.
pub(super) const LOOK: &str = r#"{seen}
  FROM {table} AS s
 WHERE s.name = ANY ($1::text[]) AND s.owner IS NOT NULL{and held}"#;

/// `$1` names, `$2` the owners that wait for them.
pub(super) const MARK: &str = r#"
WITH unmarked AS MATERIALIZED (
  SELECT l.name
    FROM {table} AS l
    JOIN unnest($1::text[], $2::text[]) AS c (name, owner) ON l.name = c.name AND l.owner <> c.owner
     AND NOT l.contended AND set_config('synchronous_commit', 'off', true) IS NOT NULL{limited}
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE {table} AS l
   SET contended = true
  FROM unmarked
 WHERE l.name = unmarked.name AND l.owner IS NOT NULL"#;

/// `$1` a name, `$2` the owner that waits for it.
pub(super) const MARK_ONE: &str = r#"
UPDATE {table} AS l
   SET contended = true
 WHERE l.name = $1::text AND l.owner <> $2::text AND NOT l.contended
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL{limited}"#;

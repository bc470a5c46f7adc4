//! The holders of the locks that are waited for, and the turns of waiters.

/// Name, holder, held for and expires in, both in µs, the waiter's ticket or 0, how many are ahead, fence, the expiry if it
/// is [late](super::LATE), and 1 if it is kept and nobody has it, or 2 if it is free, and left to those ahead.
pub(super) const SEEN: &str = r#"
SELECT s.name, s.holder,
       (extract(epoch FROM clock_timestamp() - s.acquired_at) * 1000000)::bigint,
       CASE WHEN {late} THEN s.ttl_us
            ELSE (extract(epoch FROM s.expires_at - clock_timestamp()) * 1000000)::bigint END,
       {ticket}, s.fence,
       CASE WHEN {late} THEN (extract(epoch FROM s.expires_at) * 1000000)::bigint ELSE 0 END,
       CASE WHEN NOT ({lives s}) THEN 2 WHEN s.owner = '{kept}' THEN 1 ELSE 0 END::bigint"#;

/// `$1` names, `$2` the turns of those that want them, `$3` their owners. What is [seen](SEEN) of the locks that are not free for them. Whoever
/// waits and has no ticket that will have its turn draws one.
pub(super) const HOLDERS: &str = r#"
WITH fast AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', true)
), asked AS MATERIALIZED (
  SELECT c.name, c.owner, c.turn::bigint AS turn FROM unnest($1::text[], $2::text[], $3::text[]) AS c (name, turn, owner)
), drawing AS MATERIALIZED (
  SELECT l.name
    FROM asked AS c
    JOIN {table} AS l ON l.name = c.name AND l.owner IS DISTINCT FROM c.owner
   WHERE c.turn <> 0 AND NOT {good l} AND ({lives l} OR {behind l})
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
), drawn AS (
  UPDATE {table} AS l
     SET queue = greatest(l.queue, l.served) + 1
    FROM drawing, fast
   WHERE l.name = drawing.name
  RETURNING l.name, l.owner, l.holder, l.acquired_at, l.expires_at, l.ttl_us, l.fence, l.queue AS ticket, l.served
), seen AS (
  SELECT l.name, l.owner, l.holder, l.acquired_at, l.expires_at, l.ttl_us, l.fence, abs(c.turn) AS ticket, l.served
    FROM asked AS c
    JOIN {table} AS l ON l.name = c.name AND l.owner IS DISTINCT FROM c.owner
   WHERE (c.turn = 0 OR {good l}) AND ({lives l} OR {behind l})
   UNION ALL
  SELECT d.* FROM drawn AS d
){seen}
  FROM seen AS s"#;

/// Of the above: the ticket, and how many are ahead of it.
pub(super) const TICKET: &str = "s.ticket, greatest(s.ticket - s.served - 1, 0)";

/// The same, of which nobody draws a ticket: where it is missing, it is 0, and ahead are all. Where nothing is prepared, the
/// server plans each statement anew, and those that wait look often: this is planned in a fifth of the time.
pub(super) const LOOK: &str = r#"{seen}
  FROM unnest($1::text[], $2::text[], $3::text[]) AS c (name, turn, owner)
  JOIN {table} AS s ON s.name = c.name AND s.owner IS DISTINCT FROM c.owner
 WHERE {lives s} OR {behind s}"#;

/// The same columns for [`LOOK`].
pub(super) const LOOK_TICKET: &str = "CASE WHEN {good s} THEN abs(c.turn::bigint) ELSE 0 END,
       CASE WHEN {good s} THEN abs(c.turn::bigint) - s.served - 1 ELSE greatest(s.queue - s.served, 0) END";

/// `$1` a name, `$2` the owner that waits for it. The ticket.
pub(super) const DRAW: &str = r#"
UPDATE {table} AS l
   SET queue = greatest(l.queue, l.served) + 1
 WHERE l.name = $1::text AND l.owner IS DISTINCT FROM $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL{limited}
RETURNING l.queue"#;

/// Whether a ticket will have its turn.
pub(super) const GOOD: &str = "(abs(c.turn::bigint) > l.served AND abs(c.turn::bigint) <= l.queue)";

/// Whether a row that is free is left to others: more are ahead of a claim than may claim, so long after it was freed. See
/// [`table`](crate::table).
pub(super) const BEHIND: &str = "(c.turn::bigint > 0 AND l.queue > l.served AND l.expires_at <= clock_timestamp() + interval '1 second'
          AND least(c.turn::bigint, l.queue + 1) - l.served > power(2, least(62, floor(
              4 * greatest(extract(epoch FROM clock_timestamp() - l.expires_at), 0)
              / least(greatest(extract(epoch FROM l.expires_at - l.acquired_at), 0.08), 1)))))";

-- acquire: take the name if it is free
INSERT INTO "locks" AS l (name, owner, fence, expires_at, acquired_at, ttl_us, served, holder)
SELECT c.name, c.owner,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       clock_timestamp() + $1::bigint * interval '1 microsecond',
       clock_timestamp(), $1::bigint, abs(c.turn::bigint) % 9007199254740991, $2::text
  FROM (VALUES ($3::text, $4::text, $5::bigint)) AS c (name, owner, turn)
 WHERE NOT EXISTS (SELECT FROM "locks" AS o
                    WHERE o.name = c.name AND o.owner IS DISTINCT FROM c.owner AND ((o.owner IS NOT NULL AND o.expires_at > clock_timestamp()) OR (c.turn::bigint > 0 AND o.queue > o.served AND o.expires_at <= clock_timestamp() + interval '1 second'
          AND least(c.turn::bigint, o.queue + 1) - o.served > power(2, least(62, floor(
              4 * greatest(extract(epoch FROM clock_timestamp() - o.expires_at), 0)
              / least(greatest(extract(epoch FROM o.expires_at - o.acquired_at), 0.08), 1)))))))
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
 ORDER BY c.name COLLATE "C"
ON CONFLICT (name) DO UPDATE
   SET name = excluded.name, owner = excluded.owner,
       fence = CASE WHEN l.owner = excluded.owner THEN l.fence
                    ELSE greatest(l.fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) END,
       expires_at = greatest(CASE WHEN l.owner = excluded.owner THEN l.expires_at + interval '1 microsecond' END,
                             clock_timestamp() + excluded.ttl_us * interval '1 microsecond'),
       acquired_at = CASE WHEN l.owner = excluded.owner THEN l.acquired_at ELSE clock_timestamp() END,
       ttl_us = greatest(CASE WHEN l.owner = excluded.owner THEN l.ttl_us END, excluded.ttl_us),
       served = greatest(l.served, least(excluded.served, l.queue)),
       holder = excluded.holder
 WHERE NOT (l.owner IS NOT NULL AND l.expires_at > clock_timestamp()) OR l.owner = excluded.owner
RETURNING name, fence;

-- acquire: take the names that are free
INSERT INTO "locks" AS l (name, owner, fence, expires_at, acquired_at, ttl_us, served, holder)
SELECT c.name, c.owner,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       clock_timestamp() + coalesce(c.ttl::bigint, $1::bigint) * interval '1 microsecond',
       clock_timestamp(), coalesce(c.ttl::bigint, $1::bigint), abs(c.turn::bigint) % 9007199254740991, coalesce(c.label, $2::text)
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS c (name, owner, ttl, label, turn)
 WHERE NOT EXISTS (SELECT FROM "locks" AS o
                    WHERE o.name = c.name AND o.owner IS DISTINCT FROM c.owner AND ((o.owner IS NOT NULL AND o.expires_at > clock_timestamp()) OR (c.turn::bigint > 0 AND o.queue > o.served AND o.expires_at <= clock_timestamp() + interval '1 second'
          AND least(c.turn::bigint, o.queue + 1) - o.served > power(2, least(62, floor(
              4 * greatest(extract(epoch FROM clock_timestamp() - o.expires_at), 0)
              / least(greatest(extract(epoch FROM o.expires_at - o.acquired_at), 0.08), 1)))))))
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
 ORDER BY c.name COLLATE "C"
ON CONFLICT (name) DO UPDATE
   SET name = excluded.name, owner = excluded.owner,
       fence = CASE WHEN l.owner = excluded.owner THEN l.fence
                    ELSE greatest(l.fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) END,
       expires_at = greatest(CASE WHEN l.owner = excluded.owner THEN l.expires_at + interval '1 microsecond' END,
                             clock_timestamp() + excluded.ttl_us * interval '1 microsecond'),
       acquired_at = CASE WHEN l.owner = excluded.owner THEN l.acquired_at ELSE clock_timestamp() END,
       ttl_us = greatest(CASE WHEN l.owner = excluded.owner THEN l.ttl_us END, excluded.ttl_us),
       served = greatest(l.served, least(excluded.served, l.queue)),
       holder = excluded.holder
 WHERE NOT (l.owner IS NOT NULL AND l.expires_at > clock_timestamp()) OR l.owner = excluded.owner
RETURNING name, fence;

-- acquire and look: who has it
SELECT s.name, s.holder,
       (extract(epoch FROM clock_timestamp() - s.acquired_at) * 1000000)::bigint,
       CASE WHEN s.expires_at > clock_timestamp() + (s.ttl_us + 1000000) * interval '1 microsecond' THEN s.ttl_us
            ELSE (extract(epoch FROM s.expires_at - clock_timestamp()) * 1000000)::bigint END,
       CASE WHEN (abs(c.turn::bigint) > s.served AND abs(c.turn::bigint) <= s.queue) THEN abs(c.turn::bigint) ELSE 0 END,
       CASE WHEN (abs(c.turn::bigint) > s.served AND abs(c.turn::bigint) <= s.queue) THEN abs(c.turn::bigint) - s.served - 1 ELSE greatest(s.queue - s.served, 0) END, s.fence,
       CASE WHEN s.expires_at > clock_timestamp() + (s.ttl_us + 1000000) * interval '1 microsecond' THEN (extract(epoch FROM s.expires_at) * 1000000)::bigint ELSE 0 END,
       CASE WHEN NOT ((s.owner IS NOT NULL AND s.expires_at > clock_timestamp())) THEN 2 WHEN s.owner = '00000000000000000000000000000000' THEN 1 ELSE 0 END::bigint
  FROM unnest($1::text[], $2::text[], $3::text[]) AS c (name, turn, owner)
  JOIN "locks" AS s ON s.name = c.name AND s.owner IS DISTINCT FROM c.owner
 WHERE (s.owner IS NOT NULL AND s.expires_at > clock_timestamp()) OR (c.turn::bigint > 0 AND s.queue > s.served AND s.expires_at <= clock_timestamp() + interval '1 second'
          AND least(c.turn::bigint, s.queue + 1) - s.served > power(2, least(62, floor(
              4 * greatest(extract(epoch FROM clock_timestamp() - s.expires_at), 0)
              / least(greatest(extract(epoch FROM s.expires_at - s.acquired_at), 0.08), 1)))));

-- acquire and look: who waits for it draws a ticket
UPDATE "locks" AS l
   SET queue = greatest(l.queue, l.served) + 1
 WHERE l.name = $1::text AND l.owner IS DISTINCT FROM $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
RETURNING l.queue;

-- renew
WITH ours AS MATERIALIZED (
  SELECT l.name, l.owner, coalesce(c.ttl::bigint, $1::bigint) AS ttl
    FROM "locks" AS l
    JOIN unnest($2::text[], $3::text[], $4::text[]) AS c (name, owner, ttl) ON l.name = c.name AND l.owner = c.owner
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE "locks" AS l
   SET expires_at = greatest(l.expires_at + interval '1 microsecond', clock_timestamp() + ours.ttl * interval '1 microsecond'),
       ttl_us = greatest(l.ttl_us, ours.ttl)
  FROM ours
 WHERE l.name = ours.name AND l.owner = ours.owner AND l.expires_at > clock_timestamp()
RETURNING l.name, l.owner;

-- release one
UPDATE "locks" AS l
   SET owner = NULL, expires_at = least(l.expires_at, clock_timestamp())
 WHERE l.name = $1::text AND l.owner = $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
RETURNING l.name,
          CASE WHEN l.queue > l.served THEN (pg_notify('withlock_' || '"locks"'::regclass::oid::text,
                      E'\x02' || (l.served + 1) || ' 0 ' || l.name) IS NOT NULL)::int
               ELSE 0 END::bigint;

-- release
WITH fast AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', true)
), ours AS MATERIALIZED (
  SELECT l.name, l.owner
    FROM "locks" AS l
    JOIN unnest($1::text[], $2::text[]) AS c (name, owner) ON l.name = c.name AND l.owner = c.owner
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE "locks" AS l
   SET owner = NULL, expires_at = least(l.expires_at, clock_timestamp())
  FROM ours, fast
 WHERE l.name = ours.name AND l.owner = ours.owner
RETURNING l.name,
          CASE WHEN l.queue > l.served THEN (pg_notify('withlock_' || '"locks"'::regclass::oid::text,
                      E'\x02' || (l.served + 1) || ' 0 ' || l.name) IS NOT NULL)::int
               ELSE 0 END::bigint;

-- release, but leave taken for a while
WITH clock AS MATERIALIZED (
  SELECT clock_timestamp() AS now
), ours AS MATERIALIZED (
  SELECT l.name, l.owner, clock.now, least(l.acquired_at, clock.now) + $1::bigint * interval '1 microsecond' AS ends
    FROM clock, "locks" AS l
    JOIN unnest($2::text[], $3::text[]) AS c (name, owner) ON l.name = c.name AND l.owner = c.owner
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE "locks" AS l
   SET owner = CASE WHEN ours.ends > ours.now THEN '00000000000000000000000000000000' END,
       expires_at = CASE WHEN ours.ends > ours.now THEN ours.ends ELSE least(l.expires_at, ours.now) END,
       ttl_us = CASE WHEN ours.ends > ours.now THEN (extract(epoch FROM ours.ends - ours.now) * 1000000)::bigint
                     ELSE l.ttl_us END
  FROM ours
 WHERE l.name = ours.name AND l.owner = ours.owner
RETURNING l.name,
          CASE WHEN l.queue > l.served THEN (pg_notify('withlock_' || '"locks"'::regclass::oid::text,
                      E'\x02' || (l.served + 1) || ' ' || CASE WHEN l.owner IS NULL THEN 0 ELSE l.ttl_us END || ' ' || l.name) IS NOT NULL)::int
               ELSE 0 END::bigint;

-- release one, if the queue of notifications is full
UPDATE "locks" AS l
   SET owner = NULL, expires_at = least(l.expires_at, clock_timestamp())
 WHERE l.name = $1::text AND l.owner = $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
RETURNING l.name,
          CASE WHEN l.queue > l.served THEN 1
               ELSE 0 END::bigint;

-- release, if the queue of notifications is full
WITH fast AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', true)
), ours AS MATERIALIZED (
  SELECT l.name, l.owner
    FROM "locks" AS l
    JOIN unnest($1::text[], $2::text[]) AS c (name, owner) ON l.name = c.name AND l.owner = c.owner
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE "locks" AS l
   SET owner = NULL, expires_at = least(l.expires_at, clock_timestamp())
  FROM ours, fast
 WHERE l.name = ours.name AND l.owner = ours.owner
RETURNING l.name,
          CASE WHEN l.queue > l.served THEN 1
               ELSE 0 END::bigint;

-- break, if the queue of notifications is full
UPDATE "locks"
   SET owner = NULL, expires_at = least(expires_at, clock_timestamp()),
       fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
RETURNING CASE WHEN queue > served AND false THEN NULL
               ELSE fence END;

-- look: which locks are held
SELECT l.name, l.fence, l.holder,
       (extract(epoch FROM clock_timestamp() - l.acquired_at) * 1000000)::bigint,
       (extract(epoch FROM l.expires_at - clock_timestamp()) * 1000000)::bigint,
       (l.expires_at > clock_timestamp() + (l.ttl_us + 1000000) * interval '1 microsecond')::int::bigint,
       coalesce(l.owner = '00000000000000000000000000000000', false)::int::bigint
  FROM "locks" AS l
 WHERE l.owner IS NOT NULL AND l.expires_at > clock_timestamp() AND l.name > $1::text
 ORDER BY l.name
 LIMIT 500;

-- look: one lock
SELECT l.name, l.fence, l.holder,
       (extract(epoch FROM clock_timestamp() - l.acquired_at) * 1000000)::bigint,
       CASE WHEN l.owner IS NULL THEN 0
            ELSE (extract(epoch FROM l.expires_at - clock_timestamp()) * 1000000)::bigint END,
       (l.expires_at > clock_timestamp() + (l.ttl_us + 1000000) * interval '1 microsecond')::int::bigint,
       coalesce(l.owner = '00000000000000000000000000000000', false)::int::bigint
  FROM "locks" AS l
 WHERE l.name = $1::text;

-- break
UPDATE "locks"
   SET owner = NULL, expires_at = least(expires_at, clock_timestamp()),
       fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
RETURNING CASE WHEN queue > served AND pg_notify('withlock_' || '"locks"'::regclass::oid::text, E'\x02' || (served + 1) || ' 0 ' || name) IS NULL THEN NULL
               ELSE fence END;

-- purge
DELETE FROM "locks"
 WHERE name IN (
   SELECT l.name
     FROM "locks" AS l
    WHERE (l.owner IS NULL OR (l.expires_at <= clock_timestamp()))
      AND l.fence < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1::bigint
    ORDER BY l.name
    LIMIT 500
      FOR UPDATE SKIP LOCKED
 )
RETURNING name;

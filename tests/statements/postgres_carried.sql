-- acquire: take the name if it is free
INSERT INTO "locks" AS l (name, owner, fence, expires_at, acquired_at, ttl_us, holder)
SELECT c.name, c.owner,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       clock_timestamp() + $1::bigint * interval '1 microsecond',
       clock_timestamp(), $1::bigint, $2::text
  FROM (VALUES ($3::text, $4::text)) AS c (name, owner)
 WHERE NOT EXISTS (SELECT FROM "locks" AS o
                    WHERE o.name = c.name AND o.owner <> c.owner AND o.expires_at > clock_timestamp())
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
       contended = l.contended AND l.owner IS NOT DISTINCT FROM excluded.owner,
       holder = excluded.holder
 WHERE l.owner IS NULL OR l.expires_at <= clock_timestamp() OR l.owner = excluded.owner
RETURNING name, fence;

-- acquire: take the names that are free
INSERT INTO "locks" AS l (name, owner, fence, expires_at, acquired_at, ttl_us, holder)
SELECT c.name, c.owner,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       clock_timestamp() + coalesce(c.ttl::bigint, $1::bigint) * interval '1 microsecond',
       clock_timestamp(), coalesce(c.ttl::bigint, $1::bigint), coalesce(c.label, $2::text)
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS c (name, owner, ttl, label)
 WHERE NOT EXISTS (SELECT FROM "locks" AS o
                    WHERE o.name = c.name AND o.owner <> c.owner AND o.expires_at > clock_timestamp())
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
       contended = l.contended AND l.owner IS NOT DISTINCT FROM excluded.owner,
       holder = excluded.holder
 WHERE l.owner IS NULL OR l.expires_at <= clock_timestamp() OR l.owner = excluded.owner
RETURNING name, fence;

-- acquire and look: who has it
SELECT s.name, s.holder,
       (extract(epoch FROM clock_timestamp() - s.acquired_at) * 1000000)::bigint,
       CASE WHEN s.expires_at > clock_timestamp() + (s.ttl_us + 1000000) * interval '1 microsecond' THEN s.ttl_us
            ELSE (extract(epoch FROM s.expires_at - clock_timestamp()) * 1000000)::bigint END,
       s.contended::int::bigint, s.fence,
       CASE WHEN s.expires_at > clock_timestamp() + (s.ttl_us + 1000000) * interval '1 microsecond' THEN (extract(epoch FROM s.expires_at) * 1000000)::bigint ELSE 0 END, (s.owner = '00000000000000000000000000000000')::int::bigint
  FROM "locks" AS s
 WHERE s.name = ANY ($1::text[]) AND s.owner IS NOT NULL AND s.expires_at > clock_timestamp();

-- acquire and look: the first that waits for it says so
UPDATE "locks" AS l
   SET contended = true
 WHERE l.name = $1::text AND l.owner <> $2::text AND NOT l.contended
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL;

-- acquire and look: the first that waits for them says so
WITH unmarked AS MATERIALIZED (
  SELECT l.name
    FROM "locks" AS l
    JOIN unnest($1::text[], $2::text[]) AS c (name, owner) ON l.name = c.name AND l.owner <> c.owner
     AND NOT l.contended AND set_config('synchronous_commit', 'off', true) IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE "locks" AS l
   SET contended = true
  FROM unmarked
 WHERE l.name = unmarked.name AND l.owner IS NOT NULL;

-- acquire and look: it ends later than it can
UPDATE "locks" AS l
   SET expires_at = clock_timestamp() + l.ttl_us * interval '1 microsecond',
       acquired_at = least(l.acquired_at, clock_timestamp())
 WHERE l.name = $1::text AND l.fence = $2::bigint AND l.owner IS NOT NULL
   AND (extract(epoch FROM l.expires_at) * 1000000)::bigint = $3::bigint
   AND l.expires_at > clock_timestamp() + l.ttl_us * interval '1 microsecond'
   AND set_config('lock_timeout', '1000', true) IS NOT NULL;

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
   SET owner = NULL
 WHERE l.name = $1::text AND l.owner = $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
RETURNING l.name,
          CASE WHEN l.contended THEN (pg_notify('withlock_' || l.tableoid::text, l.name) IS NOT NULL)::int
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
   SET owner = NULL
  FROM ours, fast
 WHERE l.name = ours.name AND l.owner = ours.owner
RETURNING l.name,
          CASE WHEN l.contended THEN (pg_notify('withlock_' || l.tableoid::text, l.name) IS NOT NULL)::int
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
       expires_at = CASE WHEN ours.ends > ours.now THEN ours.ends ELSE l.expires_at END,
       ttl_us = CASE WHEN ours.ends > ours.now THEN (extract(epoch FROM ours.ends - ours.now) * 1000000)::bigint
                     ELSE l.ttl_us END
  FROM ours
 WHERE l.name = ours.name AND l.owner = ours.owner
RETURNING l.name,
          CASE WHEN l.contended THEN (pg_notify('withlock_' || l.tableoid::text,
                      CASE WHEN l.owner IS NULL THEN l.name ELSE E'\x02' || l.ttl_us || ' ' || l.name END) IS NOT NULL)::int
               ELSE 0 END::bigint;

-- release one, if the queue of notifications is full
UPDATE "locks" AS l
   SET owner = NULL
 WHERE l.name = $1::text AND l.owner = $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
RETURNING l.name,
          CASE WHEN l.contended THEN 1
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
   SET owner = NULL
  FROM ours, fast
 WHERE l.name = ours.name AND l.owner = ours.owner
RETURNING l.name,
          CASE WHEN l.contended THEN 1
               ELSE 0 END::bigint;

-- break, if the queue of notifications is full
UPDATE "locks"
   SET owner = NULL,
       fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
RETURNING CASE WHEN contended AND false THEN NULL
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
   SET owner = NULL,
       fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
RETURNING CASE WHEN contended AND pg_notify('withlock_' || tableoid::text, name) IS NULL THEN NULL
               ELSE fence END;

-- purge
DELETE FROM "locks"
 WHERE name IN (
   SELECT l.name
     FROM "locks" AS l
    WHERE (l.owner IS NULL OR l.expires_at <= clock_timestamp())
      AND l.fence < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1::bigint
    ORDER BY l.name
    LIMIT 500
      FOR UPDATE SKIP LOCKED
 )
RETURNING name;

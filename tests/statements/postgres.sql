-- setup of a connection that was handed over: fails unless it is in a transaction
SAVEPOINT withlock;

-- setup: what kind of server and table is this
SELECT pg_is_in_recovery()::int::bigint,
       current_setting('server_version_num')::bigint,
       CASE WHEN current_setting('withlock.own', true) = 'on'
            THEN set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                                  WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
            ELSE current_setting('synchronous_commit') END,
       (SELECT c.relkind::text || c.relpersistence::text FROM pg_class AS c WHERE c.oid = to_regclass($1)),
       (SELECT string_agg(a.attname::text || ' ' || t.typname::text
                 || CASE WHEN a.attname = 'name' THEN ' ' || l.collname::text ELSE '' END, ', ' ORDER BY a.attname)
          FROM pg_attribute AS a
          JOIN pg_type AS t ON t.oid = a.atttypid
          LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
         WHERE a.attrelid = to_regclass($1) AND NOT a.attisdropped
           AND a.attname IN ('name', 'owner', 'fence', 'expires_at', 'acquired_at', 'ttl_us', 'queue', 'served', 'holder')),
       (SELECT count(*)
          FROM pg_index AS i
          JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid
           AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'name'),
       (current_setting('transaction_read_only') = 'on')::int::bigint,
       coalesce((SELECT n.nspname
                   FROM pg_class AS c
                   JOIN pg_namespace AS n ON n.oid = c.relnamespace
                  WHERE c.oid = to_regclass($1)), current_schema())::text,
       current_user::text,
       coalesce(current_setting('withlock.own', true), ''),
       current_setting('client_encoding');

-- setup, if there is no such table
CREATE TABLE IF NOT EXISTS "locks" (
  name text COLLATE "C" PRIMARY KEY,
  owner text, -- NULL: the lock is free; the row stays, for its fence
  fence bigint NOT NULL,
  expires_at timestamptz NOT NULL,
  acquired_at timestamptz NOT NULL,
  ttl_us bigint NOT NULL DEFAULT 86400000000, -- of the lease; the longest there is, where it is not known
  queue bigint NOT NULL DEFAULT 0, -- the last ticket that a waiter has drawn
  served bigint NOT NULL DEFAULT 0, -- the last ticket that had its turn
  holder text NOT NULL -- for people: host, process, label
) WITH (fillfactor = 50);

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
WITH fast AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', true)
), asked AS MATERIALIZED (
  SELECT c.name, c.owner, c.turn::bigint AS turn FROM unnest($1::text[], $2::text[], $3::text[]) AS c (name, turn, owner)
), drawing AS MATERIALIZED (
  SELECT l.name
    FROM asked AS c
    JOIN "locks" AS l ON l.name = c.name AND l.owner IS DISTINCT FROM c.owner
   WHERE c.turn <> 0 AND NOT (abs(c.turn::bigint) > l.served AND abs(c.turn::bigint) <= l.queue) AND ((l.owner IS NOT NULL AND l.expires_at > clock_timestamp()) OR (c.turn::bigint > 0 AND l.queue > l.served AND l.expires_at <= clock_timestamp() + interval '1 second'
          AND least(c.turn::bigint, l.queue + 1) - l.served > power(2, least(62, floor(
              4 * greatest(extract(epoch FROM clock_timestamp() - l.expires_at), 0)
              / least(greatest(extract(epoch FROM l.expires_at - l.acquired_at), 0.08), 1))))))
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
), drawn AS (
  UPDATE "locks" AS l
     SET queue = greatest(l.queue, l.served) + 1
    FROM drawing, fast
   WHERE l.name = drawing.name
  RETURNING l.name, l.owner, l.holder, l.acquired_at, l.expires_at, l.ttl_us, l.fence, l.queue AS ticket, l.served
), seen AS (
  SELECT l.name, l.owner, l.holder, l.acquired_at, l.expires_at, l.ttl_us, l.fence, abs(c.turn) AS ticket, l.served
    FROM asked AS c
    JOIN "locks" AS l ON l.name = c.name AND l.owner IS DISTINCT FROM c.owner
   WHERE (c.turn = 0 OR (abs(c.turn::bigint) > l.served AND abs(c.turn::bigint) <= l.queue)) AND ((l.owner IS NOT NULL AND l.expires_at > clock_timestamp()) OR (c.turn::bigint > 0 AND l.queue > l.served AND l.expires_at <= clock_timestamp() + interval '1 second'
          AND least(c.turn::bigint, l.queue + 1) - l.served > power(2, least(62, floor(
              4 * greatest(extract(epoch FROM clock_timestamp() - l.expires_at), 0)
              / least(greatest(extract(epoch FROM l.expires_at - l.acquired_at), 0.08), 1))))))
   UNION ALL
  SELECT d.* FROM drawn AS d
)
SELECT s.name, s.holder,
       (extract(epoch FROM clock_timestamp() - s.acquired_at) * 1000000)::bigint,
       CASE WHEN s.expires_at > clock_timestamp() + (s.ttl_us + 1000000) * interval '1 microsecond' THEN s.ttl_us
            ELSE (extract(epoch FROM s.expires_at - clock_timestamp()) * 1000000)::bigint END,
       s.ticket, greatest(s.ticket - s.served - 1, 0), s.fence,
       CASE WHEN s.expires_at > clock_timestamp() + (s.ttl_us + 1000000) * interval '1 microsecond' THEN (extract(epoch FROM s.expires_at) * 1000000)::bigint ELSE 0 END,
       CASE WHEN NOT ((s.owner IS NOT NULL AND s.expires_at > clock_timestamp())) THEN 2 WHEN s.owner = '00000000000000000000000000000000' THEN 1 ELSE 0 END::bigint
  FROM seen AS s;

-- renew
WITH ours AS MATERIALIZED (
  SELECT l.name, l.owner, coalesce(c.ttl::bigint, $1::bigint) AS ttl
    FROM "locks" AS l
    JOIN unnest($2::text[], $3::text[], $4::text[]) AS c (name, owner, ttl) ON l.name = c.name AND l.owner = c.owner
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
RETURNING CASE WHEN queue > served AND false THEN NULL
               ELSE fence END;

-- listen, on a connection of its own
DO $$ BEGIN EXECUTE format('LISTEN %I', 'withlock_' || '"locks"'::regclass::oid::text); END $$;

-- listen no more
DO $$ BEGIN EXECUTE format('UNLISTEN %I', 'withlock_' || '"locks"'::regclass::oid::text); END $$;

-- see whether what is told is heard
SELECT (pg_notify('withlock_' || '"locks"'::regclass::oid::text, $1::text) IS NOT NULL)::int::bigint
 WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL;

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

-- pin, in a transaction of the user's
SELECT fence
  FROM "locks"
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
   FOR KEY SHARE;

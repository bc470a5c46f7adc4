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
           AND a.attname IN ('mutex', 'ts', 'node_id')),
       (SELECT count(*)
          FROM pg_index AS i
          JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid
           AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'mutex'),
       (current_setting('transaction_read_only') = 'on')::int::bigint,
       coalesce((SELECT n.nspname
                   FROM pg_class AS c
                   JOIN pg_namespace AS n ON n.oid = c.relnamespace
                  WHERE c.oid = to_regclass($1)), current_schema())::text,
       current_user::text,
       coalesce(current_setting('withlock.own', true), ''),
       current_setting('client_encoding');

-- setup, if there is no such table
CREATE TABLE IF NOT EXISTS "distributed_lock" (
  mutex varchar(36) NOT NULL,
  ts timestamptz NOT NULL,
  node_id varchar(36) NOT NULL,
  PRIMARY KEY (mutex)
);

-- acquire: take the name if it is free
INSERT INTO "distributed_lock" AS l (mutex, ts, node_id)
SELECT c.name, clock_timestamp(), c.owner
  FROM (VALUES ($3::text, $4::text, $5::bigint)) AS c (name, owner, turn)
 WHERE $1::bigint <= 1200000000 AND $2::text IS NOT NULL
   AND NOT EXISTS (SELECT FROM "distributed_lock" AS o
                    WHERE o.mutex = c.name AND o.node_id <> c.owner AND o.ts >= clock_timestamp() - interval '1200000000 microseconds')
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
 ORDER BY c.name COLLATE "C"
ON CONFLICT (mutex) DO UPDATE
   SET node_id = excluded.node_id,
       ts = greatest(l.ts + interval '1 microsecond', clock_timestamp())
 WHERE l.ts < clock_timestamp() - interval '1200000000 microseconds' OR l.node_id = excluded.node_id
RETURNING mutex::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- acquire: take the names that are free
INSERT INTO "distributed_lock" AS l (mutex, ts, node_id)
SELECT c.name, clock_timestamp(), c.owner
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS c (name, owner, ttl, label, turn)
 WHERE $1::bigint <= 1200000000 AND $2::text IS NOT NULL
   AND NOT EXISTS (SELECT FROM "distributed_lock" AS o
                    WHERE o.mutex = c.name AND o.node_id <> c.owner AND o.ts >= clock_timestamp() - interval '1200000000 microseconds')
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
 ORDER BY c.name COLLATE "C"
ON CONFLICT (mutex) DO UPDATE
   SET node_id = excluded.node_id,
       ts = greatest(l.ts + interval '1 microsecond', clock_timestamp())
 WHERE l.ts < clock_timestamp() - interval '1200000000 microseconds' OR l.node_id = excluded.node_id
RETURNING mutex::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- acquire and look: who has it
SELECT s.mutex::text, 'node ' || s.node_id::text,
       (extract(epoch FROM clock_timestamp() - s.ts) * 1000000)::bigint,
       (extract(epoch FROM s.ts + interval '1200000000 microseconds' - clock_timestamp()) * 1000000)::bigint,
       0::bigint, 0::bigint, (extract(epoch FROM s.ts) * 1000000)::bigint, 0::bigint, 0::bigint
  FROM "distributed_lock" AS s
 WHERE s.mutex = ANY ($1::text[]) AND $2::text[] IS NOT NULL AND $3::text[] IS NOT NULL AND s.ts >= clock_timestamp() - interval '1200000000 microseconds';

-- renew
WITH ours AS MATERIALIZED (
  SELECT l.mutex, l.node_id
    FROM "distributed_lock" AS l
    JOIN unnest($2::text[], $3::text[], $4::text[]) AS c (name, owner, ttl) ON l.mutex = c.name AND l.node_id = c.owner
     AND $1::bigint <= 1200000000
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
   ORDER BY l.mutex
     FOR NO KEY UPDATE OF l
)
UPDATE "distributed_lock" AS l
   SET ts = greatest(l.ts + interval '1 microsecond', clock_timestamp())
  FROM ours
 WHERE l.mutex = ours.mutex AND l.node_id = ours.node_id AND l.ts >= clock_timestamp() - interval '1200000000 microseconds'
RETURNING l.mutex::text, l.node_id::text;

-- release one
DELETE FROM "distributed_lock" AS l
 WHERE l.mutex = $1::text AND l.node_id = $2::text
   AND set_config('synchronous_commit', 'off', true) IS NOT NULL
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
RETURNING l.mutex::text, 0::bigint;

-- release
WITH fast AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'off', true)
), ours AS MATERIALIZED (
  SELECT l.mutex, l.node_id
    FROM "distributed_lock" AS l
    JOIN unnest($1::text[], $2::text[]) AS c (name, owner) ON l.mutex = c.name AND l.node_id = c.owner
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   ORDER BY l.mutex
     FOR UPDATE OF l
)
DELETE FROM "distributed_lock" AS l
 USING ours, fast
 WHERE l.mutex = ours.mutex AND l.node_id = ours.node_id
RETURNING l.mutex::text, 0::bigint;

-- look: which locks are held
SELECT l.mutex::text, (extract(epoch FROM l.ts) * 1000000)::bigint, 'node ' || l.node_id::text,
       (extract(epoch FROM clock_timestamp() - l.ts) * 1000000)::bigint,
       (extract(epoch FROM l.ts + interval '1200000000 microseconds' - clock_timestamp()) * 1000000)::bigint, 0::bigint, 0::bigint
  FROM "distributed_lock" AS l
 WHERE l.ts >= clock_timestamp() - interval '1200000000 microseconds' AND l.mutex > $1::text
 ORDER BY l.mutex
 LIMIT 500;

-- look: one lock
SELECT l.mutex::text, (extract(epoch FROM l.ts) * 1000000)::bigint, 'node ' || l.node_id::text,
       (extract(epoch FROM clock_timestamp() - l.ts) * 1000000)::bigint,
       (extract(epoch FROM l.ts + interval '1200000000 microseconds' - clock_timestamp()) * 1000000)::bigint, 0::bigint, 0::bigint
  FROM "distributed_lock" AS l
 WHERE l.mutex = $1::text;

-- break
DELETE FROM "distributed_lock"
 WHERE mutex = $1::text AND (extract(epoch FROM ts) * 1000000)::bigint = $2::bigint
   AND set_config('lock_timeout', '1000', true) IS NOT NULL
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL
RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- purge
DELETE FROM "distributed_lock"
 WHERE mutex IN (
   SELECT l.mutex
     FROM "distributed_lock" AS l
    WHERE l.ts < clock_timestamp() - interval '1200000000 microseconds' - $1::bigint * interval '1 microsecond'
    ORDER BY l.mutex
    LIMIT 500
      FOR UPDATE SKIP LOCKED
 )
RETURNING mutex::text;

-- setup: a commit waits for the disk
PRAGMA "main".synchronous = FULL;

-- setup: what table is this
SELECT CASE WHEN EXISTS (SELECT 1 FROM pragma_table_info(?1, ?2)) THEN coalesce(
         group_concat(c.name || ' ' || c.type || CASE WHEN c.pk > 0 THEN ' pk ' || coalesce((
           SELECT group_concat(k.coll)
             FROM pragma_index_list(?1, ?2) AS i, pragma_index_xinfo(i.name, ?2) AS k
            WHERE i.origin = 'pk' AND k.key = 1), '') ELSE '' END, ', ' ORDER BY c.name), '') END
  FROM pragma_table_info(?1, ?2) AS c
 WHERE c.pk > 0 OR c.name IN ('name', 'owner', 'fence', 'boot', 'expires_us', 'acquired_us', 'queue', 'served', 'holder');

-- setup, if there is no such table: readers do not block the writer
PRAGMA "main".journal_mode = WAL;

-- setup, if there is no such table
CREATE TABLE IF NOT EXISTS "main"."locks" (
  name TEXT PRIMARY KEY NOT NULL,
  owner TEXT, -- NULL: the lock is free; the row stays, for its fence
  fence INTEGER NOT NULL,
  boot TEXT NOT NULL, -- the kernel that the times below belong to
  expires_us INTEGER NOT NULL, -- µs of its CLOCK_BOOTTIME
  acquired_us INTEGER NOT NULL,
  queue INTEGER NOT NULL DEFAULT 0, -- the last ticket that a waiter has drawn
  served INTEGER NOT NULL DEFAULT 0, -- the last ticket that had its turn
  holder TEXT NOT NULL -- for people: host, process, label
) STRICT, WITHOUT ROWID;

-- acquire: take the name if it is free
INSERT INTO "main"."locks" AS l (name, owner, fence, boot, expires_us, acquired_us, served, holder)
SELECT ?5, ?6, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000, ?2, ?1 + ?3, ?1, abs(?7) % 9007199254740991, ?4
 WHERE NOT EXISTS (SELECT 1 FROM "main"."locks" AS l
                    WHERE l.name = ?5 AND l.owner IS NOT ?6 AND l.boot = ?2 AND (?7 > 0 AND l.queue > l.served AND l.expires_us <= ?1 + 1000000
          AND min(?7, l.queue + 1) - l.served > 1 << min(62, 4 * max(?1 - l.expires_us, 0)
              / min(max(l.expires_us - l.acquired_us, 80000), 1000000))))
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
RETURNING name, fence;

-- acquire: take the names that are free
INSERT INTO "main"."locks" AS l (name, owner, fence, boot, expires_us, acquired_us, served, holder)
SELECT c.value ->> 0, c.value ->> 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000, ?2, ?1 + coalesce(c.value ->> 2, ?3), ?1, abs((c.value ->> 4)) % 9007199254740991, coalesce(c.value ->> 3, ?4)
  FROM json_each(?5) AS c
 WHERE NOT EXISTS (SELECT 1 FROM "main"."locks" AS l
                    WHERE l.name = c.value ->> 0 AND l.owner IS NOT c.value ->> 1 AND l.boot = ?2 AND ((c.value ->> 4) > 0 AND l.queue > l.served AND l.expires_us <= ?1 + 1000000
          AND min((c.value ->> 4), l.queue + 1) - l.served > 1 << min(62, 4 * max(?1 - l.expires_us, 0)
              / min(max(l.expires_us - l.acquired_us, 80000), 1000000))))
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
RETURNING name, fence;

-- acquire and look: who has it
SELECT l.name, l.holder, ?1 - l.acquired_us, l.expires_us - ?1, CASE WHEN (abs(?5) > l.served AND abs(?5) <= l.queue) THEN abs(?5) ELSE 0 END,
       CASE WHEN (abs(?5) > l.served AND abs(?5) <= l.queue) THEN abs(?5) - l.served - 1 ELSE max(l.queue - l.served, 0) END, l.fence, 0,
       CASE WHEN l.owner IS NULL OR l.expires_us <= ?1 THEN 2 ELSE l.owner = '00000000000000000000000000000000' END
  FROM "main"."locks" AS l
 WHERE l.name = ?3 AND l.owner IS NOT ?4 AND l.boot = ?2 AND (l.owner IS NOT NULL AND l.expires_us > ?1 OR (?5 > 0 AND l.queue > l.served AND l.expires_us <= ?1 + 1000000
          AND min(?5, l.queue + 1) - l.served > 1 << min(62, 4 * max(?1 - l.expires_us, 0)
              / min(max(l.expires_us - l.acquired_us, 80000), 1000000))));

-- acquire and look: who has them
SELECT l.name, l.holder, ?1 - l.acquired_us, l.expires_us - ?1, CASE WHEN (abs((c.value ->> 4)) > l.served AND abs((c.value ->> 4)) <= l.queue) THEN abs((c.value ->> 4)) ELSE 0 END,
       CASE WHEN (abs((c.value ->> 4)) > l.served AND abs((c.value ->> 4)) <= l.queue) THEN abs((c.value ->> 4)) - l.served - 1 ELSE max(l.queue - l.served, 0) END, l.fence, 0,
       CASE WHEN l.owner IS NULL OR l.expires_us <= ?1 THEN 2 ELSE l.owner = '00000000000000000000000000000000' END
  FROM json_each(?3) AS c
 CROSS JOIN "main"."locks" AS l ON l.name = c.value ->> 0
 WHERE l.owner IS NOT c.value ->> 1 AND l.boot = ?2 AND (l.owner IS NOT NULL AND l.expires_us > ?1 OR ((c.value ->> 4) > 0 AND l.queue > l.served AND l.expires_us <= ?1 + 1000000
          AND min((c.value ->> 4), l.queue + 1) - l.served > 1 << min(62, 4 * max(?1 - l.expires_us, 0)
              / min(max(l.expires_us - l.acquired_us, 80000), 1000000))));

-- acquire and look: who waits for it draws a ticket
UPDATE "main"."locks"
   SET queue = max(queue, served) + 1
 WHERE name = ?1 AND owner IS NOT ?2
RETURNING queue;

-- renew
UPDATE "main"."locks" AS l
   SET expires_us = max(l.expires_us + 1, ?1 + coalesce(c.value ->> 2, ?3))
  FROM json_each(?4) AS c
 WHERE l.name = c.value ->> 0 AND l.owner = c.value ->> 1
   AND l.boot = ?2 AND l.expires_us > ?1
RETURNING name, owner;

-- release one
UPDATE "main"."locks"
   SET owner = NULL, expires_us = min(expires_us, ?1)
 WHERE name = ?3 AND owner = ?4
RETURNING name, queue > served;

-- release
UPDATE "main"."locks"
   SET owner = NULL, expires_us = min(expires_us, ?1)
 WHERE (name, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?3))
RETURNING name, queue > served;

-- release, but leave taken for a while
UPDATE "main"."locks"
   SET owner = CASE WHEN min(acquired_us, ?1) + ?3 > ?1 THEN '00000000000000000000000000000000' END,
       expires_us = CASE WHEN min(acquired_us, ?1) + ?3 > ?1 THEN min(acquired_us, ?1) + ?3 ELSE min(expires_us, ?1) END
 WHERE (name, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?4)) AND boot = ?2
RETURNING name, queue > served;

-- look: which locks are held
SELECT name, fence, holder, ?1 - acquired_us, expires_us - ?1, 0, owner = '00000000000000000000000000000000'
  FROM "main"."locks"
 WHERE owner IS NOT NULL AND boot = ?2 AND expires_us > ?1 AND name > ?3
 ORDER BY name
 LIMIT 500;

-- look: one lock
SELECT name, fence, holder, ?1 - acquired_us,
       CASE WHEN owner IS NULL OR boot <> ?2 THEN 0 ELSE expires_us - ?1 END, 0, coalesce(owner = '00000000000000000000000000000000', 0)
  FROM "main"."locks"
 WHERE name = ?3;

-- break
UPDATE "main"."locks"
   SET owner = NULL, expires_us = 0,
       fence = max(fence + 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000)
 WHERE name = ?1 AND fence = ?2 AND owner IS NOT NULL
RETURNING fence;

-- purge
DELETE FROM "main"."locks"
 WHERE name IN (
   SELECT name
     FROM "main"."locks"
    WHERE (owner IS NULL OR boot <> ?2 OR expires_us <= ?1)
      AND fence < CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000 - ?3
    ORDER BY name
    LIMIT 500
 )
RETURNING name;

-- pin, in a transaction of the user's
UPDATE "locks"
   SET fence = fence
 WHERE name = ?1 AND fence = ?2 AND owner IS NOT NULL
RETURNING fence;

-- setup: what the server's settings have begun is no concern of ours
ROLLBACK AND NO CHAIN NO RELEASE;

-- setup of a connection that was handed over, instead: fails in a transaction
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

-- setup: is it the connection that was made
SELECT CAST(CONNECTION_ID() AS SIGNED) LIMIT 1;

-- setup: what the session goes by
SET NAMES utf8mb4, autocommit = 1, completion_type = 0, sql_mode = 'STRICT_TRANS_TABLES', time_zone = '+00:00', innodb_lock_wait_timeout = 1, lock_wait_timeout = 5, sql_select_limit = 18446744073709551615, sql_big_selects = 1, group_concat_max_len = 1024, sql_safe_updates = 0 /*!80000 , SESSION transaction_isolation = 'READ-COMMITTED', SESSION transaction_read_only = 0, SESSION max_execution_time = 0 */ /*M! , SESSION tx_isolation = 'READ-COMMITTED', SESSION tx_read_only = 0, max_statement_time = 0 */;

-- setup of a connection that was handed over, or whose time is set: the server's clock
SET SESSION timestamp = DEFAULT;

-- setup: what kind of server and table is this
SELECT VERSION(), CAST(@@GLOBAL.read_only AS CHAR), @@GLOBAL.innodb_flush_log_at_trx_commit,
       @@GLOBAL.log_bin = 1 AND @@GLOBAL.sync_binlog <> 1,
       (SELECT COALESCE(engine, table_type) FROM information_schema.tables
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?),
       (SELECT GROUP_CONCAT(CONCAT(column_name, ' ',
                 CASE WHEN data_type = 'bigint' AND column_type NOT LIKE '%unsigned%' THEN data_type ELSE column_type END,
                 CASE WHEN character_set_name IS NULL THEN '' ELSE CONCAT(' ', character_set_name) END)
                 ORDER BY column_name SEPARATOR ', ')
          FROM information_schema.columns
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?
           AND (column_name IN ('name', 'owner', 'fence', 'expires_us', 'acquired_us', 'ttl_us', 'queue', 'served', 'holder')
                OR extra LIKE _utf8mb4'%auto_increment%')),
       COUNT(*), COUNT(CASE WHEN k.fits THEN 1 END),
       CASE WHEN FIND_IN_SET('SIMULTANEOUS_ASSIGNMENT', @@SESSION.sql_mode) THEN 2
            WHEN TIMESTAMPDIFF(SECOND, NOW(), SYSDATE()) NOT BETWEEN -1 AND 10 THEN 3
            WHEN /*!80000 @@SESSION.transaction_read_only */ /*M! @@SESSION.tx_read_only */ THEN 4
            /*M! WHEN @@SESSION.sql_safe_updates THEN 5 */
            WHEN @@SESSION.character_set_connection NOT IN ('utf8mb4', 'utf8mb3', 'utf8')
              OR @@SESSION.character_set_results NOT IN ('utf8mb4', 'utf8mb3', 'utf8', 'binary') THEN 6
            ELSE @@SESSION.autocommit = 1 END, COALESCE(?, DATABASE()), CURRENT_USER(),
       (SELECT COUNT(*) FROM information_schema.triggers
         WHERE event_object_schema = COALESCE(?, DATABASE()) AND event_object_table = ?),
       COALESCE(/*M! (SELECT variable_value FROM information_schema.global_variables WHERE variable_name = 'WSREP_ON'), */ 'OFF')
  FROM (SELECT MAX(column_name = 'name' AND sub_part IS NULL) = 1 AND COUNT(*) = 1 AS fits
          FROM information_schema.statistics
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND non_unique = 0
         GROUP BY index_name
        HAVING COUNT(*) = 1 OR COALESCE(MAX(column_name = 'name' AND sub_part IS NULL), 0) = 0) AS k;

-- setup, if there is no such table
CREATE TABLE IF NOT EXISTS `locks` (
  name VARBINARY(255) NOT NULL PRIMARY KEY,
  owner BINARY(16), -- NULL: the lock is free; the row stays, for its fence
  fence BIGINT NOT NULL,
  expires_us BIGINT NOT NULL, -- in µs since 1970, UTC
  acquired_us BIGINT NOT NULL,
  ttl_us BIGINT NOT NULL DEFAULT 86400000000, -- of the lease; the longest there is, where it is not known
  queue BIGINT NOT NULL DEFAULT 0, -- the last ticket that a waiter has drawn
  served BIGINT NOT NULL DEFAULT 0, -- the last ticket that had its turn
  holder VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL, -- for people: host, process, label
  UNIQUE KEY pin (fence, name) -- for transactions that pin a lock; nothing else needs it
) ENGINE = InnoDB;

-- setup, on a node of a Galera cluster: see what was committed at the others
SET SESSION wsrep_sync_wait = 7;

-- acquire: take the name if it is free
INSERT INTO `locks` (name, owner, fence, expires_us, acquired_us, ttl_us, served, holder)
SELECT c.its_name, c.claimant, LAST_INSERT_ID(c.now), c.now + c.ttl, c.now, c.ttl, ABS(c.turn) % 9007199254740991, c.label
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, CAST(? AS SIGNED) AS ttl, ? AS label, UNHEX(?) AS its_name, UNHEX(?) AS claimant, CAST(? AS SIGNED) AS turn) AS c
ON DUPLICATE KEY UPDATE
       ttl_us = IF((owner IS NULL OR owner <> c.claimant AND expires_us <= c.now) AND NOT (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
          AND LEAST(c.turn, queue + 1) - served > POW(2, LEAST(62, 4 * GREATEST(c.now - expires_us, 0)
              DIV LEAST(GREATEST(expires_us - acquired_us, 80000), 1000000)))), 0, GREATEST(ttl_us, 1)),
       fence = CASE WHEN ttl_us = 0 THEN LAST_INSERT_ID(GREATEST(fence + 1, c.now))
                    WHEN owner = c.claimant THEN LAST_INSERT_ID(fence)
                    ELSE fence + LAST_INSERT_ID(0) END,
       acquired_us = IF(ttl_us = 0, c.now, acquired_us),
       owner = IF(ttl_us = 0, c.claimant, owner),
       served = IF(owner = c.claimant, GREATEST(served, LEAST(ABS(c.turn) % 9007199254740991, queue)), served),
       holder = IF(owner = c.claimant, c.label, holder),
       expires_us = IF(owner = c.claimant, GREATEST(expires_us + 1, c.now + c.ttl), expires_us),
       ttl_us = IF(owner = c.claimant, GREATEST(ttl_us, c.ttl), ttl_us);

-- acquire: take the names that are free
INSERT INTO `locks` (name, owner, fence, expires_us, acquired_us, ttl_us, served, holder)
SELECT c.its_name, c.claimant, LAST_INSERT_ID(c.now), c.now + c.ttl, c.now, c.ttl, ABS(c.turn) % 9007199254740991, c.label
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, COALESCE(j.ttl, CAST(? AS SIGNED)) AS ttl, COALESCE(CONVERT(UNHEX(j.label) USING utf8mb4), ?) AS label,
               UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, j.turn AS turn
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]', turn BIGINT PATH '$[4]')) AS j) AS c
ON DUPLICATE KEY UPDATE
       ttl_us = IF((owner IS NULL OR owner <> c.claimant AND expires_us <= c.now) AND NOT (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
          AND LEAST(c.turn, queue + 1) - served > POW(2, LEAST(62, 4 * GREATEST(c.now - expires_us, 0)
              DIV LEAST(GREATEST(expires_us - acquired_us, 80000), 1000000)))), 0, GREATEST(ttl_us, 1)),
       fence = CASE WHEN ttl_us = 0 THEN LAST_INSERT_ID(GREATEST(fence + 1, c.now))
                    WHEN owner = c.claimant THEN LAST_INSERT_ID(fence)
                    ELSE fence + LAST_INSERT_ID(0) END,
       acquired_us = IF(ttl_us = 0, c.now, acquired_us),
       owner = IF(ttl_us = 0, c.claimant, owner),
       served = IF(owner = c.claimant, GREATEST(served, LEAST(ABS(c.turn) % 9007199254740991, queue)), served),
       holder = IF(owner = c.claimant, c.label, holder),
       expires_us = IF(owner = c.claimant, GREATEST(expires_us + 1, c.now + c.ttl), expires_us),
       ttl_us = IF(owner = c.claimant, GREATEST(ttl_us, c.ttl), ttl_us);

-- acquire and look: who has it
SELECT l.name, l.holder, c.now - l.acquired_us,
       IF(l.expires_us > c.now + l.ttl_us + 1000000, l.ttl_us, l.expires_us - c.now),
       CAST(IF((ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue), ABS(c.turn), 0) AS SIGNED),
       CAST(IF((ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue), ABS(c.turn) - l.served - 1, GREATEST(l.queue - l.served, 0)) AS SIGNED),
       l.fence, IF(l.expires_us > c.now + l.ttl_us + 1000000, l.expires_us, 0),
       CAST(IF(l.owner IS NOT NULL AND l.expires_us > c.now, l.owner = X'00000000000000000000000000000000', 2) AS SIGNED)
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, UNHEX(?) AS its_name, UNHEX(?) AS claimant, CAST(? AS SIGNED) AS turn) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
 WHERE NOT (l.owner <=> c.claimant) AND (l.owner IS NOT NULL AND l.expires_us > c.now OR (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
          AND LEAST(c.turn, queue + 1) - served > POW(2, LEAST(62, 4 * GREATEST(c.now - expires_us, 0)
              DIV LEAST(GREATEST(expires_us - acquired_us, 80000), 1000000)))));

-- acquire and look: who has them
SELECT l.name, l.holder, c.now - l.acquired_us,
       IF(l.expires_us > c.now + l.ttl_us + 1000000, l.ttl_us, l.expires_us - c.now),
       CAST(IF((ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue), ABS(c.turn), 0) AS SIGNED),
       CAST(IF((ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue), ABS(c.turn) - l.served - 1, GREATEST(l.queue - l.served, 0)) AS SIGNED),
       l.fence, IF(l.expires_us > c.now + l.ttl_us + 1000000, l.expires_us, 0),
       CAST(IF(l.owner IS NOT NULL AND l.expires_us > c.now, l.owner = X'00000000000000000000000000000000', 2) AS SIGNED)
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, j.turn AS turn FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]', turn BIGINT PATH '$[4]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
 WHERE NOT (l.owner <=> c.claimant) AND (l.owner IS NOT NULL AND l.expires_us > c.now OR (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
          AND LEAST(c.turn, queue + 1) - served > POW(2, LEAST(62, 4 * GREATEST(c.now - expires_us, 0)
              DIV LEAST(GREATEST(expires_us - acquired_us, 80000), 1000000)))));

-- acquire and look: who waits for it draws a ticket
UPDATE `locks`
   SET queue = LAST_INSERT_ID(GREATEST(queue, served) + 1)
 WHERE name = ? AND NOT (owner <=> UNHEX(?));

-- renew
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, COALESCE(j.ttl, ?) AS ttl
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]', turn BIGINT PATH '$[4]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
   SET l.expires_us = GREATEST(l.expires_us + 1, LAST_INSERT_ID(c.now) + c.ttl),
       l.ttl_us = GREATEST(l.ttl_us, c.ttl)
 WHERE l.owner = c.claimant AND l.expires_us > c.now;

-- release one
UPDATE `locks`
   SET owner = NULL,
       expires_us = LEAST(expires_us, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))) + LAST_INSERT_ID(1 + (queue > served)) - 1 - (queue > served)
 WHERE name = UNHEX(?) AND owner = UNHEX(?);

-- release
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
   SET l.owner = NULL,
       l.expires_us = LEAST(l.expires_us, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))) + LAST_INSERT_ID(1 + (l.queue > l.served)) - 1 - (l.queue > l.served)
 WHERE l.owner = c.claimant;

-- release, but leave taken for a while
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, CAST(? AS SIGNED) AS keep
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
   SET l.ttl_us = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, LEAST(l.acquired_us, c.now) + c.keep - c.now, l.ttl_us),
       l.expires_us = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, LEAST(l.acquired_us, c.now) + c.keep, LEAST(l.expires_us, c.now))
                    + LAST_INSERT_ID(1 + (l.queue > l.served)) - 1 - (l.queue > l.served),
       l.owner = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, X'00000000000000000000000000000000', NULL)
 WHERE l.owner = c.claimant;

-- several claims: which are their owner's (after acquire and renew, before release)
SELECT l.name, LOWER(HEX(l.owner)), l.fence, CAST(l.queue > l.served AS SIGNED)
  FROM (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, ? + COALESCE(j.ttl, 0) AS since
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]', turn BIGINT PATH '$[4]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
 WHERE l.owner = c.claimant AND l.expires_us >= c.since
  LOCK IN SHARE MODE;

-- through a proxy: take the name if it is free
INSERT INTO `locks` (name, owner, fence, expires_us, acquired_us, ttl_us, served, holder)
SELECT c.its_name, c.claimant, LAST_INSERT_ID(c.now), c.now + c.ttl, c.now, c.ttl, ABS(c.turn) % 9007199254740991, c.label
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, CAST(? AS SIGNED) AS ttl, ? AS label, UNHEX(?) AS its_name, UNHEX(?) AS claimant, CAST(? AS SIGNED) AS turn) AS c
 WHERE @@SESSION.autocommit = 1 AND NOT FIND_IN_SET('SIMULTANEOUS_ASSIGNMENT', @@SESSION.sql_mode)
ON DUPLICATE KEY UPDATE
       ttl_us = IF((owner IS NULL OR owner <> c.claimant AND expires_us <= c.now) AND NOT (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
          AND LEAST(c.turn, queue + 1) - served > POW(2, LEAST(62, 4 * GREATEST(c.now - expires_us, 0)
              DIV LEAST(GREATEST(expires_us - acquired_us, 80000), 1000000)))), 0, GREATEST(ttl_us, 1)),
       fence = CASE WHEN ttl_us = 0 THEN LAST_INSERT_ID(GREATEST(fence + 1, c.now))
                    WHEN owner = c.claimant THEN LAST_INSERT_ID(fence)
                    ELSE fence + LAST_INSERT_ID(0) END,
       acquired_us = IF(ttl_us = 0, c.now, acquired_us),
       owner = IF(ttl_us = 0, c.claimant, owner),
       served = IF(owner = c.claimant, GREATEST(served, LEAST(ABS(c.turn) % 9007199254740991, queue)), served),
       holder = IF(owner = c.claimant, c.label, holder),
       expires_us = IF(owner = c.claimant, GREATEST(expires_us + 1, c.now + c.ttl), expires_us),
       ttl_us = IF(owner = c.claimant, GREATEST(ttl_us, c.ttl), ttl_us);

-- through a proxy: take the names that are free
INSERT INTO `locks` (name, owner, fence, expires_us, acquired_us, ttl_us, served, holder)
SELECT c.its_name, c.claimant, LAST_INSERT_ID(c.now), c.now + c.ttl, c.now, c.ttl, ABS(c.turn) % 9007199254740991, c.label
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, COALESCE(j.ttl, CAST(? AS SIGNED)) AS ttl, COALESCE(CONVERT(UNHEX(j.label) USING utf8mb4), ?) AS label,
               UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, j.turn AS turn
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]', turn BIGINT PATH '$[4]')) AS j) AS c
 WHERE @@SESSION.autocommit = 1 AND NOT FIND_IN_SET('SIMULTANEOUS_ASSIGNMENT', @@SESSION.sql_mode)
ON DUPLICATE KEY UPDATE
       ttl_us = IF((owner IS NULL OR owner <> c.claimant AND expires_us <= c.now) AND NOT (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
          AND LEAST(c.turn, queue + 1) - served > POW(2, LEAST(62, 4 * GREATEST(c.now - expires_us, 0)
              DIV LEAST(GREATEST(expires_us - acquired_us, 80000), 1000000)))), 0, GREATEST(ttl_us, 1)),
       fence = CASE WHEN ttl_us = 0 THEN LAST_INSERT_ID(GREATEST(fence + 1, c.now))
                    WHEN owner = c.claimant THEN LAST_INSERT_ID(fence)
                    ELSE fence + LAST_INSERT_ID(0) END,
       acquired_us = IF(ttl_us = 0, c.now, acquired_us),
       owner = IF(ttl_us = 0, c.claimant, owner),
       served = IF(owner = c.claimant, GREATEST(served, LEAST(ABS(c.turn) % 9007199254740991, queue)), served),
       holder = IF(owner = c.claimant, c.label, holder),
       expires_us = IF(owner = c.claimant, GREATEST(expires_us + 1, c.now + c.ttl), expires_us),
       ttl_us = IF(owner = c.claimant, GREATEST(ttl_us, c.ttl), ttl_us);

-- through a proxy: renew
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, COALESCE(j.ttl, ?) AS ttl
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]', turn BIGINT PATH '$[4]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
   SET l.expires_us = GREATEST(l.expires_us + 1, LAST_INSERT_ID(c.now) + c.ttl),
       l.ttl_us = GREATEST(l.ttl_us, c.ttl)
 WHERE l.owner = c.claimant AND l.expires_us > c.now
   AND @@SESSION.autocommit = 1;

-- look: which locks are held
SELECT name, fence, holder, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) - acquired_us, expires_us - TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), expires_us > TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) + ttl_us + 1000000,
       COALESCE(owner = X'00000000000000000000000000000000', 0)
  FROM `locks`
 WHERE owner IS NOT NULL AND expires_us > TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AND name > ?
 ORDER BY name
 LIMIT 500;

-- look: one lock
SELECT name, fence, holder, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) - acquired_us,
       CASE WHEN owner IS NULL THEN 0 ELSE expires_us - TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) END, expires_us > TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) + ttl_us + 1000000,
       COALESCE(owner = X'00000000000000000000000000000000', 0)
  FROM `locks`
 WHERE name = ?;

-- break
UPDATE `locks`
   SET fence = LAST_INSERT_ID(GREATEST(fence + 1, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)))), owner = NULL, expires_us = 0
 WHERE name = ? AND fence = ? AND owner IS NOT NULL;

-- purge
DELETE FROM `locks`
 WHERE (owner IS NULL OR (expires_us <= TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)))) AND fence < TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) - ?
 ORDER BY name
 LIMIT 500;

-- pin, in a transaction of the user's
SELECT fence
  FROM `locks` FORCE INDEX (pin)
 WHERE name = ? AND fence = ?
   AND (SELECT COUNT(*) FROM `locks` AS seen FORCE INDEX (pin) WHERE seen.name = ? AND seen.fence = ?) = 1
  LOCK IN SHARE MODE;

-- acquire: take the name if it is free
INSERT INTO `locks` (name, owner, fence, expires_us, acquired_us, ttl_us, served, holder)
SELECT c.its_name, c.claimant, LAST_INSERT_ID(c.now), c.now + c.ttl, c.now, c.ttl, ABS(c.turn) % 9007199254740991, c.label
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, CAST(? AS SIGNED) AS ttl, ? AS label, UNHEX(?) AS its_name, UNHEX(?) AS claimant, CAST(? AS SIGNED) AS turn) AS c
ON DUPLICATE KEY UPDATE
       ttl_us = IF((owner IS NULL OR owner <> c.claimant AND expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0)) AND NOT (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
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
       ttl_us = IF((owner IS NULL OR owner <> c.claimant AND expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0)) AND NOT (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
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
       IF(l.owner <> X'00000000000000000000000000000000' OR l.expires_us - l.ttl_us - 1000000 > c.now, l.ttl_us, l.expires_us - c.now),
       CAST(IF((ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue), ABS(c.turn), 0) AS SIGNED),
       CAST(IF((ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue), ABS(c.turn) - l.served - 1, GREATEST(l.queue - l.served, 0)) AS SIGNED),
       l.fence, IF(l.owner <> X'00000000000000000000000000000000' OR l.expires_us - l.ttl_us - 1000000 > c.now, l.expires_us, 0),
       CAST(IF(l.owner IS NOT NULL AND l.expires_us > IF(l.owner = X'00000000000000000000000000000000', c.now, 0), l.owner = X'00000000000000000000000000000000', 2) AS SIGNED)
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, UNHEX(?) AS its_name, UNHEX(?) AS claimant, CAST(? AS SIGNED) AS turn) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
 WHERE NOT (l.owner <=> c.claimant) AND (l.owner IS NOT NULL AND l.expires_us > IF(l.owner = X'00000000000000000000000000000000', c.now, 0) OR (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
          AND LEAST(c.turn, queue + 1) - served > POW(2, LEAST(62, 4 * GREATEST(c.now - expires_us, 0)
              DIV LEAST(GREATEST(expires_us - acquired_us, 80000), 1000000)))));

-- acquire and look: who has them
SELECT l.name, l.holder, c.now - l.acquired_us,
       IF(l.owner <> X'00000000000000000000000000000000' OR l.expires_us - l.ttl_us - 1000000 > c.now, l.ttl_us, l.expires_us - c.now),
       CAST(IF((ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue), ABS(c.turn), 0) AS SIGNED),
       CAST(IF((ABS(c.turn) > l.served AND ABS(c.turn) <= l.queue), ABS(c.turn) - l.served - 1, GREATEST(l.queue - l.served, 0)) AS SIGNED),
       l.fence, IF(l.owner <> X'00000000000000000000000000000000' OR l.expires_us - l.ttl_us - 1000000 > c.now, l.expires_us, 0),
       CAST(IF(l.owner IS NOT NULL AND l.expires_us > IF(l.owner = X'00000000000000000000000000000000', c.now, 0), l.owner = X'00000000000000000000000000000000', 2) AS SIGNED)
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, j.turn AS turn FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]', turn BIGINT PATH '$[4]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
 WHERE NOT (l.owner <=> c.claimant) AND (l.owner IS NOT NULL AND l.expires_us > IF(l.owner = X'00000000000000000000000000000000', c.now, 0) OR (c.turn > 0 AND queue > served AND expires_us <= c.now + 1000000
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
 WHERE l.owner = c.claimant;

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

-- a lease that has not changed is ended
UPDATE `locks`
   SET owner = NULL
 WHERE name = ? AND fence = ? AND owner IS NOT NULL AND expires_us = ?;

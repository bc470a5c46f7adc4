-- acquire: take the name if it is free
INSERT INTO `locks` (name, owner, fence, expires_us, acquired_us, ttl_us, holder)
SELECT c.its_name, c.claimant, LAST_INSERT_ID(c.now), c.now + c.ttl, c.now, c.ttl, c.label
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, CAST(? AS SIGNED) AS ttl, ? AS label, UNHEX(?) AS its_name, UNHEX(?) AS claimant) AS c
ON DUPLICATE KEY UPDATE
       fence = CASE WHEN owner = c.claimant THEN LAST_INSERT_ID(fence)
                    WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN LAST_INSERT_ID(GREATEST(fence + 1, c.now))
                    ELSE fence + LAST_INSERT_ID(0) END,
       acquired_us = CASE WHEN owner = c.claimant THEN acquired_us
                          WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN c.now
                          ELSE acquired_us END,
       ttl_us = CASE WHEN owner = c.claimant THEN GREATEST(ttl_us, c.ttl)
                     WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN c.ttl
                     ELSE ttl_us END,
       contended = CASE WHEN owner = c.claimant THEN contended
                        WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN 0
                        ELSE contended END,
       holder = CASE WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) OR owner = c.claimant THEN c.label ELSE holder END,
       owner = CASE WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN c.claimant ELSE owner END,
       expires_us = CASE WHEN owner = c.claimant THEN GREATEST(expires_us + 1, c.now + c.ttl) ELSE expires_us END;

-- acquire: take the names that are free
INSERT INTO `locks` (name, owner, fence, expires_us, acquired_us, ttl_us, holder)
SELECT c.its_name, c.claimant, LAST_INSERT_ID(c.now), c.now + c.ttl, c.now, c.ttl, c.label
  FROM (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, COALESCE(j.ttl, CAST(? AS SIGNED)) AS ttl, COALESCE(CONVERT(UNHEX(j.label) USING utf8mb4), ?) AS label,
               UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]')) AS j) AS c
ON DUPLICATE KEY UPDATE
       fence = CASE WHEN owner = c.claimant THEN LAST_INSERT_ID(fence)
                    WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN LAST_INSERT_ID(GREATEST(fence + 1, c.now))
                    ELSE fence + LAST_INSERT_ID(0) END,
       acquired_us = CASE WHEN owner = c.claimant THEN acquired_us
                          WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN c.now
                          ELSE acquired_us END,
       ttl_us = CASE WHEN owner = c.claimant THEN GREATEST(ttl_us, c.ttl)
                     WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN c.ttl
                     ELSE ttl_us END,
       contended = CASE WHEN owner = c.claimant THEN contended
                        WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN 0
                        ELSE contended END,
       holder = CASE WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) OR owner = c.claimant THEN c.label ELSE holder END,
       owner = CASE WHEN owner IS NULL OR expires_us <= IF(owner = X'00000000000000000000000000000000', c.now, 0) THEN c.claimant ELSE owner END,
       expires_us = CASE WHEN owner = c.claimant THEN GREATEST(expires_us + 1, c.now + c.ttl) ELSE expires_us END;

-- acquire and look: who has it
SELECT name, holder, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) - acquired_us,
       IF(owner <> X'00000000000000000000000000000000' OR expires_us - ttl_us - 1000000 > TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), ttl_us, expires_us - TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))),
       CAST(contended AS SIGNED), fence, IF(owner <> X'00000000000000000000000000000000' OR expires_us - ttl_us - 1000000 > TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), expires_us, 0),
       owner = X'00000000000000000000000000000000'
  FROM `locks`
 WHERE name = UNHEX(?) AND owner <> UNHEX(?) AND expires_us > IF(owner = X'00000000000000000000000000000000', TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), 0);

-- acquire and look: who has them
SELECT l.name, l.holder, c.now - l.acquired_us,
       IF(l.owner <> X'00000000000000000000000000000000' OR l.expires_us - l.ttl_us - 1000000 > c.now, l.ttl_us, l.expires_us - c.now),
       CAST(l.contended AS SIGNED), l.fence, IF(l.owner <> X'00000000000000000000000000000000' OR l.expires_us - l.ttl_us - 1000000 > c.now, l.expires_us, 0),
       l.owner = X'00000000000000000000000000000000'
  FROM (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
 WHERE l.owner <> c.claimant AND l.expires_us > IF(l.owner = X'00000000000000000000000000000000', c.now, 0);

-- acquire and look: the first that waits for it says so
UPDATE `locks`
   SET contended = 1
 WHERE name = UNHEX(?) AND owner <> UNHEX(?);

-- acquire and look: the first that waits for them says so
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
   SET l.contended = 1
 WHERE l.owner <> c.claimant;

-- renew
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, COALESCE(j.ttl, ?) AS ttl
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]', ttl BIGINT PATH '$[2]', label VARCHAR(510) PATH '$[3]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
   SET l.expires_us = GREATEST(l.expires_us + 1, LAST_INSERT_ID(c.now) + c.ttl),
       l.ttl_us = GREATEST(l.ttl_us, c.ttl)
 WHERE l.owner = c.claimant;

-- release one
UPDATE `locks`
   SET owner = NULL, expires_us = LAST_INSERT_ID(1 + contended) - 1 - contended
 WHERE name = UNHEX(?) AND owner = UNHEX(?);

-- release
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
   SET l.owner = NULL, l.expires_us = LAST_INSERT_ID(1 + l.contended) - 1 - l.contended
 WHERE l.owner = c.claimant;

-- release, but leave taken for a while
UPDATE (SELECT UNHEX(j.name) AS its_name, UNHEX(j.owner) AS claimant, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS now, CAST(? AS SIGNED) AS keep
          FROM JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(510) PATH '$[0]', owner CHAR(32) PATH '$[1]')) AS j) AS c
  STRAIGHT_JOIN `locks` AS l ON l.name = c.its_name
   SET l.ttl_us = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, LEAST(l.acquired_us, c.now) + c.keep - c.now, l.ttl_us),
       l.expires_us = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, LEAST(l.acquired_us, c.now) + c.keep, 0)
                    + LAST_INSERT_ID(1 + l.contended) - 1 - l.contended,
       l.owner = IF(LEAST(l.acquired_us, c.now) + c.keep > c.now, X'00000000000000000000000000000000', NULL)
 WHERE l.owner = c.claimant;

-- a lease that has not changed is ended
UPDATE `locks`
   SET owner = NULL, expires_us = 0
 WHERE name = ? AND fence = ? AND owner IS NOT NULL AND expires_us = ?;

-- setup: what the server's settings have begun is no concern of ours
ROLLBACK AND NO CHAIN NO RELEASE;

-- setup: idle connections are ended, and this one is marked
SET NAMES utf8mb4, autocommit = 1, completion_type = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_mode = 'STRICT_TRANS_TABLES', time_zone = '+00:00', wait_timeout = ?, @withlock_session = IF(@withlock_session IS NULL, UUID(), NULL) /*M! , max_statement_time = 0 */;

-- setup: for how long has the server run
SHOW GLOBAL STATUS LIKE 'Uptime';

-- setup: what kind of server is this, and is it the same connection
SELECT CONNECTION_ID(), @withlock_session, VERSION(), CAST(@@GLOBAL.read_only AS CHAR), TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)), SLEEP(0.001) + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6));

-- setup: is it a node of a Galera cluster
SHOW GLOBAL VARIABLES LIKE 'wsrep_on';

-- setup: is it one of several primaries
SHOW GLOBAL VARIABLES LIKE 'group_replication_single_primary_mode';

-- try: take one if it is free
SELECT 1,
       CAST(IF(CONNECTION_ID() = ? AND @withlock_session = ?,
               IF(CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF'),
                  IF(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)) >= ?, ELT(1 + GET_LOCK(?, 0), 0, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))), -1),
                  -2),
               -3) AS SIGNED);

-- try: take what is free
SELECT c.place,
       CAST(IF(CONNECTION_ID() = ? AND @withlock_session = ?,
               IF(CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF'),
                  IF(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)) >= ?, ELT(1 + GET_LOCK(c.name, 0), 0, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))), -1),
                  -2),
               -3) AS SIGNED)
  FROM JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY, name VARCHAR(64) PATH '$')) AS c;

-- wait for a lock
SELECT /*+ MAX_EXECUTION_TIME(?) */ 1,
       CAST(IF(CONNECTION_ID() = ? AND @withlock_session = ?,
               IF(CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF'),
                  IF(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)) >= ?, ELT(1 + GET_LOCK(?, ? / 1000), 0, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))), -1),
                  -2),
               -3) AS SIGNED);

-- try and wait, if it failed: what was taken all the same
SELECT c.place, CAST(IF(CONNECTION_ID() = ? AND @withlock_session = ?, IF(IS_USED_LOCK(c.name) = CONNECTION_ID(), TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)), 0), -3) AS SIGNED)
  FROM JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY, name VARCHAR(64) PATH '$')) AS c;

-- unlock one
SELECT 1, CAST(IF(CONNECTION_ID() = ? AND @withlock_session = ?, COALESCE(RELEASE_LOCK(?), 0), -3) AS SIGNED);

-- unlock
SELECT c.place, CAST(IF(CONNECTION_ID() = ? AND @withlock_session = ?, COALESCE(RELEASE_LOCK(c.name), 0), -3) AS SIGNED)
  FROM JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY, name VARCHAR(64) PATH '$')) AS c;

-- keep: is it still this connection
SELECT COALESCE(CONNECTION_ID() = ? AND @withlock_session = ? AND CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF'), 0);

-- setup: what the server's settings have begun is no concern of ours
ROLLBACK AND NO CHAIN NO RELEASE;

-- setup: idle connections are ended, and this one is marked
SET NAMES utf8mb4, autocommit = 1, completion_type = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_mode = 'STRICT_TRANS_TABLES', time_zone = '+00:00', wait_timeout = ?, @withlock_session = IF(@withlock_session IS NULL, UUID(), NULL) /*M! , max_statement_time = 0 */, lock_wait_timeout = 5 /*!80000 , SESSION transaction_isolation = 'READ-COMMITTED', SESSION transaction_read_only = 0 */ /*M! , SESSION tx_isolation = 'READ-COMMITTED', SESSION tx_read_only = 0, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, idle_write_transaction_timeout = 0 */;

-- setup: for how long has the server run
SHOW GLOBAL STATUS LIKE 'Uptime';

-- setup: what kind of server is this, and is it the same connection
SELECT CONNECTION_ID(), @withlock_session, VERSION(), CAST(@@GLOBAL.read_only AS CHAR), TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)), SLEEP(0.001) + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6));

-- setup: is it a node of a Galera cluster
SHOW GLOBAL VARIABLES LIKE 'wsrep_on';

-- setup: is it one of several primaries
SHOW GLOBAL VARIABLES LIKE 'group_replication_single_primary_mode';

-- setup: is the table the package's
SELECT (SELECT COALESCE(engine, table_type) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'lockings'), (SELECT GROUP_CONCAT(column_name ORDER BY column_name SEPARATOR ', ') FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'lockings' AND column_name IN ('id', 'createdAt', 'updatedAt')), (SELECT CAST(SUM(IF(column_name = 'id' AND sub_part IS NULL, 1, 2)) AS SIGNED) FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'lockings' AND index_name = 'PRIMARY');

-- setup, if there is none: make it
CREATE TABLE IF NOT EXISTS `lockings` (`id` VARCHAR(255), `createdAt` DATETIME NOT NULL, `updatedAt` DATETIME NOT NULL, PRIMARY KEY (`id`)) ENGINE=InnoDB;

-- setup: is it now
SELECT (SELECT COALESCE(engine, table_type) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'lockings'), (SELECT GROUP_CONCAT(column_name ORDER BY column_name SEPARATOR ', ') FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'lockings' AND column_name IN ('id', 'createdAt', 'updatedAt')), (SELECT CAST(SUM(IF(column_name = 'id' AND sub_part IS NULL, 1, 2)) AS SIGNED) FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'lockings' AND index_name = 'PRIMARY');

-- setup: what is locked stays locked until a COMMIT
SET autocommit = 0;

-- try: lock the row, if nobody has
SELECT 1, CAST(IF(CONNECTION_ID() = ? AND @withlock_session = ?, IF(CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF'), IF(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)) >= ?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)), -1), -2), -3) AS SIGNED) FROM `lockings` WHERE `id` = ? FOR UPDATE NOWAIT;

-- wait, and try where there is no row: for how long
SET innodb_lock_wait_timeout = ?;

-- wait, and try where there is no row: make it, or wait for it
INSERT INTO `lockings` (`id`, `createdAt`, `updatedAt`) VALUES (?, UTC_TIMESTAMP(), UTC_TIMESTAMP()) ON DUPLICATE KEY UPDATE `id` = `id`;

-- wait, and try where there is no row: its fence
SELECT 1, CAST(IF(CONNECTION_ID() = ? AND @withlock_session = ?, IF(CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF'), IF(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)) >= ?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)), -1), -2), -3) AS SIGNED) FROM `lockings` WHERE `id` = ? FOR UPDATE NOWAIT;

-- release: is it this connection
SELECT COALESCE(CONNECTION_ID() = ? AND @withlock_session = ?, 0);

-- release, and after a denial
COMMIT AND NO CHAIN NO RELEASE;

-- keep: is it still this connection
SELECT COALESCE(CONNECTION_ID() = ? AND @withlock_session = ? AND CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF'), 0);

//! Locks over a pool of sqlx's that a program uses for other things, too.

use lock_async::{Config, Error, Guard, Locks, Protocol, TableName};
use lock_tests::drivers::wait;
use lock_tests::place::{Place, client};
use lock_tests::proxy::{Mode, Proxy, eventually, server_of};
use lock_tests::servers::Kind;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, MySqlPool, PgPool, Row};
use std::time::{Duration, Instant};

lock_tests::on_mysql_and_mariadb! {
    nothing_stays_on_a_connection
    a_transaction_that_was_left_open_gets_no_lock
    a_refused_statement_leaves_its_connection_to_others
}

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(20);
/// How many transactions are open on this connection to MySQL or MariaDB.
const OPEN: &str = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = CONNECTION_ID()";

fn postgres(place: &Place, connections: u32) -> PgPool {
    wait(async {
        let options = PgPoolOptions::new().max_connections(connections);
        options.connect_lazy(place.url()).expect("a good URL")
    })
}

fn mysql(place: &Place, connections: u32) -> MySqlPool {
    wait(async {
        let options = MySqlPoolOptions::new().max_connections(connections);
        options.connect_lazy(place.url()).expect("a good URL")
    })
}

fn config(place: &Place) -> Config {
    Config::new().table(TableName::new(place.table()).expect("a good name")).ttl(TTL)
}

async fn used(locks: &Locks) {
    let guard = locks.lock("a").await.expect("taken");
    assert!(locks.try_lock("a").await.expect("asked").is_none());
    assert!(guard.is_held());
    guard.release().await.expect("released");
}

/// Two services, each with one pool; the pools' connections are all ended, again and again.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn all_connections_of_the_pool_may_end() {
    all_end(true);
}

/// The statements meet the dead connections, where the pool does not look for them.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn all_connections_of_the_pool_may_end_unnoticed() {
    all_end(false);
}

fn all_end(tests_before: bool) {
    let place = Place::postgres();
    let pool = || {
        let options = PgPoolOptions::new().max_connections(3).test_before_acquire(tests_before);
        wait(async { options.connect_lazy(place.url()).expect("a good URL") })
    };
    let (ours, theirs) = (pool(), pool());
    let config = || config(&place).ttl(Duration::from_secs(6));
    wait(async {
        let holders = Locks::with_sqlx(ours.clone(), config()).await.expect("connected");
        let waiters = Locks::with_sqlx(theirs.clone(), config()).await.expect("connected");
        let guard = holders.lock("a").await.expect("taken");
        let waiting = tokio::spawn(async move { waiters.lock("a").await });
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            for pool in [&ours, &theirs] {
                let open = pids(pool).await;
                let all = format!(
                    "SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{open:?}::int[]) AS pid"
                );
                tokio::task::block_in_place(|| {
                    client(place.url()).batch_execute(&all).expect("ended")
                });
            }
            assert!(guard.is_held(), "{:?}", guard.lost_reason());
            assert!(!waiting.is_finished());
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        let fence = guard.fence();
        guard.release().await.expect("released");
        let next = tokio::time::timeout(SOON, waiting).await.expect("in time");
        let next: Guard = next.expect("no panic").expect("taken");
        assert!(next.fence() > fence);
        let serves = sqlx::query("SELECT 1").execute(&ours).await;
        assert!(serves.is_ok() || !tests_before, "the pool serves others: {serves:?}");
    });
}

/// The one who ended the connection may have changed more: the table is gone, too.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn what_follows_the_end_of_a_connection_is_checked_anew() {
    let place = Place::postgres();
    let options = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = wait(async { options.connect_lazy(place.url()).expect("a good URL") });
    wait(async {
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        used(&locks).await;
        let pid = pid(&pool).await;
        tokio::task::block_in_place(|| {
            let mut other = client(place.url());
            other.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("ended");
            let lives = "SELECT FROM pg_stat_activity WHERE pid = $1";
            assert!(eventually(|| other.query(lives, &[&pid]).expect("asked").is_empty()));
            place.tamper("DROP TABLE {table}");
        });
        let guard = locks.try_lock_for("a", SOON).await.expect("it is there again").expect("free");
        guard.release().await.expect("released");
    });
}

/// The server's ids of the pool's idle connections.
async fn pids(pool: &PgPool) -> Vec<i32> {
    let mut taken = Vec::new();
    let mut pids = Vec::new();
    while let Some(mut connection) = pool.try_acquire() {
        if let Ok(row) = sqlx::query("SELECT pg_backend_pid()").fetch_one(&mut *connection).await {
            pids.push(row.get(0));
        }
        taken.push(connection);
    }
    pids
}

async fn pid(pool: &PgPool) -> i32 {
    pool.fetch_one("SELECT pg_backend_pid()").await.expect("asked").get(0)
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn nothing_stays_on_a_connection_to_postgres() {
    let place = Place::postgres();
    let pool = postgres(&place, 1);
    let settings = || async {
        let mut all: Vec<String> = Vec::new();
        let rows = pool.fetch_all("SHOW ALL").await.expect("shown");
        all.extend(
            rows.iter().map(|row| {
                format!("{} = {:?}", row.get::<&str, _>(0), row.get::<Option<&str>, _>(1))
            }),
        );
        for asked in [
            "SELECT name FROM pg_prepared_statements",
            "SELECT channel::text FROM pg_listening_channels() AS channel",
        ] {
            all.extend(pool.fetch_all(asked).await.expect("asked").iter().map(|row| row.get(0)));
        }
        (pid(&pool).await, all)
    };
    wait(async {
        // What a service may have set for itself.
        pool.execute("SET statement_timeout = 77000").await.expect("set");
        pool.execute("SET synchronous_commit = off").await.expect("set");
        pool.execute("SET default_transaction_isolation = 'serializable'").await.expect("set");
        let before = settings().await;
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        used(&locks).await;
        let late = locks.lock("b").await.expect("taken");
        assert!(pool.acquire().await.is_ok(), "a held lock has no connection");
        assert!(locks.try_lock_for("b", Duration::from_secs(2)).await.expect("asked").is_none());
        let refused = locks.lock("\u{1}").await.map(drop);
        assert!(matches!(refused, Err(Error::Name(_))), "{refused:?}");
        drop(late);
        locks.shutdown().await.expect("all is free");
        assert_eq!(settings().await, before);
    });
}

fn nothing_stays_on_a_connection(kind: Kind) {
    let place = kind.place();
    let pool = mysql(&place, 1);
    let settings = || async {
        let all = "SHOW SESSION VARIABLES WHERE variable_name NOT IN ('timestamp', 'last_insert_id', 'identity', \
                   'rand_seed1', 'rand_seed2', 'pseudo_thread_id', 'last_gtid', 'warning_count', 'error_count', \
                   'gtid_binlog_pos', 'gtid_current_pos', 'gtid_binlog_state', 'gtid_executed', 'statement_id', 'innodb_buffer_pool_load_incomplete')";
        let rows = pool.fetch_all(all).await.expect("shown");
        let text = |row: &sqlx::mysql::MySqlRow, at| {
            String::from_utf8_lossy(&row.get_unchecked::<Vec<u8>, usize>(at)).into_owned()
        };
        let all: Vec<_> = rows.iter().map(|row| (text(row, 0), text(row, 1))).collect();
        (
            pool.fetch_one("SELECT CONNECTION_ID()")
                .await
                .expect("asked")
                .get_unchecked::<u64, _>(0),
            all,
        )
    };
    wait(async {
        pool.execute("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE").await.expect("set");
        pool.execute("SET SESSION completion_type = 1, sql_mode = 'ANSI_QUOTES'")
            .await
            .expect("set");
        let before = settings().await;
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        used(&locks).await;
        locks.shutdown().await.expect("all is free");
        assert_eq!(settings().await, before);
        assert_eq!(pool.fetch_one(OPEN).await.expect("asked").get_unchecked::<i64, _>(0), 0);
    });
}

/// A statement that is cut off leaves no answer behind for the next user of its connection.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_connection_in_doubt_does_not_come_back() {
    let place = Place::postgres();
    let proxy = Proxy::start(&server_of(place.url()));
    wait(async {
        // Without a ping before each statement, it is the statement that gets no answer.
        let options = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
        let pool = options.connect_lazy(&proxy.url(place.url())).expect("a good URL");
        let short = config(&place).request_timeout(Duration::from_millis(500));
        // A request that gets no answer, and one that nobody waits for any more.
        for limit in [Duration::from_secs(3), Duration::from_millis(100)] {
            let locks = Locks::with_sqlx(pool.clone(), short.clone()).await.expect("connected");
            used(&locks).await;
            assert_eq!(pool.size(), 1);
            while pool.num_idle() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            proxy.set(Mode::NoReplies);
            let late = tokio::time::timeout(limit, locks.try_lock("b")).await;
            assert!(!matches!(late, Ok(Ok(_))), "{late:?}");
            locks.close();
            let _ = locks.shutdown().await;
            proxy.set(Mode::Pass);
            let open = async {
                while pool.size() > 0 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(SOON, open).await.expect("it was closed");
            for number in 0..5 {
                let row = sqlx::query("SELECT $1::int4").bind(number).fetch_one(&pool).await;
                assert_eq!(row.expect("asked").get::<i32, _>(0), number);
            }
        }
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_transaction_that_was_left_open_in_the_pool_gets_no_lock() {
    let place = Place::postgres();
    let pool = postgres(&place, 1);
    wait(async {
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        let other = Locks::with_sqlx(postgres(&place, 1), config(&place)).await.expect("connected");
        for left in ["BEGIN", "BEGIN; SELECT 1", "BEGIN; SELECT 1/0"] {
            let _ = pool.execute(sqlx::raw_sql(left)).await;
            let guard = locks
                .try_lock_for("a", SOON)
                .await
                .unwrap_or_else(|error| panic!("{left}: {error}"))
                .expect("free");
            assert!(other.try_lock("a").await.expect("asked").is_none(), "{left}");
            guard.release().await.expect("released");
        }
    });
}

fn a_transaction_that_was_left_open_gets_no_lock(kind: Kind) {
    let place = kind.place();
    let pool = mysql(&place, 1);
    wait(async {
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        let other = Locks::with_sqlx(mysql(&place, 1), config(&place)).await.expect("connected");
        pool.execute("START TRANSACTION").await.expect("begun");
        let guard = locks.try_lock_for("a", SOON).await.expect("asked").expect("free");
        assert!(other.try_lock("a").await.expect("asked").is_none());
        guard.release().await.expect("released");
    });
}

/// It costs no connection, and leaves none inside a transaction.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_refused_statement_leaves_its_connection_to_postgres_to_others() {
    let place = Place::postgres();
    let pool = postgres(&place, 1);
    wait(async {
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        used(&locks).await;
        let before = pid(&pool).await;
        // Somebody looks at the row for longer than a statement waits for it.
        let mut other = postgres(&place, 1).begin().await.expect("begun");
        let look = format!("SELECT FROM {} FOR UPDATE", place.table());
        other.execute(&*look).await.expect("locked");
        let taken = locks.try_lock_for("a", Duration::from_secs(2)).await;
        assert!(!matches!(taken, Ok(Some(_))), "{taken:?}");
        other.rollback().await.expect("ended");
        locks.shutdown().await.expect("all is free");
        assert_eq!(pid(&pool).await, before, "and it is inside no transaction that failed");
    });
}

/// It may belong to a server that was the primary until now. The pool connects to the one that is.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_connection_that_only_reads_does_not_come_back() {
    let place = Place::postgres();
    let pool = postgres(&place, 1);
    wait(async {
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        used(&locks).await;
        pool.execute("SET default_transaction_read_only = on").await.expect("set");
        let guard = locks.try_lock_for("a", SOON).await.expect("over another").expect("free");
        guard.release().await.expect("released");
    });
}

/// It would take effect when nobody waits for it any more.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_statement_that_is_given_up_ends_at_the_server() {
    let place = Place::postgres();
    let pool = postgres(&place, 1);
    wait(async {
        let short = config(&place).request_timeout(Duration::from_secs(1));
        let locks = Locks::with_sqlx(pool, short).await.expect("connected");
        let guard = locks.lock("a").await.expect("taken");
        let mut other = postgres(&place, 1).begin().await.expect("begun");
        other.execute(&*format!("LOCK TABLE {}", place.table())).await.expect("locked");
        guard.release().await.expect_err("nobody answers");
        tokio::task::block_in_place(|| {
            let waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'";
            let mut observer = client(place.url());
            assert!(eventually(|| observer
                .query(waits, &[&place.table()])
                .expect("asked")
                .is_empty()));
        });
        other.rollback().await.expect("ended");
    });
}

fn a_refused_statement_leaves_its_connection_to_others(kind: Kind) {
    let place = kind.place();
    let pool = mysql(&place, 1);
    let id = || async {
        let row = pool.fetch_one("SELECT CONNECTION_ID()").await.expect("asked");
        row.get_unchecked::<u64, _>(0)
    };
    wait(async {
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        used(&locks).await;
        let before = id().await;
        let mut other = mysql(&place, 1).begin().await.expect("begun");
        let look = format!("SELECT * FROM {} FOR UPDATE", place.table());
        other.execute(&*look).await.expect("locked");
        let taken = locks.try_lock_for("a", Duration::from_secs(2)).await;
        assert!(!matches!(taken, Ok(Some(_))), "{taken:?}");
        other.rollback().await.expect("ended");
        locks.shutdown().await.expect("all is free");
        assert_eq!(id().await, before);
        assert_eq!(pool.fetch_one(OPEN).await.expect("asked").get_unchecked::<i64, _>(0), 0);
    });
}

/// A mode of MariaDB's, in which an update's assignments do not see each other.
#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_session_that_makes_assignments_at_once_gets_no_lock() {
    let place = Place::mariadb();
    let pool = mysql(&place, 1);
    wait(async {
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        used(&locks).await;
        pool.execute("SET SESSION sql_mode = 'SIMULTANEOUS_ASSIGNMENT'").await.expect("set");
        // Each would see what the one before it left.
        for _ in 0..3 {
            assert!(locks.try_lock("a").await.expect("asked").is_none());
        }
        let opened = Locks::with_sqlx(pool.clone(), config(&place)).await;
        let refused = opened.map(drop).expect_err("refused");
        assert!(refused.to_string().contains("SIMULTANEOUS_ASSIGNMENT"), "{refused}");
        pool.execute("SET SESSION sql_mode = 'STRICT_TRANS_TABLES'").await.expect("set");
        used(&locks).await;
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_pool_without_a_free_connection_says_so() {
    let place = Place::postgres();
    let pool = postgres(&place, 1);
    wait(async {
        let config = config(&place).request_timeout(Duration::from_millis(500));
        let locks = Locks::with_sqlx(pool.clone(), config).await.expect("connected");
        let taken = pool.acquire().await.expect("there");
        let refused = locks.try_lock("a").await.expect_err("no connection").to_string();
        assert!(refused.contains("max_connections"), "{refused}");
        drop(taken);
        used(&locks).await;
        pool.close().await;
        let refused = locks.try_lock("a").await.expect_err("no pool").to_string();
        assert!(refused.contains("the pool was closed"), "{refused}");
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_pool_has_no_advisory_locks_and_no_other_place() {
    let place = Place::postgres();
    let pool = postgres(&place, 1);
    wait(async {
        let advisory = Config::new().protocol(Protocol::Advisory);
        let refused =
            Locks::with_sqlx(pool.clone(), advisory).await.map(drop).expect_err("refused");
        assert_eq!(
            refused.to_string(),
            "a pool or a function that connects has no advisory locks (there are: table)"
        );
        let two = Locks::with_sqlx(pool, place.config(TTL)).await.map(drop).expect_err("refused");
        assert!(two.to_string().contains("name no place"), "{two}");
    });
}

//! Sessions of the caller's, with settings and tables of their own: what is refused there, and that they are left as they were.

use lock_async::{Config, Error, Locks, Refusal, TableName};
use lock_tests::drivers::wait;
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::eventually;
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
use mysql_async::prelude::Queryable as _;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, MySqlPool, Row};
use std::time::Duration;

lock_tests::on_mysql_and_mariadb! {
    a_temporary_table_is_not_taken_for_the_lock_table
    a_row_that_is_locked_holds_up_no_connection_of_a_pool
    the_limits_of_a_pools_session_are_as_before
    a_pools_session_that_cuts_results_off_loses_no_lease
    a_mode_that_reads_not_in_another_way_changes_nothing
    a_character_set_that_is_not_utf8_is_refused
}

const TTL: Duration = Duration::from_secs(30);

fn config(place: &Place) -> Config {
    Config::new().table(TableName::new(place.table()).expect("a good name")).ttl(TTL)
}

/// A pool of one connection.
fn pool(place: &Place) -> MySqlPool {
    let options = MySqlPoolOptions::new().max_connections(1);
    wait(async { options.connect_lazy(place.url()).expect("a good URL") })
}

/// Statements after which the session means a temporary table by the lock table's name.
fn hide(place: &Place) -> [String; 2] {
    let table = place.table();
    let made = format!("CREATE TEMPORARY TABLE {table}_hidden LIKE {table}");
    [made, format!("ALTER TABLE {table}_hidden RENAME {table}")]
}

/// In a connection that is handed over, made by a function, and of a pool.
fn a_temporary_table_is_not_taken_for_the_lock_table(kind: Kind) {
    let place = kind.place();
    let held = place.locks(TTL).lock("a").expect("free");
    let url = place.url().replacen("mariadb://", "mysql://", 1);
    let blocking = || {
        let mut client = mysql_client(place.url());
        hide(&place).iter().for_each(|sql| client.query_drop(sql).expect("hidden"));
        client
    };
    let hidden = hide(&place);
    let tokio = move || {
        let (url, sql) = (url.clone(), hidden.clone());
        async move {
            let mut client = mysql_async::Conn::from_url(url).await?;
            for sql in sql {
                client.query_drop(sql).await?;
            }
            Ok::<_, mysql_async::Error>(client)
        }
    };
    let handed = async {
        let client = tokio().await.expect("connected");
        Locks::with_mysql(client, config(&place)).await
    };
    let handed = wait(handed).map(drop);
    let pooled = async {
        let pool = pool(&place);
        for sql in hide(&place) {
            pool.execute(&*sql).await.expect("hidden");
        }
        Locks::with_sqlx(pool, config(&place)).await
    };
    let made = lock_sync::Locks::from_mysql(
        {
            let made = std::sync::Mutex::new(Some(blocking()));
            move || Ok::<_, mysql::Error>(made.lock().expect("unpoisoned").take().expect("once"))
        },
        config(&place),
    );
    let all = [
        lock_sync::Locks::with_mysql(blocking(), config(&place)).map(drop),
        made.map(drop),
        handed,
        wait(Locks::from_mysql(tokio, config(&place))).map(drop),
        wait(pooled).map(drop),
    ];
    for (nth, result) in all.into_iter().enumerate() {
        let is_refused = matches!(&result, Err(Error::UnsafeServer(Refusal::Temporary(_))));
        assert!(is_refused, "{nth}: {result:?}");
    }
    held.release().expect("it was ours all the time");
}

/// The server's own limit is far longer than a request's.
fn a_row_that_is_locked_holds_up_no_connection_of_a_pool(kind: Kind) {
    let place = kind.place();
    wait(async {
        let locks = Locks::with_sqlx(pool(&place), config(&place)).await.expect("connected");
        locks.lock("a").await.expect("free").release().await.expect("released");
        let mut other = pool(&place).begin().await.expect("begun");
        let look = format!("SELECT * FROM {} FOR UPDATE", place.table());
        other.execute(&*look).await.expect("locked");
        let taken = locks.try_lock("a").await;
        assert!(matches!(taken, Ok(None)), "{taken:?}");
        other.rollback().await.expect("ended");
        locks.lock("a").await.expect("free").release().await.expect("released");
    });
}

fn the_limits_of_a_pools_session_are_as_before(kind: Kind) {
    const LIMITS: [u64; 6] = [77, 777, 7, 0, 70, 1];
    let with = |id: u64| [&[id][..], &LIMITS].concat().try_into().unwrap_or([0; 7]);
    let place = kind.place();
    let pool = pool(&place);
    let session = || async {
        let row = "SELECT CONNECTION_ID(), @@SESSION.innodb_lock_wait_timeout, @@SESSION.lock_wait_timeout,
                          @@SESSION.sql_select_limit, @@SESSION.sql_big_selects, @@SESSION.group_concat_max_len,
                          @withlock_row IS NULL AND @withlock_table IS NULL AND @withlock_rows IS NULL AND @withlock_joins IS NULL AND @withlock_text IS NULL";
        let row = pool.fetch_one(row).await.expect("asked");
        [0, 1, 2, 3, 4, 5, 6].map(|at| row.get_unchecked::<u64, _>(at))
    };
    wait(async {
        let own = "SET SESSION innodb_lock_wait_timeout = 77, SESSION lock_wait_timeout = 777, \
                   SESSION sql_select_limit = 7, SESSION max_join_size = 1000000, SESSION group_concat_max_len = 70";
        pool.execute(own).await.expect("set");
        let [before, limits @ ..] = session().await;
        assert_eq!(limits, LIMITS);
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        let guard = locks.lock("a").await.expect("free");
        assert!(locks.try_lock("a").await.expect("asked").is_none());
        guard.release().await.expect("released");
        assert_eq!(session().await, with(before));
        // A statement that fails: it waits for a row, and then one whose table is gone.
        let mut other = sqlx::MySqlPool::connect(place.url())
            .await
            .expect("another")
            .begin()
            .await
            .expect("begun");
        let look = format!("SELECT * FROM {} FOR UPDATE", place.table());
        other.execute(&*look).await.expect("locked");
        assert!(matches!(locks.try_lock("a").await, Ok(None)));
        assert_eq!(session().await, with(before));
        other.rollback().await.expect("ended");
        let rename = |from: &str, to: &str| format!("RENAME TABLE {from} TO {to}");
        let away = format!("{}_away", place.table());
        pool.execute(&*rename(place.table(), &away)).await.expect("renamed");
        assert!(matches!(locks.try_lock("a").await, Err(Error::Refused(_))));
        assert_eq!(session().await, with(before));
        pool.execute(&*rename(&away, place.table())).await.expect("renamed");
    });
}

/// What became of a request's locks is read from rows, and the table's columns are one text.
fn a_pools_session_that_cuts_results_off_loses_no_lease(kind: Kind) {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    for set in [
        "sql_select_limit = 2",
        "sql_select_limit = 0",
        "group_concat_max_len = 4",
        "max_join_size = 1",
    ] {
        let place = kind.place();
        let pool = pool(&place);
        let expiries = || {
            let asked = format!("SELECT expires_us FROM {}", place.table());
            mysql_client(place.url()).query::<i64, _>(asked).expect("asked")
        };
        wait(async {
            pool.execute(&*format!("SET SESSION {set}")).await.expect("set");
            let locks = Locks::with_sqlx(pool, config(&place).ttl(TTL / 3)).await.expect(set);
            let mut guards = Vec::new();
            for name in NAMES {
                guards.push(locks.lock(name).await.expect("free"));
            }
            // All of them are renewed in one statement, and then again, by those that were not told of a loss.
            for round in 0..2 {
                let before = *expiries().iter().max().expect("rows");
                let are_renewed = tokio::task::block_in_place(|| {
                    eventually(|| expiries().iter().all(|expiry| *expiry > before))
                });
                let lost: Vec<_> =
                    guards.iter().filter_map(lock_async::Guard::lost_reason).collect();
                assert!(are_renewed && lost.is_empty(), "{set}, round {round}: {lost:?}");
            }
            for guard in guards {
                guard.release().await.expect("released");
            }
            let all = NAMES[1..].iter().fold(locks.acquire("a"), |all, name| all.and(*name));
            let all = all.await.expect("free");
            assert!(all.is_held());
            all.release().await.expect("released");
        });
    }
}

/// `NOT a <=> b` is `(NOT a) <=> b` there: no holder would be told, and no ticket drawn.
fn a_mode_that_reads_not_in_another_way_changes_nothing(kind: Kind) {
    let place = kind.place();
    let pool = pool(&place);
    wait(async {
        let theirs = Locks::open(place.config(TTL)).await.expect("connected");
        let guard = theirs.lock("a").await.expect("free");
        let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect("connected");
        pool.execute("SET SESSION sql_mode = 'HIGH_NOT_PRECEDENCE'").await.expect("set");
        match locks.acquire("a").no_wait().await {
            Err(Error::Busy(busy)) => assert!(busy.holder.is_some(), "{busy:?}"),
            other => panic!("{other:?}"),
        }
        assert!(locks.try_lock_for("a", Duration::from_secs(2)).await.expect("asked").is_none());
        let drawn = format!("SELECT CAST(MAX(queue) AS SIGNED) FROM {}", place.table());
        let drawn = pool.fetch_one(&*drawn).await.expect("asked").get_unchecked::<i64, _>(0);
        assert!(drawn > 0);
        guard.release().await.expect("released");
    });
}

fn a_character_set_that_is_not_utf8_is_refused(kind: Kind) {
    let place = kind.place();
    let pool = pool(&place);
    wait(async {
        for set in [
            "SET NAMES latin1",
            "SET SESSION character_set_results = latin1",
            "SET SESSION character_set_connection = ucs2",
            "SET SESSION character_set_connection = utf16",
        ] {
            pool.execute("SET NAMES utf8mb4").await.expect("set");
            pool.execute(set).await.expect("set");
            let refused = Locks::with_sqlx(pool.clone(), config(&place)).await.map(drop);
            assert_eq!(refused, Err(Error::UnsafeServer(Refusal::NotUtf8)), "{set}");
        }
        for set in
            ["SET NAMES utf8mb3", "SET NAMES utf8mb4", "SET SESSION character_set_results = NULL"]
        {
            pool.execute(set).await.expect("set");
            let locks = Locks::with_sqlx(pool.clone(), config(&place)).await.expect(set);
            locks.lock("ü").await.expect("free").release().await.expect("released");
        }
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_character_set_that_is_not_utf8_is_refused_on_postgres() {
    let place = Place::postgres();
    wait(async {
        let options = PgPoolOptions::new().max_connections(1);
        let pool = options.connect_lazy(place.url()).expect("a good URL");
        pool.execute("SET client_encoding = 'LATIN1'").await.expect("set");
        let refused = Locks::with_sqlx(pool.clone(), config(&place)).await.map(drop);
        assert_eq!(refused, Err(Error::UnsafeServer(Refusal::NotUtf8)));
        pool.execute("SET client_encoding = 'UTF8'").await.expect("set");
        let locks = Locks::with_sqlx(pool, config(&place)).await.expect("connected");
        locks.lock("ü").await.expect("free").release().await.expect("released");
    });
}

/// Each statement brings the settings that matter, and the others change nothing about it.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn settings_of_a_session_of_postgres_change_nothing_about_its_locks() {
    const SETTINGS: [&str; 6] = [
        "SET DateStyle = 'German, DMY'; SET IntervalStyle = sql_standard; SET TimeZone = 'Asia/Kathmandu'; SET lc_messages = 'C'",
        "SET standard_conforming_strings = off; SET backslash_quote = on; SET bytea_output = escape; SET array_nulls = off; \
         SET transform_null_equals = on; SET extra_float_digits = -15; SET quote_all_identifiers = on",
        "SET default_transaction_isolation = serializable; SET default_transaction_deferrable = on; SET row_security = off",
        "SET lock_timeout = 1; SET idle_in_transaction_session_timeout = 1000; SET synchronous_commit = off",
        "SET enable_indexscan = off; SET enable_nestloop = off; SET enable_sort = off; SET plan_cache_mode = force_generic_plan",
        "SET search_path = pg_temp, public, pg_catalog",
    ];
    let name = "it's \\ a \"$1\" ü";
    for set in SETTINGS {
        let place = Place::postgres();
        let others = place.locks(TTL);
        let theirs = others.lock("theirs").expect("free");
        wait(async {
            let options = PgPoolOptions::new().max_connections(1);
            let pool = options.connect_lazy(place.url()).expect("a good URL");
            pool.execute(sqlx::raw_sql(set)).await.expect("set");
            let pooled = Locks::with_sqlx(pool, config(&place)).await.expect(set);
            let (client, connection) =
                tokio_postgres::connect(place.url(), tokio_postgres::NoTls).await.expect("there");
            tokio::spawn(connection);
            client.batch_execute(set).await.expect("set");
            let handed = Locks::with_postgres(client, config(&place)).await.expect(set);
            for locks in [pooled, handed] {
                assert!(locks.try_lock("theirs").await.expect("asked").is_none(), "{set}");
                let guard = locks.lock(name).await.expect("free");
                let all = locks.acquire("b").and("c").and("d").await.expect("free");
                let taken = tokio::task::block_in_place(|| others.try_lock(name));
                assert!(taken.expect("asked").is_none(), "{set}");
                all.release().await.expect("released");
                guard.release().await.expect("released");
            }
        });
        theirs.release().expect("released");
    }
}

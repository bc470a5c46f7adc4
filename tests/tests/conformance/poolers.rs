//! PostgreSQL through PgBouncer, and on clients that were brought: sessions that are not ours.

use lock_sync::{Config, Error, Locks, Refusal, TableName};
use lock_tests::drivers::{Driven, Driver, wait};
use lock_tests::place::{Place, client};
use lock_tests::proxy::eventually;
use lock_tests::servers::{Kind, Server};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(30);
const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];
/// Settings of the pooler: it refuses our settings, drops them, and keeps the session for a client.
const POOLERS: [&str; 3] =
    ["", "ignore_startup_parameters = options", "pool_mode = session\nserver_reset_query ="];

/// Everything that can be left behind in a session.
fn session(url: &str) -> Vec<String> {
    let sql = "SELECT name || '=' || setting FROM pg_settings
               UNION ALL SELECT 'listens to ' || pg_listening_channels()
               UNION ALL SELECT 'prepared ' || statement FROM pg_prepared_statements
               UNION ALL SELECT 'locked ' || mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
               UNION ALL SELECT 'serves ' || pg_backend_pid()";
    let rows = client(url).simple_query(sql).expect("asked");
    let mut all: Vec<String> = rows
        .iter()
        .filter_map(|row| match row {
            postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
            _ => None,
        })
        .collect();
    all.sort();
    all
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn nothing_of_ours_is_left_in_a_session_that_belongs_to_others() {
    // Also where commits do not wait for the disk, which must not be "repaired" for others.
    let server = Kind::Postgres.server();
    let change = "ALTER DATABASE postgres SET synchronous_commit = off";
    client(server.url()).batch_execute(change).expect("changed");
    for ini in POOLERS {
        let pooler = Server::pgbouncer(server.url(), &format!("default_pool_size = 1\n{ini}"));
        for driver in DRIVERS {
            let place = Driven::new(driver, Place::at(pooler.url()));
            let before = session(pooler.url());
            let locks = place.locks(TTL);
            let guard = locks.lock("a").expect("taken");
            assert!(locks.try_lock_for("a", Duration::from_millis(200)).expect("asked").is_none());
            assert!(guard.is_held());
            guard.release().expect("released");
            for name in ["a", "b", "a", "b"] {
                locks.lock(name).expect("taken").release().expect("released");
            }
            drop(locks);
            let after = session(pooler.url());
            let left: Vec<_> = after.iter().filter(|one| !before.contains(one)).collect();
            assert_eq!(left, Vec::<&String>::new(), "{driver:?} {ini:?}");
            assert_eq!(after.len(), before.len());
        }
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_grant_waits_for_the_disk_whatever_another_client_has_set() {
    let server = Kind::Postgres.server();
    let pooler = Server::pgbouncer(server.url(), "default_pool_size = 1");
    for driver in DRIVERS {
        let place = Driven::new(driver, Place::at(pooler.url()));
        // Renewed every second.
        let locks = place.locks(Duration::from_secs(3));
        // Fires as the transaction commits.
        place.tamper(
            "CREATE TABLE {table}_log (holds bool, commits text);
             CREATE FUNCTION {table}_see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO {table}_log VALUES (NEW.owner IS NOT NULL, current_setting('synchronous_commit'));
               RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER see AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION {table}_see();
             SET synchronous_commit = off",
        );
        let sql = format!("SELECT DISTINCT commits FROM {}_log WHERE holds = $1", place.table());
        let mut direct = client(server.url());
        let mut log = |holds: bool| -> Vec<String> {
            let rows = direct.query(&sql, &[&holds]).expect("asked");
            rows.iter().map(|row| row.get(0)).collect()
        };
        assert_eq!(log(true), Vec::<String>::new());
        let guard = locks.lock("a").expect("taken");
        assert_eq!(log(true), ["on"], "{driver:?}");
        place.tamper("DELETE FROM {table}_log");
        assert!(eventually(|| !log(true).is_empty()), "renewed");
        assert_eq!(log(true), ["on"], "{driver:?}");
        guard.release().expect("released");
        assert_eq!(log(false), ["off"], "a release may be lost");
        assert!(session(pooler.url()).contains(&"synchronous_commit=off".to_string()));
    }
}

/// The time that a statement waits for a row has a limit, which is ours.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_row_that_somebody_locks_ends_the_wait_at_the_server() {
    let place = Place::postgres_pooled();
    let config = place.config(TTL).request_timeout(Duration::from_millis(500));
    let locks = Locks::open(config).expect("connected");
    locks.lock("a").expect("taken").release().expect("released");
    let mut other = client(&lock_tests::place::postgres_url());
    let mut held = other.transaction().expect("begun");
    held.execute(&format!("UPDATE {} SET holder = 'b' WHERE name = 'a'", place.table()), &[])
        .expect("locked");
    assert!(locks.try_lock("a").expect("answered").is_none());
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
    let ours = format!("%{}%", place.table());
    let mut watch = client(&lock_tests::place::postgres_url());
    assert!(eventually(|| {
        watch.query_one(waits, &[&ours]).expect("asked").get::<_, i64>(0) == 0
    }));
    held.rollback().expect("freed");
    assert!(locks.try_lock("a").expect("asked").is_some());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn advisory_locks_are_refused_also_for_the_first_client_of_a_pool() {
    let server = Kind::Postgres.server();
    for ini in POOLERS {
        let pooler = Server::pgbouncer(server.url(), ini);
        for driver in DRIVERS {
            let url = format!("{}?protocol=advisory", pooler.url());
            let config: Config = url.parse().expect("good");
            let refused = match driver {
                Driver::Tokio => wait(lock_async::Locks::open(config)).map(drop),
                _ => Locks::open(config).map(drop),
            };
            assert_eq!(refused, Err(Error::UnsafeServer(Refusal::Pooled)), "{ini:?} {driver:?}");
        }
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_server_that_restarts_behind_its_pooler_is_waited_for() {
    let server = Kind::Postgres.server();
    let pooler = Server::pgbouncer(server.url(), "");
    for driver in DRIVERS {
        let place = Driven::new(driver, Place::at(pooler.url()));
        let locks = place.locks(TTL);
        locks.lock("a").expect("taken").release().expect("released");
        server.restart();
        locks.lock("a").expect("after the restart").release().expect("released");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn options_of_the_url_that_a_pooler_refuses_are_named() {
    let pooler = Server::pgbouncer(&lock_tests::place::postgres_url(), "");
    let url = format!("{}?options=-c%20search_path%3Djobs", pooler.url());
    let Err(Error::Refused(told)) = Locks::connect(&url) else { panic!("not refused") };
    assert!(told.contains("leave it out of the URL"), "{told}");
}

/// A waiter on a client of the caller's hears nothing, and looks.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_client_that_was_brought_waits_like_any_other() {
    for driver in DRIVERS {
        let place = Place::postgres();
        let holder = place.locks(TTL).lock("a").expect("taken");
        let table = TableName::new(place.table()).expect("good");
        let config = Config::new().table(table).ttl(TTL);
        let url = place.url().to_string();
        let waiter = std::thread::spawn(move || match driver {
            Driver::Tokio => wait(async {
                let none = tokio_postgres::NoTls;
                let (client, link) = tokio_postgres::connect(&url, none).await.expect("connected");
                tokio::spawn(link);
                let locks = lock_async::Locks::with_postgres(client, config).await.expect("good");
                locks.lock("a").await.map(|guard| guard.fence())
            }),
            _ => {
                let locks = Locks::with_postgres(client(&url), config).expect("good");
                locks.lock("a").map(|guard| guard.fence())
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waiter.is_finished());
        let (fence, began) = (holder.fence(), Instant::now());
        holder.release().expect("released");
        assert!(waiter.join().expect("no panic").expect("taken") > fence);
        assert!(began.elapsed() < TTL / 2, "long before the lease would have ended");
    }
}

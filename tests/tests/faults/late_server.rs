//! Locks that connect when the first of them is wanted: the server may start after them, and may still refuse.

use lock_sync::{Config, ConfigError, Error, Progress, Refusal, TableName};
use lock_tests::drivers::{Driver, Locks, pool, wait};
use lock_tests::place::{Keeps, Place, client, mysql_client};
use lock_tests::proxy::{Mode, Proxy, eventually, server_of};
use lock_tests::servers::Server;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_postgres::NoTls;

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];
const SOON: Duration = Duration::from_secs(60);
/// Short, so that a call without a limit of its own ends soon.
const BUDGET: Duration = Duration::from_millis(400);
/// The same where a server on a busy machine has to be fast enough for it.
const ROOM: Duration = Duration::from_millis(1_500);
const TTL: Duration = Duration::from_secs(10);

lock_tests::on_mysql_and_mariadb! {
    a_table_that_is_none_is_told_and_a_pool_too
    a_function_is_called_again
}

fn open(driver: Driver, config: Config) -> Result<Locks, Error> {
    match driver {
        Driver::Tokio => wait(lock_async::Locks::open(config)).map(Locks::Tokio),
        _ => lock_sync::Locks::open(config).map(Locks::Blocking),
    }
}

fn lazy(driver: Driver, config: Config) -> Locks {
    open(driver, config.lazy()).expect("nobody was asked")
}

/// Counts what an acquire is told.
fn troubles(told: &Mutex<Vec<Progress>>) -> usize {
    let told = told.lock().expect("unpoisoned");
    told.iter().filter(|one| matches!(one, Progress::Trouble(_))).count()
}

/// An acquire is kept until the server is there, and others end at their limits.
fn is_waited_for(locks: &Locks, table: Option<&str>, proxy: &Proxy) {
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let note =
                |progress: &Progress| told.lock().expect("unpoisoned").push(progress.clone());
            locks.acquire("a").on_waiting(note).wait().expect("taken")
        });
        assert!(eventually(|| troubles(&told) > 1), "told again and again");
        for limit in [Duration::ZERO, BUDGET / 4] {
            let ended = locks.acquire("b").timeout(limit).wait().map(|_| ());
            assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
        }
        assert!(matches!(locks.try_lock("b"), Err(Error::Unavailable(_))));
        assert!(!waiter.is_finished());
        assert_eq!(locks.table(), None);
        proxy.cut(false);
        let guard = waiter.join().expect("no panic");
        assert!(guard.is_held());
        if let Some(table) = table {
            assert!(locks.table().is_some_and(|found| found.ends_with(table)));
        }
        assert!(locks.try_lock("a").expect("asked").is_none());
        guard.release().expect("released");
    });
    locks.lock("a").expect("taken").release().expect("released");
    assert_eq!(locks.shutdown(), Ok(()));
}

fn down(place: &Place) -> (Place, Proxy) {
    let proxy = Proxy::start(&server_of(place.url()));
    proxy.cut(true);
    (place.through(&proxy.url(place.url())), proxy)
}

fn a_server_that_comes_later_is_waited_for(place: fn() -> Place) {
    for driver in DRIVERS {
        let own = place();
        let (place, proxy) = down(&own);
        let locks = lazy(driver, place.config(TTL).request_timeout(ROOM));
        assert_eq!(proxy.connections(), 0, "nobody wants anything");
        let table = (place.keeps() == Keeps::Rows).then(|| place.table());
        is_waited_for(&locks, table, &proxy);
    }
}

/// Ends of all kinds, while the server is silent: no call waits for the connect.
fn nothing_waits_for_a_silent_server(place: fn() -> Place) {
    for driver in DRIVERS {
        let own = place();
        let proxy = Proxy::start(&server_of(own.url()));
        proxy.set(Mode::Hole);
        let place = own.through(&proxy.url(own.url()));
        let locks = lazy(driver, place.config(TTL));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| locks.lock("a"));
            assert!(eventually(|| proxy.connections() > 0));
            locks.close();
            let ended = waiter.join().expect("no panic").map(|_| ());
            assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
        });
        assert_eq!(locks.shutdown(), Ok(()));
        assert_eq!(proxy.connections(), 1, "{driver:?}: the first connect still waits");
        drop(locks);
    }
}

macro_rules! everywhere {
    ($($place:ident $needs:literal)*) => {
        $(mod $place {
            use lock_tests::place::Place;

            #[test]
            #[ignore = $needs]
            fn a_server_that_comes_later_is_waited_for() {
                super::a_server_that_comes_later_is_waited_for(Place::$place);
            }

            #[test]
            #[ignore = $needs]
            fn nothing_waits_for_a_silent_server() {
                super::nothing_waits_for_a_silent_server(Place::$place);
            }
        })*
    };
}

everywhere! {
    postgres "needs a PostgreSQL server: tests/run starts one"
    postgres_advisory "needs a PostgreSQL server: tests/run starts one"
    mysql "needs a MySQL server: tests/run starts one"
    mysql_advisory "needs a MySQL server: tests/run starts one"
    mysql_sql_lock "needs a MySQL server: tests/run starts one"
    mariadb "needs a MariaDB server: tests/run starts one"
    mariadb_advisory "needs a MariaDB server: tests/run starts one"
    mariadb_sql_lock "needs a MariaDB server: tests/run starts one"
    consul "needs a Consul server: tests/run starts one"
}

/// A waiter gets the very error that the first connect would have ended with.
fn is_refused(locks: &Locks, expected: &Error) {
    std::thread::scope(|scope| {
        let waiters = ["a", "a", "b"].map(|name| scope.spawn(move || locks.lock(name)));
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic").err().as_ref(), Some(expected));
        }
    });
    assert_eq!(locks.try_lock("c").err().as_ref(), Some(expected));
    assert_eq!(locks.table(), None);
}

/// The first connect is refused, and once an operator has acted it succeeds.
fn is_refused_until(place: &Place, locks: &Locks, expected: &Error, act: &str) {
    is_refused(locks, expected);
    place.tamper(act);
    locks.lock("a").expect("taken").release().expect("released");
    assert_eq!(locks.shutdown(), Ok(()));
}

fn a_table_that_is_none_is_told(place: &Place) {
    for driver in DRIVERS {
        place.tamper("CREATE TABLE {table} (a int)");
        let config = || place.config(TTL);
        let expected = open(driver, config()).err().expect("refused");
        let named = matches!(expected, Error::UnsafeServer(Refusal::WrongShape { .. }));
        assert!(named, "{expected}");
        let locks = lazy(driver, config());
        is_refused_until(place, &locks, &expected, "DROP TABLE {table}");
        place.tamper("DROP TABLE {table}");
    }
}

fn a_table_that_is_none_is_told_and_a_pool_too(kind: lock_tests::servers::Kind) {
    let place = kind.place();
    a_table_that_is_none_is_told(&place);
    a_pool_too(&place);
}

fn a_pool_too(place: &Place) {
    place.tamper("CREATE TABLE {table} (a int)");
    let config = || {
        let table = TableName::new(place.table()).expect("a good name");
        Config::new().table(table).ttl(TTL)
    };
    let connect =
        |config| wait(async { lock_async::Locks::with_sqlx(pool(place.url()), config).await });
    let expected = connect(config()).expect_err("refused");
    let locks = Locks::Tokio(connect(config().lazy()).expect("nobody was asked"));
    is_refused_until(place, &locks, &expected, "DROP TABLE {table}");
    let (there, proxy) = down(place);
    let locks = wait(async {
        let config = config().request_timeout(ROOM).lazy();
        lock_async::Locks::with_sqlx(pool(there.url()), config).await
    });
    let locks = Locks::Tokio(locks.expect("nobody was asked"));
    is_waited_for(&locks, Some(place.table()), &proxy);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_table_that_is_none_is_told_and_a_pool_too_on_postgres() {
    let place = Place::postgres();
    a_table_that_is_none_is_told(&place);
    a_pool_too(&place);
}

#[test]
fn a_table_that_is_none_is_told_on_sqlite() {
    a_table_that_is_none_is_told(&Place::sqlite());
}

/// A server's words at the login.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_database_that_does_not_exist_is_told() {
    let place = Place::postgres();
    let (server, _) = place.url().rsplit_once('/').expect("a database");
    for driver in DRIVERS {
        let config = || format!("{server}/no_such_database").parse::<Config>().expect("good");
        let expected = open(driver, config()).err().expect("refused");
        assert!(matches!(expected, Error::Refused(_)), "{expected}");
        is_refused(&lazy(driver, config()), &expected);
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_pooler_before_advisory_locks_is_told() {
    let own = Place::postgres();
    let pooler = Server::pgbouncer(own.url(), "");
    for driver in DRIVERS {
        let url = format!("{}?protocol=advisory", pooler.url());
        let expected = Error::UnsafeServer(Refusal::Pooled);
        is_refused(&lazy(driver, url.parse().expect("good")), &expected);
    }
}

/// A function that cannot connect yet: at first because it says so, then because it panics.
#[derive(Clone, Default)]
struct Late(Arc<AtomicUsize>);

impl Late {
    fn fails(&self) -> Result<(), &'static str> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Err("not yet"),
            1 => panic!("on purpose"),
            _ => Ok(()),
        }
    }
}

fn by_function(driver: Driver, place: &Place, late: &Late) -> Locks {
    let table = TableName::new(place.table()).expect("a good name");
    let config = Config::new().table(table).ttl(TTL).lazy();
    let (late, url) = (late.clone(), place.url().replacen("mariadb://", "mysql://", 1));
    match (driver, url.starts_with("postgres")) {
        (Driver::Tokio, true) => {
            let make = move || {
                let (late, url) = (late.clone(), url.clone());
                async move {
                    late.fails()?;
                    let made = tokio_postgres::connect(&url, NoTls).await;
                    let (client, connection) = made.map_err(|_| "no connection")?;
                    tokio::spawn(connection);
                    Ok::<_, &str>(Box::new(client))
                }
            };
            Locks::Tokio(wait(lock_async::Locks::from_postgres(make, config)).expect("lazy"))
        }
        (Driver::Tokio, false) => {
            let make = move || {
                let (late, url) = (late.clone(), url.clone());
                async move {
                    late.fails()?;
                    mysql_async::Conn::from_url(url).await.map_err(|_| "no connection")
                }
            };
            Locks::Tokio(wait(lock_async::Locks::from_mysql(make, config)).expect("lazy"))
        }
        (_, true) => {
            let make = move || late.fails().map(|()| Box::new(client(&url)));
            Locks::Blocking(lock_sync::Locks::from_postgres(make, config).expect("lazy"))
        }
        (_, false) => {
            let make = move || late.fails().map(|()| mysql_client(&url));
            Locks::Blocking(lock_sync::Locks::from_mysql(make, config).expect("lazy"))
        }
    }
}

fn a_function_that_cannot_connect_yet_is_called_again(place: &Place) {
    for driver in DRIVERS {
        let late = Late::default();
        let locks = by_function(driver, place, &late);
        assert_eq!(late.0.load(Ordering::SeqCst), 0, "nobody wants anything");
        let mut told = Vec::new();
        let acquire = locks.acquire("a").on_waiting(|progress| told.push(progress.clone()));
        acquire.wait().expect("taken").release().expect("released");
        let all = format!("{told:?}");
        assert!(all.contains("not yet") && all.contains("panicked"), "{all}");
        assert_eq!(locks.shutdown(), Ok(()));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_function_that_cannot_connect_yet_is_called_again_on_postgres() {
    a_function_that_cannot_connect_yet_is_called_again(&Place::postgres());
}

fn a_function_is_called_again(kind: lock_tests::servers::Kind) {
    a_function_that_cannot_connect_yet_is_called_again(&kind.place());
}

/// A client that has ended will not come back.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_client_that_was_brought_and_has_ended_is_told() {
    let place = Place::postgres();
    let table = TableName::new(place.table()).expect("a good name");
    let config = Config::new().table(table).ttl(TTL).lazy();
    let mut theirs = client(place.url());
    let pid: i32 = theirs.query_one("SELECT pg_backend_pid()", &[]).expect("asked").get(0);
    let locks = lock_sync::Locks::with_postgres(theirs, config).expect("lazy");
    place.tamper(&format!("SELECT pg_terminate_backend({pid})"));
    let ended = locks.lock("a").expect_err("refused");
    let told = "the connection that was handed over has ended: connect again with a new one";
    assert_eq!(ended.to_string(), told, "the server said nothing");
}

/// A right that is missing in Consul.
#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_missing_right_is_told() {
    let own = Place::consul();
    let proxy = Proxy::start(&server_of(own.url()));
    let place = own.through(&proxy.url(own.url()));
    proxy.answer(|_| {
        let body = "Permission denied";
        let head = "HTTP/1.1 403 Forbidden\r\nContent-Length: ";
        Some(format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes())
    });
    let all = DRIVERS.map(|driver| {
        let expected = open(driver, place.config(TTL)).err().expect("refused");
        assert!(matches!(expected, Error::Refused(_)), "{expected}");
        let locks = lazy(driver, place.config(TTL));
        is_refused(&locks, &expected);
        locks
    });
    proxy.answer(|_| None);
    for locks in all {
        // What was in flight is still refused.
        assert!(eventually(|| locks.try_lock("a").is_ok_and(|taken| taken.is_some())));
    }
}

/// The pace of the way is judged, and counts for what is wanted later.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_server_that_is_too_far_away_is_told() {
    let own = Place::postgres();
    let proxy = Proxy::start(&server_of(own.url()));
    proxy.delay(Duration::from_millis(250));
    let place = own.through(&proxy.url(own.url()));
    for driver in DRIVERS {
        let locks = lazy(driver, place.config(Duration::from_secs(1)));
        let refused = locks.lock("a").err().expect("refused");
        assert!(matches!(refused, Error::Config(ConfigError::Timing(_))), "{refused}");
        let locks = lazy(driver, place.config(SOON));
        let guard = locks.lock("a").expect("taken");
        let own = locks.acquire("b").ttl(Duration::from_secs(1)).wait().err();
        assert!(matches!(own, Some(Error::Claim(_))), "{own:?}");
        guard.release().expect("released");
    }
}

/// A file that somebody has locked for long.
#[test]
fn a_file_that_is_locked_is_waited_for() {
    for driver in DRIVERS {
        let place = Place::sqlite();
        let path = place.url().strip_prefix("sqlite:").expect("a file").to_string();
        let mut other = rusqlite::Connection::open(path).expect("opened");
        let locked = other
            .transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)
            .expect("locked");
        let locks = lazy(driver, place.config(TTL).request_timeout(ROOM));
        let told = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let note =
                    |progress: &Progress| told.lock().expect("unpoisoned").push(progress.clone());
                locks.acquire("a").on_waiting(note).wait().expect("taken")
            });
            assert!(eventually(|| troubles(&told) > 1));
            locked.commit().expect("freed");
            waiter.join().expect("no panic").release().expect("released");
        });
    }
}

/// Nobody listens, and nobody ever will.
#[test]
fn calls_end_at_their_limits_without_a_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    drop(listener);
    for url in [
        format!("postgres://me@{at}/d"),
        format!("postgres://me@{at}/d?protocol=advisory"),
        format!("mysql://me@{at}/d"),
        format!("mysql://me@{at}/d?protocol=sql-lock"),
        format!("consul://{at}/locks"),
    ] {
        for driver in DRIVERS {
            let config: Config = url.parse().expect("good");
            let locks = lazy(driver, config.ttl(TTL).request_timeout(BUDGET));
            assert_eq!(lazy(driver, url.parse().expect("good")).shutdown(), Ok(()), "unused");
            for ended in [
                locks.try_lock("a").map(|_| ()),
                locks.try_lock_for("a", BUDGET / 4).map(|_| ()),
                locks.acquire("s").permits(2).timeout(BUDGET / 4).wait().map(|_| ()),
                locks.acquire("a").and("b").timeout(BUDGET / 4).wait().map(|_| ()),
            ] {
                assert!(matches!(ended, Err(Error::Unavailable(_))), "{url}: {ended:?}");
            }
            assert_eq!(locks.shutdown(), Ok(()), "{url}");
        }
    }
}

//! Looking at locks and freeing them by hand, over connections that a function makes and over pools.

use lock_sync::{Config, Error, LostReason, TableName};
use lock_tests::advisory::connect;
use lock_tests::drivers::{Admin, Driver, pool, wait};
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::{Proxy, server_of};
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
use std::future::pending;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);
const DRIVERS: [Driver; 3] = [Driver::Blocking, Driver::Tokio, Driver::Pooled];

lock_tests::on_mysql_and_mariadb! {
    an_admin_over_brought_connections_does_all_that_one_does
    an_admin_over_a_connection_that_was_handed_over_does_all_that_one_does
    a_row_that_is_locked_is_told_over_all_connections
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_row_that_is_locked_is_told_over_all_connections_on_postgres() {
    row_is_locked(&Place::postgres());
}

fn a_row_that_is_locked_is_told_over_all_connections(kind: Kind) {
    row_is_locked(&kind.place());
}

/// Whoever made the connection set no limits for it, or others.
fn row_is_locked(place: &Place) {
    let guard = place.locks(TTL).lock("n").expect("taken");
    let mut ways: Vec<_> = DRIVERS
        .iter()
        .map(|driver| admin(*driver, place.url(), config(place), &Calls::default()))
        .chain(
            [Driver::Blocking, Driver::Tokio]
                .map(|driver| handed_over(driver, place.url(), config(place))),
        )
        .map(|admin| admin.expect("connected"))
        .collect();
    let table = place.table();
    let mut other = connect(place.url());
    if place.url().starts_with("postgres") {
        // Without limits, it would be waited for until it ends.
        other.batch("SET idle_in_transaction_session_timeout = '60s'");
    }
    other.batch("BEGIN");
    other.batch(&format!("SELECT name FROM {table} FOR UPDATE"));
    for admin in &mut ways {
        let error = admin.break_hold("n", guard.fence()).expect_err("the row is locked");
        assert!(error.to_string().contains("an open transaction has the lock pinned"), "{error}");
    }
    other.batch("ROLLBACK");
    let broken = ways[0].break_hold("n", guard.fence()).expect("it is not any more");
    assert!(broken.is_some());
}

/// How often a function was called.
type Calls = Arc<AtomicUsize>;

fn config(place: &Place) -> Config {
    Config::new().table(TableName::new(place.table()).expect("a good name")).ttl(TTL)
}

/// An operator's way over connections to `url`.
fn admin(driver: Driver, url: &str, config: Config, calls: &Calls) -> Result<Admin, Error> {
    let (calls, url) = (calls.clone(), url.replacen("mariadb://", "mysql://", 1));
    let count = move || calls.fetch_add(1, Ordering::SeqCst);
    match (driver, url.starts_with("postgres")) {
        (Driver::Pooled, _) => {
            wait(async { lock_async::Admin::with_sqlx(pool(&url), config).await.map(Admin::Tokio) })
        }
        (Driver::Tokio, true) => {
            let connect = move || {
                count();
                let url = url.clone();
                async move {
                    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
                    tokio::spawn(connection);
                    Ok::<_, tokio_postgres::Error>(Box::new(client))
                }
            };
            wait(lock_async::Admin::from_postgres(connect, config)).map(Admin::Tokio)
        }
        (Driver::Tokio, false) => {
            let connect = move || {
                count();
                mysql_async::Conn::from_url(url.clone())
            };
            wait(lock_async::Admin::from_mysql(connect, config)).map(Admin::Tokio)
        }
        (_, true) => {
            let connect = move || {
                count();
                postgres::Client::connect(&url, NoTls).map(Box::new)
            };
            lock_sync::Admin::from_postgres(connect, config).map(Admin::Blocking)
        }
        (_, false) => {
            let connect = move || {
                count();
                Ok::<_, mysql::Error>(mysql_client(&url))
            };
            lock_sync::Admin::from_mysql(connect, config).map(Admin::Blocking)
        }
    }
}

/// An operator's way over a connection to `url` that is handed over.
fn handed_over(driver: Driver, url: &str, config: Config) -> Result<Admin, Error> {
    match (driver, url.starts_with("postgres")) {
        (Driver::Tokio, true) => wait(async {
            let (client, connection) =
                tokio_postgres::connect(url, NoTls).await.expect("connected");
            tokio::spawn(connection);
            lock_async::Admin::with_postgres(client, config).await.map(Admin::Tokio)
        }),
        (Driver::Tokio, false) => wait(async {
            let url = url.replacen("mariadb://", "mysql://", 1);
            let connection = mysql_async::Conn::from_url(url).await.expect("connected");
            lock_async::Admin::with_mysql(connection, config).await.map(Admin::Tokio)
        }),
        (_, true) => {
            let client = postgres::Client::connect(url, NoTls).expect("connected");
            lock_sync::Admin::with_postgres(client, config).map(Admin::Blocking)
        }
        (_, false) => lock_sync::Admin::with_mysql(mysql_client(url), config).map(Admin::Blocking),
    }
}

/// Everything that an operator can do.
fn does_all(place: &Place, admin: &mut Admin) {
    let locks = place.locks(Duration::from_secs(3));
    let guard = locks.lock("n").expect("taken");
    let listed = admin.list().expect("listed");
    assert_eq!(listed.iter().map(|lock| lock.name.as_str()).collect::<Vec<_>>(), ["n"]);
    let shown = admin.status("n").expect("asked").expect("a row");
    assert_eq!((shown.fence, shown.hold.is_some()), (guard.fence(), true));
    let raised = admin.break_hold("n", guard.fence()).expect("broken").expect("raised");
    assert!(raised > guard.fence());
    assert!(matches!(guard.wait_lost(SOON), Some(LostReason::Taken)));
    place.tamper(&format!("UPDATE {{table}} SET fence = fence - {}", 3 * DAY.as_micros()));
    assert_eq!(admin.purge(DAY).expect("purged"), 1);
    assert_eq!(admin.status("n").expect("asked"), None);
}

/// The leader is told on them, too, and over connections that end meanwhile.
fn observes(place: &Place, admin: Admin, end: impl Fn()) {
    let mut observer = admin.observe("n", Duration::from_millis(100));
    // With a pool, more than one look may meet a connection that has ended, which is told.
    let mut change = || {
        let mut told = || observer.changed_within(SOON).expect("a change").ok();
        std::iter::repeat_with(&mut told).flatten().next().expect("without end")
    };
    assert_eq!(change(), None);
    let locks = place.locks(TTL);
    for _ in 0..2 {
        let guard = locks.lock("n").expect("taken");
        assert_eq!(change().expect("somebody leads").term, guard.fence());
        end();
        guard.release().expect("released");
        assert_eq!(change(), None);
    }
}

fn over_all_ways(place: &Place) {
    for driver in DRIVERS {
        let calls = Calls::default();
        let named = admin(driver, place.url(), config(place), &calls).err().expect("no table");
        assert!(named.to_string().contains("does not exist"), "{named}");
        drop(place.locks(TTL));
        let proxy = Proxy::start(&server_of(place.url()));
        let url = proxy.url(place.url());
        let mut admin = admin(driver, &url, config(place), &calls).expect("connected");
        does_all(place, &mut admin);
        // A connection that has ended is replaced, by the next call or the one after it.
        let before = calls.load(Ordering::SeqCst);
        proxy.cut(false);
        let again = (0..3).any(|_| admin.list().is_ok());
        assert!(again, "{driver:?}");
        let after = calls.load(Ordering::SeqCst);
        assert_eq!(after > before, driver != Driver::Pooled, "{driver:?}: {before} {after}");
        does_all(place, &mut admin);
        observes(place, admin, || proxy.cut(false));
        place.tamper("DROP TABLE {table}");
    }
}

fn an_admin_over_brought_connections_does_all_that_one_does(kind: Kind) {
    over_all_ways(&kind.place());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_admin_over_brought_connections_does_all_that_one_does_on_postgres() {
    over_all_ways(&Place::postgres());
    // Advisory locks have no names at the server.
    let advisory = Config::new().protocol(lock_sync::Protocol::Advisory);
    let connect = || postgres::Client::connect("host=nowhere", NoTls).map(Box::new);
    assert!(matches!(
        lock_sync::Admin::from_postgres(connect, advisory),
        Err(Error::Config(lock_sync::ConfigError::Protocol { .. }))
    ));
}

/// The one client of a pool, while somebody has it.
struct Lent<C>(Option<C>, Arc<Mutex<Option<C>>>);

impl<C> Lent<C> {
    fn of(pool: &Arc<Mutex<Option<C>>>) -> Result<Self, &'static str> {
        let client = pool.lock().expect("unpoisoned").take().ok_or("it is lent")?;
        Ok(Self(Some(client), pool.clone()))
    }
}

impl<C> Deref for Lent<C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.0.as_ref().expect("not given back")
    }
}

impl<C> DerefMut for Lent<C> {
    fn deref_mut(&mut self) -> &mut C {
        self.0.as_mut().expect("not given back")
    }
}

impl<C> Drop for Lent<C> {
    fn drop(&mut self) {
        *self.1.lock().expect("unpoisoned") = self.0.take();
    }
}

/// While nothing is there, each call begins with a client of its own.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_client_comes_back_before_the_next_is_asked_for() {
    let place = Place::postgres();
    place.tamper("CREATE SCHEMA {table}_nothing");
    let url = format!("{}?options=-csearch_path%3D{}_nothing", place.url(), place.table());
    for driver in [Driver::Blocking, Driver::Tokio] {
        let mut admin = match driver {
            Driver::Tokio => wait(async {
                let (client, connection) =
                    tokio_postgres::connect(&url, NoTls).await.expect("connected");
                tokio::spawn(connection);
                let pool = Arc::new(Mutex::new(Some(client)));
                let lent = move || std::future::ready(Lent::of(&pool));
                lock_async::Admin::from_postgres(lent, Config::new()).await.map(Admin::Tokio)
            }),
            _ => {
                let client = postgres::Client::connect(&url, NoTls).expect("connected");
                let pool = Arc::new(Mutex::new(Some(client)));
                let lent = move || Lent::of(&pool);
                lock_sync::Admin::from_postgres(lent, Config::new()).map(Admin::Blocking)
            }
        }
        .expect("nothing is there");
        for _ in 0..2 {
            assert_eq!(admin.list(), Ok(Vec::new()), "{driver:?}");
        }
    }
}

/// The user may have no more connections than one.
#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_connection_to_mysql_ends_before_the_next_is_asked_for() {
    let place = Place::mysql();
    let url = place.url().to_string();
    let mut raw = mysql_client(&url);
    let nothing = format!("{}_nothing", place.table());
    raw.query_drop(format!("CREATE DATABASE {nothing}")).expect("made");
    let (raw, last) = (Mutex::new(raw), AtomicU32::new(0));
    let database = nothing.clone();
    let connect = move || {
        let is_over = || {
            let alive = "SELECT 1 FROM performance_schema.threads WHERE processlist_id = ?";
            let mut raw = raw.lock().expect("unpoisoned");
            raw.exec_first::<i64, _, _>(alive, (last.load(Ordering::SeqCst),))
                .expect("asked")
                .is_none()
        };
        let until = Instant::now() + Duration::from_secs(4);
        while !is_over() {
            if Instant::now() > until {
                return Err("the last one is still there");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let opts = mysql::Opts::from_url(&url).expect("a good URL");
        let opts = mysql::OptsBuilder::from_opts(opts).db_name(Some(&database));
        let client = mysql::Conn::new(opts.read_timeout(Some(SOON))).expect("connected");
        last.store(client.connection_id(), Ordering::SeqCst);
        Ok(client)
    };
    let admin = lock_sync::Admin::from_mysql(connect, Config::new());
    let mut admin = admin.expect("nothing is there");
    for _ in 0..2 {
        assert_eq!(admin.list(), Ok(Vec::new()));
    }
    mysql_client(place.url()).query_drop(format!("DROP DATABASE {nothing}")).expect("dropped");
}

fn an_admin_over_a_connection_that_was_handed_over_does_all_that_one_does(kind: Kind) {
    let place = kind.place();
    for driver in [Driver::Blocking, Driver::Tokio] {
        let named = handed_over(driver, place.url(), config(&place)).err().expect("no table");
        assert!(named.to_string().contains("does not exist"), "{named}");
        drop(place.locks(TTL));
        does_all(&place, &mut handed_over(driver, place.url(), config(&place)).expect("connected"));
        place.tamper("DROP TABLE {table}");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_admin_over_a_client_of_postgres_that_was_handed_over_does_all_that_one_does() {
    an_admin_over_a_connection_that_was_handed_over_does_all_that_one_does(Kind::Postgres);
}

#[test]
fn an_admin_over_brought_connections_does_all_that_one_does_on_sqlite() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let place = Place::sqlite();
        drop(place.locks(TTL));
        let path = place.url().strip_prefix("sqlite:").expect("a file").to_string();
        let open = move || rusqlite::Connection::open(&path);
        let own = open().expect("opened");
        let mut handed_over = match driver {
            Driver::Tokio => {
                let opened = wait(lock_async::Admin::with_sqlite(own, Config::new()));
                Admin::Tokio(opened.expect("opened"))
            }
            _ => {
                Admin::Blocking(lock_sync::Admin::with_sqlite(own, Config::new()).expect("opened"))
            }
        };
        does_all(&place, &mut handed_over);
        let mut admin = match driver {
            Driver::Tokio => {
                let opened = wait(lock_async::Admin::from_sqlite(open, Config::new()));
                Admin::Tokio(opened.expect("opened"))
            }
            _ => {
                let opened = lock_sync::Admin::from_sqlite(open, Config::new());
                Admin::Blocking(opened.expect("opened"))
            }
        };
        does_all(&place, &mut admin);
        observes(&place, admin, || ());
    }
}

/// It has as long as a request, whoever wants the connection.
#[test]
fn a_function_that_hangs_is_not_waited_for() {
    let limit = Duration::from_secs(5);
    let config = || Config::new().request_timeout(limit);
    let postgres = pending::<Result<Box<tokio_postgres::Client>, String>>;
    let mysql = pending::<Result<mysql_async::Conn, String>>;
    let (never, hangs) = channel::<()>();
    let hangs = Arc::new(Mutex::new(hangs));
    let sqlite = || {
        let hangs = hangs.clone();
        move || {
            let _ = hangs.lock().expect("unpoisoned").recv();
            Err::<rusqlite::Connection, _>("too late")
        }
    };
    let began = Instant::now();
    let ended = wait(async {
        tokio::join!(
            async { lock_async::Locks::from_postgres(postgres, config()).await.map(drop) },
            async { lock_async::Locks::from_mysql(mysql, config()).await.map(drop) },
            async { lock_async::Locks::from_sqlite(sqlite(), config()).await.map(drop) },
            async { lock_async::Admin::from_postgres(postgres, config()).await.map(drop) },
            async { lock_async::Admin::from_mysql(mysql, config()).await.map(drop) },
            async { lock_async::Admin::from_sqlite(sqlite(), config()).await.map(drop) },
        )
    });
    assert!(began.elapsed() < limit * 3, "{:?}", began.elapsed());
    drop(never);
    for ended in [ended.0, ended.1, ended.2, ended.3, ended.4, ended.5] {
        assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    }
}

//! Locks over connections that a function of the caller's makes, by itself or from a pool.

use deadpool_postgres::{Manager, Object};
use lock_async::{Config, Protocol, TableName};
use lock_tests::bb8_postgres::{PostgresConnectionManager, bb8};
use lock_tests::drivers::{Client, Driver, Locks, in_transaction, wait};
use lock_tests::place::{Place, client, mysql_client};
use lock_tests::proxy::eventually;
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
use mysql_async::prelude::Queryable as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

const SOON: Duration = Duration::from_secs(20);
const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

lock_tests::on_mysql_and_mariadb! {
    a_broken_connection_is_replaced
    a_connection_of_a_pool_keeps_no_setting_of_ours
}

fn config(place: &Place) -> Config {
    let table = TableName::new(place.table()).expect("a good name");
    Config::new().table(table).ttl(Duration::from_secs(6))
}

async fn connect(url: &str) -> Result<Box<tokio_postgres::Client>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(Box::new(client))
}

/// Locks over clients whose connections have the table's name.
fn postgres(driver: Driver, place: &Place, made: &Arc<AtomicUsize>) -> Locks {
    let url = format!("{}?application_name={}", place.url(), place.table());
    let (made, config) = (made.clone(), config(place));
    match driver {
        Driver::Tokio => {
            let make = move || {
                made.fetch_add(1, Ordering::SeqCst);
                let url = url.clone();
                async move { connect(&url).await }
            };
            Locks::Tokio(wait(lock_async::Locks::from_postgres(make, config)).expect("connected"))
        }
        _ => {
            let make = move || {
                made.fetch_add(1, Ordering::SeqCst);
                postgres::Client::connect(&url, NoTls).map(Box::new)
            };
            Locks::Blocking(lock_sync::Locks::from_postgres(make, config).expect("connected"))
        }
    }
}

/// A lock stays held, and a wait goes on, while `kill` ends all connections again and again.
fn outlives(holders: &Locks, waiters: &Locks, kill: impl Fn()) {
    let guard = holders.lock("a").expect("taken");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| waiters.try_lock_for("a", SOON * 2).expect("asked"));
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(8) {
            kill();
            assert!(guard.is_held(), "{:?}", guard.lost_reason());
            assert!(!waiter.is_finished());
            std::thread::sleep(Duration::from_millis(900));
        }
        let fence = guard.fence();
        guard.release().expect("released");
        let next = waiter.join().expect("no panic").expect("taken");
        assert!(next.fence() > fence);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_broken_client_is_replaced() {
    for driver in DRIVERS {
        let (place, made) = (Place::postgres(), Arc::default());
        let (ours, theirs) = (postgres(driver, &place, &made), postgres(driver, &place, &made));
        outlives(&ours, &theirs, || {
            let all =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name";
            client(place.url())
                .batch_execute(&format!("{all} = '{}'", place.table()))
                .expect("ended");
        });
        let made = made.load(Ordering::SeqCst);
        assert!(made > 4, "{driver:?}: {made} clients");
    }
}

fn a_broken_connection_is_replaced(kind: Kind) {
    for driver in DRIVERS {
        let place = kind.place();
        let url = place.url().replacen("mariadb://", "mysql://", 1);
        let ids = Arc::new(std::sync::Mutex::new(Vec::new()));
        let locks = || {
            let (url, ids, config) = (url.clone(), ids.clone(), config(&place));
            match driver {
                Driver::Tokio => {
                    let make = move || {
                        let (url, ids) = (url.clone(), ids.clone());
                        async move {
                            let made = mysql_async::Conn::from_url(url).await?;
                            ids.lock().expect("unpoisoned").push(made.id());
                            Ok::<_, mysql_async::Error>(made)
                        }
                    };
                    let locks = wait(lock_async::Locks::from_mysql(make, config));
                    Locks::Tokio(locks.expect("connected"))
                }
                _ => {
                    let make = move || {
                        let made = mysql_client(&url);
                        ids.lock().expect("unpoisoned").push(made.connection_id());
                        Ok::<_, mysql::Error>(made)
                    };
                    let locks = lock_sync::Locks::from_mysql(make, config);
                    Locks::Blocking(locks.expect("connected"))
                }
            }
        };
        let (ours, theirs) = (locks(), locks());
        outlives(&ours, &theirs, || {
            for id in ids.lock().expect("unpoisoned").drain(..) {
                let _ = mysql_client(place.url()).query_drop(format!("KILL {id}"));
            }
        });
    }
}

/// A client that was brought cannot be replaced, but waits as well as any.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_wait_over_a_client_that_was_brought_ends_with_the_lock() {
    for driver in DRIVERS {
        let place = Place::postgres();
        let theirs = match driver {
            Driver::Tokio => Locks::Tokio(wait(async {
                let client = *connect(place.url()).await.expect("connected");
                lock_async::Locks::with_postgres(client, config(&place)).await.expect("connected")
            })),
            _ => {
                let brought = lock_sync::Locks::with_postgres(client(place.url()), config(&place));
                Locks::Blocking(brought.expect("connected"))
            }
        };
        let ours = place.locks(Duration::from_secs(30));
        let guard = ours.lock("a").expect("taken");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| theirs.try_lock_for("a", SOON).expect("asked"));
            std::thread::sleep(Duration::from_secs(2));
            guard.release().expect("released");
            assert!(waiter.join().expect("no panic").is_some(), "{driver:?}");
        });
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_function_that_fails_panics_or_hangs_is_an_error() {
    let place = Place::postgres();
    let is_good = Arc::new(AtomicBool::new(true));
    for driver in DRIVERS {
        for (what, told) in [(0, "no client today"), (1, "panicked"), (2, "did not return in time")]
        {
            let (url, good) = (place.url().to_string(), is_good.clone());
            good.store(true, Ordering::SeqCst);
            let name = format!("{}?application_name={}", url, place.table());
            let locks = match driver {
                Driver::Tokio => {
                    let make = move || {
                        let (name, is_good) = (name.clone(), good.load(Ordering::SeqCst));
                        async move {
                            match what {
                                _ if is_good => Ok(connect(&name).await.expect("connected")),
                                0 => Err("no client today"),
                                1 => panic!("on purpose"),
                                _ => std::future::pending().await,
                            }
                        }
                    };
                    let locks = wait(lock_async::Locks::from_postgres(make, config(&place)));
                    Locks::Tokio(locks.expect("connected"))
                }
                _ => {
                    let make = move || match what {
                        _ if good.load(Ordering::SeqCst) => Ok(Box::new(client(&name))),
                        0 => Err("no client today"),
                        1 => panic!("on purpose"),
                        _ => {
                            std::thread::sleep(Duration::from_secs(20));
                            Err("late")
                        }
                    };
                    let locks = lock_sync::Locks::from_postgres(make, config(&place));
                    Locks::Blocking(locks.expect("connected"))
                }
            };
            drop(locks.lock("a").expect("taken"));
            is_good.store(false, Ordering::SeqCst);
            let all =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name";
            let ends = || client(&url).batch_execute(&format!("{all} = '{}'", place.table()));
            ends().expect("ended");
            let mut last = String::new();
            let is_told = eventually(|| {
                last = match locks.try_lock("b") {
                    Err(error) => error.to_string(),
                    Ok(_) => String::new(),
                };
                last.contains(told)
            });
            assert!(is_told, "{driver:?}, {told}: {last}");
        }
    }
}

#[test]
fn a_function_makes_no_session_and_no_other_place() {
    let advisory = || Config::new().protocol(Protocol::Advisory);
    let make = || Err::<Box<postgres::Client>, _>("not called");
    let refused = lock_sync::Locks::from_postgres(make, advisory()).map(drop).expect_err("refused");
    assert!(refused.to_string().contains("has no advisory locks"), "{refused}");
    let make = || async { Err::<mysql_async::Conn, _>("not called") };
    let refused = wait(lock_async::Locks::from_mysql(make, advisory())).map(drop);
    assert!(refused.expect_err("refused").to_string().contains("has no advisory locks"));
    let place = Place::sqlite();
    let make = || Err::<rusqlite::Connection, _>("not called");
    let refused = lock_sync::Locks::from_sqlite(make, place.config(SOON)).map(drop);
    assert!(refused.expect_err("refused").to_string().contains("name no place"));
}

/// The connection's own database is in memory, which others do not share.
#[test]
fn a_table_of_an_attached_database_is_in_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("side.db").display().to_string();
    let another = || {
        rusqlite::Connection::open(&path)
            .and_then(|file| file.execute_batch("CREATE TABLE another (id INTEGER)"))
            .expect("made");
    };
    another();
    let file = path.clone();
    let attached = move || {
        let connection = rusqlite::Connection::open_in_memory()?;
        connection.execute("ATTACH ?1 AS side", [&file])?;
        Ok::<_, rusqlite::Error>(connection)
    };
    let config = || Config::new().table(TableName::new("side.locks").expect("a good name"));
    let brought = || attached().expect("attached");
    let brought = [
        lock_sync::Locks::with_sqlite(brought(), config()).map(Locks::Blocking),
        wait(lock_async::Locks::with_sqlite(brought(), config())).map(Locks::Tokio),
    ];
    let made = [
        lock_sync::Locks::from_sqlite(attached.clone(), config()).map(Locks::Blocking),
        wait(lock_async::Locks::from_sqlite(attached.clone(), config())).map(Locks::Tokio),
    ];
    let [brought, made] = [brought, made].map(|both| both.map(|locks| locks.expect("a file")));
    let all: Vec<_> = brought.iter().chain(&made).collect();
    for (at, locks) in all.iter().enumerate() {
        let guard = locks.lock("a").expect("free");
        assert!(all[(at + 1) % all.len()].try_lock("a").expect("asked").is_none());
        guard.release().expect("released");
    }
    // What is made is made anew in the file that is attached then.
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(path.clone() + end);
    }
    another();
    let [ours, theirs] = &made;
    assert!(eventually(|| theirs.try_lock("b").is_ok_and(|guard| guard.is_some())));
    let guard = ours.try_lock_for("a", SOON).expect("asked").expect("free");
    assert!(theirs.try_lock("a").expect("asked").is_none());
    guard.release().expect("released");
}

#[test]
fn a_replaced_file_is_opened_anew() {
    for driver in DRIVERS {
        let place = Place::sqlite();
        let path = place.url().trim_start_matches("sqlite:").to_string();
        let open = move || rusqlite::Connection::open(&path);
        let locks = match driver {
            Driver::Tokio => {
                let locks = wait(lock_async::Locks::from_sqlite(open, config(&place)));
                Locks::Tokio(locks.expect("opened"))
            }
            _ => {
                let locks = lock_sync::Locks::from_sqlite(open, config(&place));
                Locks::Blocking(locks.expect("opened"))
            }
        };
        let guard = locks.lock("a").expect("taken");
        in_transaction(&guard, Client::Own, place.url(), &[], || {}).expect("pinned");
        drop(guard);
        for end in ["", "-wal", "-shm"] {
            let path = place.url().trim_start_matches("sqlite:").to_string() + end;
            let _ = std::fs::remove_file(path);
        }
        assert!(
            eventually(|| locks.try_lock("a").is_ok_and(|guard| guard.is_some())),
            "{driver:?}"
        );
    }
}

/// One connection of deadpool's, which is taken out of the pool: the pool makes another for others.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn deadpool_makes_the_clients() {
    let place = Place::postgres();
    let named = format!("{}?application_name={}", place.url(), place.table());
    wait(async {
        let manager = Manager::new(named.parse().expect("a good URL"), NoTls);
        let pool = deadpool_postgres::Pool::builder(manager).max_size(1).build().expect("a pool");
        let locks = || {
            let pool = pool.clone();
            let make = move || {
                let pool = pool.clone();
                async move { pool.get().await.map(Object::take) }
            };
            lock_async::Locks::from_postgres(make, config(&place))
        };
        let (ours, theirs) = (locks().await.expect("connected"), locks().await.expect("connected"));
        let other = pool.get().await.expect("a client for others");
        let row = other.query_one("SELECT 1::int4", &[]).await.expect("asked");
        assert_eq!(row.get::<_, i32>(0), 1);
        drop(other);
        tokio::task::block_in_place(|| {
            outlives(&Locks::Tokio(ours), &Locks::Tokio(theirs), || {
                let all =
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name";
                client(place.url())
                    .batch_execute(&format!("{all} = '{}'", place.table()))
                    .expect("ended");
            });
        });
    });
}

/// One connection of bb8's, which belongs to the locks until it breaks.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn bb8_makes_the_clients() {
    let place = Place::postgres();
    let named = format!("{}?application_name={}", place.url(), place.table());
    wait(async {
        let manager = PostgresConnectionManager::new(named.parse().expect("a good URL"), NoTls);
        let pool = bb8::Pool::builder().max_size(2).build(manager).await.expect("a pool");
        let locks = || {
            let pool = pool.clone();
            let make = move || {
                let pool = pool.clone();
                async move { pool.get_owned().await }
            };
            lock_async::Locks::from_postgres(make, config(&place))
        };
        let (ours, theirs) = (locks().await.expect("connected"), locks().await.expect("connected"));
        tokio::task::block_in_place(|| {
            outlives(&Locks::Tokio(ours), &Locks::Tokio(theirs), || {
                let all =
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name";
                client(place.url())
                    .batch_execute(&format!("{all} = '{}'", place.table()))
                    .expect("ended");
            });
        });
        // Those of the locks come back, and have only what the service has set.
        let back = async {
            while pool.state().idle_connections < pool.state().connections {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SOON, back).await.expect("all came back");
        let settings = pool.get().await.expect("a client");
        let row = settings.query_one("SHOW synchronous_commit", &[]).await.expect("asked");
        assert_eq!(row.get::<_, &str>(0), "on");
    });
}

/// Its connections are changed for the locks, and do not come back changed.
fn a_connection_of_a_pool_keeps_no_setting_of_ours(kind: Kind) {
    let place = kind.place();
    let url = place.url().replacen("mariadb://", "mysql://", 1);
    wait(async {
        let opts = mysql_async::Opts::from_url(&url).expect("a good URL");
        let bounds = mysql_async::PoolConstraints::new(1, 1).expect("one");
        let opts = mysql_async::OptsBuilder::from_opts(opts)
            .pool_opts(mysql_async::PoolOpts::new().with_constraints(bounds));
        let pool = mysql_async::Pool::new(opts);
        let settings = async || -> Vec<String> {
            let asked = "SELECT CONCAT_WS(', ', @@sql_mode, @@autocommit, @@time_zone, @@innodb_lock_wait_timeout, @@lock_wait_timeout)";
            pool.get_conn().await.expect("a connection").query(asked).await.expect("asked")
        };
        let before = settings().await;
        let own = pool.clone();
        let locks = lock_async::Locks::from_mysql(move || own.get_conn(), config(&place));
        let locks = locks.await.expect("connected");
        let guard = locks.lock("a").await.expect("taken");
        assert!(guard.is_held());
        guard.release().await.expect("released");
        locks.shutdown().await.expect("all is free");
        drop(locks);
        let after =
            tokio::time::timeout(SOON, settings()).await.expect("the pool has its place back");
        assert_eq!(after, before);
    });
}

//! Locks over a pool that has one connection. If it was given out slowly, the first connect asks for another one, to see whether
//! the way to the server is that slow. It must have given back the one that it has.

use lock_async::{Config, TableName};
use lock_tests::drivers::{Locks, wait};
use lock_tests::place::{Place, client};
use lock_tests::servers::Kind;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio_postgres::NoTls;

lock_tests::on_mysql_and_mariadb! {
    the_only_connection_may_come_slowly
}

/// After which a connect is not believed to be a stall of this machine.
const SLOW: Duration = Duration::from_millis(2100);

fn config(place: &Place) -> Config {
    let table = TableName::new(place.table()).expect("a good name");
    Config::new().table(table).ttl(Duration::from_secs(6))
}

/// A pool of one client.
#[derive(Default)]
struct Pool {
    out: Mutex<Weak<()>>,
    given: AtomicUsize,
}

impl Pool {
    /// The right to the client, and how long that takes.
    fn give(&self) -> Result<(Arc<()>, Duration), &'static str> {
        let mut out = self.out.lock().expect("unpoisoned");
        if out.upgrade().is_some() {
            return Err("the pool has no other");
        }
        let right = Arc::new(());
        *out = Arc::downgrade(&right);
        let is_first = self.given.fetch_add(1, Ordering::SeqCst) == 0;
        Ok((right, if is_first { SLOW } else { Duration::ZERO }))
    }
}

/// The client of a pool, which has it back when this is dropped.
struct Only<C> {
    client: C,
    _right: Arc<()>,
}

impl<C> Deref for Only<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.client
    }
}

impl<C> DerefMut for Only<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.client
    }
}

fn is_enough(locks: &Locks) {
    let guard = locks.lock("a").expect("taken");
    assert!(guard.is_held());
    guard.release().expect("released");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_only_client_may_come_slowly() {
    let (place, pool) = (Place::postgres(), Arc::new(Pool::default()));
    let (from, url) = (pool.clone(), place.url().to_string());
    let make = move || -> Result<_, &str> {
        let (right, takes) = from.give()?;
        std::thread::sleep(takes);
        Ok(Only { client: client(&url), _right: right })
    };
    let locks = lock_sync::Locks::from_postgres(make, config(&place)).expect("connected");
    is_enough(&Locks::Blocking(locks));
    assert_eq!(pool.given.load(Ordering::SeqCst), 2);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_only_client_may_come_slowly_with_tokio() {
    let (place, pool) = (Place::postgres(), Arc::new(Pool::default()));
    let (from, url) = (pool.clone(), place.url().to_string());
    let make = move || {
        let (from, url) = (from.clone(), url.clone());
        async move {
            let (right, takes) = from.give()?;
            tokio::time::sleep(takes).await;
            let connected = tokio_postgres::connect(&url, NoTls).await;
            let (client, connection) = connected.map_err(|_| "not connected")?;
            tokio::spawn(connection);
            Ok::<_, &str>(Only { client, _right: right })
        }
    };
    let locks = wait(lock_async::Locks::from_postgres(make, config(&place)));
    is_enough(&Locks::Tokio(locks.expect("connected")));
    assert_eq!(pool.given.load(Ordering::SeqCst), 2);
}

fn the_only_connection_may_come_slowly(kind: Kind) {
    let place = kind.place();
    let url = place.url().replacen("mariadb://", "mysql://", 1);
    let given = Arc::new(AtomicUsize::new(0));
    let counts = given.clone();
    let locks = wait(async {
        let opts = mysql_async::Opts::from_url(&url).expect("a good URL");
        let bounds = mysql_async::PoolConstraints::new(1, 1).expect("one");
        let opts = mysql_async::OptsBuilder::from_opts(opts)
            .pool_opts(mysql_async::PoolOpts::new().with_constraints(bounds));
        let pool = mysql_async::Pool::new(opts);
        let make = move || {
            let (pool, is_first) = (pool.clone(), counts.fetch_add(1, Ordering::SeqCst) == 0);
            async move {
                tokio::time::sleep(if is_first { SLOW } else { Duration::ZERO }).await;
                pool.get_conn().await
            }
        };
        lock_async::Locks::from_mysql(make, config(&place)).await
    });
    is_enough(&Locks::Tokio(locks.expect("connected")));
    assert_eq!(given.load(Ordering::SeqCst), 2);
}

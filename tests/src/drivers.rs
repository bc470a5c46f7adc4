//! Both drivers behind one blocking interface, so that one test body covers each of them, and both at once on
//! one table.

mod acquire;
mod admin;
mod guard;
mod locks;
mod pin;

pub use acquire::Acquire;
pub use admin::{Admin, Observer};
pub use guard::Guard;
pub use locks::Locks;
pub use pin::{Client, in_transaction};

use crate::place::Place;
use lock_async::SqlxPool;
use lock_sync::{Config, Error, TableName};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use std::future::Future;
use std::ops::Deref;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// The driver of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// lock-sync.
    Blocking,
    /// lock-async.
    Tokio,
    /// lock-sync and lock-async in turn, one connection each.
    Mixed,
    /// lock-async over a pool of sqlx's.
    Pooled,
}

/// A place, and the driver that is used there.
pub struct Driven {
    place: Place,
    driver: Driver,
    turn: AtomicUsize,
}

impl Driven {
    /// A place for this driver.
    pub fn new(driver: Driver, place: Place) -> Self {
        Self { place, driver, turn: AtomicUsize::new(0) }
    }

    /// The same place with another driver.
    #[must_use]
    pub fn driven_by(self, driver: Driver) -> Self {
        Self { driver, ..self }
    }

    /// A connection of its own, as another process would have.
    pub fn locks(&self, ttl: Duration) -> Locks {
        self.labelled(ttl, "")
    }

    /// A connection of its own, for a holder with this label.
    pub fn labelled(&self, ttl: Duration, label: &str) -> Locks {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // With a short TTL, a disk that stands still for a moment is enough to get no answer in time.
        for _ in 0..4 {
            match self.connect(turn, ttl, label) {
                Err(Error::Unavailable(_)) => std::thread::sleep(ttl / 2),
                connected => return connected.expect("connected"),
            }
        }
        self.connect(turn, ttl, label).expect("connected")
    }

    /// A connection of its own, with settings of its own.
    pub fn set(&self, ttl: Duration, set: impl Fn(Config) -> Config) -> Locks {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.open(turn, ttl, &set).expect("connected")
    }

    /// A connection of its own, which the driver may refuse.
    ///
    /// # Errors
    /// The driver's error.
    pub fn try_labelled(&self, ttl: Duration, label: &str) -> Result<Locks, Error> {
        self.connect(self.turn.fetch_add(1, Ordering::Relaxed), ttl, label)
    }

    fn connect(&self, turn: usize, ttl: Duration, label: &str) -> Result<Locks, Error> {
        self.open(turn, ttl, &|config| config.label(label))
    }

    fn open(
        &self,
        turn: usize,
        ttl: Duration,
        set: &dyn Fn(Config) -> Config,
    ) -> Result<Locks, Error> {
        let config = || set(self.place.config(ttl));
        let tokio = || wait(lock_async::Locks::open(config())).map(Locks::Tokio);
        match self.driver {
            Driver::Tokio => tokio(),
            Driver::Pooled => self.pooled(ttl, set),
            Driver::Mixed if turn % 2 == 1 => tokio(),
            _ => lock_sync::Locks::open(config()).map(Locks::Blocking),
        }
    }

    fn pooled(&self, ttl: Duration, set: &dyn Fn(Config) -> Config) -> Result<Locks, Error> {
        let table = TableName::new(self.place.table()).expect("a good name");
        let config = set(Config::new().table(table).ttl(ttl));
        wait(async {
            let pool = pool(self.place.url());
            lock_async::Locks::with_sqlx(pool, config).await.map(Locks::Tokio)
        })
    }
}

/// A pool of sqlx's, of two connections, to a server.
pub fn pool(url: &str) -> SqlxPool {
    if url.starts_with("postgres") {
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy(url);
        return pool.expect("a good URL").into();
    }
    MySqlPoolOptions::new().max_connections(2).connect_lazy(url).expect("a good URL").into()
}

/// Connects to what a URL names. Both drivers at once have no connection in common.
///
/// # Errors
/// The driver's error.
pub fn connect(driver: Driver, url: &str) -> Result<Locks, Error> {
    match driver {
        Driver::Tokio => wait(lock_async::Locks::connect(url)).map(Locks::Tokio),
        _ => lock_sync::Locks::connect(url).map(Locks::Blocking),
    }
}

impl Deref for Driven {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// Waits on a runtime that all tests share.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
    // `with_lock` calls this on a thread of the runtime.
    tokio::task::block_in_place(|| RUNTIME.block_on(work))
}

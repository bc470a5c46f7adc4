//! Distributed locks on the database you already run, for tokio.
//!
//! ```toml
//! [dependencies]
//! lock-async = { version = "0.1", features = ["postgres"] }
//! ```
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let url = format!("sqlite:{}/locks.db", folder.path().display());
//! use lock_async::Locks;
//!
//! let locks = Locks::connect(&url).await?; // "postgres://app@db/app", "consul://agent/locks", "sqlite:/var/…"
//!
//! let guard = locks.lock("nightly-report").await?; // waits
//! println!("holding the lock, with fence {}", guard.fence());
//! tokio::select! {
//!     () = async { /* the work */ } => {}
//!     reason = guard.lost() => eprintln!("stopped: {reason}"),
//! }
//! guard.release().await?; // dropping the guard releases the lock, too
//!
//! if let Some(guard) = locks.try_lock("nightly-report").await? {
//!     println!("the lock was free, and is held: {}", guard.is_held());
//! }
//!
//! locks.shutdown().await?; // at the end of main: waits until dropped guards have released their locks
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! Each database is a feature. None is on by default: a program names the databases that it uses, and builds the
//! clients of no others.
//!
//! | feature | locks are kept in | crates in a build |
//! |---|---|---|
//! | `sqlite` | an SQLite file, for the processes of one machine | 75 |
//! | `postgres` | a PostgreSQL table, or its advisory locks | 121 |
//! | `mysql` | a MySQL or MariaDB table, or `GET_LOCK` | 124 |
//! | `consul` | Consul | 89 |
//! | all four | | 172 |
//! | `sqlx-postgres` | a PostgreSQL table, over a `PgPool` of sqlx's | 128 |
//! | `sqlx-mysql` | a MySQL or MariaDB table, over a `MySqlPool` of sqlx's | 144 |
//!
//! The feature `metrics` records metrics through the crate of this name: attempts by outcome, the time waited and held, losses, and
//! how old leases are when they are renewed. It brings three crates more. `docs/metrics.md`
//! has their names.
//!
//! A program that has sqlx already builds about a dozen crates more with either of the last two, which are for
//! `Locks::with_sqlx`. There is none for a `SqlitePool`: the SQLite that sqlx 0.8 is built with and this crate's cannot be
//! in one program.
//!
//! # Promises
//!
//! ```text
//!   your tasks     lock().await      guard.is_held()      guard.lost().await
//!                      |                   ^ reads the clock     ^ by the deadline
//!                      v                   |                     |
//!   one task       engine (lock-core), connections, requests in flight
//!                      |                   ^
//!                      v                   |
//!   a server       rows of a table; its own locks, of a connection; Consul's keys, of a session
//! ```
//!
//! At any moment, at most one [`Guard`] of a name answers [`is_held`](Guard::is_held) with true, over all processes that
//! keep their locks in the same place. The [`fence`](Guard::fence) of a later grant is greater. A guard that cannot be
//! sure of its lock says so by its deadline, without an answer from the server. `lock_core` says what these promises
//! rest on, and [`Protocol`] what a lock is in each place.
//!
//! # Cancel safety
//!
//! Every future here may be dropped at any point. No lock stays behind, and the connection stays in step. A request in
//! flight belongs to the task, and not to the future that wanted it. Dropping a future or a guard sends the task a
//! message. The task ends an abandoned wait in a server's queue, with its connection.
//!
//! A future of an acquire that is kept, but not polled any more, still waits for the lock and then holds it. Drop such a
//! future; see [`Acquire`](Acquire#cancel-safety).
//!
//! # Runtimes
//!
//! [`Locks::connect`] starts the task on the current tokio runtime, which needs its timer, and its I/O
//! for a server (`enable_all`). Without them it fails with [`ConfigError::Runtime`]; tokio tells of it by a panic,
//! which is caught. A current-thread runtime is enough. All other futures may be awaited on any
//! runtime. A task that blocks a current-thread runtime also blocks renewals; `is_held` is right all
//! the same. When the runtime ends, the remaining guards count as lost at once.
//!
//! With a paused clock (`tokio::time::pause`, `start_paused`), time limits pass at once while a server answers in real time: requests fail
//! with "no answer in time". Keep the clock running in tests with locks.
//!
//! # The end of `main`
//!
//! The task releases the locks of dropped guards. If the runtime ends before the task has sent the release,
//! the lock stays held until its lease ends, for up to a TTL. Call [`Locks::shutdown`] at the end of
//! `main`, also when it ends with an error. It waits until all locks are released, for at most two time limits of a
//! request.
//!
//! # Forks
//!
//! After a `fork`, the child holds nothing: its guards say so, its calls fail with [`Error::Forked`], and dropping
//! an inherited guard or connection sends nothing. Connect after the fork, on a runtime that was made after it.
//!
//! # Events
//!
//! `tracing` receives the events `waiting`, `acquired` (with `waited`), `renewed`, `lost` and `released` (with
//! `held`), each with `lock.name`, and `lock.fence` if there is one. With [`Config::warn_wait`] and
//! [`Config::warn_hold`], a wait that lasts too long leads to the warning `waiting for long`, with the `holder`, and a hold to
//! `held for long`, with the `label`. The first two come from the future
//! that waits, the others from a task of their own. A subscriber that panics delays no renewal and no
//! loss. One that blocks a thread of the runtime is told of events one at a time, but what else that thread had to do waits: on a current-thread runtime
//! that is everything, and on others it can be the runtime's I/O for as long as the subscriber blocks. `is_held` is right all the same. A recorder of metrics delays none either: renewals and losses are recorded on a thread of their
//! own, the rest in the future that waits and where a guard is released.

#![cfg_attr(docsrs, feature(doc_cfg))]
// With fewer backends, some of what they share is not used.
#![cfg_attr(
    not(all(feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports, unused_variables)
)]

#[cfg(not(any(
    feature = "consul",
    feature = "mysql",
    feature = "postgres",
    feature = "sqlite",
    feature = "sqlx-mysql",
    feature = "sqlx-postgres"
)))]
compile_error!(
    "lock-async needs a database: enable a feature, as in \
     `lock-async = { version = \"0.1\", features = [\"postgres\"] }`; they are sqlite, postgres, mysql and consul, \
     and for pools of sqlx's sqlx-postgres and sqlx-mysql"
);

mod acquire;
mod admin;
mod alarm;
mod backend;
mod campaign;
mod driver;
mod events;
mod guard;
mod keeper;
mod locks;
mod lost;
mod pin;
mod runtime;

use lock_shared::{clock, process};

pub use acquire::{Acquire, Acquiring};
pub use admin::{Admin, Observer};
pub use guard::Guard;
pub use lock_core::admin::{Hold, Leader, LockState, PurgeError};
pub use lock_core::config::{
    Busy, ConfigError, Durability, Error, Expiry, Protocol, ReleaseError, ShutdownError,
    WithLockError,
};
pub use lock_core::http::KeyError;
pub use lock_core::sql::Refusal;
pub use lock_core::sql::advisory::{Key, Prefix, PrefixError};
pub use lock_core::{
    ClaimError, Code, Failure, Fence, Holder, LeaseVersion, LockName, LostReason, Mode, NameError,
    NotPinnable, PinError, PinParam, PinStatement, Place, TableError, TableName, TimingError,
};
#[doc(inline)]
pub use lock_shared::Config;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
#[doc(inline)]
pub use lock_shared::factory::Fault;
#[cfg(any(feature = "sqlx-mysql", feature = "sqlx-postgres"))]
pub use locks::SqlxPool;
pub use locks::{Locks, Progress, Wait};
pub use lost::Lost;
pub use pin::PinTransaction;

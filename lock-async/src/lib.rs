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
//! println!("holding it, with fence {}", guard.fence());
//! tokio::select! {
//!     () = async { /* the work */ } => {}
//!     reason = guard.lost() => eprintln!("stopped: {reason}"),
//! }
//! guard.release().await?; // dropping it releases it too
//!
//! if let Some(guard) = locks.try_lock("nightly-report").await? {
//!     println!("it was free, and is held: {}", guard.is_held());
//! }
//!
//! locks.shutdown().await?; // at the end of main: waits until what was dropped is released
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
//! | `sqlite` | an SQLite file, for the processes of one machine | 74 |
//! | `postgres` | a PostgreSQL table, or its advisory locks | 120 |
//! | `mysql` | a MySQL or MariaDB table, or `GET_LOCK` | 123 |
//! | `consul` | Consul | 88 |
//! | all four | | 171 |
//!
//! # What is promised
//!
//! ```text
//!   your tasks     lock().await      guard.is_held()      guard.lost().await
//!                      |                   ^ reads the clock     ^ by the deadline
//!                      v                   |                     |
//!   one task       engine (lock-core), connections, the requests under way
//!                      |                   ^
//!                      v                   |
//!   a server       rows of a table; its own locks, of a connection; Consul's keys, of a session
//! ```
//!
//! At any moment at most one [`Guard`] of a name answers [`is_held`](Guard::is_held) with true, over
//! all processes that keep their locks in the same place; a later grant's
//! [`fence`](Guard::fence) is greater; a guard that can no longer be sure says so by its deadline,
//! without hearing from the server. `lock_core` says what that rests on, and [`Protocol`] what a lock
//! is where it is kept.
//!
//! # Cancel safety
//!
//! Every future here may be dropped at any point: no lock stays behind, and the connection stays in
//! step. A request that is under way belongs to the task, not to the future that wanted it; dropping
//! the future sends the task a message, and so does dropping a guard. A wait in a server's queue that
//! nobody wants any more is ended there, with its connection.
//!
//! # Runtimes
//!
//! [`Locks::connect`] starts the task on the current tokio runtime, which needs its timer, and its I/O
//! for a server (`enable_all`). A current-thread runtime will do. All else may be awaited on any
//! runtime. A task that blocks a current-thread runtime also blocks renewals; `is_held` is right all
//! the same. When the runtime ends, guards that are left count as lost at once.
//!
//! # The end of `main`
//!
//! A guard that is dropped is released by the task. If the runtime ends before the task has sent that,
//! the lock stays taken until its lease ends, for up to a TTL. Call [`Locks::shutdown`] at the end of
//! `main`, also when it ends with an error: it waits until all is released, for two request budgets at
//! most.
//!
//! # Forks
//!
//! After a `fork` the child holds nothing: its guards say so, its calls fail with [`Error::Forked`], and dropping
//! an inherited guard or connection sends nothing. Connect after the fork, on a runtime that was made after it, too.
//!
//! # Events
//!
//! `tracing` is told: `waiting`, `acquired` (with `waited`), `renewed`, `lost` and `released` (with
//! `held`), each with `lock.name`, and `lock.fence` once there is one. The first two are told by the future
//! that waits, the others by a task of their own: a subscriber that blocks one of the runtime's threads, or
//! panics, holds up no renewal and no loss.

#![cfg_attr(docsrs, feature(doc_cfg))]
// With fewer backends, some of what they share is not used.
#![cfg_attr(
    not(all(feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports)
)]

#[cfg(not(any(feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite")))]
compile_error!(
    "lock-async needs a database: enable a feature, as in \
     `lock-async = { version = \"0.1\", features = [\"postgres\"] }`; they are sqlite, postgres, mysql and consul"
);

mod admin;
mod backend;
mod config;
mod driver;
mod events;
mod guard;
mod keeper;
mod locks;

use lock_core::config as error;
use lock_shared::{clock, process};

pub use admin::Admin;
pub use config::Config;
pub use guard::Guard;
pub use lock_core::admin::{Hold, LockState};
pub use lock_core::config::{
    ConfigError, Error, Protocol, ReleaseError, ShutdownError, WithLockError,
};
pub use lock_core::http::KeyError;
pub use lock_core::sql::Refusal;
pub use lock_core::sql::advisory::{Key, Prefix, PrefixError};
pub use lock_core::{
    ClaimError, Failure, Fence, Holder, LockName, LostReason, Mode, NameError, TableError,
    TableName, TimingError,
};
pub use locks::{Locks, Progress, Wait};

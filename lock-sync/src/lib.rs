//! Distributed locks on the database you already run, for blocking code.
//!
//! ```toml
//! [dependencies]
//! lock-sync = { version = "0.1", features = ["postgres"] }
//! ```
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let url = format!("sqlite:{}/locks.db", folder.path().display());
//! use lock_sync::Locks;
//!
//! let locks = Locks::connect(&url)?; // "postgres://app@db/app", "mysql://…", "consul://…", "sqlite:/var/lib/…"
//!
//! let guard = locks.lock("nightly-report")?; // waits
//! println!("holding it, with fence {}", guard.fence());
//! assert!(guard.is_held());
//! guard.release()?; // dropping it releases it too
//!
//! if let Some(guard) = locks.try_lock("nightly-report")? {
//!     println!("it was free");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! Each database is a feature. None is on by default: a program names the databases that it uses, and builds the
//! clients of no others.
//!
//! | feature | locks are kept in | crates in a build |
//! |---|---|---|
//! | `sqlite` | an SQLite file, for the processes of one machine | 68 |
//! | `postgres` | a PostgreSQL table, or its advisory locks | 120 |
//! | `mysql` | a MySQL or MariaDB table, or `GET_LOCK` | 113 |
//! | `consul` | Consul | 79 |
//! | all four | | 171 |
//!
//! The feature `cli` builds the command `withlock`, with all four. A library does not need it.
//!
//! # What is promised
//!
//! At any moment at most one [`Guard`] of a name answers [`is_held`](Guard::is_held) with true, over
//! all processes that keep their locks in the same place; a later grant's
//! [`fence`](Guard::fence) is greater; a guard that can no longer be sure says so by its deadline,
//! without hearing from the server. `lock_core` says what that rests on, which is not the same for
//! every [`Protocol`].
//!
//! # Threads
//!
//! An acquire or release that nobody else is in the way of is carried out on the calling thread, in
//! one round trip. Each [`Locks`] has two threads of its own besides, for renewals and for noticing
//! losses while a request hangs. With advisory locks and Consul, there is another one for each acquire
//! that waits at the server.
//!
//! A [`Guard`] or a [`Locks`] may be dropped on any thread, also while it panics. Dropping a guard releases its
//! lock, and waits for that.
//!
//! After a `fork` the child holds nothing: its guards say so, its calls fail with [`Error::Forked`], and
//! dropping them sends nothing. Connect after the fork.
//!
//! # The end of `main`
//!
//! A guard that is dropped has released its lock when the drop returns, also at an early `?`. Nothing more is needed,
//! unless guards are in other threads, or are released by [`Guard::release_in_background`]:
//! [`Locks::shutdown`] waits for those, and tells how many are left.
//!
//! # Async runtimes
//!
//! Every call blocks its thread, for a round trip at least. Inside an async program, call it where blocking is
//! allowed: in `tokio::task::spawn_blocking` or `block_in_place`. On a worker thread of a runtime every call and
//! every drop works too, in all places, but the worker's other tasks stand still meanwhile; a task that waits
//! there for a lock that another task of the same thread holds waits for ever. `lock-async` is made for that.
//!
//! PostgreSQL's client cannot be used on a runtime's thread, not even on one for blocking. There, each request
//! is made by a thread of its own, while the caller waits.
//!
//! # What is told
//!
//! With `tracing`: when a lock is `acquired`, `waiting`, `renewed`, `lost` and `released`, with
//! `lock.name`, `lock.fence`, and how long it was `waited` for or `held`. A caller's own events are told on its
//! thread, renewals and losses on a thread of their own. A subscriber that blocks delays no renewal and no
//! loss; events that it is too slow for are counted and left out.

#![cfg_attr(docsrs, feature(doc_cfg))]
// With fewer backends, some of what they share is not used.
#![cfg_attr(
    not(all(feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports)
)]

#[cfg(not(any(feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite")))]
compile_error!(
    "lock-sync needs a database: enable a feature, as in \
     `lock-sync = { version = \"0.1\", features = [\"postgres\"] }`; they are sqlite, postgres, mysql and consul"
);

mod admin;
mod backend;
mod config;
mod driver;
mod events;
mod guard;
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

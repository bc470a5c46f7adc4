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
//! println!("holding the lock, with fence {}", guard.fence());
//! assert!(guard.is_held());
//! guard.release()?; // dropping the guard releases the lock, too
//!
//! if let Some(guard) = locks.try_lock("nightly-report")? {
//!     println!("the lock was free");
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
//! | `sqlite` | an SQLite file, for the processes of one machine | 69 |
//! | `postgres` | a PostgreSQL table, or its advisory locks | 121 |
//! | `mysql` | a MySQL or MariaDB table, or `GET_LOCK` | 114 |
//! | `consul` | Consul | 80 |
//! | all four | | 172 |
//!
//! The feature `metrics` records metrics through the crate of this name: attempts by outcome, the time waited and held, losses, and
//! how old leases are when they are renewed. It brings three crates more. `docs/metrics.md`
//! has their names.
//!
//! The feature `cli` builds the command `withlock`, with all four. A library does not need it.
//!
//! # Promises
//!
//! At any moment, at most one [`Guard`] of a name answers [`is_held`](Guard::is_held) with true, over all processes that
//! keep their locks in the same place. The [`fence`](Guard::fence) of a later grant is greater. A guard that cannot be
//! sure of its lock says so by its deadline, without an answer from the server. `lock_core` says what these promises
//! rest on, for each [`Protocol`].
//!
//! # Threads
//!
//! The calling thread executes an uncontended acquire or release, in one round trip. Each [`Locks`] has two more threads:
//! one for renewals, and one that notices losses while a request hangs. With advisory locks and Consul, each
//! acquire that waits at the server has another one.
//!
//! A [`Guard`] or a [`Locks`] may be dropped on any thread, even during a panic. Dropping a guard releases its lock, and
//! waits for the release.
//!
//! After a `fork`, the child holds nothing: its guards say so, its calls fail with [`Error::Forked`], and dropping them
//! sends nothing. Connect after the fork.
//!
//! # The end of `main`
//!
//! The lock of a dropped guard is released when the drop returns, also at an early `?`. [`Locks::shutdown`] is needed
//! only if other threads have guards, or if guards are released by [`Guard::release_in_background`]. It waits for
//! those, and reports how many locks are left.
//!
//! # Async runtimes
//!
//! Every call blocks its thread, for at least one round trip. In an async program, call it where blocking is
//! allowed: in `tokio::task::spawn_blocking` or `block_in_place`. Every call and every drop also works on a worker
//! thread of a runtime, but blocks the other tasks of that worker. A task deadlocks there if it waits for a lock that
//! another task of the same thread holds. `lock-async` avoids both.
//!
//! PostgreSQL's client cannot run on a runtime's thread, not even on one for blocking. There, a thread of its own makes each
//! request, and the caller waits for it.
//!
//! # Events
//!
//! `tracing` receives an event when a lock is `acquired`, `waiting`, `renewed`, `lost` and `released`, with
//! `lock.name`, `lock.fence`, and the time that it was `waited` for or `held`. With [`Config::warn_wait`] and
//! [`Config::warn_hold`], a wait that lasts too long leads to the warning `waiting for long`, with the `holder`, and a hold to
//! `held for long`, with the `label`. A caller's own events come from its
//! thread; renewals, losses, releases in the background and these warnings from a thread of their own. A subscriber that
//! blocks delays no renewal and no loss; events that it is too slow for are counted and dropped. The same is true of a recorder of metrics.

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

mod acquire;
mod admin;
mod backend;
mod campaign;
mod cancel;
mod driver;
mod events;
mod guard;
mod locks;
mod pin;

use lock_shared::{clock, process};

pub use acquire::Acquire;
pub use admin::{Admin, Observer};
pub use cancel::Cancel;
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
pub use locks::{Locks, Progress, Wait};
pub use pin::PinTransaction;

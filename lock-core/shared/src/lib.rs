//! Internals shared by `lock-sync` and `lock-async`: the impure parts, which the pure `lock-core` cannot
//! contain.
//!
//! There is no promise about versions here: anything may change with any of them. Depend on the drivers,
//! which export the parts for users.
//!
//! Nothing here needs a runtime. A function that blocks says so.

// With fewer backends, parts of the shared code are not used.
#![cfg_attr(
    not(all(feature = "consul", feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, unreachable_code, unused_imports, unused_variables, unused_mut)
)]

#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod clock;
mod config;
#[cfg(feature = "consul")]
#[doc(hidden)]
pub mod consul;
#[doc(hidden)]
pub mod engine;
mod env;
mod events;
#[doc(hidden)]
pub mod factory;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
#[doc(hidden)]
pub mod handshake;
#[doc(hidden)]
pub mod held;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
#[doc(hidden)]
pub mod hosts;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
#[doc(hidden)]
pub mod lookup;
#[doc(hidden)]
pub mod metrics;
#[cfg(feature = "mysql")]
#[doc(hidden)]
pub mod mysql;
#[doc(hidden)]
pub mod pin;
#[doc(hidden)]
pub mod place;
#[doc(hidden)]
pub mod plan;
#[cfg(feature = "postgres")]
#[doc(hidden)]
pub mod postgres;
#[doc(hidden)]
pub mod process;
#[doc(hidden)]
pub mod settings;
#[cfg(feature = "sqlite")]
#[doc(hidden)]
pub mod sqlite;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
#[doc(hidden)]
pub mod sslmode;
#[doc(hidden)]
pub mod threads;
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
mod tls;
#[doc(hidden)]
pub mod unconfirmed;
mod url;
#[doc(hidden)]
pub mod wish;

pub use config::Config;

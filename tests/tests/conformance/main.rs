//! Every place where locks are kept, and what each of the drivers promises there.

mod admin;
mod advisory_async;
mod advisory_sync;
mod behind;
mod galera;
mod heard;
mod hosts;
mod kept;
mod looking;
mod multiplexed;
mod node_distributed_lock;
mod observer;
mod own;
mod pins;
mod places;
mod pooled;
mod poolers;
mod refused_mysql;
mod refused_sessions;
mod runtimes_sync;
mod sessions;
mod shared;
mod sql_lock;
mod supplied;
mod tls_postgres;
mod together;

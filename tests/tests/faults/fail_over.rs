//! Fail-overs: the primary is killed under contention, and another server takes its place. `LOCK_TEST_KILLS=50` kills
//! as often in each test. `RUST_TEST_NOCAPTURE=1` shows the figures.

mod consul;
mod galera;
mod postgres;
mod replicas;

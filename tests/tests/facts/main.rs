//! Facts about each server that the protocols rest on.

mod advisory;
mod consul;
mod differential;
mod differential_consul;
mod mysql;
mod own_terms;
mod pin;
mod postgres;
mod rare_rows;
mod sqlite;
mod sqlite_callers;
mod sqlite_file;
mod sqlite_shared;
mod told;

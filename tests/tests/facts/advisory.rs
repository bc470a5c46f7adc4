//! What the advisory protocol does on real servers, fact by fact, and what it relies on there: the
//! simulated server is to do the same.

mod holds;
mod life;
mod mysql;
mod postgres;
mod waits;

/// A fact about all three servers.
macro_rules! facts {
    ($($name:ident)*) => {
        mod postgres_server {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(lock_tests::servers::Kind::Postgres) })*
        }
        mod mysql_server {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name(lock_tests::servers::Kind::Mysql) })*
        }
        mod mariadb_server {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name(lock_tests::servers::Kind::Mariadb) })*
        }
    };
}
pub(crate) use facts;

//! Tests that are the same on servers of several kinds.

/// Defines each of these tests, which take a [`Kind`](crate::servers::Kind), for MySQL and for MariaDB.
#[macro_export]
macro_rules! on_mysql_and_mariadb {
    ($($name:ident)*) => {
        mod mysql_server {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name($crate::servers::Kind::Mysql) })*
        }
        mod mariadb_server {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name($crate::servers::Kind::Mariadb) })*
        }
    };
}

//! A server that comes back with a certificate that is not trusted any more: it is tried again, and the reason told.

use super::switch_over::{DRIVERS, waiters_stay};
use lock_tests::drivers::Driven;
use lock_tests::place::Place;
use lock_tests::servers::Kind;
use std::fs::{read, write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Of nobody whom the clients know, for this machine.
fn self_signed(folder: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=other", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn is_weather(kind: Kind) {
    let server = kind.server();
    let own = server.folder().join("tls");
    let authority = own.join("ca.pem");
    let url = server.url();
    let url = format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display());
    let ttl = Duration::from_secs(12);
    let all = DRIVERS.map(|driver| Driven::new(driver, Place::at(&url)).locks(ttl));
    let other = tempfile::tempdir().expect("a folder");
    self_signed(other.path());
    let files = ["key.pem", "cert.pem"];
    let kept = files.map(|name| read(own.join(name)).expect("there"));
    // The server's user is the owner: the files stay, and only what is in them changes.
    let bad = || {
        for name in files {
            write(own.join(name), read(other.path().join(name)).expect("made")).expect("written");
        }
        server.restart();
    };
    let good = || {
        for (name, kept) in files.iter().zip(&kept) {
            write(own.join(name), kept).expect("written");
        }
        server.restart();
    };
    waiters_stay(&all.each_ref(), "sslrootcert", bad, good);
}

#[test]
#[ignore = "needs a PostgreSQL server of its own: tests/servers"]
fn a_certificate_that_is_no_longer_trusted_is_weather_on_postgres() {
    is_weather(Kind::Postgres);
}

#[test]
#[ignore = "needs a MySQL server of its own: tests/servers"]
fn a_certificate_that_is_no_longer_trusted_is_weather_on_mysql() {
    is_weather(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server of its own: tests/servers"]
fn a_certificate_that_is_no_longer_trusted_is_weather_on_mariadb() {
    is_weather(Kind::Mariadb);
}

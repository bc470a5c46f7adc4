//! The two drivers are to be used alike: the same settings, the same words.

use lock_tests::drivers::{read, wait};
use std::path::Path;

/// What both need and neither can get from the core is in both, byte for byte: what is mended in
/// one must be mended in the other.
#[test]
fn files_that_both_have_are_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    for file in [
        "backend/consul/server.rs",
        "backend/mysql/server.rs",
        "backend/postgres/hosts.rs",
        "backend/postgres/tls.rs",
        "config/url.rs",
    ] {
        let [one, other] = ["lock-sync", "lock-async"].map(|driver| {
            std::fs::read_to_string(root.join(driver).join("src").join(file)).expect("read")
        });
        assert!(one == other, "{file} differs");
    }
}

#[test]
fn urls_are_read_alike() {
    let good = [
        "sqlite:a.db",
        "sqlite:a?ttl=30&request_timeout=1.5",
        "sqlite:a?ttl=1h30m",
        "sqlite:///var/lib/a%20b.db?ttl=10s&table=ops_locks&label=x%20y&request_timeout=1s",
        "postgresql://u:p%3F@h:5432/d?sslmode=verify-full&sslrootcert=/ca.pem&application_name=a+b",
        "postgres://u@%2Frun%2Fpostgresql/d",
        "postgres:///d?host=/run/postgresql",
        "mysql://u:p%3F@h:3307/d?sslmode=verify-full&sslrootcert=/ca.pem",
        "mariadb://[::1]/d?sslmode=require&ttl=10s",
        "mysql://u@localhost/d?socket=/run/mysqld/mysqld.sock",
        "postgres://h/d?protocol=advisory&keys=pair&waiting=0",
        "mysql://h/d?protocol=advisory&prefix=app:&waiting=2",
        "sqlite:a?protocol=table",
        "consul://localhost",
        "consul://[::1]:8501/app/locks?sslmode=verify-full&token=hunter2&ttl=20s",
        "consul://h?protocol=session&sslrootcert=/ca.pem",
    ];
    let bad = [
        "",
        "/tmp/a.db",
        "redis://h/d",
        "SQLITE:/a",
        "sqlite:",
        "sqlite::memory:",
        "sqlite:a%00b",
        "sqlite:%zz",
        "postgres://",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h/d?se?cret=1",
        "postgres://u:hunter2%@h/d",
        "mysql://",
        "mysql:/d",
        "mysql://u:hunter2@h",
        "mysql://u:hunter2@h:port/d",
        "mysql://u:hunter2@h/d?nope=1",
        "mariadb://h/d?sslmode=verify-ca",
        "mysql://h/d?sslmode=prefer&sslrootcert=/ca.pem",
        "sqlite:a?nope=1",
        "sqlite:a?sslmode=require",
        "postgres://u:hunter2@h/d?nope=1",
        "sqlite:a?ttl=5M",
        "sqlite:a?ttl=1y",
        "sqlite:a?request_timeout=2min",
        "postgres://h/d?sslmode=bogus",
        "sqlite:a?table=a;b",
        "postgres://h/d?table=a.b.c",
        "sqlite:a?ttl=25h",
        "sqlite:a?ttl=10s&request_timeout=9s",
        "sqlite:a?protocol=advisory",
        "postgres://h/d?protocol=session",
        "postgres://h/d?protocol=bogus",
        "postgres://h/d?keys=int",
        "postgres://h/d?protocol=advisory&keys=float",
        "postgres://h/d?protocol=advisory&table=a",
        "mysql://h/d?protocol=advisory&prefix=UPPER",
        "mysql://h/d?waiting=1",
        "mysql://h/d?protocol=advisory&waiting=-1",
        "postgres://h/d?token=hunter2",
        "consul://",
        "consul:///locks",
        "consul://h?protocol=table",
        "consul://h?sslmode=prefer",
        "consul://h?sslmode=disable&sslrootcert=/ca.pem",
        "consul://u:hunter2@h",
        "consul://h/a//b",
        "consul://h/a#hunter2",
    ];
    for url in good.iter().chain(&bad) {
        let (blocking, tokio) = read(url);
        assert_eq!(blocking.is_ok(), good.contains(url), "{url}");
        assert_eq!(tokio, blocking, "{url}");
        if let Err(line) = tokio {
            assert!(!line.contains('\n') && !line.contains("hunter2"), "{line}");
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_refused_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "this is no database, but some text that is long enough to be one";
    std::fs::write(folder.path().join("text"), text).expect("written");
    std::fs::create_dir(folder.path().join("sub")).expect("made");
    let other = rusqlite::Connection::open(folder.path().join("other")).expect("opened");
    other.execute_batch("CREATE TABLE locks (id INTEGER PRIMARY KEY)").expect("made");
    for name in ["none/a.db", "text/a.db", "sub", "text", "other"] {
        let url = format!("sqlite:{}/{name}", folder.path().display());
        let blocking = lock_sync::Locks::connect(&url).expect_err(name).to_string();
        let tokio = wait(lock_async::Locks::connect(&url)).expect_err(name).to_string();
        assert_eq!(tokio, blocking, "{name}");
    }
    assert!(!folder.path().join("none").exists(), "nothing is made on the way");
}

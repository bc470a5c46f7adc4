//! Encryption as `sslmode` says, secrets kept, and servers that must not be used.

use lock_shared::lookup::stand_in::known;
use lock_sync::{Config, ConfigError, Error, Locks};
use lock_tests::drivers::{Driver, connect, wait};
use lock_tests::place::{Place, client, postgres_url};
use lock_tests::proxy::{Proxy, eventually, server_of};

fn authority() -> String {
    std::env::var("LOCK_TEST_POSTGRES_CA")
        .expect("LOCK_TEST_POSTGRES_CA: tests/run makes an authority and sets it")
}

/// Connects with these parameters by both drivers, which must agree, and says whether the
/// connection is encrypted.
fn encrypted(host: &str, parameters: &str) -> Result<bool, Error> {
    let place = Place::postgres();
    let server = server_of(place.url());
    let (_, port) = server.split_once(':').expect("a port");
    let label = format!("tls{}", place.table());
    let url = format!(
        "postgres://app:secret@{host}:{port}/test?{parameters}&table={}&application_name={label}",
        place.table()
    );
    let encrypted = || -> bool {
        let row = client(&postgres_url()).query_one(
            "SELECT s.ssl FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a ON a.pid = s.pid WHERE a.application_name = $1",
            &[&label],
        );
        row.expect("one connection").get(0)
    };
    let gone = || {
        let sql = "SELECT 1 FROM pg_stat_activity WHERE application_name = $1";
        eventually(|| client(&postgres_url()).query(sql, &[&label]).expect("asked").is_empty())
    };
    let by_tokio = wait(async {
        let locks = lock_async::Locks::connect(&url).await?;
        let guard = locks.lock("a").await?;
        Ok::<_, lock_async::Error>((tokio::task::block_in_place(encrypted), guard.fence()))
    });
    assert!(gone(), "the connection ends with the locks");
    let blocking = Locks::connect(&url).and_then(|locks| {
        drop(locks.lock("a")?);
        Ok(encrypted())
    });
    let texts = (
        by_tokio.map(|(encrypted, _)| encrypted).map_err(|error| error.to_string()),
        blocking.clone().map_err(|error| error.to_string()),
    );
    assert_eq!(texts.0, texts.1, "with tokio, and without");
    blocking
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn sslmode_is_honoured() {
    let authority = format!("sslrootcert={}", authority());
    assert_eq!(encrypted("localhost", "sslmode=disable"), Ok(false));
    assert_eq!(encrypted("localhost", "sslmode=allow"), Ok(false), "the server accepts that");
    assert_eq!(encrypted("localhost", ""), Ok(true), "prefer, on this machine");
    assert_eq!(encrypted("localhost", "sslmode=prefer"), Ok(true));
    assert_eq!(encrypted("localhost", "sslmode=require"), Ok(true));
    assert_eq!(encrypted("localhost", &format!("sslmode=verify-full&{authority}")), Ok(true));
    assert_eq!(encrypted("127.0.0.1", &format!("sslmode=verify-full&{authority}")), Ok(true));
    assert_eq!(encrypted("localhost", &format!("sslmode=verify-ca&{authority}")), Ok(true));
    // The same server under a name that its certificate does not have.
    let other = format!("hostaddr=127.0.0.1&{authority}");
    assert_eq!(encrypted("other.example", &format!("sslmode=verify-ca&{other}")), Ok(true));
    let wrong = encrypted("other.example", &format!("sslmode=verify-full&{other}"));
    assert!(
        matches!(&wrong, Err(Error::Refused(why)) if why.contains("certificate") && why.contains("sslmode")),
        "{wrong:?}"
    );
    let wrong = encrypted("other.example", &other);
    assert!(
        matches!(&wrong, Err(Error::Refused(why)) if why.contains("certificate") && why.contains("sslmode")),
        "{wrong:?}"
    );
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_unknown_authority_is_refused() {
    // Another server's authority: self-signed, and not ours.
    let folder = tempfile::tempdir().expect("a folder");
    let (key, other) = (folder.path().join("key.pem"), folder.path().join("other.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=other",
            "-days",
            "2",
            "-keyout",
        ])
        .args([&key, std::path::Path::new("-out"), &other])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused =
            encrypted("localhost", &format!("sslmode={mode}&sslrootcert={}", other.display()));
        assert!(
            matches!(&refused, Err(Error::Refused(why)) if why.contains("certificate") && why.contains("sslmode")),
            "{mode}: {refused:?}"
        );
    }
    let missing = encrypted("localhost", "sslmode=verify-full&sslrootcert=/nonexistent.pem");
    assert!(matches!(missing, Err(Error::Config(ConfigError::Tls(_)))), "{missing:?}");
    let empty =
        encrypted("localhost", &format!("sslmode=verify-full&sslrootcert={}", key.display()));
    assert!(matches!(empty, Err(Error::Config(ConfigError::Tls(_)))), "{empty:?}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_server_without_tls_is_refused_where_tls_is_wanted() {
    // A proxy that answers the request for TLS with "no".
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            use std::io::{Read, Write};
            let mut request = [0; 8];
            let _ = stream.read_exact(&mut request);
            let _ = stream.write_all(b"N");
        }
    });
    let url = format!("postgres://app:secret@127.0.0.1:{port}/test?sslmode=require");
    let refused = Locks::connect(&url).expect_err("no TLS");
    assert!(matches!(refused, Error::Refused(_)), "waiting would not help: {refused:?}");
    let message = refused.to_string();
    assert!(message.contains("sslmode=disable") && !message.contains("secret@"), "{message}");
    let by_tokio = wait(lock_async::Locks::connect(&url)).expect_err("no TLS").to_string();
    assert_eq!(by_tokio, message);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn secrets_are_in_no_message() {
    let server = server_of(&postgres_url());
    let proxy = Proxy::start(&server);
    proxy.cut(true);
    let cut = server_of(&proxy.url(&postgres_url()));
    for (user, place) in
        [("app:hunter2", server.as_str()), ("app:hunter2", "127.0.0.1:1"), ("app:hunter2", &cut)]
    {
        let url = format!("postgres://{user}@{place}/test");
        let error = Locks::connect(&url).expect_err("it cannot work");
        let config: Config = url.parse().expect("a good URL");
        let by_tokio = wait(lock_async::Locks::connect(&url)).expect_err("it cannot work");
        for text in [
            error.to_string(),
            format!("{error:?}"),
            format!("{config:?}"),
            by_tokio.to_string(),
            format!("{by_tokio:?}"),
        ] {
            assert!(!text.contains("hunter2") && !text.contains('\n'), "{text}");
        }
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn tables_that_cannot_hold_locks_are_refused() {
    let place = Place::postgres();
    let good =
        place.config(std::time::Duration::from_secs(30)).create_table().expect("a statement");
    let name = format!("\"{}\"", place.table());
    let without_key = good.replace("PRIMARY KEY", "NOT NULL");
    let for_some = format!("{without_key}; CREATE UNIQUE INDEX ON {name} (name) WHERE fence > 1");
    let for_pairs = format!("{without_key}; CREATE UNIQUE INDEX ON {name} (name, fence)");
    let unlogged = good.replace("CREATE TABLE", "CREATE UNLOGGED TABLE");
    let collation = good.replace("COLLATE \"C\"", "");
    let cases = [
        (format!("CREATE TABLE {name} (id int)"), "not a lock table"),
        (format!("CREATE VIEW {name} AS SELECT 1 AS name"), "not a lock table"),
        (without_key, "not a lock table"),
        (for_some, "not a lock table"),
        (for_pairs, "not a lock table"),
        (collation, "not a lock table"),
        (unlogged, "does not survive a crash"),
    ];
    for (create, why) in cases {
        place.tamper(&create);
        let error =
            Locks::open(place.config(std::time::Duration::from_secs(30))).expect_err("refused");
        assert!(matches!(error, Error::UnsafeServer(_)), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
        place.tamper("DO $$ BEGIN EXECUTE 'DROP VIEW IF EXISTS {table}'; EXCEPTION WHEN wrong_object_type THEN EXECUTE 'DROP TABLE {table}'; END $$");
    }
    // More columns than ours are nobody's business.
    place.tamper(&good.replace("holder text NOT NULL", "note text, holder text NOT NULL"));
    drop(place.locks(std::time::Duration::from_secs(30)).lock("a").expect("taken"));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn creating_needs_rights_only_where_the_table_is_missing() {
    let place = Place::postgres();
    let schema = place.table().replace("locks", "schema");
    let url = postgres_url();
    let mut admin = client(&format!("postgres://postgres@{}/test", server_of(&url)));
    admin
        .batch_execute(&format!("CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO app"))
        .expect("made");
    let app = format!("postgres://app:secret@{}/test?table={schema}.jobs", server_of(&url));
    let error = Locks::connect(&app).expect_err("it may not create it").to_string();
    assert!(
        error.contains("CREATE TABLE IF NOT EXISTS") && error.contains("permission denied"),
        "{error}"
    );
    assert!(!error.contains('\n') && !error.contains("--"), "{error}");
    let ddl = app.parse::<Config>().expect("good").create_table().expect("a statement");
    admin
        .batch_execute(&format!("{ddl}; GRANT SELECT, INSERT, UPDATE ON {schema}.jobs TO app"))
        .expect("made");
    let locks = Locks::connect(&app).expect("the table is there");
    locks.lock("a").expect("these rights suffice").release().expect("released");
    admin.batch_execute(&format!("REVOKE UPDATE ON {schema}.jobs FROM app")).expect("revoked");
    assert!(matches!(locks.try_lock("a"), Err(Error::Refused(_))));
    admin.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).expect("dropped");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn asynchronous_commits_are_made_synchronous() {
    let place = Place::postgres();
    for setting in ["off", "local"] {
        let mut own = client(place.url());
        own.batch_execute(&format!("SET synchronous_commit = {setting}")).expect("set");
        let pid: i32 = own.query_one("SELECT pg_backend_pid()", &[]).expect("asked").get(0);
        let table = lock_sync::TableName::new(place.table()).expect("good");
        let locks = Locks::with_postgres(own, Config::new().table(table)).expect("connected");
        let _guard = locks.lock("a").expect("taken");
        let asked = client(place.url())
            .query_one("SELECT query FROM pg_stat_activity WHERE pid = $1", &[&pid]);
        let query: String = asked.expect("it is connected").get(0);
        // The client's setting stays, and the statement carries one that is right for it.
        let carried = "set_config('synchronous_commit', CASE current_setting('synchronous_commit')";
        assert!(query.contains(carried), "{setting}: {query}");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_client_of_the_callers_works_until_it_is_closed() {
    let place = Place::postgres();
    let table = lock_sync::TableName::new(place.table()).expect("good");
    let mut own = client(place.url());
    let pid: i32 = own.query_one("SELECT pg_backend_pid()", &[]).expect("asked").get(0);
    let locks = Locks::with_postgres(own, Config::new().table(table)).expect("connected");
    locks.lock("a").expect("taken").release().expect("released");
    client(place.url()).execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("ended");
    let error = locks.try_lock("a").expect_err("there is no way back");
    assert!(matches!(error, Error::NoConnection(_)), "{error:?}");
}

/// Sockets in files are not encrypted, but that is no reason to send a password to another host in
/// the clear.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_socket_among_the_hosts_takes_no_encryption_from_others() {
    let server = server_of(&postgres_url());
    let (_, port) = server.split_once(':').expect("a port");
    let verify = format!("sslmode=verify-full&sslrootcert={}", authority());
    // The first host is a folder where there is no socket.
    let mixed = format!("%2Fnone:{port},127.0.0.1");
    assert_eq!(encrypted(&mixed, &verify), Ok(true));
    assert_eq!(encrypted(&mixed, "sslmode=prefer"), Ok(true));
    assert_eq!(encrypted(&mixed, "sslmode=disable"), Ok(false));
    // An address wins over a socket, which names nobody who could have a certificate.
    let refused = encrypted("%2Fnone", &format!("hostaddr=127.0.0.1&{verify}"));
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

/// As with libpq, encryption is nothing that sockets in files could have.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_socket_is_used_whatever_the_sslmode() {
    let mut asked = client(&postgres_url());
    let mut show = |setting: &str| -> String {
        asked.query_one(&format!("SHOW {setting}"), &[]).expect("told").get(0)
    };
    let folder = format!("{}/{}", show("data_directory"), show("unix_socket_directories"));
    let folder = folder.replace('/', "%2F");
    let server = server_of(&postgres_url());
    let (_, port) = server.split_once(':').expect("a port");
    for mode in ["disable", "prefer", "require", "verify-full"] {
        let parameters = format!("sslmode={mode}&sslrootcert={}", authority());
        assert_eq!(encrypted(&folder, &parameters), Ok(false), "{mode}");
        let first = format!("{folder}:{port},127.0.0.1");
        assert_eq!(encrypted(&first, &parameters), Ok(false), "{mode}, before another host");
        let second = format!("127.0.0.1:1,{folder}");
        assert_eq!(encrypted(&second, &parameters), Ok(false), "{mode}, after another host");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn channel_binding_is_honoured() {
    assert_eq!(encrypted("localhost", "sslmode=require&channel_binding=require"), Ok(true));
    assert_eq!(encrypted("localhost", "sslmode=require&channel_binding=disable"), Ok(true));
    // There is no channel to bind to.
    let plain = encrypted("localhost", "sslmode=disable&channel_binding=require");
    assert!(plain.is_err(), "{plain:?}");
}

/// A name that the certificate does not have, also if it leads to its address.
#[test]
#[ignore = "needs a MySQL, MariaDB and PostgreSQL server: tests/run starts them"]
fn verify_full_compares_what_the_url_says() {
    for (place, kind) in
        [(Place::postgres(), "POSTGRES"), (Place::mysql(), "MYSQL"), (Place::mariadb(), "MARIADB")]
    {
        let authority = std::env::var(format!("LOCK_TEST_{kind}_CA")).expect("tests/run sets it");
        let between = if place.whole_url().contains('?') { '&' } else { '?' };
        let parameters = format!("{between}sslmode=verify-full&sslrootcert={authority}");
        known("other.example", &["127.0.0.1"]);
        for driver in [Driver::Blocking, Driver::Tokio] {
            for (host, is_fine) in [("127.0.0.1", true), ("other.example", false)] {
                let url = place.whole_url().replace("127.0.0.1", host) + &parameters;
                let connected = connect(driver, &url).map(drop);
                assert_eq!(connected.is_ok(), is_fine, "{driver:?}, {url}: {connected:?}");
            }
        }
    }
}

/// As PostgreSQL's own clients read the file, which may have the authority before and the next one.
#[test]
#[ignore = "needs a MySQL, MariaDB and PostgreSQL server: tests/run starts them"]
fn each_authority_in_a_file_is_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = |kind: &str| {
        let path = std::env::var(format!("LOCK_TEST_{kind}_CA")).expect("tests/run sets it");
        std::fs::read_to_string(path).expect("an authority")
    };
    for (place, own, other) in [
        (Place::postgres(), "POSTGRES", "MYSQL"),
        (Place::mysql(), "MYSQL", "POSTGRES"),
        (Place::mariadb(), "MARIADB", "POSTGRES"),
    ] {
        let file = folder.path().join(own);
        std::fs::write(&file, authority(other) + &authority(own)).expect("written");
        let between = if place.whole_url().contains('?') { '&' } else { '?' };
        let url = format!(
            "{}{between}sslmode=verify-full&sslrootcert={}",
            place.whole_url(),
            file.display()
        );
        let blocking = Locks::connect(&url).and_then(|locks| locks.lock("a").map(drop));
        assert_eq!(blocking, Ok(()), "{own}");
        let tokio = wait(async {
            let locks = lock_async::Locks::connect(&url).await?;
            locks.lock("a").await.map(drop)
        });
        assert_eq!(tokio, Ok(()), "{own}");
    }
}

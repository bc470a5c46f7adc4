//! MySQL and MariaDB that cannot be used, must not be, or are not what they say.

use lock_sync::{Config, ConfigError, Error, Locks, TableName};
use lock_tests::drivers::wait;
use lock_tests::on_mysql_and_mariadb;
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::{Proxy, server_of};
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(30);

on_mysql_and_mariadb! {
    sslmode_is_honoured
    who_is_not_let_in_is_told_so
    secrets_are_in_no_message
    tables_that_cannot_hold_locks_are_refused
    creating_needs_rights_only_where_the_table_is_missing
    servers_that_forget_or_only_read_are_refused
    a_connection_of_the_callers_works_until_it_is_closed
    a_connection_of_the_callers_works_with_tokio_too
}

fn authority(kind: Kind) -> String {
    let variable = match kind {
        Kind::Mariadb => "LOCK_TEST_MARIADB_CA",
        _ => "LOCK_TEST_MYSQL_CA",
    };
    let missing = |_| panic!("{variable}: tests/run makes an authority and sets it");
    std::env::var(variable).unwrap_or_else(missing)
}

fn port(url: &str) -> String {
    server_of(url).split_once(':').expect("a port").1.to_string()
}

/// The errors of a connection that must not come about, by each driver: one line, without the
/// password.
fn errors(url: &str) -> (Error, lock_async::Error) {
    let blocking = Locks::connect(url).map(drop).expect_err("refused");
    let tokio = wait(lock_async::Locks::connect(url)).map(drop).expect_err("refused");
    for text in
        [blocking.to_string(), format!("{blocking:?}"), tokio.to_string(), format!("{tokio:?}")]
    {
        assert!(!text.contains("hunter2") && !text.contains('\n'), "{text}");
    }
    assert_eq!(tokio.is_transient(), blocking.is_transient(), "{tokio:?} and {blocking:?}");
    (blocking, tokio)
}

/// The same where both say the same.
fn error(url: &str) -> Error {
    let (blocking, tokio) = errors(url);
    assert_eq!(tokio.to_string(), blocking.to_string());
    blocking
}

/// The error of locks at a place where there must not be any.
fn unfit(place: &Place, why: &str) -> Error {
    let error = Locks::open(place.config(TTL)).map(drop).expect_err(why);
    let tokio = wait(lock_async::Locks::open(place.config(TTL))).map(drop).expect_err(why);
    assert_eq!(tokio.to_string(), error.to_string());
    error
}

fn sslmode_is_honoured(kind: Kind) {
    let place = kind.place();
    let mut admin = mysql_client(place.url());
    let user = place.table().replace("locks", "tls");
    for sql in [
        format!("CREATE USER {user}@'%' IDENTIFIED BY 'hunter2' REQUIRE SSL"),
        format!("GRANT ALL ON test.* TO {user}@'%'"),
    ] {
        admin.query_drop(sql).expect("made");
    }
    let at = |server: &str, parameters: &str| {
        let table = place.table();
        let url = format!("mysql://{user}:hunter2@{server}/test?table={table}&{parameters}");
        let tokio = wait(async { lock_async::Locks::connect(&url).await?.lock("a").await });
        let tokio = tokio.map(drop).map_err(|error| error.to_string());
        let blocking = Locks::connect(&url).and_then(|locks| locks.lock("a").map(drop));
        let text = blocking.clone().map_err(|error| error.to_string());
        assert_eq!(tokio, text, "with tokio, and without");
        blocking
    };
    let connect =
        |host: &str, parameters: &str| at(&format!("{host}:{}", port(place.url())), parameters);
    // The server lets this user in by TLS only.
    assert!(matches!(connect("localhost", "sslmode=disable"), Err(Error::Refused(_))));
    let ca = format!("sslrootcert={}", authority(kind));
    for parameters in
        ["", "sslmode=prefer", "sslmode=require", &ca, &format!("sslmode=verify-full&{ca}")]
    {
        assert_eq!(connect("localhost", parameters), Ok(()), "{parameters}");
    }
    assert_eq!(connect("127.0.0.1", &ca), Ok(()));
    let certificate = |result: &Result<(), Error>| matches!(result, Err(Error::Refused(why)) if why.contains("certificate") && why.contains("sslmode"));
    let unknown = connect("localhost", "sslmode=verify-full");
    assert!(certificate(&unknown), "the public authorities do not know it: {unknown:?}");
    let proxy = Proxy::start_at("127.0.0.2", &server_of(place.url()));
    let other = at(&server_of(&proxy.url(place.url())), &ca);
    assert!(certificate(&other), "another host's certificate: {other:?}");
    for file in ["/nonexistent.pem", "/dev/null"] {
        let missing = connect("localhost", &format!("sslrootcert={file}"));
        assert!(matches!(missing, Err(Error::Config(ConfigError::Tls(_)))), "{missing:?}");
    }
    admin.query_drop(format!("DROP USER {user}@'%'")).expect("dropped");
}

fn who_is_not_let_in_is_told_so(kind: Kind) {
    let server = server_of(kind.place().url());
    for (place, why) in [
        ("app:hunter2@{}/test", "Access denied for user 'app'"),
        ("nobody:hunter2@{}/test", "Access denied for user 'nobody'"),
        ("app:secret@{}/mysql", "Access denied for user 'app'"),
        ("root:hunter2@{}/none", "Unknown database 'none'"),
    ] {
        let error = error(&format!("mariadb://{}", place.replace("{}", &server)));
        // MySQL plays along with a user that it does not know.
        let told = matches!(&error, Error::Refused(told) if told.contains(why) || told.contains("does not know the user"));
        assert!(told, "{error:?}");
    }
}

fn secrets_are_in_no_message(kind: Kind) {
    let url = kind.place().url().to_string();
    let proxy = Proxy::start(&server_of(&url));
    proxy.cut(true);
    for place in ["127.0.0.1:1", &server_of(&proxy.url(&url))] {
        let url = format!("mysql://root:hunter2@{place}/test");
        assert!(errors(&url).0.is_transient());
        let config: Config = url.parse().expect("a good URL");
        assert!(!format!("{config:?}").contains("hunter2"));
        let config: lock_async::Config = url.parse().expect("a good URL");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

fn tables_that_cannot_hold_locks_are_refused(kind: Kind) {
    let place = kind.place();
    let good = place.config(TTL).create_table().expect("a statement");
    let good = good.replace("`locks`", "{table}");
    let cases = [
        ("CREATE TABLE {table} (id INT)".to_string(), "not a lock table"),
        ("CREATE VIEW {table} AS SELECT 1 AS name".to_string(), "not a lock table"),
        (good.replace("NOT NULL PRIMARY KEY", "NOT NULL"), "not a lock table"),
        (
            good.replace("VARBINARY(255)", "VARCHAR(255) COLLATE utf8mb4_general_ci"),
            "not a lock table",
        ),
        (good.replace("VARBINARY(255)", "VARBINARY(100)"), "not a lock table"),
        (good.replace("fence BIGINT", "fence BIGINT UNSIGNED"), "not a lock table"),
        (good.replace("fence BIGINT NOT NULL", "fence BIGINT NOT NULL UNIQUE"), "not a lock table"),
        (
            good.replace("fence BIGINT", "id INT AUTO_INCREMENT, KEY (id), fence BIGINT"),
            "not a lock table",
        ),
        (good.replace("utf8mb4", "latin1"), "not a lock table"),
        (good.replace("InnoDB", "MyISAM"), "ENGINE = InnoDB"),
    ];
    for (create, why) in cases {
        place.tamper(&create);
        let error = unfit(&place, &create);
        assert!(matches!(error, Error::UnsafeServer(_)), "{error:?}");
        assert!(error.to_string().contains(why), "{create}: {error}");
        let what = if create.contains("VIEW") { "VIEW" } else { "TABLE" };
        place.tamper(&format!("DROP {what} {{table}}"));
    }
    place.tamper(&good);
    for when in ["BEFORE INSERT", "AFTER UPDATE", "BEFORE DELETE"] {
        place.tamper(&format!(
            "CREATE TRIGGER {{table}}_audit {when} ON {{table}} FOR EACH ROW SET @audited = 1"
        ));
        let error = unfit(&place, when);
        assert!(error.to_string().contains("has triggers"), "{when}: {error}");
        place.tamper("DROP TRIGGER {table}_audit");
    }
    place.tamper("DROP TABLE {table}");
    // More columns than ours are nobody's business.
    place.tamper(&good.replace("fence BIGINT", "note TEXT, KEY (expires_us), fence BIGINT"));
    drop(place.locks(TTL).lock("a").expect("taken"));
}

fn creating_needs_rights_only_where_the_table_is_missing(kind: Kind) {
    let place = kind.place();
    let schema = place.table().replace("locks", "schema");
    let mut admin = mysql_client(place.url());
    let mut run = |sql: String| admin.query_drop(sql).expect("run");
    run(format!("CREATE DATABASE {schema}"));
    let server = server_of(place.url());
    let app = format!("mysql://app:secret@{server}/test?table={schema}.jobs");
    let told = Locks::connect(&app).map(drop).expect_err("it may not create it").to_string();
    assert!(told.contains("CREATE TABLE IF NOT EXISTS") && told.contains("denied"), "{told}");
    assert!(!told.contains('\n') && !told.contains("--"), "{told}");
    let ddl = app.parse::<Config>().expect("good").create_table().expect("a statement");
    run(ddl);
    run(format!("GRANT SELECT, INSERT, UPDATE ON {schema}.jobs TO app@'%'"));
    let locks = Locks::connect(&app).expect("the table is there");
    locks.lock("a").expect("these rights suffice").release().expect("released");
    let guards = ["b", "c"].map(|name| locks.lock(name).expect("taken"));
    std::thread::scope(|scope| {
        for guard in guards {
            scope.spawn(|| guard.release().expect("released"));
        }
    });
    run(format!("REVOKE UPDATE ON {schema}.jobs FROM app@'%'"));
    assert!(matches!(locks.try_lock("a"), Err(Error::Refused(_))));
    run(format!("DROP DATABASE {schema}"));
}

fn servers_that_forget_or_only_read_are_refused(kind: Kind) {
    let server = kind.server();
    let mut admin = mysql_client(server.url());
    for (careless, careful, why) in [
        (
            "innodb_flush_log_at_trx_commit = 2",
            "innodb_flush_log_at_trx_commit = 1",
            "do not survive",
        ),
        (
            "innodb_flush_log_at_trx_commit = 0",
            "innodb_flush_log_at_trx_commit = 1",
            "do not survive",
        ),
        ("read_only = 1", "read_only = 0", "connect to the primary"),
    ] {
        let place = Place::at(server.url());
        admin.query_drop(format!("SET GLOBAL {careless}")).expect("set");
        let error = unfit(&place, careless);
        assert!(
            matches!(&error, Error::UnsafeServer(told) if told.to_string().contains(why)),
            "{error:?}"
        );
        admin.query_drop(format!("SET GLOBAL {careful}")).expect("set");
        drop(place.locks(TTL).lock("a").expect("taken"));
    }
}

fn a_connection_of_the_callers_works_until_it_is_closed(kind: Kind) {
    let place = kind.place();
    let table = TableName::new(place.table()).expect("good");
    let mut own = mysql_client(place.url());
    own.query_drop("SET sql_mode = '', SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE").ok();
    own.query_drop("SET autocommit = 0").expect("set");
    let id = own.connection_id();
    let locks = Locks::with_mysql(own, Config::new().table(table)).expect("connected");
    let guard = locks.lock("a").expect("taken");
    assert!(place.locks(TTL).try_lock("a").expect("asked").is_none(), "it is committed");
    guard.release().expect("released");
    mysql_client(place.url()).query_drop(format!("KILL {id}")).expect("ended");
    let error = locks.try_lock("a").map(drop).expect_err("there is no way back");
    assert!(matches!(error, Error::NoConnection(_)), "{error:?}");
}

fn a_connection_of_the_callers_works_with_tokio_too(kind: Kind) {
    let place = kind.place();
    let table = TableName::new(place.table()).expect("good");
    let url = place.url().replacen("mariadb://", "mysql://", 1);
    let others = place.locks(TTL);
    let error = wait(async {
        let mut own = mysql_async::Conn::from_url(url).await.expect("connected");
        mysql_async::prelude::Queryable::query_drop(&mut own, "SET autocommit = 0")
            .await
            .expect("set");
        let id = own.id();
        let opening = lock_async::Locks::with_mysql(own, Config::new().table(table));
        let locks = opening.await.expect("connected");
        let guard = locks.lock("a").await.expect("taken");
        assert!(others.try_lock("a").expect("asked").is_none(), "it is committed");
        guard.release().await.expect("released");
        mysql_client(place.url()).query_drop(format!("KILL {id}")).expect("ended");
        locks.try_lock("a").await.map(drop).expect_err("there is no way back")
    });
    assert!(matches!(error, lock_async::Error::NoConnection(_)), "{error:?}");
}

/// A server of MySQL's protocol that says what the test wants: `talk` after the greeting.
fn impostor(talk: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = talk(&mut stream);
        }
    });
    format!("mysql://app:hunter2@127.0.0.1:{port}/test?sslmode=disable&ttl=3s")
}

fn packet(stream: &mut TcpStream, number: u8, payload: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).expect("short").to_le_bytes();
    stream.write_all(&[&length[..3], &[number], payload].concat())
}

fn read_packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut payload = vec![0; usize::from(head[0]) + usize::from(head[1]) * 256];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];

fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
    let greeting = [
        b"\x0a8.4.0\0\x01\0\0\0aaaaaaaa\0".as_slice(),
        // Capabilities (protocol 4.1, a database, files, plugins), character set, status.
        &[0x88, 0xa2, 45, 2, 0, 0x08, 0x00, 21],
        &[0; 10],
        b"aaaaaaaaaaaa\0mysql_native_password\0",
    ];
    packet(stream, 0, &greeting.concat())
}

#[test]
fn a_password_is_sent_to_nobody_in_the_clear() {
    let (tell, told) = std::sync::mpsc::channel();
    let url = impostor(move |stream| {
        greet(stream)?;
        read_packet(stream)?;
        packet(stream, 2, b"\xfemysql_clear_password\0")?;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let _ = tell.send(rest);
        Ok(())
    });
    errors(&url);
    for _ in 0..2 {
        let sent = told.recv_timeout(Duration::from_secs(10)).expect("it hung up");
        assert!(!sent.windows(7).any(|bytes| bytes == b"hunter2"), "{sent:?}");
    }
}

#[test]
fn a_file_is_given_to_nobody() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "the file's text").expect("written");
    let wanted = secret.path().display().to_string();
    let (tell, told) = std::sync::mpsc::channel();
    let url = impostor(move |stream| {
        greet(stream)?;
        read_packet(stream)?;
        packet(stream, 2, &OK)?;
        read_packet(stream)?;
        packet(stream, 1, &[b"\xfb", wanted.as_bytes()].concat())?;
        let mut rest = vec![0; 1000];
        let read = stream.read(&mut rest)?;
        let _ = tell.send(rest[..read].to_vec());
        Ok(())
    });
    errors(&url);
    for _ in 0..2 {
        let sent = told.recv_timeout(Duration::from_secs(10)).expect("it answered or hung up");
        assert!(sent.len() <= 4, "no more than an empty packet: {sent:?}");
    }
}

/// It stays so until somebody changes the user there.
#[test]
fn a_login_method_that_nobody_knows_is_refused() {
    let url = impostor(move |stream| {
        greet(stream)?;
        read_packet(stream)?;
        packet(stream, 2, b"\xfesome_other_method\0seed\0")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let (blocking, tokio) = errors(&url);
    for error in [blocking, tokio] {
        let told = matches!(&error, Error::Refused(why) if why.contains("login method"));
        assert!(told, "{error:?}");
    }
}

#[test]
fn whatever_a_server_says_is_an_error_and_no_panic() {
    // Handshakes and answers that go wrong in many ways; the random ones are the same every time.
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |length: usize| -> Vec<u8> {
        let byte = |_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        };
        (0..length).map(byte).collect()
    };
    let mut talks: Vec<(bool, Vec<u8>)> = vec![
        (false, vec![]),
        (false, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        (false, b"\x0a\0\0\0\x0anonsense\0".to_vec()),
        (true, vec![0xff, 0xff, 0xff, 0]),
        (true, b"\x01\0\0\x02\xfe".to_vec()),
        (true, b"\x05\0\0\x02\xff\x15\x04#2".to_vec()),
    ];
    for length in (1..60).step_by(3) {
        talks.push((false, random(length)));
        let body = random(length);
        talks.push((true, [&[length as u8, 0, 0, 2][..], &body].concat()));
    }
    for (greeted, bytes) in talks {
        let url = impostor(move |stream| {
            if greeted {
                greet(stream)?;
                read_packet(stream)?;
            }
            stream.write_all(&bytes)
        });
        errors(&url);
    }
    // And after a good beginning.
    for length in (1..60).step_by(3) {
        let body = random(length);
        let url = impostor(move |stream| {
            greet(stream)?;
            read_packet(stream)?;
            packet(stream, 2, &OK)?;
            read_packet(stream)?;
            packet(stream, 1, &body)
        });
        errors(&url);
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let url = impostor(|stream| {
        let mut never = [0; 1];
        let _ = stream.read_exact(&mut never);
        Ok(())
    });
    let began = std::time::Instant::now();
    assert!(error(&url).to_string().contains("no answer in time"));
    // Each driver gives the first connect 10 s.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

//! Servers that answer as no Consul does: an error, never a panic or a grant, and never a request
//! elsewhere.

use lock_sync::{ConfigError, Error, LostReason};
use lock_tests::drivers::{Driver, Locks, connect};
use lock_tests::place::Place;
use lock_tests::proxy::{Proxy, eventually, server_of};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

macro_rules! hostile {
    ($($name:ident)*) => {
        mod blocking {
            $(#[test]
            fn $name() { super::$name(super::Driver::Blocking) })*
        }
        mod asynchronous {
            $(#[test]
            fn $name() { super::$name(super::Driver::Tokio) })*
        }
    };
}

mod tokens;

use tokens::{a_look_has_the_token, each_connect_has_the_token};

hostile! {
    each_connect_has_the_token
    a_look_has_the_token
    the_fake_is_good_enough_to_be_taken_for_a_consul
    answers_that_make_no_sense_are_errors_and_no_grants
    a_redirect_is_not_followed
    an_answer_that_drips_ends_in_time
    an_answer_without_an_end_is_not_read_to_its_end
    a_session_that_is_gone_is_lost_at_once_and_a_server_that_errs_by_the_deadline
}

const SESSION: &str = "11111111-1111-1111-1111-111111111111";
const TOKEN: &str = "hunter2";

/// What was asked.
struct Asked {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// An answer as it goes over the line; nothing more comes, and the connection ends, after it.
type Answers = Box<dyn Fn(&Asked) -> Vec<u8> + Send + Sync>;

/// A server of this process.
struct Fake {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Fake {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let answers: Answers = Box::new(well);
        let fake = Self { address, asked: Arc::default(), answers: Arc::new(Mutex::new(answers)) };
        let (asked, answers) = (fake.asked.clone(), fake.answers.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answers, tls) = (asked.clone(), answers.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).expect("a configuration");
                        serve(StreamOwned::new(connection, stream), &asked, &answers)
                    }
                    None => serve(stream, &asked, &answers),
                });
            }
        });
        fake
    }

    fn answer(&self, answers: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) {
        *self.answers.lock().expect("unpoisoned") = Box::new(answers);
    }

    fn connect(&self, driver: Driver) -> Result<Locks, Error> {
        let url = format!("consul://{}?token={TOKEN}&request_timeout=1s", self.address);
        connect(driver, &url)
    }

    fn asked<T>(&self, of: impl Fn(&Asked) -> T) -> Vec<T> {
        self.asked.lock().expect("unpoisoned").iter().map(of).collect()
    }
}

fn serve(
    stream: impl Read + Write,
    asked: &Mutex<Vec<Asked>>,
    answers: &Mutex<Answers>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        match header.trim() {
            "" => break,
            header => headers.push(header.to_lowercase()),
        }
    }
    let length = headers.iter().find_map(|h| h.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).expect("text");
    let question = Asked { line: line.trim().to_string(), headers, body };
    let answer = answers.lock().expect("unpoisoned")(&question);
    asked.lock().expect("unpoisoned").push(question);
    reader.get_mut().write_all(&answer).ok()
}

/// What Consul would say.
fn well(asked: &Asked) -> Vec<u8> {
    if asked.line.contains("/session/create") {
        return json(200, &format!(r#"{{"ID":"{SESSION}"}}"#));
    }
    if asked.line.contains("/session/renew") {
        return json(200, &format!(r#"[{{"ID":"{SESSION}"}}]"#));
    }
    if asked.line.contains("/session/destroy") {
        return json(200, "true");
    }
    if asked.body.contains(r#""Verb":"unlock""#) {
        let what = "failed to unlock key 'x', lock isn't held, or is held by another session";
        return json(
            409,
            &format!(r#"{{"Results":null,"Errors":[{{"OpIndex":0,"What":"{what}"}}]}}"#),
        );
    }
    json(200, &granted())
}

fn granted() -> String {
    format!(
        r#"{{"Results":[{{"KV":{{"Key":"locks/a/lock","ModifyIndex":7,"Session":"{SESSION}"}}}}],"Errors":null}}"#
    )
}

fn json(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} It\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into()
}

fn the_fake_is_good_enough_to_be_taken_for_a_consul(driver: Driver) {
    let fake = Fake::start();
    let locks = fake.connect(driver).expect("connected");
    let guard = locks.try_lock("a").expect("asked").expect("granted");
    assert_eq!(guard.fence().get(), 7);
    drop(guard);
    drop(locks);
    let tokens = || fake.asked(|asked| asked.headers.contains(&format!("x-consul-token: {TOKEN}")));
    assert!(eventually(|| tokens().len() >= 7), "{:?}", fake.asked(|asked| asked.line.clone()));
    assert!(tokens().into_iter().all(|there| there), "with every request");
    let elsewhere = fake.asked(|asked| asked.line.contains(TOKEN) || asked.body.contains(TOKEN));
    assert!(!elsewhere.contains(&true), "and nowhere else");
}

fn answers_that_make_no_sense_are_errors_and_no_grants(driver: Driver) {
    let other = SESSION.replace('1', "2");
    let huge = format!(r#"{{"Results":[],"Errors":"{}"}}"#, "x".repeat(2 << 20));
    let deep = "[".repeat(100_000);
    let bodies = [
        String::new(),
        "null".to_string(),
        "true".to_string(),
        "{}".to_string(),
        "<html>".to_string(),
        "\u{0}\u{1}\u{7f}".to_string(),
        granted()[..20].to_string(),
        granted().replace(SESSION, &other),
        granted().replace("locks/a/lock", "locks/b/lock"),
        granted().replace(":7", ":-7"),
        granted().replace(":7", ":\"7\""),
        granted().replace(":7", ":0"),
        granted().replace(":7", ":7.5"),
        granted().replace(":7", ":99999999999999999999"),
        format!("{}x", granted()),
        huge,
        deep,
    ];
    let mut answers: Vec<Vec<u8>> = bodies.iter().map(|body| json(200, body)).collect();
    answers.extend([
        json(500, "rpc error: No cluster leader"),
        json(404, ""),
        json(204, ""),
        json(999, &granted()),
        b"HTTP/1.1 200 It\r\nContent-Length: 9999\r\n\r\n{\"Results\":".to_vec(),
        b"HTTP/1.1 200 It\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"HTTP/1.1 200 It\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"Res".to_vec(),
        b"HTTP/1.1 200 It\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"HTTP/9.9 200\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        [b"HTTP/1.1 200 It\r\nX-A: ".as_slice(), &[b'a'; 1 << 20], b"\r\n\r\n"].concat(),
        [b"HTTP/1.1 200 It\r\n".as_slice(), &b"X-A: a\r\n".repeat(10_000), b"\r\n"].concat(),
        vec![0xff; 4096],
        Vec::new(),
    ]);
    std::thread::scope(|scope| {
        for part in answers.chunks(answers.len().div_ceil(8)) {
            scope.spawn(|| part.iter().for_each(|answer| makes_no_sense(driver, answer)));
        }
    });
}

fn makes_no_sense(driver: Driver, answer: &[u8]) {
    let shown: String = String::from_utf8_lossy(answer).chars().take(100).collect();
    let fake = Fake::start();
    let locks = fake.connect(driver).expect("connected");
    let sent = answer.to_vec();
    fake.answer(move |asked| match asked.body.contains(r#""Verb":"lock""#) {
        true => sent.clone(),
        false => well(asked),
    });
    let error = locks.try_lock("a").map(drop).expect_err(&shown).to_string();
    assert!(!error.contains('\n') && !error.contains(TOKEN) && error.len() < 1000, "{error}");

    // The same to whoever connects.
    let sent = answer.to_vec();
    fake.answer(move |_| sent.clone());
    let error = fake.connect(driver).map(drop).expect_err(&shown).to_string();
    assert!(!error.contains('\n') && !error.contains(TOKEN) && error.len() < 1000, "{error}");
}

fn a_redirect_is_not_followed(driver: Driver) {
    let (fake, elsewhere) = (Fake::start(), Fake::start());
    for status in [301, 302, 303, 307, 308] {
        let to = format!(
            "HTTP/1.1 {status} It\r\nLocation: http://{}/v1/txn\r\nContent-Length: 0\r\n\r\n",
            elsewhere.address
        );
        fake.answer(move |_| to.clone().into());
        let error = fake.connect(driver).map(drop).expect_err("a redirect");
        assert!(matches!(&error, Error::Refused(why) if why.contains("redirect")), "{error:?}");
        assert!(!error.to_string().contains(&elsewhere.address), "{error}");
    }
    assert_eq!(elsewhere.asked(|asked| asked.line.clone()), [""; 0]);
}

fn an_answer_that_drips_ends_in_time(driver: Driver) {
    let fake = Fake::start();
    let locks = fake.connect(driver).expect("connected");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // An answer to nothing would be refused at once.
                let _ = stream.read_exact(&mut [0; 4]);
                let _ = stream.write_all(b"HTTP/1.1 200 It\r\nContent-Length: 100000\r\n\r\n");
                while stream.write_all(b" ").is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    let began = Instant::now();
    let slow = connect(driver, &format!("consul://{address}?request_timeout=1s"));
    let error = slow.map(drop).expect_err("slow");
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900), "it was given its time: {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(locks.try_lock("a").expect("asked").is_some(), "the other one is well");
}

/// After more than anybody needs to know, the server says nothing, and keeps the connection.
fn an_answer_without_an_end_is_not_read_to_its_end(driver: Driver) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.read_exact(&mut [0; 4]);
                let _ = stream.write_all(b"HTTP/1.1 200 It\r\nContent-Length: 9000000\r\n\r\n");
                let _ = stream.write_all(&[b' '; 1_100_000]);
                while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
            });
        }
    });
    let url = format!("consul://{address}?ttl=60s&request_timeout=9s");
    let error = connect(driver, &url).map(drop).expect_err("no answer");
    assert!(error.to_string().contains("longer than any"), "{error}");
}

fn a_session_that_is_gone_is_lost_at_once_and_a_server_that_errs_by_the_deadline(driver: Driver) {
    let fake = Fake::start();
    let url = format!("consul://{}?ttl=3s", fake.address);
    for status in [404, 500] {
        fake.answer(well);
        let guard = connect(driver, &url).expect("connected").lock("a").expect("granted");
        let granted = Instant::now();
        fake.answer(move |asked| match asked.line.contains("/session/renew") {
            true => json(status, "gone"),
            false => well(asked),
        });
        assert!(eventually(|| guard.lost_reason().is_some()));
        match (status, guard.lost_reason().expect("just seen")) {
            (404, reason) => assert_eq!(reason, LostReason::Taken),
            (_, LostReason::Deadline { last_failure: Some(why) }) => {
                assert!(why.to_string().contains("500"), "{why}");
            }
            (_, reason) => panic!("{reason}"),
        }
        // A lease of 3 s counts for 2.5 s.
        let after = granted.elapsed();
        assert!(after <= Duration::from_secs(5), "{after:?}");
    }
}

/// A server with a certificate of the authority that `tests/servers` has made.
fn encrypted() -> (Fake, String) {
    let ca = std::env::var("LOCK_TEST_POSTGRES_CA");
    let ca = ca.expect("LOCK_TEST_POSTGRES_CA: tests/run makes an authority and sets it");
    let file = |name: &str| ca.replace("ca.pem", name);
    let chain: Vec<_> = CertificateDer::pem_file_iter(file("cert.pem"))
        .expect("read")
        .map(|certificate| certificate.expect("a certificate"))
        .collect();
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    (Fake::start_with(Some(Arc::new(config))), ca)
}

#[test]
#[ignore = "needs a Consul server, and a PostgreSQL's certificate: tests/run starts them"]
fn the_certificate_is_checked_before_anything_is_sent() {
    the_certificate_is_checked(Driver::Blocking);
}

#[test]
#[ignore = "needs a Consul server, and a PostgreSQL's certificate: tests/run starts them"]
fn the_certificate_is_checked_before_anything_is_sent_with_tokio() {
    the_certificate_is_checked(Driver::Tokio);
}

fn the_certificate_is_checked(driver: Driver) {
    let (fake, ca) = encrypted();
    let (_, port) = fake.address.split_once(':').expect("a port");
    let at = |host: &str, parameters: &str| {
        let url = format!("consul://{host}?token={TOKEN}&{parameters}");
        connect(driver, &url).and_then(|locks| locks.lock("a").map(drop))
    };
    let good = format!("sslrootcert={ca}");
    for host in ["localhost", "127.0.0.1"] {
        let result = at(&format!("{host}:{port}"), &good);
        assert_eq!(result, Ok(()), "{host}");
    }
    // Three to see whether it will do; a session, a lock, and their ends.
    let sent = 2 * 7;
    assert!(
        eventually(|| fake.asked(|_| ()).len() == sent),
        "{:?}",
        fake.asked(|a| a.line.clone())
    );
    let certificate = |result: &Result<(), Error>| matches!(result, Err(Error::Refused(why)) if why.contains("certificate") && why.contains("sslmode"));
    let unknown = at(&format!("localhost:{port}"), "sslmode=verify-full");
    assert!(certificate(&unknown), "the system's authorities do not know it: {unknown:?}");
    let proxy = Proxy::start_at("127.0.0.2", &fake.address);
    let other = at(&proxy.url(&format!("x://{}", fake.address))[4..], &good);
    assert!(certificate(&other), "another host's certificate: {other:?}");
    let named = |name: &str| {
        let url = proxy.url(&format!("x://{}", fake.address));
        at(&url[4..], &format!("{good}&server_name={name}"))
    };
    let unnamed = named("server.dc1.consul");
    assert!(certificate(&unnamed), "a name that it does not have: {unnamed:?}");
    let plain = at(&format!("localhost:{port}"), "sslmode=disable");
    assert!(matches!(plain, Err(Error::Unavailable(_))), "{plain:?}");
    assert_eq!(fake.asked(|_| ()).len(), sent, "nothing was sent to whom it was not meant for");
    assert_eq!(named("localhost"), Ok(()), "a name that it has");
    // It is asked for by the name in the URL all the same.
    let host = format!("host: {}", &proxy.url(&format!("x://{}", fake.address))[4..]);
    let asked = fake.asked(|asked| asked.headers.contains(&host));
    assert!(asked.len() > sent && !asked[sent..].contains(&false), "{asked:?}");
    for file in ["/nonexistent.pem", "/dev/null"] {
        let missing = at(&format!("localhost:{port}"), &format!("sslrootcert={file}"));
        assert!(matches!(missing, Err(Error::Config(ConfigError::Tls(_)))), "{missing:?}");
    }
    // And where there is no TLS.
    let open = Place::consul();
    let clear = at(&server_of(open.url()), &good);
    assert!(
        matches!(&clear, Err(Error::Refused(why)) if why.contains("sslmode=disable")),
        "{clear:?}"
    );
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn one_connection_carries_all_requests() {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let place = Place::consul();
        // Also if it is not the first agent of the URL.
        for dead in ["", "127.0.0.1:1,"] {
            let proxy = Proxy::start(&server_of(place.url()));
            let url = proxy.url(place.url()).replace("consul://", &format!("consul://{dead}"));
            let locks = connect(driver, &url).expect("connected");
            locks.lock("a").expect("taken").release().expect("released");
            let before = proxy.connections();
            for _ in 0..20 {
                locks.lock("a").expect("taken").release().expect("released");
            }
            assert_eq!(proxy.connections(), before, "{driver:?}, {dead:?}");
        }
    }
}

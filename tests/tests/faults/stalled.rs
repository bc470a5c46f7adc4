//! Servers that take a connection and then are silent, or send a byte now and then: a connect ends all the same.

use lock_sync::Error;
use lock_tests::drivers::wait;
use lock_tests::stalled::Stalled;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long each step of a connect may take.
const BUDGET: Duration = Duration::from_millis(400);
/// Much longer than a connect that is bounded, and much shorter than one that is not.
const LONG: Duration = Duration::from_secs(60);

/// An authority, for a handshake that never gets as far as to need it.
pub(crate) const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBejCCAR+gAwIBAgIUIVOMs7hemFcmDYko7XXnK/Qd8kcwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyNzE2Mjc1NloYDzIxMjYxMTAzMTYy
NzU2WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQ5FQieohtGYX+SOpLC/u65aTP2dnq6zwVY9lZf9e4styswfk4biMqv23FLHAqa
JvE0uxOTYeGjJ6Ong1sjUNqVo1MwUTAdBgNVHQ4EFgQU7oELxC7BBuHo5lZORsr+
oMy3os4wHwYDVR0jBBgwFoAU7oELxC7BBuHo5lZORsr+oMy3os4wDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAg77K9eKA2zZKrpYWy1w4zn9NcTQ8
Gt/k6Zdb/9VGwFoCIQC3xdK3z2Fr+wXRRnWvkVbskoFmFaJnKSMRxij88DBhLQ==
-----END CERTIFICATE-----
";
/// The beginning of a TLS record that is longer than anybody waits for.
const TLS: &[u8] = &[0x16, 3, 3, 0x3f, 0xff];

/// A way to a server, and how far that one goes.
struct Case {
    url: &'static str,
    first: Vec<u8>,
    /// What it says to an answer.
    next: &'static [u8],
    drips: bool,
}

/// The first words of MySQL, which has TLS or not.
pub(crate) fn greeting(tls: bool) -> Vec<u8> {
    let mut body = b"\x0a8.4.0\0".to_vec();
    body.extend([7, 0, 0, 0]);
    body.extend(b"abcdefgh\0");
    // All that a client may ask for, with TLS or without it.
    body.extend([0xff, if tls { 0xff } else { 0xf7 }, 0x2d, 2, 0, 0xff, 0xdf, 21]);
    body.extend([0; 10]);
    body.extend(b"ijklmnopqrst\0caching_sha2_password\0");
    let length = u8::try_from(body.len()).expect("short");
    [&[length, 0, 0, 0], &*body].concat()
}

fn cases() -> Vec<Case> {
    let hello = greeting(true);
    let silent = |url, first: &[u8]| Case { url, first: first.to_vec(), next: &[], drips: false };
    let drips = |url, first: &[u8], next| Case { url, first: first.to_vec(), next, drips: true };
    let head = b"HTTP/1.1 200 OK\r\nX: ";
    let body = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n";
    vec![
        silent("postgres://u@HOST/d?sslmode=disable", b""),
        drips("postgres://u@HOST/d?sslmode=disable", b"", b"R\0\x3f\xff\xff"),
        silent("postgres://u@HOST/d?sslmode=require", b""),
        silent("postgres://u@HOST/d?sslmode=require", b"S"),
        drips("postgres://u@HOST/d?sslmode=require", b"S", TLS),
        drips("postgres://u@HOST/d?protocol=advisory&sslmode=require", b"S", TLS),
        silent("mysql://u@HOST/d?sslmode=disable", b""),
        drips("mysql://u@HOST/d?sslmode=disable", &[0xff, 0xff, 0x3f, 0], &[]),
        silent("mysql://u@HOST/d?sslmode=require", &hello),
        drips("mysql://u@HOST/d?sslmode=require", &hello, TLS),
        drips("mysql://u@HOST/d?protocol=advisory&sslmode=require", &hello, TLS),
        drips("mysql://u@HOST/d?protocol=advisory&sslmode=disable", &[0xff, 0xff, 0x3f, 0], &[]),
        silent("consul://HOST?sslmode=disable", b""),
        drips("consul://HOST?sslmode=disable", b"", head),
        drips("consul://HOST?sslmode=disable", b"", body),
        silent("consul://HOST?sslrootcert=CA", b""),
        drips("consul://HOST?sslrootcert=CA", b"", TLS),
    ]
}

/// What becomes of a connect, each on a thread of its own.
type Ends = Receiver<Result<(), String>>;

fn begin(call: impl FnOnce() -> Result<(), String> + Send + 'static) -> Ends {
    let (tell, told) = channel();
    std::thread::spawn(move || tell.send(call()));
    told
}

/// Connects by both drivers, for locks and for an operator.
fn connects(url: &str) -> Vec<(&'static str, Ends)> {
    let blocking = || -> lock_sync::Config { url.parse().expect("a good URL") };
    let tokio = || -> lock_async::Config { url.parse().expect("a good URL") };
    let (one, two) = (blocking().request_timeout(BUDGET), blocking().request_timeout(BUDGET));
    let (three, four) = (tokio().request_timeout(BUDGET), tokio().request_timeout(BUDGET));
    let line = |error: Error| error.to_string();
    let mut all = vec![
        ("lock-sync", begin(move || lock_sync::Locks::open(one).map(drop).map_err(line))),
        (
            "lock-async",
            begin(move || {
                wait(lock_async::Locks::open(three)).map(drop).map_err(|error| error.to_string())
            }),
        ),
    ];
    if !url.contains("advisory") {
        let admin = begin(move || {
            lock_sync::Admin::open(two).and_then(|mut a| a.list()).map(drop).map_err(line)
        });
        let other = begin(move || {
            let listed = wait(async { lock_async::Admin::open(four).await?.list().await });
            listed.map(drop).map_err(|error| error.to_string())
        });
        all.extend([("lock-sync's Admin", admin), ("lock-async's Admin", other)]);
    }
    all
}

#[test]
fn a_connect_ends_whatever_the_server_does_not_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, AUTHORITY).expect("written");
    let url = |case: &Case, server: &Stalled| {
        case.url.replace("HOST", &server.place()).replace("CA", &authority.display().to_string())
    };
    let cases = cases();
    let servers: Vec<_> =
        cases.iter().map(|case| Stalled::start(&case.first, case.next, case.drips)).collect();
    let began = cases
        .iter()
        .zip(&servers)
        .map(|(case, server)| (case, server, connects(&url(case, server))));
    let mut hang = Vec::new();
    for (case, server, ends) in began.collect::<Vec<_>>() {
        for (who, end) in ends {
            let what = format!("{who}, {}, drips: {}", case.url, case.drips);
            match end.recv_timeout(LONG) {
                Ok(Err(line)) => assert!(line.contains("time"), "{what}: {line}"),
                Ok(Ok(())) => panic!("{what}: connected"),
                Err(_) => hang.push(what),
            }
        }
        assert!(server.connections() > 0, "{}", case.url);
    }
    assert!(hang.is_empty(), "{hang:#?}");
}

//! Servers that are there and say nothing, or next to nothing: a wait ends when it is to end.

use lock_tests::place::{Place, client};
use lock_tests::proxy::{Mode, Proxy, server_of};
use lock_tests::withlock::{Ended, Run, Sandbox, eventually, state};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How much later than wanted an end may come on a machine that is very busy.
const BUSY: Duration = Duration::from_secs(9);

/// Calls `answer` for each connection, on a thread of its own.
fn serve(answer: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || answer(client));
        }
    });
    address
}

fn silent(mut client: TcpStream) {
    let _ = std::io::copy(&mut client, &mut std::io::sink());
}

/// TLS is agreed on, and no handshake follows.
fn postgres_stalls(mut client: TcpStream) {
    let _ = client.read_exact(&mut [0; 8]).and_then(|()| client.write_all(b"S"));
    silent(client);
}

/// A byte a second, of what could become an answer.
fn drips(mut client: TcpStream, begin: &[u8]) {
    let _ = client.write_all(begin);
    while client.write_all(b"R").is_ok() {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn postgres_drips(mut client: TcpStream) {
    let _ = client.read(&mut [0; 1024]);
    drips(client, b"N");
}

/// MySQL's greeting, with TLS.
const GREETING: &[u8] = b"\x49\0\0\0\x0a8.0.0\0\x07\0\0\0abcdefgh\0\x09\x8a\x2d\x02\0\x08\0\x15\
    \0\0\0\0\0\0\0\0\0\0abcdefghijkl\0mysql_native_password\0";

fn mysql_stalls(mut client: TcpStream) {
    let _ = client.write_all(GREETING);
    silent(client);
}

fn mysql_drips(client: TcpStream) {
    drips(client, &GREETING[..20]);
}

fn consul_drips(client: TcpStream) {
    drips(client, b"HTTP/1.1 200 OK\r\nX-Rest: ");
}

/// Connections to it are not even accepted: packets seem to be dropped.
fn full() -> (SocketAddr, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    rustix::net::listen(&listener, 0).expect("a shorter queue");
    let mut taken = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        taken.push(stream);
        assert!(taken.len() < 100, "the queue has an end");
    }
    // As long as the process: nobody else is to get the port.
    std::mem::forget(listener);
    (address, taken)
}

fn ends_in_time(sandbox: &Sandbox, url: &str, args: &[&str], wait: Duration) -> Ended {
    let args = [args, &["n", "--", "touch", "ran"]].concat();
    let ended = sandbox.run(url, &args).expect(125);
    assert!(ended.took < wait + BUSY, "{url}: {ended:?}");
    assert!(ended.stderr.contains("the lock server cannot be used: "), "{url}: {ended:?}");
    ended
}

#[test]
fn a_silent_server_delays_no_end_of_a_wait() {
    let (hole, _taken) = full();
    let nothing = serve(silent);
    let mut urls = vec![
        format!("postgres://me@{}/d?sslmode=require", serve(postgres_stalls)),
        format!("postgres://me@{}/d", serve(postgres_drips)),
        format!("mysql://me@{}/d?sslmode=require", serve(mysql_stalls)),
        format!("mysql://me@{}/d", serve(mysql_drips)),
        format!("consul://{nothing}?sslmode=verify-full"),
        format!("consul://{}", serve(consul_drips)),
    ];
    for address in [hole, nothing] {
        urls.push(format!("postgres://me@{address}/d"));
        urls.push(format!("mysql://me@{address}/d"));
        urls.push(format!("consul://{address}"));
    }
    let sandbox = Sandbox::new();
    std::thread::scope(|scope| {
        for url in &urls {
            let (sandbox, wait) = (&sandbox, Duration::from_secs(4));
            scope.spawn(move || {
                let ended = ends_in_time(sandbox, url, &["-w", "4s"], wait);
                let told = ended.slow.as_deref().unwrap_or_default();
                assert!(told.starts_with("withlock: waiting for \"n\" at "), "{url}: {ended:?}");
                assert_eq!(told.lines().count(), 1, "{url}: {ended:?}");
            });
            for args in [&["-n"][..], &["--skip"], &["-w0s"]] {
                scope.spawn(move || {
                    // Once, for as long as a connect may take.
                    let ended = ends_in_time(sandbox, url, args, Duration::from_secs(10));
                    assert_eq!(ended.stderr.lines().count(), 1, "{url}: {ended:?}");
                });
            }
        }
    });
    assert!(!sandbox.path("ran").exists());
}

/// A run in the middle of a connect to a server that says nothing.
fn hears_nothing(sandbox: &Sandbox, args: &[&str]) -> (Run, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgres://me@{}/d", listener.local_addr().expect("bound"));
    let (connects, connected) = std::sync::mpsc::channel();
    std::thread::spawn(move || listener.accept().map(|(client, _)| connects.send(client)));
    let run = sandbox.start(&mut sandbox.withlock(&url, args));
    (run, connected.recv().expect("a client"))
}

/// The stop key is for a connect that takes its time, too.
#[test]
fn a_connect_that_hears_nothing_can_be_stopped_and_goes_on() {
    let sandbox = Sandbox::new();
    let (run, _client) = hears_nothing(&sandbox, &["-n", "n", "--", "touch", "ran"]);
    run.signal(Signal::TSTP);
    eventually("it is stopped", || state(run.pid()) == Some('T'));
    run.signal(Signal::CONT);
    run.signal(Signal::TERM);
    let ended = run.end();
    // A connect takes ten seconds at most, in which this machine may have had no time for it.
    assert!(ended.code == 143 || ended.took >= Duration::from_secs(10), "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

/// `fg` may come before the stop has happened, which waits for the connect. It undoes the stop.
#[test]
fn a_stop_that_is_taken_back_in_a_connect_stops_nothing() {
    let sandbox = Sandbox::new();
    let (run, _client) = hears_nothing(&sandbox, &["n", "--", "touch", "ran"]);
    run.signal(Signal::TSTP);
    std::thread::sleep(Duration::from_millis(200));
    run.signal(Signal::CONT);
    run.signal(Signal::TERM);
    run.end().expect(143);
    assert!(!sandbox.path("ran").exists());
}

/// On the way to a server that had said that somebody has the lock, everything vanishes.
fn falls_silent(place: &Place, kind: &[&str]) {
    let sandbox = Sandbox::new();
    let url = place.whole_url();
    let _holder = sandbox.hold(&url, &[kind, &["n"]].concat(), "sleep 60");
    let proxy = Proxy::start(&server_of(&url));
    let args = [kind, &["-w", "3s", "-v", "n", "--", "touch", "ran"]].concat();
    let mut waiter = sandbox.start(&mut sandbox.withlock(&proxy.url(&url), &args));
    // On a busy machine, the wait may be over before it is told of.
    eventually("it waits", || waiter.waits() || waiter.has_ended());
    proxy.set(Mode::Hole);
    let ended = waiter.end();
    assert!(ended.took < Duration::from_secs(3) + BUSY, "{ended:?}");
    // On a machine that was too busy for the first connect, a request before had no answer in time.
    if ended.slow.is_none() {
        assert_eq!(ended.code, 124, "{ended:?}");
        assert!(ended.stderr.contains("someone else holds \"n\""), "{ended:?}");
    }
    assert!(!sandbox.path("ran").exists());
}

/// It had said that nobody is known to have it.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_command_is_not_skipped_for_a_holder_that_nobody_knows_of() {
    let (sandbox, place) = (Sandbox::new(), Place::postgres());
    let url = place.whole_url();
    sandbox.run(&url, &["n", "--", "true"]).expect(0);
    let mut operator = client(place.url());
    operator.batch_execute("BEGIN").expect("begun");
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", place.table());
    operator.batch_execute(&lock).expect("locked");
    let proxy = Proxy::start(&server_of(&url));
    let between = if url.contains('?') { '&' } else { '?' };
    // The wait ends while one request waits for its answer.
    let (place, args) = (
        format!("{}{between}request_timeout=8s", proxy.url(&url)),
        ["--skip", "-w", "5s", "-v", "n", "--", "touch", "ran"],
    );
    let waiter = sandbox.start(&mut sandbox.withlock(&place, &args));
    eventually("it waits", || waiter.waits());
    proxy.set(Mode::Hole);
    let ended = waiter.end();
    assert_ne!(ended.code, 0, "{ended:?}");
    // On a busy machine, the request may have had no answer in time before that.
    if ended.took < Duration::from_secs(8) {
        assert_eq!(ended.code, 75, "{ended:?}");
    }
    assert!(!ended.stderr.contains("someone else holds"), "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

/// It had said that somebody has the lock, but a request later had no answer.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn who_has_a_lock_is_not_known_of_a_server_that_went_away() {
    let (sandbox, place) = (Sandbox::new(), Place::postgres());
    let url = place.whole_url();
    let _holder = sandbox.hold(&url, &["n"], "sleep 60");
    let proxy = Proxy::start(&server_of(&url));
    let between = if url.contains('?') { '&' } else { '?' };
    let url = format!("{}{between}request_timeout=6s", proxy.url(&url));
    let args = ["-w", "9s", "-v", "n", "--", "touch", "ran"];
    let waiter = sandbox.start(&mut sandbox.withlock(&url, &args));
    eventually("it waits", || waiter.waits());
    proxy.set(Mode::Hole);
    let ended = waiter.end().expect(125);
    assert!(ended.stderr.contains("trying again"), "{ended:?}");
    assert!(!ended.stderr.contains("someone else holds"), "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

macro_rules! places {
    ($($name:ident: $place:expr, $needs:literal;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            #[ignore = $needs]
            fn a_server_that_falls_silent_delays_no_end_of_a_wait() {
                falls_silent(&$place, &[]);
            }

            /// Whether or not the server says who has the permits.
            #[test]
            #[ignore = $needs]
            fn a_server_that_falls_silent_delays_no_end_of_a_wait_for_a_permit() {
                falls_silent(&$place, &["--permits", "1"]);
            }
        }
    )*};
}

places! {
    postgres: Place::postgres(), "needs a PostgreSQL server: tests/run starts one";
    postgres_advisory: Place::postgres_advisory(), "needs a PostgreSQL server: tests/run starts one";
    mysql: Place::mysql(), "needs a MySQL server: tests/run starts one";
    mysql_advisory: Place::mysql_advisory(), "needs a MySQL server: tests/run starts one";
    mariadb: Place::mariadb(), "needs a MariaDB server: tests/run starts one";
    consul: Place::consul(), "needs a Consul server: tests/run starts one";
}

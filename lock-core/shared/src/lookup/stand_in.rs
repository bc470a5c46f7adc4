//! Names for tests. The test sets their addresses, and the system is not asked.

use super::{Answer, locked};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

type Resolve = Arc<dyn Fn() -> Answer + Send + Sync>;

static STAND_INS: Mutex<BTreeMap<String, Resolve>> = Mutex::new(BTreeMap::new());

pub(super) fn instead_of_the_system(name: &str) -> Option<Answer> {
    let resolve = locked(&STAND_INS).get(name).cloned();
    resolve.map(|resolve| resolve())
}

/// Gives a name these addresses.
pub fn known(name: &str, addresses: &[&str]) {
    let address = |ip: &&str| SocketAddr::new(ip.parse().expect("an address"), 0);
    let found: Vec<_> = addresses.iter().map(address).collect();
    locked(&STAND_INS).insert(name.to_string(), Arc::new(move || Ok(found.clone())));
}

/// An agent of Consul's that knows of no lock says so.
pub const NO_LOCK: &str =
    "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// An agent at 127.0.0.2 that gives each request this answer. Returns its port.
pub fn agent(answer: &'static str) -> u16 {
    answering("127.0.0.2:0", answer.as_bytes())
}

/// An agent at 127.0.0.2 that gives each request this answer, all of a connection's. Returns its port.
pub fn agent_that_stays(answer: &'static str) -> u16 {
    let (server, port) = bound("127.0.0.2:0");
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            std::thread::spawn(move || {
                while stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    port
}

/// A server at this address that gives each request this answer. Returns its port.
pub fn answering(address: &str, answer: &'static [u8]) -> u16 {
    let (server, port) = bound(address);
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    port
}

/// A URL whose host has two addresses. At the first, a PostgreSQL server lets everyone in, and then ends the connection.
/// The second belongs to the listener, which waits for nobody.
pub fn second_of_two_good_addresses() -> (String, TcpListener) {
    // AuthenticationOk and ReadyForQuery.
    let port = answering("127.0.0.1:0", b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
    let second = TcpListener::bind(("127.0.0.5", port)).expect("the same port");
    second.set_nonblocking(true).expect("set");
    known("good.invalid", &["127.0.0.1", "127.0.0.5"]);
    (format!("postgres://u@good.invalid:{port}/d?sslmode=disable"), second)
}

/// URLs of a host that is an address in brackets, where no server is.
pub const IN_BRACKETS: [&str; 3] =
    ["postgres://u@[::1]:1/d", "mysql://u@[::1]:1/d", "consul://[::1]:1"];

/// An agent at 127.0.0.1 whose locks are free, and which has sessions to give. Returns its port.
pub fn agent_with_free_locks() -> u16 {
    let (server, port) = bound("127.0.0.1:0");
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let (status, body) = match request.split(' ').nth(1) {
                Some("/v1/session/create") => {
                    ("200 OK", r#"{"ID":"adf4238a-882b-9ddc-4a9d-5b6758e4159e"}"#)
                }
                Some("/v1/txn") => (
                    "409 Conflict",
                    r#"{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to unlock key \"a\", lock isn't held, or is held by another session"}]}"#,
                ),
                _ => ("200 OK", "true"),
            };
            let length = body.len();
            let head = format!("Connection: close\r\nContent-Length: {length}\r\n\r\n");
            let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}{body}");
        }
    });
    port
}

/// A server at this address that says this first of all, and no more. Returns its port.
pub fn greeting(address: &str, says: &'static [u8]) -> u16 {
    let (server, port) = bound(address);
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let _ = stream.write_all(says);
        }
    });
    port
}

/// An agent at 127.0.0.1 that gives these answers: each a status, and headers. Returns its port, and each request once all have
/// come.
pub fn asked<const N: usize>(answers: [&'static str; N]) -> (u16, JoinHandle<[String; N]>) {
    let (server, port) = bound("127.0.0.1:0");
    let asked = std::thread::spawn(move || {
        answers.map(|answer| {
            let (mut stream, _) = server.accept().expect("a request");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("read");
            let rest = "Connection: close\r\nContent-Length: 2\r\n\r\n[]";
            write!(stream, "HTTP/1.1 {answer}\r\n{rest}").expect("written");
            String::from_utf8_lossy(&request[..length]).into_owned()
        })
    });
    (port, asked)
}

fn bound(address: &str) -> (TcpListener, u16) {
    let server = TcpListener::bind(address).expect("a port");
    let port = server.local_addr().expect("bound").port();
    (server, port)
}

/// A name whose lookup gets no answer until this is dropped.
pub struct Silent {
    pub name: &'static str,
    pub(super) asked: Arc<AtomicUsize>,
    _answers: Sender<()>,
}

impl Silent {
    pub fn new(name: &'static str) -> Self {
        let (answers, asks) = channel::<()>();
        let asks = Mutex::new(asks);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let resolve = move || {
            counted.fetch_add(1, SeqCst);
            let _ = locked(&asks).recv();
            Ok(vec![SocketAddr::from(([127, 0, 0, 9], 0))])
        };
        locked(&STAND_INS).insert(name.to_string(), Arc::new(resolve));
        Self { name, asked, _answers: answers }
    }

    /// Number of lookups that reached the system.
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

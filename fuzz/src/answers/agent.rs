//! An agent on this machine that answers as the input says.

use lock_core::Fence;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The token, which no text contains.
pub(super) const SECRET: &str = "hunter2";
/// The session that the agent makes.
const SESSION: &str = "00000000-0000-0000-0000-000000000001";
/// Requests that get an answer of the input's. Later ones get Consul's.
const MOST: usize = 12;
const STATUS: [u16; 8] = [200, 409, 404, 403, 500, 301, 429, 204];

/// A request, and what was answered.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    request: String,
    answer: String,
}

/// An agent that reads one request from each connection, sends one answer, and closes the connection.
///
/// An answer in the input is
/// * nothing: the connection is closed without an answer,
/// * `+`: what Consul would say,
/// * a digit and a body: the body, with a status and fitting headers,
/// * other bytes, which are sent as they are.
pub(super) struct Agent {
    address: SocketAddr,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Agent {
    pub(super) fn start(answers: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let exchanges: Arc<Mutex<Vec<Exchange>>> = Arc::default();
        let stopped: Arc<AtomicBool> = Arc::default();
        let mut answers: VecDeque<Vec<u8>> =
            answers.split(|byte| *byte == 0).take(MOST).map(<[u8]>::to_vec).collect();
        let (told, ended) = (exchanges.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                // A client may close a connection before it has sent anything.
                let _ = stream.and_then(|stream| serve(stream, &mut answers, &told));
            }
        });
        Self { address, exchanges, stopped, thread }
    }

    pub(super) fn url(&self) -> String {
        let address = self.address;
        format!("consul://{address}?token={SECRET}&ttl=1s&request_timeout=100ms")
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        locked(&self.exchanges).clone()
    }

    /// True if a request for the lock was answered by a grant with `fence`. An answer in chunks or with escapes may say
    /// so in other bytes, so it counts.
    pub(super) fn granted(&self, fence: Fence) -> bool {
        let locks = |request: &str| request.contains(r#""Verb":"lock","Key":"locks/a/lock""#);
        self.exchanges().iter().filter(|exchange| locks(&exchange.request)).any(|exchange| {
            let Exchange { request, answer } = exchange;
            let session = value(request, "Session");
            let in_other_bytes =
                answer.to_ascii_lowercase().contains("chunked") || answer.contains('\\');
            let says = answer.contains(&fence.to_string()) && answer.contains(session);
            answer.contains("200") && (says || in_other_bytes)
        })
    }

    /// Ends the agent. A panic of its thread is passed on.
    pub(super) fn stop(self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.join().expect("the agent does not panic");
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &mut VecDeque<Vec<u8>>,
    exchanges: &Mutex<Vec<Exchange>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let request = read(&stream)?;
    let answer = match answers.pop_front().as_deref() {
        Some([]) => return Ok(()),
        Some(b"+") | None => consuls(&request),
        Some([digit @ b'0'..=b'7', body @ ..]) => {
            with_headers(STATUS[usize::from(digit - b'0')], body)
        }
        Some(raw) => raw.to_vec(),
    };
    let shown = String::from_utf8_lossy(&answer).into_owned();
    // Before the client can know it.
    locked(exchanges).push(Exchange { request, answer: shown });
    stream.write_all(&answer)
}

/// A request: its first line, headers and body.
fn read(stream: &TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number.trim().parse().expect("the client's own length");
        }
        request += &line;
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(request + &String::from_utf8_lossy(&body))
}

/// What Consul would say.
fn consuls(request: &str) -> Vec<u8> {
    let ok = |body: String| with_headers(200, body.as_bytes());
    if request.contains("/v1/session/create ") {
        return ok(format!(r#"{{"ID":"{SESSION}"}}"#));
    }
    if request.contains("/v1/session/renew/") {
        let session = request.split("/v1/session/renew/").nth(1).unwrap_or_default();
        let session = session.split([' ', '?']).next().unwrap_or_default();
        return ok(format!(r#"[{{"ID":"{session}"}}]"#));
    }
    if request.contains("/v1/session/destroy/") {
        return ok("true".to_string());
    }
    if request.starts_with("GET ") {
        return with_headers(404, b"");
    }
    let (key, session) = (value(request, "Key"), value(request, "Session"));
    if request.contains(r#""Verb":"unlock""#) && !key.starts_with("locks/a/") {
        return with_headers(
            409,
            br#"{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to unlock key \"x\", lock isn't held, or is held by another session"}]}"#,
        );
    }
    let session = match request.contains(r#""Verb":"lock""#) {
        true => format!(r#","Session":"{session}""#),
        false => String::new(),
    };
    ok(format!(
        r#"{{"Results":[{{"KV":{{"Key":"{key}","CreateIndex":7,"ModifyIndex":7{session}}}}}],"Errors":null}}"#
    ))
}

/// The first text of a field in a request's JSON.
fn value<'a>(request: &'a str, field: &str) -> &'a str {
    let after = request.split_once(&format!(r#""{field}":""#)).map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default()
}

fn with_headers(status: u16, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} It\r\nX-Consul-Index: 7\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

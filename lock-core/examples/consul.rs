//! A driver of your own: locks in Consul over a plain socket, with no library but the core.
//!
//! ```text
//! consul agent -dev &
//! cargo run -p lock-core --example consul -- 127.0.0.1:8500
//! ```
//!
//! A driver for another client library needs a function that sends a request and returns the answer, and a loop. The core
//! does the rest: sessions, retries, renewals, deadlines, fences, notifications, and missing answers.
//!
//! A real driver adds a clock that counts suspended time, a thread for blocking queries, TLS, and a token.

use lock_core::http::consul::{Codec, INDEX_HEADER};
use lock_core::http::{self, MAX_BODY, Response};
use lock_core::{
    Config, Engine, Event, Failure, Instant, LockName, Reply, Request, Timing, consul,
};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8500".to_string());
    let ttl = Duration::from_secs(10);
    let timing = Timing::new(consul::lease(ttl))?;
    // Owners are made from the seed, so it must be random: here it comes from the standard library's own keys.
    let seed = u128::from(random()) << 64 | u128::from(random());
    let mut driver = Driver {
        engine: Engine::new(consul::capabilities("an example"), Config::new(timing, seed)),
        codec: Codec::default(),
        server,
        began: std::time::Instant::now(),
    };
    driver.run(&LockName::new("example")?)
}

struct Driver {
    engine: Engine,
    codec: Codec,
    server: String,
    began: std::time::Instant,
}

impl Driver {
    /// Acquires the lock, works, and releases it.
    fn run(&mut self, name: &LockName) -> Result<(), Box<dyn Error>> {
        let id = self.engine.acquire(self.now(), name.clone(), true, None);
        let (done, work) = channel();
        let mut work: Option<Receiver<()>> = Some(work);
        let mut closing = false;
        loop {
            self.pump();
            while let Some(event) = self.engine.poll_event() {
                match event {
                    Event::Granted { fence, .. } => {
                        println!("granted: {}", fence.get() > 0);
                        let done = done.clone();
                        std::thread::spawn(move || {
                            std::thread::sleep(Duration::from_millis(300)); // the work
                            let _ = done.send(());
                        });
                    }
                    Event::Waiting { .. } => println!("waiting"),
                    Event::Lost { reason, .. } => return Err(reason.to_string().into()),
                    Event::NotAcquired { why, .. } => return Err(format!("{why:?}").into()),
                    Event::Trouble { failure, .. } => println!("trouble: {failure}"),
                    Event::Released { .. } => {
                        println!("released");
                        self.engine.close(self.now());
                        closing = true;
                    }
                    _ => {}
                }
            }
            if closing && !self.engine.has_work() {
                self.pump(); // the session's end
                return Ok(());
            }
            // Waits until the work is done, or a timer of the engine is due.
            let due = self.engine.poll_timeout().map(|due| due.since(self.now()));
            let nap = due.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1));
            let is_done = match &work {
                Some(work) => work.recv_timeout(nap).is_ok(),
                None => false,
            };
            if is_done {
                work = None;
                self.engine.release(self.now(), id);
            }
            self.engine.handle_timeout(self.now());
        }
    }

    /// Executes the requests that are due.
    fn pump(&mut self) {
        while let Some(dispatch) = self.engine.poll_request(self.now()) {
            let budget = dispatch.deadline.since(self.now());
            let reply = self.execute(&dispatch.request, budget);
            self.engine.handle_reply(self.now(), dispatch.id, reply);
        }
    }

    fn execute(&self, request: &Request, budget: Duration) -> Result<Reply, Failure> {
        let sent = self.codec.encode(request)?;
        let stream = TcpStream::connect(&self.server);
        let stream = stream.map_err(|error| Failure::NotSent(error.to_string()))?;
        let answer = exchange(stream, &sent, budget);
        let answer = answer.map_err(|error| Failure::Unknown(error.to_string()))?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        let index = headers.find(|(name, _)| name.eq_ignore_ascii_case(INDEX_HEADER));
        let index = index.map(|(_, value)| value);
        self.codec.decode(request, &Response { status, index, body: body.as_bytes() })
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// HTTP/1.0: the server closes the connection after its answer.
fn exchange(
    mut stream: TcpStream,
    request: &http::Request,
    budget: Duration,
) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(budget.max(Duration::from_millis(1))))?;
    let http::Request { method, path_and_query, body, .. } = request;
    let method = method.as_str();
    let length = body.len();
    write!(stream, "{method} {path_and_query} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = Vec::new();
    stream.take(MAX_BODY as u64 + 4096).read_to_end(&mut answer)?;
    Ok(answer)
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

//! A TCP proxy that fails on command.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// The treatment of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// They pass.
    Pass,
    /// They vanish in both directions; connections stay, new ones are accepted.
    Hole,
    /// The client's bytes pass, the server's answers vanish.
    NoReplies,
    /// The client's bytes vanish, the server's answers pass.
    NoRequests,
    /// As [`Hole`](Self::Hole). In addition, the end of a connection on one side is not passed to the other.
    Unplugged,
    /// PostgreSQL's notifications vanish, as in a pooler that has forgotten its listeners. Everything else
    /// passes.
    NoNotifications,
}

/// A proxy in front of a server, on a port of its own.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// The proxy's answer to a client's bytes, in the server's place.
type Answer = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send>;

/// What became of a connection.
#[derive(Default)]
struct Carried {
    /// True if it no longer carries anything.
    mute: AtomicBool,
    /// True if its client has ended it.
    ended: AtomicBool,
}

struct Shared {
    mode: AtomicU8,
    answer: Mutex<Option<Answer>>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    /// All connections.
    carried: Mutex<Vec<Arc<Carried>>>,
    /// Connections on which a client has sent LISTEN.
    listening: Mutex<Vec<Arc<Carried>>>,
    /// Text in clients' bytes, and its replacement of the same length.
    rewritten: Mutex<Option<(&'static [u8], &'static [u8])>>,
    refuse: AtomicU8,
    /// Delay of bytes in each direction, in milliseconds.
    delay: AtomicU64,
}

impl Proxy {
    /// Starts a proxy in front of `server`, a host and port.
    pub fn start(server: &str) -> Self {
        Self::start_at("127.0.0.1", server)
    }

    /// Starts a proxy at an address of this machine.
    pub fn start_at(address: &str, server: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            mode: AtomicU8::new(Mode::Pass as u8),
            answer: Mutex::default(),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            open: Mutex::default(),
            carried: Mutex::default(),
            listening: Mutex::default(),
            rewritten: Mutex::default(),
            refuse: AtomicU8::new(0),
            delay: AtomicU64::new(0),
        });
        let (server, proxy) = (server.to_string(), shared.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let one = Arc::new(Carried::default());
                proxy.carried.lock().expect("unpoisoned").push(one.clone());
                // A connection that is counted can be muted.
                proxy.connections.fetch_add(1, Ordering::SeqCst);
                if proxy.refuse.load(Ordering::SeqCst) != 0 {
                    let _ = client.shutdown(Shutdown::Both);
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let copy = |stream: &TcpStream| stream.try_clone().expect("cloned");
                proxy.open.lock().expect("unpoisoned").extend([copy(&client), copy(&upstream)]);
                let (down, up) = (copy(&client), copy(&upstream));
                let (there, back) = (proxy.clone(), proxy.clone());
                let also = one.clone();
                std::thread::spawn(move || there.carry(client, up, true, &one));
                std::thread::spawn(move || back.carry(upstream, down, false, &also));
            }
        });
        Self { shared, address }
    }

    /// The URL with the proxy in the server's place.
    pub fn url(&self, url: &str) -> String {
        let server = server_of(url);
        url.replace(&server, &self.address.to_string())
    }

    /// Sets the treatment of bytes from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Delays bytes in each direction from now on. Bytes do not wait for one another, and connections are
    /// accepted at once.
    pub fn delay(&self, each_way: Duration) {
        let delay = u64::try_from(each_way.as_millis()).expect("short");
        self.shared.delay.store(delay, Ordering::SeqCst);
    }

    /// Answers requests in the server's place from now on, if `answer` has an answer. The server does not get
    /// those requests.
    pub fn answer(&self, answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) {
        *self.shared.answer.lock().expect("unpoisoned") = Some(Box::new(answer));
    }

    /// Cuts every connection, and with `refuse` every new one until the next call.
    pub fn cut(&self, refuse: bool) {
        self.shared.refuse.store(u8::from(refuse), Ordering::SeqCst);
        for stream in self.shared.open.lock().expect("unpoisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Number of connections on which a client has sent LISTEN.
    pub fn listening(&self) -> usize {
        self.shared.listening.lock().expect("unpoisoned").len()
    }

    /// Stops forwarding on the connections of now, in both directions. They stay open.
    pub fn mute(&self) {
        for one in self.shared.carried.lock().expect("unpoisoned").iter() {
            one.mute.store(true, Ordering::SeqCst);
        }
    }

    /// Replaces a text in clients' bytes by another of the same length, from now on.
    pub fn rewrite(&self, text: &'static str, by: &'static str) {
        assert_eq!(text.len(), by.len());
        let rewritten = (text.as_bytes(), by.as_bytes());
        *self.shared.rewritten.lock().expect("unpoisoned") = Some(rewritten);
    }

    /// Stops forwarding on those connections, in both directions. They stay open.
    pub fn mute_listening(&self) {
        for one in self.shared.listening.lock().expect("unpoisoned").iter() {
            one.mute.store(true, Ordering::SeqCst);
        }
    }

    /// True if the client has ended this connection, the first of which is 0.
    pub fn has_ended(&self, connection: usize) -> bool {
        let carried = self.shared.carried.lock().expect("unpoisoned");
        carried.get(connection).is_some_and(|one| one.ended.load(Ordering::SeqCst))
    }

    /// Number of connections that were tried.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Number of pieces that clients sent, as the network split them.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, request: bool, one: &Arc<Carried>) {
        let mut buffer = [0; 16384];
        let mut late = None;
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 {
                break;
            }
            if request && buffer[..read].windows(6).any(|text| text == b"LISTEN") {
                self.listening.lock().expect("unpoisoned").push(one.clone());
            }
            if request {
                self.requests.fetch_add(1, Ordering::SeqCst);
                let answer = self.answer.lock().expect("unpoisoned");
                if let Some(own) = answer.as_ref().and_then(|answer| answer(&buffer[..read])) {
                    let _ = from.write_all(&own);
                    continue;
                }
            }
            if request && let Some((text, by)) = *self.rewritten.lock().expect("unpoisoned") {
                let found = buffer[..read].windows(text.len()).position(|bytes| bytes == text);
                if let Some(at) = found {
                    buffer[at..at + by.len()].copy_from_slice(by);
                }
            }
            let mode = self.mode.load(Ordering::SeqCst);
            let passes = match mode {
                _ if one.mute.load(Ordering::SeqCst) => false,
                _ if mode == Mode::NoReplies as u8 => request,
                _ if mode == Mode::NoRequests as u8 => !request,
                _ if mode == Mode::NoNotifications as u8 => request || buffer[0] != b'A',
                _ => mode == Mode::Pass as u8,
            };
            let delay = Duration::from_millis(self.delay.load(Ordering::SeqCst));
            if late.is_none() && !delay.is_zero() {
                late = Some(Late::start(to.try_clone().expect("cloned")));
            }
            let forwarded = match &late {
                _ if !passes => true,
                // After late bytes, all others must follow them.
                Some(late) => late.send(&buffer[..read], delay),
                None => to.write_all(&buffer[..read]).is_ok(),
            };
            if !forwarded {
                break;
            }
        }
        one.ended.fetch_or(request, Ordering::SeqCst);
        drop(late);
        if self.mode.load(Ordering::SeqCst) != Mode::Unplugged as u8 {
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        }
    }
}

/// Forwards bytes late.
struct Late {
    queue: Option<mpsc::Sender<(Instant, Vec<u8>)>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Late {
    fn start(mut to: TcpStream) -> Self {
        let (queue, late) = mpsc::channel::<(Instant, Vec<u8>)>();
        let writer = std::thread::spawn(move || {
            for (due, bytes) in late {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
        });
        Self { queue: Some(queue), writer: Some(writer) }
    }

    /// Sends bytes after a delay. Returns false if the other side is gone.
    fn send(&self, bytes: &[u8], delay: Duration) -> bool {
        let due = Instant::now() + delay;
        self.queue.as_ref().is_some_and(|queue| queue.send((due, bytes.to_vec())).is_ok())
    }
}

/// Bytes in flight still arrive.
impl Drop for Late {
    fn drop(&mut self) {
        self.queue = None;
        let _ = self.writer.take().map(std::thread::JoinHandle::join);
    }
}

/// The host and port in a URL.
pub fn server_of(url: &str) -> String {
    let after = url.split("://").nth(1).expect("a URL");
    let authority = after.split('/').next().expect("an authority");
    authority.rsplit('@').next().expect("a host").to_string()
}

/// Waits until `so` holds, for at most ten seconds. Returns true if it does.
pub fn eventually(mut so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < crate::withlock::HANG {
        if so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

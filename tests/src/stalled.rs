//! A server that accepts connections, and then stalls.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A port whose server sends some bytes and no more.
pub struct Stalled {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Stalled {
    /// Sends `first` to each client, and then nothing. With `drips`, it sends `next` when the client has said something,
    /// and then one byte every few milliseconds without an end.
    pub fn start(first: &[u8], next: &[u8], drips: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let (first, next, counted) = (first.to_vec(), next.to_vec(), connections.clone());
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for mut stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                let _ = stream.write_all(&first);
                if drips {
                    let next = next.clone();
                    std::thread::spawn(move || drip(stream, &next));
                } else {
                    silent.push(stream);
                }
            }
        });
        Self { address, connections }
    }

    /// Host and port.
    pub fn place(&self) -> String {
        self.address.to_string()
    }

    /// Number of connections that were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn drip(mut stream: TcpStream, next: &[u8]) {
    if !next.is_empty() {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(next);
    }
    while stream.write_all(b"a").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

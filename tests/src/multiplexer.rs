//! A proxy before MySQL or MariaDB that hands each statement of a client to another connection, for accounts without a
//! password.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Connections among which the statements of a client are handed around.
const CONNECTIONS: usize = 2;

/// The proxy, on a port of its own. It knows the text of each statement that passed.
pub struct Multiplexer {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<String>>>,
    /// Whether statements commit by themselves, as another client has set it.
    autocommit: Arc<AtomicBool>,
}

impl Multiplexer {
    /// Starts it before `server`, a host and port.
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let sent = Arc::new(Mutex::new(Vec::new()));
        let autocommit = Arc::new(AtomicBool::new(true));
        let (server, all, commits) = (server.to_string(), sent.clone(), autocommit.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, all, commits) = (server.clone(), all.clone(), commits.clone());
                std::thread::spawn(move || serve(&client, &server, &all, &commits));
            }
        });
        Self { address, sent, autocommit }
    }

    /// The URL through it, for this account and database.
    pub fn url(&self, account: &str, database: &str) -> String {
        format!("mysql://{account}@{}/{database}?sslmode=disable", self.address)
    }

    /// Has each connection changed before its next statement, as if by another client.
    pub fn set_autocommit(&self, on: bool) {
        self.autocommit.store(on, Ordering::SeqCst);
    }

    /// The statements that were sent since the last call; "PREPARE" for one that was to be prepared.
    pub fn sent(&self) -> Vec<String> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(
    mut client: &TcpStream,
    server: &str,
    sent: &Mutex<Vec<String>>,
    commits: &AtomicBool,
) -> Result<()> {
    // The client is greeted by a connection that carries none of its statements.
    let mut greeter = TcpStream::connect(server)?;
    client.write_all(&packet(&mut greeter)?)?;
    let login = packet(&mut client)?;
    greeter.write_all(&login)?;
    client.write_all(&until_ok(&mut greeter)?)?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = TcpStream::connect(server)?;
        packet(&mut connection)?;
        connection.write_all(&login)?;
        until_ok(&mut connection)?;
        connections.push((connection, true));
    }
    for turn in 0.. {
        let command = packet(&mut client)?;
        let text = match command.get(4) {
            Some(0x03) => String::from_utf8_lossy(&command[5..]).into_owned(),
            Some(0x16) => "PREPARE".to_string(),
            _ => String::new(),
        };
        sent.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        let (connection, committing) = &mut connections[turn % CONNECTIONS];
        let commits = commits.load(Ordering::SeqCst);
        if *committing != commits {
            *committing = commits;
            let set = format!("\u{3}SET autocommit = {}", u8::from(commits));
            let length = u32::try_from(set.len()).map_err(Error::other)?;
            connection.write_all(&[&length.to_le_bytes()[..3], &[0], set.as_bytes()].concat())?;
            packet(connection)?;
        }
        connection.write_all(&command)?;
        pass_answer(connection, client)?;
    }
    Ok(())
}

/// Passes an answer on: all packets that come before the client sends something again.
fn pass_answer(from: &mut TcpStream, mut to: &TcpStream) -> Result<()> {
    to.write_all(&packet(from)?)?;
    from.set_read_timeout(Some(Duration::from_millis(1)))?;
    to.set_nonblocking(true)?;
    let asks = |client: &TcpStream| client.peek(&mut [0]).is_ok();
    while !asks(to) {
        let mut more = vec![0; 1 << 16];
        match from.read(&mut more) {
            Ok(0) => break,
            Ok(read) => {
                to.set_nonblocking(false)?;
                to.write_all(&more[..read])?;
                to.set_nonblocking(true)?;
            }
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    to.set_nonblocking(false)?;
    from.set_read_timeout(None)
}

/// The last packet of a login without a password.
fn until_ok(server: &mut TcpStream) -> Result<Vec<u8>> {
    loop {
        let answer = packet(server)?;
        match answer.get(4) {
            Some(0) => return Ok(answer),
            Some(0xff) | None => return Err(Error::other("not let in")),
            // Another way to log in: without a password, the answer to each is empty.
            Some(0xfe) => server.write_all(&[0, 0, 0, answer[3] + 1])?,
            Some(_) => {}
        }
    }
}

/// A packet with its header.
fn packet(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet)?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
    packet.resize(4 + length, 0);
    from.read_exact(&mut packet[4..])?;
    Ok(packet)
}

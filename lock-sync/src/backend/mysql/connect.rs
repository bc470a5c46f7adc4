//! Connecting, within a limit.
//!
//! The client tries only the first address of a host. It limits each read, but not the handshake, which may
//! be as slow as a byte per second. Until the handshake ends, nobody else can reach the socket. So each
//! attempt has a thread of its own. When the time is over, the caller leaves that thread behind.

use super::call::{CallError, guarded};
use crate::backend::names::addresses_of;
use lock_core::Failure;
use lock_core::sql::mysql::{READ_ONLY, connect_failed, takes_writes};
use lock_shared::hosts::{Hosts, share};
use lock_shared::mysql::words::NO_WRITES;
use lock_shared::process::PerProcess;
use lock_shared::sslmode::SslMode;
use mysql::prelude::Queryable;
use mysql::{Conn, DriverError, Error, Opts, OptsBuilder, SslOpts};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Number of attempts to connect to one place that may hang at a time.
const MOST: usize = 4;

/// Attempts that were left behind: their place, and a weak reference that lives as long as their thread.
type Left = Mutex<Vec<(String, Weak<()>)>>;

fn left() -> MutexGuard<'static, Vec<(String, Weak<()>)>> {
    static FIRST: OnceLock<PerProcess<Left>> = OnceLock::new();
    PerProcess::here(&FIRST, Left::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects to the first host that can be used, and returns its place among them. If there are several, the host
/// must take writes.
pub(super) fn connect(
    hosts: &Hosts<Opts>,
    mode: SslMode,
    limit: Duration,
) -> Result<(Conn, usize), Failure> {
    let mut turns = hosts.turns(limit);
    while let Some(turn) = turns.next_turn() {
        match connect_to(turn.host, mode, turn.limit, hosts.are_many()) {
            Ok(client) => {
                hosts.prefer(turn.at);
                return Ok((client, turn.at));
            }
            Err(failure) => turns.failed(failure),
        }
    }
    Err(turns.error())
}

/// Connects to the first address of the host that can be used. With `writes`, the host must take them.
pub(super) fn connect_to(
    opts: &Opts,
    mode: SslMode,
    limit: Duration,
    writes: bool,
) -> Result<Conn, Failure> {
    let until = Instant::now() + limit;
    let host = opts.get_ip_or_hostname().into_owned();
    let place = format!("{host}:{}", opts.get_tcp_port());
    if let Some(socket) = opts.get_socket() {
        return attempt(OptsBuilder::from_opts(opts.clone()), mode, limit, socket, writes);
    }
    let name = host.trim_matches(['[', ']']);
    let found = addresses_of(name, opts.get_tcp_port(), limit);
    let found = found.map_err(|error| connect_failed(None, &error))?;
    let by_name = mode == SslMode::VerifyFull && name.parse::<IpAddr>().is_err();
    let ways = if by_name { by_family(opts, &found) } else { by_address(opts, &found) };
    let many = ways.len();
    let mut result = Err(connect_failed(None, "the host has no address"));
    for (nth, way) in ways.into_iter().enumerate() {
        // An address that does not answer leaves time for the next.
        result = attempt(way, mode, share(until, many - nth), &place, writes);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// One configuration for each address, in place of the name.
fn by_address(opts: &Opts, found: &[SocketAddr]) -> Vec<OptsBuilder> {
    let at = |address: &SocketAddr| {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        OptsBuilder::from_opts(opts.clone()).ip_or_hostname(Some(ip))
    };
    found.iter().map(at).collect()
}

/// One configuration for each family of the addresses. It keeps the name, which the certificate is for. The
/// client tries all addresses of the family that its own address is of.
fn by_family(opts: &Opts, found: &[SocketAddr]) -> Vec<OptsBuilder> {
    let mut families: Vec<IpAddr> = Vec::new();
    for address in found {
        let any = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        if !families.contains(&any) {
            families.push(any);
        }
    }
    let from = |any: IpAddr| {
        OptsBuilder::from_opts(opts.clone()).bind_address(Some(SocketAddr::new(any, 0)))
    };
    families.into_iter().map(from).collect()
}

/// Makes one attempt. Its caller waits for at most `limit`.
fn attempt(
    opts: OptsBuilder,
    mode: SslMode,
    limit: Duration,
    place: &str,
    writes: bool,
) -> Result<Conn, Failure> {
    let no_time = || connect_failed(None, "no answer in time");
    if limit.is_zero() {
        return Err(no_time());
    }
    if hanging(place) >= MOST {
        let told = format!("{MOST} attempts to connect are still under way");
        return Err(connect_failed(None, &told));
    }
    let opts: Opts = opts.tcp_connect_timeout(Some(limit)).into();
    let (tell, told) = sync_channel(1);
    let alive = Arc::new(());
    let at_it = Arc::downgrade(&alive);
    let shakes_hands = move || {
        let _alive = alive;
        let connected = handshake(&opts, mode).map_err(not_connected);
        let chosen =
            connected.and_then(|client| if writes { writable(client) } else { Ok(client) });
        if let Err(late) = tell.send(chosen) {
            let _ = guarded(|| {
                drop(late);
                Ok(())
            });
        }
    };
    std::thread::Builder::new().name("lock connect".to_string()).spawn(shakes_hands).map_err(
        |error| {
            connect_failed(
                None,
                &format!("the system cannot start a thread to connect with: {error}"),
            )
        },
    )?;
    match told.recv_timeout(limit) {
        Ok(connected) => connected,
        Err(RecvTimeoutError::Disconnected) => Err(not_connected(CallError::Panic)),
        Err(RecvTimeoutError::Timeout) => {
            left().push((place.to_string(), at_it));
            Err(no_time())
        }
    }
}

/// Number of attempts to connect to `place` that were left behind and go on. A fork has none of its parent's
/// threads.
fn hanging(place: &str) -> usize {
    let mut left = left();
    left.retain(|(_, at_it)| at_it.strong_count() > 0);
    left.iter().filter(|(to, _)| to == place).count()
}

fn handshake(opts: &Opts, mode: SslMode) -> Result<Conn, CallError> {
    match guarded(|| Conn::new(opts.clone())) {
        Err(CallError::Client(Error::DriverError(DriverError::TlsNotSupported)))
            if mode == SslMode::Prefer =>
        {
            let opts = OptsBuilder::from_opts(opts.clone()).ssl_opts(None::<SslOpts>);
            guarded(|| Conn::new(opts))
        }
        result => result,
    }
}

/// The client, if its server takes writes.
fn writable(mut client: Conn) -> Result<Conn, Failure> {
    let asked = guarded(|| client.query_first::<String, _>(READ_ONLY));
    let read_only = asked.map_err(|error| connect_failed(error.code(), &error.describe()))?;
    match read_only.is_some_and(|read_only| takes_writes(&read_only)) {
        true => Ok(client),
        false => Err(connect_failed(None, NO_WRITES)),
    }
}

fn not_connected(error: CallError) -> Failure {
    match (error.code(), error.is_final()) {
        (None, true) => Failure::refused(error.describe()),
        (code, _) => connect_failed(code, &error.describe()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its kernel takes connections, and it says nothing.
    #[test]
    fn a_server_that_hangs_is_not_connected_to_again_and_again() {
        let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = hangs.local_addr().expect("bound");
        let opts = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(at.port()).into();
        let connects = || connect_to(&opts, SslMode::Disable, Duration::from_millis(50), false);
        for _ in 0..MOST {
            connects().map(drop).expect_err("nobody answers");
        }
        let told = connects().map(drop).expect_err("they go on").to_string();
        assert!(told.contains("still under way"), "{told}");
    }

    /// A server that hangs keeps nobody from another one.
    #[test]
    fn attempts_that_hang_count_at_their_place_only() {
        let alive = Arc::new(());
        for _ in 0..2 {
            left().push(("hangs.invalid:1".to_string(), Arc::downgrade(&alive)));
        }
        assert_eq!((hanging("hangs.invalid:1"), hanging("other.invalid:1")), (2, 0));
        drop(alive);
        assert_eq!(hanging("hangs.invalid:1"), 0);
    }
}

//! Sessions on a MySQL or MariaDB server.
//!
//! The client is used without a pool, and prepares a statement only when it is told to. It has no time
//! limits, so every call is given up after a limit here, together with its connection. It sends no password
//! in plain text and no local file. If it panics over a server's answer, that becomes an error.

mod call;
mod statements;

use super::factory::Factory;
use super::names::addresses_of;
use super::{Session, Source as Sessions};
use crate::runtime::read_files;
use call::{CallError, guarded};
use lock_core::Failure;
use lock_core::config::ConfigError;
use lock_core::sql::mysql::{READ_ONLY, connect_failed, statement_failed, takes_writes};
use lock_core::sql::{ConnectError, Rows, Statement, advisory};
use lock_shared::hosts::{Hosts, share};
use lock_shared::mysql::Server;
use lock_shared::mysql::words::NO_WRITES;
use lock_shared::plan::gone;
use lock_shared::sslmode::SslMode;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Opts, OptsBuilder, SslOpts};
use rustls::crypto::{CryptoProvider, ring};
use statements::Statements;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The longest packet that is sent or accepted. It has room for more than five hundred claims.
const PACKET: usize = 4 << 20;

/// Connects to a server.
pub(crate) struct Connects {
    pub(crate) server: Server,
    pub(crate) request: Duration,
    /// The connection attribute `holder`. Version 0.37 of the client does not send it.
    pub(crate) holder: Option<String>,
}

impl Sessions for Connects {
    type Session = Mysql;

    fn session(&mut self) -> Option<Mysql> {
        Some(Mysql::new(self.server.clone(), self.request, self.holder.as_deref()))
    }
}

impl Sessions for Factory<Conn> {
    type Session = Mysql;

    fn session(&mut self) -> Option<Mysql> {
        Some(Mysql { link: None, source: Source::Made(self.clone()) })
    }
}

/// A connection to MySQL or MariaDB.
pub(crate) struct Mysql {
    link: Option<Link>,
    source: Source,
}

enum Source {
    Server {
        hosts: Hosts<Opts>,
        /// The place among the hosts of the one that it was connected to last.
        at: usize,
        mode: SslMode,
        request: Duration,
    },
    /// A client of the caller's. There is no second one.
    Client,
    /// Clients that the caller makes.
    Made(Factory<Conn>),
}

/// A client, and its state.
struct Link {
    /// Absent only while it is dropped.
    client: Option<Conn>,
    statements: Statements,
    /// True if a statement is in flight, or was cut off.
    busy: bool,
}

impl Mysql {
    /// Connections to `server`.
    fn new(server: Server, request: Duration, holder: Option<&str>) -> Self {
        let hosts = server.each(|host, port| (host.to_string(), port));
        let Server { user, password, database, socket, mode, root_cert, .. } = server;
        let root_cert = root_cert.map(Into::into).into_iter().collect();
        let ssl = (mode != SslMode::Disable && socket.is_none()).then(|| {
            SslOpts::default()
                .with_root_certs(root_cert)
                .with_danger_accept_invalid_certs(mode != SslMode::VerifyFull)
        });
        let opts = OptsBuilder::default()
            .user(user)
            .pass(password)
            .db_name(Some(database))
            .socket(socket)
            // On loopback, the client would change over to the server's Unix socket.
            .prefer_socket(false)
            .max_allowed_packet(Some(PACKET))
            // A setting for pools. Without it, the client would ask the server.
            .wait_timeout(Some(0))
            .stmt_cache_size(0)
            .connect_attribute("program_name", "lock-async")
            .ssl_opts(ssl);
        let opts = match holder {
            Some(holder) => opts.connect_attribute("holder", holder),
            None => opts,
        };
        let hosts = hosts.map(|(host, port)| {
            let host = host.trim_matches(['[', ']']);
            opts.clone().ip_or_hostname(host).tcp_port(port).into()
        });
        Self { link: None, source: Source::Server { hosts, at: 0, mode, request } }
    }

    /// A client of the caller's.
    pub(crate) fn with(client: Conn) -> Self {
        Self { link: Some(Link::new(client)), source: Source::Client }
    }
}

impl Session for Mysql {
    fn handed(&self) -> bool {
        matches!(self.source, Source::Client | Source::Made(_))
    }

    fn is_open(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.busy)
    }

    async fn open(&mut self, limit: Duration) -> Result<(), ConnectError> {
        let open = self.is_open();
        let (hosts, at, mode) = match &mut self.source {
            Source::Server { hosts, at, mode, .. } => (hosts, at, *mode),
            Source::Client if open => return Ok(()),
            Source::Client => {
                return Err(gone());
            }
            Source::Made(factory) => {
                // A pool may have had no other.
                self.link = None;
                self.link = Some(Link::new(factory.make(limit).await?));
                return Ok(());
            }
        };
        if mode != SslMode::Disable && CryptoProvider::get_default().is_none() {
            // The client uses the process's default provider, and panics if there is none.
            let _ = ring::default_provider().install_default();
        }
        let client;
        (client, *at) = connect(hosts, mode, limit).await?;
        self.link = Some(Link::new(client));
        Ok(())
    }

    async fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        let Some(Link { client: Some(client), statements, busy }) = &mut self.link else {
            return Err(Failure::NotSent("no connection to the server is open".to_string()));
        };
        *busy = true;
        // Pinned here, because what is passed on is moved, and it is large.
        let result = timeout(limit, pin!(statements.run(client, statement, limit)))
            .await
            .unwrap_or_else(|_| Err(statement_failed(None, "no answer in time")));
        match result {
            Err(Failure::Unknown(_)) => self.link = None,
            _ => *busy = false,
        }
        result
    }

    fn id(&self) -> Option<u32> {
        self.link.as_ref()?.client.as_ref().map(Conn::id)
    }

    fn moved(&mut self) {
        if let Source::Server { .. } = self.source {
            self.link = None;
        }
    }

    async fn close(self) {}

    /// Tells the server over another connection to end the wait. It would go on for a while although the
    /// client is gone.
    async fn cut(self, waiting: &advisory::Session) {
        let Source::Server { hosts, at, mode, request } = &self.source else { return };
        let Some(opts) = hosts.get(*at) else { return };
        let [waits, kill] = waiting.kill();
        let kill = async {
            let mut other = Self::with(connect_to(opts, *mode, *request, false).await?);
            if !other.run(&waits, *request).await?.is_empty() {
                other.run(&kill, *request).await?;
            }
            Ok::<_, Failure>(())
        };
        if let Err(why) = timeout(*request, kill).await.unwrap_or(Ok(())) {
            tracing::debug!(%why, "a wait goes on at the server");
        }
    }
}

impl Link {
    fn new(client: Conn) -> Self {
        Self { client: Some(client), statements: Statements::default(), busy: false }
    }
}

/// Ends the connection. The client would start a task that says goodbye to the server, without a limit. Here,
/// only what can be sent at once is sent.
impl Drop for Link {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let mut goodbye = pin!(client.disconnect());
            let _ = goodbye.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }));
    }
}

/// Connects to the first host that can be used, and returns its place among them. If there are several, the host
/// must take writes. Each host has its share of the limit: one for all would end the last one without its name.
async fn connect(
    hosts: &Hosts<Opts>,
    mode: SslMode,
    limit: Duration,
) -> Result<(Conn, usize), Failure> {
    let mut turns = hosts.turns(limit);
    while let Some(turn) = turns.next_turn() {
        match connect_to(turn.host, mode, turn.limit, hosts.are_many()).await {
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
async fn connect_to(
    opts: &Opts,
    mode: SslMode,
    limit: Duration,
    writes: bool,
) -> Result<Conn, Failure> {
    let until = Instant::now() + limit;
    let mut addresses = vec![opts.clone()];
    if opts.socket().is_none() {
        let found = addresses_of(opts.ip_or_hostname(), opts.tcp_port(), limit).await;
        let found = found.map_err(|error| connect_failed(None, &error))?;
        let at = |ip| OptsBuilder::from_opts(opts.clone()).resolved_ips(Some([ip])).into();
        addresses = found.iter().map(SocketAddr::ip).map(at).collect();
    }
    let mut result = Err(connect_failed(None, "the host has no address"));
    let many = addresses.len();
    for (nth, address) in addresses.into_iter().enumerate() {
        // An address that does not answer leaves time for the next.
        result = timeout(share(until, many - nth), connect_at(address, mode, writes))
            .await
            .unwrap_or_else(|_| Err(connect_failed(None, "no answer in time")));
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn connect_at(opts: Opts, mode: SslMode, writes: bool) -> Result<Conn, Failure> {
    let connected = match guarded(Conn::new(opts.clone())).await {
        Err(CallError::Client(mysql_async::Error::Driver(
            DriverError::NoClientSslFlagFromServer,
        ))) if mode == SslMode::Prefer => {
            let opts = OptsBuilder::from_opts(opts).ssl_opts(None::<SslOpts>);
            guarded(Conn::new(opts)).await
        }
        result => result,
    };
    let client = connected.map_err(|error| match (error.code(), error.is_final()) {
        (None, true) => Failure::refused(error.describe()),
        (code, _) => connect_failed(code, &error.describe()),
    })?;
    if writes { writable(client).await } else { Ok(client) }
}

/// The client, if its server takes writes.
async fn writable(client: Conn) -> Result<Conn, Failure> {
    // If this is not waited for to the end, the connection must end without a task of the client's.
    let mut link = Link::new(client);
    let Some(asks) = &mut link.client else { return Err(connect_failed(None, NO_WRITES)) };
    let asked = guarded(asks.query_first::<String, _>(READ_ONLY)).await;
    let read_only = asked.map_err(|error| connect_failed(error.code(), &error.describe()))?;
    match link.client.take() {
        Some(client) if read_only.is_some_and(|read_only| takes_writes(&read_only)) => Ok(client),
        client => {
            link.client = client;
            Err(connect_failed(None, NO_WRITES))
        }
    }
}

/// Fails if every handshake would fail because of this side's settings.
pub(crate) async fn check(server: Server) -> Result<Server, ConfigError> {
    read_files(move || server.check().map(|()| server)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_shared::place::Place;
    use lock_shared::plan::Plan;

    /// A tunnel begins there, and the socket that its other end tells of is not this machine's.
    #[test]
    fn an_address_of_this_machine_is_not_left_for_a_socket() {
        let config = lock_shared::Config::from_url("mysql://127.0.0.1/d").expect("good");
        let (place, plan) = Plan::at(config).expect("a plan");
        let Place::Mysql(server) = place else { unreachable!("it is MySQL's") };
        let session = Mysql::new(server, plan.timing.request(), None);
        let Source::Server { hosts, .. } = &session.source else { unreachable!("ours") };
        assert!(!hosts.get(0).expect("a host").prefer_socket());
    }
}

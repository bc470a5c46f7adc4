//! Sessions on a MySQL or MariaDB server.
//!
//! The client is not asked for more than it does well: no pool, and nothing prepared but when it is told
//! to. It has no time limits; all that is asked of it is given up after one here, and then its
//! connection is too. It sends no password in the clear and no local file. Where it panics over what a
//! server sends, that is an error like any other.

mod statements;
mod trouble;

use super::names::addresses_of;
use super::{GONE, Session, Source as Sessions};
use crate::error::ConfigError;
use lock_core::Failure;
use lock_core::sql::mysql::{connect_failed, statement_failed};
use lock_core::sql::{ConnectError, Rows, Statement};
use lock_shared::mysql::Server;
use lock_shared::sslmode::SslMode;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Opts, OptsBuilder, SslOpts};
use rustls::crypto::{CryptoProvider, ring};
use statements::Statements;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use trouble::{Trouble, guarded};

/// The longest packet that is sent or taken: five hundred claims and more.
const PACKET: usize = 4 << 20;

/// Connects to a server.
pub(crate) struct Connects {
    pub(crate) server: Server,
    pub(crate) request: Duration,
    /// What the server is to show of connections. Version 0.37 of the client does not send it.
    pub(crate) holder: Option<String>,
}

impl Sessions for Connects {
    type Session = Mysql;

    fn session(&mut self) -> Option<Mysql> {
        Some(Mysql::new(self.server.clone(), self.request, self.holder.as_deref()))
    }
}

/// A connection to MySQL or MariaDB.
pub(crate) struct Mysql {
    link: Option<Link>,
    source: Source,
}

enum Source {
    Server {
        opts: Opts,
        mode: SslMode,
        request: Duration,
    },
    /// The caller gave us a client; there is no way to another.
    Client,
}

/// A client, and whether it is in step with the server.
struct Link {
    /// Absent only while it is dropped.
    client: Option<Conn>,
    statements: Statements,
    /// A statement is under way, or was cut off.
    busy: bool,
}

impl Mysql {
    /// Connections to `server`.
    fn new(server: Server, request: Duration, holder: Option<&str>) -> Self {
        let Server { host, port, user, password, database, socket, mode, root_cert } = server;
        let root_cert = root_cert.map(Into::into).into_iter().collect();
        let ssl = (mode != SslMode::Disable && socket.is_none()).then(|| {
            SslOpts::default()
                .with_root_certs(root_cert)
                .with_danger_accept_invalid_certs(mode != SslMode::VerifyFull)
        });
        let opts = OptsBuilder::default()
            .ip_or_hostname(host.trim_matches(['[', ']']))
            .tcp_port(port)
            .user(user)
            .pass(password)
            .db_name(Some(database))
            .socket(socket)
            // From loopback it would change over to the server's Unix socket.
            .prefer_socket(false)
            .max_allowed_packet(Some(PACKET))
            // For a pool; it would ask the server.
            .wait_timeout(Some(0))
            .stmt_cache_size(0)
            .connect_attribute("program_name", "lock-async")
            .ssl_opts(ssl);
        let opts = match holder {
            Some(holder) => opts.connect_attribute("holder", holder),
            None => opts,
        };
        Self { link: None, source: Source::Server { opts: opts.into(), mode, request } }
    }

    /// A client of the caller's.
    pub(crate) fn with(client: Conn) -> Self {
        Self { link: Some(Link::new(client)), source: Source::Client }
    }
}

impl Session for Mysql {
    fn handed(&self) -> bool {
        matches!(self.source, Source::Client)
    }

    fn is_open(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.busy)
    }

    async fn open(&mut self, limit: Duration) -> Result<(), ConnectError> {
        let (opts, mode) = match &self.source {
            Source::Server { opts, mode, .. } => (opts, *mode),
            Source::Client if self.is_open() => return Ok(()),
            Source::Client => {
                return Err(ConnectError::NoWay(GONE.to_string()));
            }
        };
        if mode != SslMode::Disable && CryptoProvider::get_default().is_none() {
            // The client takes the default, and panics where there is none to take.
            let _ = ring::default_provider().install_default();
        }
        let client = timeout(limit, connect(opts, mode, limit))
            .await
            .unwrap_or_else(|_| Err(connect_failed(None, "no answer in time")))?;
        self.link = Some(Link::new(client));
        Ok(())
    }

    async fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        let Some(Link { client: Some(client), statements, busy }) = &mut self.link else {
            return Err(Failure::NotSent("there is no connection".to_string()));
        };
        *busy = true;
        let result = timeout(limit, statements.run(client, statement, limit))
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

    fn discard(&mut self) {
        self.link = None;
    }

    async fn close(self) {}

    /// The server would go on waiting for a while with a client that is gone: it is told to stop,
    /// over another connection.
    async fn cut(self) {
        let (Source::Server { opts, mode, request }, Some(id)) = (&self.source, self.id()) else {
            return;
        };
        let kill = async {
            let mut client = connect(opts, *mode, *request).await?;
            let killed = guarded(client.query_drop(format!("KILL {id}"))).await;
            drop(Link::new(client));
            killed.map_err(|trouble| statement_failed(trouble.code(), &trouble.describe()))
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

/// Ends the connection. The client would have a task of its own say goodbye to the server first,
/// without a limit; here it may say what can be said at once.
impl Drop for Link {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let mut goodbye = pin!(client.disconnect());
            let _ = goodbye.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }));
    }
}

/// Connects to the first address of the host that can be used.
async fn connect(opts: &Opts, mode: SslMode, limit: Duration) -> Result<Conn, Failure> {
    let until = Instant::now() + limit;
    if opts.socket().is_some() {
        return connect_at(opts.clone(), mode).await;
    }
    let addresses = addresses_of(opts.ip_or_hostname(), opts.tcp_port(), limit)
        .await
        .map_err(|error| connect_failed(None, &error))?;
    let addresses: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
    let mut result = Err(connect_failed(None, "the host has no address"));
    for (at, address) in addresses.iter().enumerate() {
        // One that does not answer leaves time for the next.
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let opts = OptsBuilder::from_opts(opts.clone()).resolved_ips(Some([*address])).into();
        result = timeout(share, connect_at(opts, mode))
            .await
            .unwrap_or_else(|_| Err(connect_failed(None, "no answer in time")));
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn connect_at(opts: Opts, mode: SslMode) -> Result<Conn, Failure> {
    let place = format!("{}:{}: ", opts.ip_or_hostname(), opts.tcp_port());
    let connected = match guarded(Conn::new(opts.clone())).await {
        Err(Trouble::Client(mysql_async::Error::Driver(
            DriverError::NoClientSslFlagFromServer,
        ))) if mode == SslMode::Prefer => {
            let opts = OptsBuilder::from_opts(opts).ssl_opts(None::<SslOpts>);
            guarded(Conn::new(opts)).await
        }
        result => result,
    };
    connected.map_err(|trouble| match (trouble.code(), trouble.is_final()) {
        (None, true) => Failure::refused(trouble.describe()),
        (None, _) if trouble.is_unreachable() => {
            connect_failed(None, &(place + &trouble.describe()))
        }
        (code, _) => connect_failed(code, &trouble.describe()),
    })
}

/// Fails when a handshake would fail for reasons of our own. Certificates are in files, which are read
/// where that holds up nothing else.
pub(crate) async fn check(server: Server) -> Result<Server, ConfigError> {
    tokio::task::spawn_blocking(move || server.check().map(|()| server))
        .await
        .unwrap_or_else(|error| Err(ConfigError::System(error.to_string())))
}

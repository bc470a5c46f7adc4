//! Sessions on a MySQL or MariaDB server.
//!
//! The client is used without a pool, and prepares a statement only when it is told to. Its limits for each
//! read and write together bound a statement. It sends no password in plain text and no local file. If it
//! panics over a server's answer, that becomes an error.

mod call;
mod connect;
mod statements;

use super::factory::Factory;
use super::{Cut, Session, Source as Sessions};
use call::guarded;
use connect::{connect, connect_to};
use lock_core::sql::{ConnectError, Rows, Statement, advisory};
use lock_core::{Failure, Timing};
use lock_shared::hosts::Hosts;
use lock_shared::mysql::Server;
use lock_shared::plan::gone;
use lock_shared::sslmode::SslMode;
use mysql::{Conn, Opts, OptsBuilder, SslOpts};
use rustls::crypto::{CryptoProvider, ring};
use statements::Statements;
use std::time::{Duration, Instant};

/// The longest packet that is sent or accepted. It has room for more than five hundred claims.
const PACKET: usize = 4 << 20;

/// Connects to a server.
pub(crate) struct Connects {
    pub(crate) server: Server,
    pub(crate) timing: Timing,
    /// The connection attribute `holder`, which the server shows.
    pub(crate) holder: Option<String>,
}

impl Sessions for Connects {
    type Session = Mysql;

    fn session(&mut self, waits: bool) -> Option<Mysql> {
        // The client's limits are set once for each connection.
        let wait = if waits { self.timing.wait() } else { Duration::ZERO };
        let holder = self.holder.as_deref();
        Some(Mysql::new(self.server.clone(), self.timing.request(), wait, holder))
    }
}

impl Sessions for Factory<Conn> {
    type Session = Mysql;

    fn session(&mut self, _waits: bool) -> Option<Mysql> {
        let (statements, source) = (Statements::default(), Source::Made(self.clone()));
        Some(Mysql { client: None, statements, source, patient: false })
    }
}

/// A connection to MySQL or MariaDB.
pub(crate) struct Mysql {
    client: Option<Conn>,
    statements: Statements,
    source: Source,
    /// True if the client's limits are those of a first connect, and not of a request.
    patient: bool,
}

enum Source {
    Server {
        hosts: Hosts<Opts>,
        /// The place among the hosts of the one that it was connected to last.
        at: usize,
        mode: SslMode,
        /// Time limit of a read or a write.
        request: Duration,
    },
    /// A client of the caller's. There is no second one.
    Client,
    /// Clients that the caller makes.
    Made(Factory<Conn>),
}

impl Mysql {
    /// Makes connections to `server`. `request` bounds each write, and `request + wait` each read.
    fn new(server: Server, request: Duration, wait: Duration, holder: Option<&str>) -> Self {
        let hosts = server.each(|host, port| (host.to_string(), port));
        let Server { user, password, database, socket, mode, root_cert, .. } = server;
        let program = [("program_name", "lock-sync")];
        let attributes = program.into_iter().chain(holder.map(|holder| ("holder", holder)));
        let attributes = attributes.map(|(name, value)| (name.to_string(), value.to_string()));
        let ssl = (mode != SslMode::Disable).then(|| {
            SslOpts::default()
                .with_root_cert_path(root_cert)
                .with_danger_accept_invalid_certs(mode != SslMode::VerifyFull)
        });
        let opts = OptsBuilder::new()
            .user(user)
            .pass(password)
            .db_name(Some(database))
            .socket(socket)
            // On loopback, the client would change over to the server's Unix socket.
            .prefer_socket(false)
            .read_timeout(Some(request + wait))
            .write_timeout(Some(request))
            .max_allowed_packet(Some(PACKET))
            .stmt_cache_size(0)
            .connect_attrs(Some(attributes.collect()))
            .ssl_opts(ssl);
        let hosts =
            hosts.map(|(host, port)| opts.clone().ip_or_hostname(Some(host)).tcp_port(port).into());
        let source = Source::Server { hosts, at: 0, mode, request };
        Self { client: None, statements: Statements::default(), source, patient: false }
    }

    /// A client of the caller's.
    pub(crate) fn with(client: Conn) -> Self {
        let (statements, source) = (Statements::default(), Source::Client);
        Self { client: Some(client), statements, source, patient: false }
    }
}

impl Drop for Mysql {
    fn drop(&mut self) {
        self.close();
    }
}

impl Session for Mysql {
    fn close(&mut self) {
        // The drop says goodbye to the server. An error there does not matter.
        let client = self.client.take();
        self.statements = Statements::default();
        let _ = guarded(|| {
            drop(client);
            Ok(())
        });
    }

    fn id(&self) -> Option<u32> {
        self.client.as_ref().map(Conn::connection_id)
    }

    /// The client cannot be interrupted. Another connection asks the server to end the wait.
    fn cut(&self, waiting: Option<&advisory::Session>) -> Option<Cut> {
        let Source::Server { hosts, at, mode, request } = &self.source else { return None };
        let [waits, kill] = waiting?.kill();
        let (opts, mode, request) = (hosts.get(*at)?.clone(), *mode, *request);
        let kill = move || {
            let killed = connect_to(&opts, mode, request, false).and_then(|client| {
                let mut other = Self::with(client);
                if !other.run(&waits, request)?.is_empty() {
                    other.run(&kill, request)?;
                }
                Ok(())
            });
            if let Err(why) = killed {
                tracing::debug!(%why, "a wait goes on at the server");
            }
        };
        Some(Box::new(move || {
            // Without that thread, the wait ends at its own time limit.
            let _ = std::thread::Builder::new().name("lock cut".to_string()).spawn(kill);
        }))
    }

    fn is_patient(&self) -> bool {
        self.patient
    }

    fn handed(&self) -> bool {
        matches!(self.source, Source::Client | Source::Made(_))
    }

    fn is_open(&self) -> bool {
        self.client.is_some()
    }

    fn open(&mut self, budget: Duration) -> Result<(), ConnectError> {
        if let Source::Made(_) = self.source {
            // A pool may have had no other.
            self.close();
        }
        if let Source::Made(factory) = &mut self.source {
            self.client = Some(factory.make(budget)?);
            return Ok(());
        }
        let Source::Server { hosts, at, mode, request } = &mut self.source else {
            return if self.is_open() { Ok(()) } else { Err(gone()) };
        };
        if *mode != SslMode::Disable && CryptoProvider::get_default().is_none() {
            // The client uses the process's default provider, and panics if there is none.
            let _ = ring::default_provider().install_default();
        }
        let began = Instant::now();
        let mut connected = connect(hosts, *mode, budget);
        let (took, unanswered) = (began.elapsed(), matches!(connected, Err(Failure::NotSent(_))));
        // The first connect measures how slow the server is, and may take longer. The client's limits are for
        // each answer, and stay as they are for the whole connection.
        self.patient = unanswered && (*request..budget).contains(&took);
        if self.patient {
            let left = budget.saturating_sub(took);
            let slower = |opts| OptsBuilder::from_opts(opts).read_timeout(Some(left)).into();
            connected = connect(&hosts.clone().map(slower), *mode, left);
        }
        let client;
        (client, *at) = connected?;
        self.close();
        self.client = Some(client);
        Ok(())
    }

    fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure> {
        let Some(client) = &mut self.client else {
            return Err(Failure::NotSent("no connection to the server is open".to_string()));
        };
        let result = self.statements.run(client, statement, budget);
        if let Err(Failure::Unknown(_)) = result {
            self.close();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_shared::place::Place;
    use lock_shared::plan::Plan;

    /// The server answers a wait when its time is over, and the client must not be the first to give up.
    #[test]
    fn a_connection_to_wait_on_has_time_for_the_wait() {
        let config = lock_shared::Config::from_url("mysql://h/d?protocol=advisory").expect("good");
        let (place, plan) = Plan::at(config).expect("a plan");
        let Place::Mysql(server) = place else { unreachable!("it is MySQL's") };
        let timing = plan.timing;
        let mut connects = Connects { server, timing, holder: None };
        let mut limits = |waits| {
            let session = connects.session(waits).expect("a session");
            let Source::Server { hosts, .. } = &session.source else { unreachable!("ours") };
            let opts = hosts.get(0).expect("a host");
            (opts.get_read_timeout().copied(), opts.get_write_timeout().copied())
        };
        let request = timing.request();
        assert_eq!(limits(false), (Some(request), Some(request)));
        assert_eq!(limits(true), (Some(request + timing.wait()), Some(request)));
    }

    /// The second attempt has only the time that the first has left. The machine may be slow at one time, but not each time.
    #[test]
    fn a_server_that_says_nothing_takes_no_more_than_the_limit() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("mysql://{}/d", silent.local_addr().expect("bound"));
        let (request, budget) = (Duration::from_millis(400), Duration::from_millis(800));
        let took = || {
            let config = lock_shared::Config::from_url(&url).expect("good");
            let (place, _) = Plan::at(config).expect("a plan");
            let Place::Mysql(server) = place else { unreachable!("it is MySQL's") };
            let mut session = Mysql::new(server, request, Duration::ZERO, None);
            let began = Instant::now();
            session.open(budget).expect_err("it says nothing");
            began.elapsed()
        };
        let shortest = (0..3).map(|_| took()).min().expect("three");
        assert!((budget..budget + request / 2).contains(&shortest), "{shortest:?}");
    }

    /// A tunnel begins there, and the socket that its other end tells of is not this machine's.
    #[test]
    fn an_address_of_this_machine_is_not_left_for_a_socket() {
        let config = lock_shared::Config::from_url("mysql://127.0.0.1/d").expect("good");
        let (place, plan) = Plan::at(config).expect("a plan");
        let Place::Mysql(server) = place else { unreachable!("it is MySQL's") };
        let session = Mysql::new(server, plan.timing.request(), Duration::ZERO, None);
        let Source::Server { hosts, .. } = &session.source else { unreachable!("ours") };
        assert!(!hosts.get(0).expect("a host").get_prefer_socket());
    }
}

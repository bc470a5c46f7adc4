//! Sessions on a PostgreSQL server.

mod outside;
mod stream;

use super::factory::Factory;
use super::names::addresses_of;
use super::{Cut, Session, Source as Sessions};
use lock_core::sql::postgres::{connect_failed, notification};
use lock_core::sql::{ConnectError, Prepared, Rows, Run, Statement, advisory};
use lock_core::{Failure, Notification};
use lock_shared::hosts::{Hosts, share};
use lock_shared::plan::gone;
use lock_shared::postgres::{
    Attempts, Config, Server, at, failed, is_unix, limit_connect, name, not_connected, param, row,
};
use outside::outside;
use postgres::Client;
use postgres::config::{SslMode, SslNegotiation};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::Type;
use std::ops::DerefMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use stream::{Connector, Limit};

/// Connects to a server.
pub(crate) struct Connects {
    pub(crate) server: Server,
    /// The time after which the server ends a statement.
    pub(crate) request: Duration,
    /// The `application_name` of connections, unless the URL has one.
    pub(crate) holder: Option<String>,
}

impl Sessions for Connects {
    type Session = Postgres;
    const TELLS: bool = true;

    fn session(&mut self, _waits: bool) -> Option<Postgres> {
        Some(Postgres::new(&self.server, self.request, self.holder.as_deref()))
    }
}

/// A client of the caller's, or the guard of one.
pub(crate) type Held = Box<dyn DerefMut<Target = Client> + Send>;

impl Sessions for Factory<Held> {
    type Session = Postgres;

    fn session(&mut self, _waits: bool) -> Option<Postgres> {
        Some(Postgres {
            client: None,
            source: Source::Made(self.clone()),
            limit: Limit::default(),
            statements: Prepared::default(),
        })
    }
}

/// A connection to PostgreSQL.
pub(crate) struct Postgres {
    client: Option<Held>,
    source: Source,
    limit: Limit,
    statements: Prepared<postgres::Statement>,
}

enum Source {
    Server {
        hosts: Hosts<Config>,
        connector: Box<Connector>,
        request: Duration,
    },
    /// A client of the caller's. There is no second one.
    Client,
    /// Clients that the caller makes.
    Made(Factory<Held>),
}

impl Postgres {
    /// Makes connections to `server`, which ends a statement after `request`.
    fn new(server: &Server, request: Duration, holder: Option<&str>) -> Self {
        let limit = Limit::default();
        let hosts = server.each(request, holder.unwrap_or("lock-sync"));
        let hosts = hosts.map(bounded);
        let connector = Box::new(Connector::new(server.tls.clone(), limit.clone()));
        let source = Source::Server { hosts, connector, request };
        Self { client: None, source, limit, statements: Prepared::default() }
    }

    /// A client of the caller's.
    pub(crate) fn with(client: Client) -> Self {
        Self {
            client: Some(Box::new(Box::new(client))),
            source: Source::Client,
            limit: Limit::default(),
            statements: Prepared::default(),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.close();
    }
}

impl Session for Postgres {
    fn close(&mut self) {
        if self.client.is_none() {
            return;
        }
        // Dropping a client says goodbye to the server, which may not be listening.
        self.limit.set(Duration::from_millis(100));
        let client = &mut self.client;
        let drops = || {
            let client = client.take();
            let _ = guarded(|| {
                drop(client);
                Ok(())
            });
        };
        if outside(drops).is_err() {
            // Dropping it on this thread would panic. The server ends a connection that is silent for too
            // long.
            std::mem::forget(self.client.take());
        }
        self.statements = Prepared::default();
    }

    /// Tells the server to end the wait. It would go on for a while although the client is gone.
    fn cut(&self, _: Option<&advisory::Session>) -> Option<Cut> {
        let Source::Server { connector, request, .. } = &self.source else { return None };
        let token = self.client.as_ref()?.cancel_token();
        let (limit, own) = (self.limit.clone(), Limit::default());
        let (connector, request) = (connector.within(own.clone()), *request);
        let cancel = move || {
            own.set(request);
            let cancelled =
                guarded(|| token.cancel_query(connector).map_err(|error| failed(&error)));
            if let Err(why) = cancelled {
                tracing::debug!(%why, "a wait goes on at the server");
            }
        };
        Some(Box::new(move || {
            limit.cut();
            // Without that thread, the server notices later.
            let _ = std::thread::Builder::new().name("lock cut".to_string()).spawn(cancel);
        }))
    }

    fn handed(&self) -> bool {
        matches!(self.source, Source::Client | Source::Made(_))
    }

    fn is_open(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.is_closed())
    }

    fn open(&mut self, budget: Duration) -> Result<(), ConnectError> {
        if let Source::Made(_) = self.source {
            // A pool may have had no other.
            self.close();
        }
        match &mut self.source {
            Source::Client if self.client.as_ref().is_some_and(|client| !client.is_closed()) => {
                Ok(())
            }
            Source::Client => Err(gone()),
            Source::Made(factory) => {
                self.client = Some(factory.make(budget)?);
                Ok(())
            }
            Source::Server { hosts, connector, .. } => {
                let connected =
                    outside(|| guarded(|| connect(hosts, connector, &self.limit, budget)));
                let client = connected.map_err(no_thread)??;
                self.close();
                self.client = Some(Box::new(Box::new(client)));
                Ok(())
            }
        }
    }

    fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure> {
        let Some(client) = &mut self.client else {
            return Err(Failure::NotSent("no connection to the server is open".to_string()));
        };
        self.limit.set(budget);
        let statements = &mut self.statements;
        let result = outside(|| guarded(|| rows(client, statements, statement, budget)))
            .map_err(no_thread)?;
        if let Err(Failure::Unknown(_)) = result {
            self.close();
        }
        result
    }

    fn news(&mut self, up_to: Duration) -> Result<Vec<Notification>, Failure> {
        let Some(client) = &mut self.client else {
            return Err(Failure::NotSent("no connection to the server is open".to_string()));
        };
        // The wait may be a short one, and the machine busy.
        self.limit.set(up_to.max(Duration::from_secs(1)) * 2);
        let result = outside(|| guarded(|| told(client, up_to).map_err(|error| failed(&error))));
        let result = result.map_err(no_thread)?;
        if let Err(Failure::Unknown(_)) = result {
            self.close();
        }
        result
    }
}

/// Calls the client, whose panics become errors. The runtime inside it panics if the system has no file
/// descriptor left. A request that was sent before the panic may have been executed.
fn guarded<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let told =
            "the client panicked: has this process used up its file descriptors (ulimit -n)?";
        Err(Failure::Unknown(told.to_string()))
    })
}

fn no_thread(error: std::io::Error) -> Failure {
    Failure::NotSent(format!(
        "the system cannot start a thread, which the client needs on an async runtime: {error}"
    ))
}

/// Waits for notifications, and returns them.
fn told(client: &mut Client, up_to: Duration) -> Result<Vec<Notification>, postgres::Error> {
    let mut notifications = client.notifications();
    let mut heard: Vec<_> = notifications.timeout_iter(up_to).next()?.into_iter().collect();
    while let Some(next) = notifications.iter().next()? {
        heard.push(next);
    }
    Ok(heard.iter().filter_map(|one| notification(one.payload())).collect())
}

/// Makes the client use our connector, which does TLS by itself. It bounds every read and write, for which
/// the client has no means. Unix sockets cannot go through it.
fn bounded(mut host: Config) -> Config {
    if is_unix(&host) {
        host.ssl_mode(SslMode::Disable);
    } else {
        host.ssl_mode(SslMode::Require);
        host.ssl_negotiation(SslNegotiation::Direct);
    }
    host
}

/// Connects to the first host that can be used.
fn connect(
    hosts: &Hosts<Config>,
    connector: &Connector,
    limit: &Limit,
    budget: Duration,
) -> Result<Client, Failure> {
    let mut turns = hosts.turns(budget);
    while let Some(turn) = turns.next_turn() {
        match connect_to(turn.host, connector, limit, turn.limit) {
            Ok(client) => {
                hosts.prefer(turn.at);
                return Ok(client);
            }
            Err(failure) => turns.failed(failure),
        }
    }
    Err(turns.error())
}

/// Connects to the first address of the host that can be used.
fn connect_to(
    host: &Config,
    connector: &Connector,
    limit: &Limit,
    budget: Duration,
) -> Result<Client, Failure> {
    let until = Instant::now() + budget;
    let mut addresses = match name(host) {
        Some((name, port)) => at(host, addresses_of(name, port, budget))?,
        None => vec![host.clone()],
    };
    let many = addresses.len();
    let mut result = Err(connect_failed(None, "the host has no address"));
    for (nth, config) in addresses.iter_mut().enumerate() {
        limit.set(limit_connect(config, share(until, many - nth)));
        let mut attempts = Attempts::new(config, connector.mode());
        result = loop {
            let config = postgres::Config::from(attempts.config().clone());
            let connected = config.connect(connector.in_mode(attempts.mode()));
            match connected.map_err(|error| not_connected(&error)) {
                Ok(client) => break Ok(client),
                Err(failure) => {
                    if let Some(failure) = attempts.failed(failure) {
                        break Err(failure);
                    }
                }
            }
        };
        if result.is_ok() {
            break;
        }
    }
    result
}

fn rows(
    client: &mut Client,
    statements: &mut Prepared<postgres::Statement>,
    statement: &Statement,
    budget: Duration,
) -> Result<Rows, Failure> {
    let until = Instant::now() + budget;
    let params = || statement.params.iter().map(param);
    loop {
        let sent = Instant::now();
        let result = match statements.run(statement, until.saturating_duration_since(sent)) {
            Run::Text => client.query_typed(&statement.text, &params().collect::<Vec<_>>()),
            Run::Execute(prepared) => {
                let values: Vec<_> = params().map(|(value, _)| value).collect();
                client.query(&prepared, &values)
            }
            Run::Prepare => {
                let types: Vec<Type> = params().map(|(_, kind)| kind).collect();
                let prepared = client.prepare_typed(&statement.text, &types);
                let prepared = prepared.map_err(|error| failed(&error));
                let left = until.saturating_duration_since(Instant::now());
                statements.prepared(statement, prepared, sent.elapsed(), left)?;
                continue;
            }
        };
        match result.map_err(|error| failed(&error)) {
            Err(failure) if statements.was_lost(statement, &failure) => {}
            result => {
                statements.ran(sent.elapsed());
                return Ok(result?.iter().map(row).collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server may have executed the statement.
    #[test]
    fn a_panic_of_the_client_leaves_it_open_what_became_of_the_statement() {
        let failure = guarded(|| -> Result<(), Failure> { panic!("on purpose") });
        assert!(matches!(failure, Err(Failure::Unknown(_))), "{failure:?}");
    }
}

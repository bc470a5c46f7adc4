//! Sessions on a PostgreSQL server.

mod moving;

use super::factory::Factory;
use super::{Session, Source as Sessions};
use crate::alarm::Alarm;
use crate::backend::names::addresses_of;
use crate::backend::panics::{PANICKED, guarded};
use crate::runtime::read_files;
use futures_util::TryStreamExt;
use lock_core::config::ConfigError;
use lock_core::sql::postgres::{connect_failed, notification, statement_failed};
use lock_core::sql::{ConnectError, Prepared, Rows, Run, Statement, advisory};
use lock_core::{Failure, Notification};
use lock_shared::hosts::{Hosts, share};
use lock_shared::plan::gone;
use lock_shared::postgres::{
    Attempts, Config, Server, Tls, at, describe, failed, limit_connect, name, not_connected, param,
    row,
};
use lock_shared::sslmode::SslMode;
use moving::{Moving, drive};
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::config::SslMode as Negotiate;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Error, NoTls, RowStream, Socket};

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

    fn session(&mut self) -> Option<Postgres> {
        Some(Postgres::new(&self.server, self.request, self.holder.as_deref()))
    }
}

/// A client of the caller's, or the guard of one.
pub(crate) type Held = Box<dyn Deref<Target = Client> + Send>;

impl Sessions for Factory<Held> {
    type Session = Postgres;

    fn session(&mut self) -> Option<Postgres> {
        let source = Source::Made(self.clone());
        Some(Postgres::over(None, source))
    }
}

/// A connection to PostgreSQL.
pub(crate) struct Postgres {
    link: Option<Link>,
    source: Source,
    statements: Prepared<tokio_postgres::Statement>,
    /// For the limit of a statement.
    alarm: Alarm,
}

enum Source {
    Server {
        hosts: Hosts<Config>,
        tls: Tls,
        request: Duration,
    },
    /// A client of the caller's. There is no second one.
    Client,
    /// Clients that the caller makes.
    Made(Factory<Held>),
}

/// A client, and the connection that moves its bytes, unless the caller polls that. The driver's task polls
/// both, so the connection ends with the task.
struct Link {
    client: Held,
    connection: Option<Moving>,
    /// Payloads of the server's notifications.
    told: mpsc::UnboundedReceiver<String>,
    /// True if a statement is in flight, or was cut off.
    busy: bool,
}

impl Link {
    fn new<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        client: Client,
        mut connection: tokio_postgres::Connection<Socket, T>,
    ) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let moving = poll_fn(move |cx| {
            loop {
                match ready!(connection.poll_message(cx)) {
                    Some(Ok(AsyncMessage::Notification(news))) => {
                        let _ = tell.send(news.payload().to_string());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Ok(())),
                }
            }
        });
        let client = Box::new(Box::new(client));
        Self { client, connection: Some(Moving::new(moving)), told, busy: false }
    }

    /// A client of the caller's, whose connection the caller polls.
    fn held(client: Held) -> Self {
        let (_, told) = mpsc::unbounded_channel();
        Self { client, connection: None, told, busy: false }
    }
}

impl Postgres {
    /// Connections to `server`, which ends a statement after `request`.
    fn new(server: &Server, request: Duration, holder: Option<&str>) -> Self {
        let hosts = server.each(request, holder.unwrap_or("lock-async"));
        let source = Source::Server { hosts, tls: server.tls.clone(), request };
        Self::over(None, source)
    }

    /// A client of the caller's.
    pub(crate) fn with(client: Client) -> Self {
        let link = Link::held(Box::new(Box::new(client)));
        Self::over(Some(link), Source::Client)
    }

    fn over(link: Option<Link>, source: Source) -> Self {
        Self { link, source, statements: Prepared::default(), alarm: Alarm::default() }
    }

    /// Drops the connection without a word, because the server may not be listening.
    fn discard(&mut self) {
        self.link = None;
        self.statements = Prepared::default();
    }
}

impl Session for Postgres {
    fn handed(&self) -> bool {
        matches!(self.source, Source::Client | Source::Made(_))
    }

    fn is_open(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.busy && !link.client.is_closed())
    }

    async fn open(&mut self, limit: Duration) -> Result<(), ConnectError> {
        let open = self.is_open();
        match &self.source {
            Source::Client if open => Ok(()),
            Source::Client => Err(gone()),
            Source::Made(factory) => {
                // A pool may have had no other.
                (self.link, self.statements) = (None, Prepared::default());
                self.link = Some(Link::held(factory.make(limit).await?));
                Ok(())
            }
            Source::Server { hosts, tls, .. } => {
                let panicked = || Err(connect_failed(None, PANICKED));
                let link = guarded(connect(hosts, tls, limit)).await.unwrap_or_else(panicked)?;
                self.discard();
                self.link = Some(link);
                Ok(())
            }
        }
    }

    async fn run(&mut self, statement: &Statement, limit: Duration) -> Result<Rows, Failure> {
        let Some(link) = &mut self.link else {
            return Err(Failure::NotSent("no connection to the server is open".to_string()));
        };
        link.busy = true;
        // Pinned here, because what is passed on is moved, and it is large.
        let statements = &mut self.statements;
        let alarm = &mut self.alarm;
        let ended =
            alarm.within(limit, guarded(pin!(rows(link, statements, statement, limit)))).await;
        let result = match ended {
            Some(result) => result.unwrap_or_else(|| Err(statement_failed(None, PANICKED))),
            None => Err(statement_failed(None, "no answer in time")),
        };
        match result {
            Err(Failure::Unknown(_)) => self.discard(),
            _ => link.busy = false,
        }
        result
    }

    async fn news(&mut self, up_to: Duration) -> Result<Vec<Notification>, Failure> {
        let Some(Link { connection, told, .. }) = &mut self.link else {
            return Err(Failure::NotSent("no connection to the server is open".to_string()));
        };
        let heard = async { drive(connection, pin!(async { Ok(told.recv().await) })).await };
        let first = match timeout(up_to, heard).await {
            Ok(Ok(first)) => first,
            Ok(Err(error)) => {
                self.discard();
                return Err(statement_failed(None, &describe(&error).1));
            }
            Err(_) => None,
        };
        let rest = std::iter::from_fn(|| told.try_recv().ok());
        Ok(first.into_iter().chain(rest).filter_map(|one| notification(&one)).collect())
    }

    /// Notices that the server ended the connection, so that the next statement finds a new one.
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        let connection = self.link.as_mut().and_then(|link| link.connection.as_mut());
        if let Some(Poll::Ready(ended)) = connection.map(|moving| moving.poll(cx)) {
            if let Err(error) = ended {
                tracing::debug!(error = describe(&error).1, "the connection ended");
            }
            self.discard();
        }
    }

    fn moved(&mut self) {
        self.alarm = Alarm::default();
        if let Source::Server { .. } = self.source {
            self.discard();
        }
    }

    async fn close(mut self) {
        if let Some(Link { client, connection: Some(connection), busy: false, .. }) =
            self.link.take()
        {
            drop(client);
            let _ = timeout(Duration::from_millis(100), connection.end()).await;
        }
    }

    /// Tells the server to end the wait. It would go on for a while although the client is gone.
    async fn cut(mut self, _: &advisory::Session) {
        let (Source::Server { tls, request, .. }, Some(link)) = (&self.source, &self.link) else {
            return;
        };
        let token = link.client.cancel_token();
        if let Err(why) = timeout(*request, cancel(token, tls)).await.unwrap_or(Ok(())) {
            tracing::debug!(error = why, "a wait goes on at the server");
        }
        self.discard();
    }
}

/// Asks the server to end the statement in flight.
async fn cancel(token: CancelToken, tls: &Tls) -> Result<(), String> {
    let cancelled = if tls.mode == SslMode::Disable {
        token.cancel_query(NoTls).await
    } else {
        let tls = tls.clone();
        let make = read_files(move || tls.rustls("the server")).await;
        token.cancel_query(make.map_err(|error| error.to_string())?).await
    };
    cancelled.map_err(|error| describe(&error).1)
}

/// Connects to the first host that can be used. Each has its share of the limit: one for all would end the last one
/// without its name.
async fn connect(hosts: &Hosts<Config>, tls: &Tls, limit: Duration) -> Result<Link, Failure> {
    let mut turns = hosts.turns(limit);
    while let Some(turn) = turns.next_turn() {
        match connect_to(turn.host, tls, turn.limit).await {
            Ok(link) => {
                hosts.prefer(turn.at);
                return Ok(link);
            }
            Err(failure) => turns.failed(failure),
        }
    }
    Err(turns.error())
}

/// Connects to the first address of the host that can be used.
async fn connect_to(host: &Config, tls: &Tls, limit: Duration) -> Result<Link, Failure> {
    let until = Instant::now() + limit;
    let mut addresses = match name(host) {
        Some((name, port)) => at(host, addresses_of(name, port, limit).await)?,
        None => vec![host.clone()],
    };
    let many = addresses.len();
    let mut result = Err(connect_failed(None, "the host has no address"));
    for (nth, address) in addresses.iter_mut().enumerate() {
        let limit = limit_connect(address, share(until, many - nth));
        result = timeout(limit, connect_at(address, tls))
            .await
            .unwrap_or_else(|_| Err(connect_failed(None, "no answer in time")));
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn connect_at(address: &Config, tls: &Tls) -> Result<Link, Failure> {
    let mut attempts = Attempts::new(address, tls.mode);
    loop {
        let tls = Tls { mode: attempts.mode(), ..tls.clone() };
        match attempt(attempts.config(), tls).await {
            Ok(link) => return Ok(link),
            Err(failure) => {
                if let Some(failure) = attempts.failed(failure) {
                    return Err(failure);
                }
            }
        }
    }
}

async fn attempt(address: &Config, tls: Tls) -> Result<Link, Failure> {
    let mut config = address.clone();
    if tls.mode == SslMode::Disable {
        config.ssl_mode(Negotiate::Disable);
        let (client, connection) =
            config.connect(NoTls).await.map_err(|error| not_connected(&error))?;
        return Ok(Link::new(client, connection));
    }
    config.ssl_mode(match tls.mode {
        SslMode::Prefer => Negotiate::Prefer,
        _ => Negotiate::Require,
    });
    let make = read_files(move || tls.rustls("the server"))
        .await
        .map_err(|error| connect_failed(None, &error.to_string()))?;
    let (client, connection) = config.connect(make).await.map_err(|error| not_connected(&error))?;
    Ok(Link::new(client, connection))
}

/// Fails if every handshake would fail because of this side's settings.
pub(crate) async fn check(tls: &Tls) -> Result<(), ConfigError> {
    let tls = tls.clone();
    read_files(move || tls.check()).await
}

async fn rows(
    link: &mut Link,
    statements: &mut Prepared<tokio_postgres::Statement>,
    statement: &Statement,
    limit: Duration,
) -> Result<Rows, Failure> {
    let until = Instant::now() + limit;
    let Link { client, connection, .. } = link;
    let params = || statement.params.iter().map(param);
    loop {
        let sent = Instant::now();
        let result = match statements.run(statement, until.saturating_duration_since(sent)) {
            Run::Text => {
                let asked = client.query_typed_raw(&statement.text, params());
                drive(connection, pin!(read(asked))).await
            }
            Run::Execute(prepared) => {
                let asked = client.query_raw(&prepared, params().map(|(value, _)| value));
                drive(connection, pin!(read(asked))).await
            }
            Run::Prepare => {
                let types: Vec<Type> = params().map(|(_, kind)| kind).collect();
                let preparing = pin!(client.prepare_typed(&statement.text, &types));
                let prepared = drive(connection, preparing).await;
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
                return result;
            }
        }
    }
}

/// The rows that the server sends.
async fn read(asked: impl Future<Output = Result<RowStream, Error>>) -> Result<Rows, Error> {
    pin!(asked.await?).map_ok(|one| row(&one)).try_collect().await
}

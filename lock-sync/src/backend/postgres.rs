//! Sessions on a PostgreSQL server.

mod stream;
mod tls;

use super::Session;
use crate::error::ConfigError;
use lock_core::Failure;
use lock_core::sql::postgres::{connect_failed, session_options, statement_failed};
use lock_core::sql::{Rows, Statement, Value};
use postgres::types::{ToSql, Type};
use postgres::{Client, Config};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use stream::{Connector, Limit};

pub(crate) use tls::Tls;

/// A connection to PostgreSQL.
pub(crate) struct Postgres {
    client: Option<Client>,
    source: Source,
    limit: Limit,
    /// Statements by their text: how often each was run, and its prepared form.
    statements: BTreeMap<Arc<str>, Prepared>,
}

enum Source {
    Server {
        config: Box<Config>,
        connector: Box<Connector>,
    },
    /// The caller gave us a client; there is no way to another.
    Client,
}

enum Prepared {
    /// Once run without: a script that takes one lock needs no second round trip.
    NotYet,
    Yes(postgres::Statement),
}

impl Postgres {
    /// Connections are made by `config`, encrypted as `tls` says. A statement is ended by the server
    /// after `request`.
    pub(crate) fn new(mut config: Config, tls: Tls, request: Duration) -> Self {
        let limit = Limit::default();
        let options = config.get_options().map(|own| format!("{own} ")).unwrap_or_default();
        config.options(&format!("{options}{}", session_options(request)));
        if config.get_application_name().is_none() {
            config.application_name("lock-sync");
        }
        config.tcp_user_timeout(request);
        // Our connector speaks TLS by itself, or does not: it is what bounds every read and write,
        // which the client has no means of its own for. Unix sockets cannot go through it.
        let unix = matches!(config.get_hosts().first(), Some(postgres::config::Host::Unix(_)));
        if unix {
            config.ssl_mode(postgres::config::SslMode::Disable);
        } else {
            config.ssl_mode(postgres::config::SslMode::Require);
            config.ssl_negotiation(postgres::config::SslNegotiation::Direct);
        }
        let connector = Box::new(Connector::new(tls, limit.clone()));
        let source = Source::Server { config: Box::new(config), connector };
        Self { client: None, source, limit, statements: BTreeMap::new() }
    }

    /// A client of the caller's.
    pub(crate) fn with(client: Client) -> Self {
        Self {
            client: Some(client),
            source: Source::Client,
            limit: Limit::default(),
            statements: BTreeMap::new(),
        }
    }

    fn close(&mut self) {
        // Dropping a client says goodbye to the server, which may not be listening.
        self.limit.set(Duration::from_millis(100));
        self.client = None;
        self.statements.clear();
    }
}

impl Session for Postgres {
    fn is_open(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.is_closed())
    }

    fn open(&mut self, budget: Duration) -> Result<(), Failure> {
        not_async()
            .map_err(|error| Failure::Rejected { retry: false, message: error.to_string() })?;
        match &mut self.source {
            Source::Client if self.client.as_ref().is_some_and(|client| !client.is_closed()) => {
                Ok(())
            }
            Source::Client => Err(Failure::Rejected {
                retry: false,
                message:
                    "the connection that was handed over is closed, and there is no way to another"
                        .to_string(),
            }),
            Source::Server { config, connector } => {
                config.connect_timeout(budget);
                self.limit.set(budget);
                let connected = config.connect((**connector).clone());
                let client = connected.map_err(|error| {
                    let (code, message) = describe(&error);
                    connect_failed(code.as_deref(), &message)
                })?;
                self.close();
                self.client = Some(client);
                Ok(())
            }
        }
    }

    fn run(&mut self, statement: &Statement, budget: Duration) -> Result<Rows, Failure> {
        not_async().map_err(|error| Failure::NotSent(error.to_string()))?;
        let Some(client) = &mut self.client else {
            return Err(Failure::NotSent("there is no connection".to_string()));
        };
        self.limit.set(budget);
        let result = rows(client, &mut self.statements, statement);
        result.map_err(|error| {
            let (code, message) = describe(&error);
            let failure = statement_failed(code.as_deref(), &message);
            if matches!(failure, Failure::Unknown(_)) {
                self.close();
            }
            failure
        })
    }
}

fn rows(
    client: &mut Client,
    statements: &mut BTreeMap<Arc<str>, Prepared>,
    statement: &Statement,
) -> Result<Rows, postgres::Error> {
    let params = statement.params.iter().map(param);
    let rows = match statements.get(&statement.text) {
        None => {
            let typed: Vec<_> = params.collect();
            let rows = client.query_typed(&statement.text, &typed)?;
            statements.insert(statement.text.clone(), Prepared::NotYet);
            rows
        }
        Some(prepared) => {
            let prepared = match prepared {
                Prepared::Yes(prepared) => prepared.clone(),
                Prepared::NotYet => {
                    let types: Vec<Type> = params.clone().map(|(_, kind)| kind).collect();
                    let prepared = client.prepare_typed(&statement.text, &types)?;
                    statements.insert(statement.text.clone(), Prepared::Yes(prepared.clone()));
                    prepared
                }
            };
            let values: Vec<_> = params.map(|(value, _)| value).collect();
            client.query(&prepared, &values)?
        }
    };
    Ok(rows.iter().map(row).collect())
}

fn param(value: &Value) -> (&(dyn ToSql + Sync), Type) {
    match value {
        Value::Null => (&None::<i64>, Type::INT8),
        Value::Int(number) => (number, Type::INT8),
        Value::Text(text) => (text, Type::TEXT),
        Value::Texts(texts) => (texts, Type::TEXT_ARRAY),
    }
}

/// A row's values. What is neither a `bigint` nor a text, no statement of ours returns; the core
/// takes NULL for a surprise.
fn row(row: &postgres::Row) -> Vec<Value> {
    (0..row.len())
        .map(|at| match *row.columns()[at].type_() {
            Type::INT8 => row.try_get(at).ok().flatten().map_or(Value::Null, Value::Int),
            Type::TEXT => row.try_get(at).ok().flatten().map_or(Value::Null, Value::Text),
            _ => Value::Null,
        })
        .collect()
}

/// The SQLSTATE, and a line for people. Neither contains what the client sent.
fn describe(error: &postgres::Error) -> (Option<String>, String) {
    if let Some(answer) = error.as_db_error() {
        return (Some(answer.code().code().to_string()), answer.message().to_string());
    }
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    (None, message)
}

/// Reads the server's part of the URL, without our own parameters.
pub(crate) fn config(url: &str) -> Result<Config, ConfigError> {
    let config: Config =
        url.parse().map_err(|error: postgres::Error| ConfigError::Url(describe(&error).1))?;
    if config.get_hosts().is_empty() {
        return Err(ConfigError::Url("it names no host: postgres://HOST/DATABASE".to_string()));
    }
    Ok(config)
}

/// Whether everything that would be sent stays on this machine.
pub(crate) fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        postgres::config::Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        postgres::config::Host::Unix(_) => true,
    })
}

/// Refuses to block on a thread that must not: the client, which has an async runtime inside, would
/// panic.
pub(crate) fn not_async() -> Result<(), ConfigError> {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => Err(ConfigError::AsyncContext),
        Err(_) => Ok(()),
    }
}

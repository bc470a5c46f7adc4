//! From a configuration to a driver.

use super::{Config, Target};
use crate::backend::advisory::Connections;
use crate::backend::tables::Tables;
use crate::backend::{Backends, Handed, Session, Source, nowhere};
use crate::clock;
use crate::driver::Driver;
use crate::locks::{Check, Locks};
use lock_core::config::{ConfigError, Error};
use lock_core::{ClaimError, Engine, LockName, Mode, Timing, advisory, sql, table};
#[cfg(feature = "consul")]
use lock_core::{Judgment, Pace};
use lock_shared::place::Place;
use lock_shared::settings::Codec;
use std::sync::Arc;
use std::time::Duration;

/// What a driver is started with, wherever the locks are kept.
struct Plan {
    core: lock_core::Config,
    timing: Timing,
    ttl: Duration,
    holder: String,
    waiting: usize,
    /// There is one connection, and never another.
    only: bool,
}

impl Config {
    /// Connects, and checks that locks are safe there: the server, its settings, the rights, the
    /// table, which is created if it is missing.
    ///
    /// # Errors
    /// [`Error`]: the configuration, the server or the table cannot be used, or there is no tokio
    /// runtime to run on.
    ///
    /// # Panics
    /// If the runtime has no timer, or for a server no I/O: build it with `enable_all`.
    ///
    /// # Cancel safety
    /// Dropping the future ends the connection. A table that was missing may have been created, and
    /// a session in Consul, without locks, lives for up to two TTLs.
    pub async fn connect(self) -> Result<Locks, Error> {
        tokio::runtime::Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
        let Self { target, settings } = self;
        let kind = target.kind();
        let (timing, codec) = (settings.timing(kind)?, settings.codec(kind)?);
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)
            .map_err(|error| ConfigError::System(format!("it has no random numbers: {error}")))?;
        let plan = Plan {
            core: lock_core::Config::new(timing, u128::from_ne_bytes(seed)),
            timing,
            ttl: settings.ttl,
            holder: settings.holder(),
            waiting: settings.waiting.unwrap_or(advisory::WAITING),
            only: false,
        };
        match (target, codec) {
            #[cfg(feature = "postgres")]
            (Target::At(Place::Postgres(server)), codec) => {
                use crate::backend::postgres::{Connects, check};
                check(&server.tls).await?;
                let (request, holder) = (timing.request(), plan.shown(&codec));
                plan.start(codec, Connects { server, request, holder }).await
            }
            #[cfg(feature = "postgres")]
            (Target::PostgresClient(client), codec) => {
                plan.handed(codec, crate::backend::postgres::Postgres::with(*client)).await
            }
            #[cfg(feature = "mysql")]
            (Target::At(Place::Mysql(server)), codec) => {
                use crate::backend::mysql::{Connects, check};
                let (server, holder) = (check(server).await?, plan.shown(&codec));
                let request = timing.request();
                plan.start(codec, Connects { server, request, holder }).await
            }
            #[cfg(feature = "mysql")]
            (Target::MysqlConnection(connection), codec) => {
                plan.handed(codec, crate::backend::mysql::Mysql::with(*connection)).await
            }
            #[cfg(feature = "sqlite")]
            (Target::At(Place::Sqlite(path)), Codec::Table(codec)) => {
                let session = crate::backend::sqlite::Sqlite::open(path).await?;
                plan.handed(Codec::Table(session.fit(codec)), session).await
            }
            #[cfg(feature = "sqlite")]
            (Target::SqliteConnection(connection), codec) => {
                let schema = settings.schema();
                let session = crate::backend::sqlite::Sqlite::with(*connection, schema).await?;
                plan.handed(codec, session).await
            }
            #[cfg(feature = "consul")]
            (Target::At(Place::Consul(server)), Codec::Session(codec)) => {
                plan.consul(codec, server, settings.token).await
            }
            // A codec or a place that a configuration does not make.
            #[allow(unreachable_patterns)]
            _ => Err(nowhere()),
        }
    }
}

impl Plan {
    /// Over connections that are opened as they are needed.
    async fn start<S: Source>(self, codec: Codec, source: S) -> Result<Locks, Error> {
        match codec {
            Codec::Table(codec) => {
                let check = check(&codec, sql::Codec::check);
                let (tables, timing) = Tables::open(codec, source, self.timing).await?;
                let kept = tables.codec.table().clone();
                let table = table::capabilities(&self.holder, S::TELLS);
                let core = lock_core::Config { timing, ..self.core };
                let locks = drive(Engine::new(table, core), tables, self.ttl, check);
                Ok(locks.kept_in(kept))
            }
            Codec::Advisory(codec) => {
                let check = check(&codec, sql::advisory::Codec::check);
                let (connections, timing) =
                    Connections::open(codec, source, self.ttl, self.timing).await?;
                let core = lock_core::Config { timing, ..self.core };
                let server = advisory::capabilities(self.waiting, Some(&self.holder));
                let mut engine = Engine::new(server, core);
                if self.only {
                    engine.open(clock::now());
                }
                Ok(drive(engine, connections, self.ttl, check))
            }
            Codec::Session(_) => Err(nowhere()),
        }
    }

    /// Over one connection, which there is no second of.
    async fn handed(self, codec: Codec, session: impl Session) -> Result<Locks, Error> {
        Self { waiting: 0, only: true, ..self }.start(codec, Handed(Some(session))).await
    }

    #[cfg(feature = "consul")]
    async fn consul(
        self,
        codec: lock_core::http::consul::Codec,
        server: lock_shared::consul::Server,
        token: Option<String>,
    ) -> Result<Locks, Error> {
        let check = check(&codec, lock_core::http::consul::Codec::check);
        let consul = lock_core::consul::capabilities(&self.holder);
        let lease = lock_core::consul::lease(self.ttl);
        // Attempts are owners too, but the first of them has another number.
        let setup = codec.setup(lock_core::Owner::new(self.core.seed), lease);
        let mut requests = crate::backend::consul::Requests::new(codec, server, token).await?;
        let mut pace = Pace::default();
        let timing = loop {
            requests.check(setup.clone(), self.timing.connect(), &mut pace).await?;
            match pace.judge(self.timing) {
                Judgment::Fits(timing) => break timing,
                Judgment::CheckAgain | Judgment::ConnectAgain => {}
                Judgment::TooSlow(error) => return Err(ConfigError::from(error).into()),
            }
        };
        let core = lock_core::Config { timing, ..self.core };
        let within = self.ttl * 2 + lease;
        Ok(drive(Engine::new(consul, core), requests, within, check))
    }

    /// What is shown of a connection whose locks are not.
    fn shown(&self, codec: &Codec) -> Option<String> {
        matches!(codec, Codec::Advisory(_)).then(|| self.holder.clone())
    }
}

/// What is asked before each attempt.
fn check<C: Send + Sync + Clone + 'static>(
    codec: &C,
    check: fn(&C, &LockName, Mode) -> Result<(), ClaimError>,
) -> Check {
    let codec = codec.clone();
    Arc::new(move |name, mode| check(&codec, name, mode))
}

fn drive<F: Backends>(engine: Engine, backends: F, within: Duration, check: Check) -> Locks {
    Locks::with(Driver::start(engine, backends, within), check)
}

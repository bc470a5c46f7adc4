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
    /// [`Error`]: the configuration, the server or the table cannot be used.
    pub fn connect(self) -> Result<Locks, Error> {
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
                server.tls.check()?;
                let (request, holder) = (timing.request(), plan.shown(&codec));
                plan.start(codec, crate::backend::postgres::Connects { server, request, holder })
            }
            #[cfg(feature = "postgres")]
            (Target::PostgresClient(session), codec) => plan.handed(codec, *session),
            #[cfg(feature = "mysql")]
            (Target::At(Place::Mysql(server)), codec) => {
                server.check()?;
                let holder = plan.shown(&codec);
                plan.start(codec, crate::backend::mysql::Connects { server, timing, holder })
            }
            #[cfg(feature = "mysql")]
            (Target::MysqlConnection(connection), codec) => {
                plan.handed(codec, crate::backend::mysql::Mysql::with(*connection))
            }
            #[cfg(feature = "sqlite")]
            (Target::At(Place::Sqlite(path)), Codec::Table(codec)) => {
                let session = crate::backend::sqlite::Sqlite::open(&path)?;
                plan.handed(Codec::Table(session.fit(codec)), session)
            }
            #[cfg(feature = "sqlite")]
            (Target::SqliteConnection(connection), codec) => {
                let schema = settings.schema();
                let session = crate::backend::sqlite::Sqlite::with(*connection, schema)?;
                plan.handed(codec, session)
            }
            #[cfg(feature = "consul")]
            (Target::At(Place::Consul(server)), Codec::Session(codec)) => {
                plan.consul(codec, &server, settings.token)
            }
            // A codec or a place that a configuration does not make.
            #[allow(unreachable_patterns)]
            _ => Err(nowhere()),
        }
    }
}

impl Plan {
    /// Over connections that are opened as they are needed.
    fn start<S: Source>(self, codec: Codec, source: S) -> Result<Locks, Error> {
        match codec {
            Codec::Table(codec) => {
                let check = check(&codec, sql::Codec::check);
                let (tables, timing) = Tables::open(codec, source, self.timing)?;
                let kept = tables.codec.table().clone();
                let table = table::capabilities(&self.holder, S::TELLS);
                let core = lock_core::Config { timing, ..self.core };
                let locks = drive(Engine::new(table, core), tables, self.ttl, check)?;
                Ok(locks.kept_in(kept))
            }
            Codec::Advisory(codec) => {
                let check = check(&codec, sql::advisory::Codec::check);
                let (connections, timing) =
                    Connections::open(codec, source, self.ttl, self.timing)?;
                let core = lock_core::Config { timing, ..self.core };
                let server = advisory::capabilities(self.waiting, Some(&self.holder));
                let mut engine = Engine::new(server, core);
                if self.only {
                    engine.open(clock::now());
                }
                drive(engine, connections, self.ttl, check)
            }
            Codec::Session(_) => Err(nowhere()),
        }
    }

    /// Over one connection, which there is no second of.
    fn handed(self, codec: Codec, session: impl Session) -> Result<Locks, Error> {
        Self { waiting: 0, only: true, ..self }.start(codec, Handed(Some(session)))
    }

    #[cfg(feature = "consul")]
    fn consul(
        self,
        codec: lock_core::http::consul::Codec,
        server: &lock_shared::consul::Server,
        token: Option<String>,
    ) -> Result<Locks, Error> {
        let check = check(&codec, lock_core::http::consul::Codec::check);
        let consul = lock_core::consul::capabilities(&self.holder);
        let lease = lock_core::consul::lease(self.ttl);
        // Attempts are owners too, but the first of them has another number.
        let setup = codec.setup(lock_core::Owner::new(self.core.seed), lease);
        let mut pace = Pace::default();
        let (requests, timing) = loop {
            let (codec, token) = (codec.clone(), token.clone());
            let requests = crate::backend::consul::Requests::new(codec, server, token)?;
            requests.check(setup.clone(), self.timing.connect(), &mut pace)?;
            match pace.judge(self.timing) {
                Judgment::Fits(timing) => break (requests, timing),
                Judgment::CheckAgain | Judgment::ConnectAgain => {}
                Judgment::TooSlow(error) => return Err(ConfigError::from(error).into()),
            }
        };
        let core = lock_core::Config { timing, ..self.core };
        // Consul takes up to twice the TTL to end a session.
        let within = self.ttl * 2 + lease;
        drive(Engine::new(consul, core), requests, within, check)
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

fn drive<F: Backends>(
    engine: Engine,
    backends: F,
    within: Duration,
    check: Check,
) -> Result<Locks, Error> {
    let system =
        |error: std::io::Error| ConfigError::System(format!("it cannot start a thread: {error}"));
    Ok(Locks::with(Arc::new(Driver::start(engine, backends, within).map_err(system)?), check))
}

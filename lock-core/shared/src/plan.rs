//! The plan of a driver, made from a configuration: everything but its connections.

use crate::check::Check;
use crate::clock;
use crate::config::Config;
use crate::engine::Engine;
use crate::place::Place;
use crate::settings::{Codec, Kind, Settings};
use lock_core::config::{ConfigError, Error, Protocol};
use lock_core::http::consul::Setup;
use lock_core::sql::advisory::sql_lock;
use lock_core::sql::{ConnectError, Flow};
use lock_core::{Owner, Reached, Timing, advisory, consul, table};
use std::time::Duration;

/// The parts that a driver starts with, for any place.
pub struct Plan {
    /// The codec, which makes the requests.
    pub codec: Codec,
    /// The timing of leases and requests, for a path to the server that is not slow.
    pub timing: Timing,
    protocol: Protocol,
    settings: Settings,
    ttl: Duration,
    seed: u128,
    /// True if there is one connection of the caller's, and never another.
    brought: bool,
    /// The place as traces have it.
    #[cfg(feature = "record")]
    traced: (Kind, String),
    /// What is ignored, and why; see [`Config::warning`].
    pub warning: Option<String>,
}

impl Plan {
    /// Makes a plan for connections to the place that `config` names.
    pub fn at(config: Config) -> Result<(Place, Self), ConfigError> {
        let Config { place, settings } = config;
        let place = place.ok_or(ConfigError::NoPlace)?;
        let warning = place.warning().map(str::to_string);
        #[cfg(feature = "record")]
        let traced = (place.kind(), place.url(&settings));
        let plan = Self {
            warning,
            #[cfg(feature = "record")]
            traced,
            ..Self::new(place.kind(), settings, false)?
        };
        Ok((place, plan))
    }

    /// Makes a plan for a connection of the caller's to a place of this `kind`.
    pub fn brought(config: Config, kind: Kind) -> Result<Self, ConfigError> {
        if config.place.is_some() {
            return Err(ConfigError::TwoPlaces);
        }
        let plan = Self::new(kind, config.settings, true)?;
        match plan.protocol {
            Protocol::SqlLock => Err(ConfigError::Protocol {
                place: "one connection",
                protocol: plan.protocol,
                has: "table, advisory",
            }),
            _ => Ok(plan),
        }
    }

    /// Makes a plan for connections of the caller's to a place of this `kind`, one after the other: from a function, or
    /// from a pool. An advisory lock lives by its connection, which a pool would hand to somebody else.
    pub fn supplied(config: Config, kind: Kind) -> Result<Self, ConfigError> {
        if config.place.is_some() {
            return Err(ConfigError::TwoPlaces);
        }
        let plan = Self::new(kind, config.settings, false)?;
        match plan.codec {
            Codec::Table(_) => Ok(plan),
            _ => Err(ConfigError::Protocol {
                place: "a pool or a function that connects",
                protocol: plan.protocol,
                has: "table",
            }),
        }
    }

    fn new(kind: Kind, settings: Settings, brought: bool) -> Result<Self, ConfigError> {
        let (timing, codec) = (settings.timing(kind)?, settings.codec(kind)?);
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)
            .map_err(|error| ConfigError::System(format!("no random numbers: {error}")))?;
        let seed = u128::from_ne_bytes(seed);
        let ttl = settings.ttl(kind);
        let protocol = settings.protocol(kind);
        Ok(Self {
            codec,
            timing,
            protocol,
            #[cfg(feature = "record")]
            traced: (kind, format!("{:?}", settings.table)),
            settings,
            ttl,
            seed,
            brought,
            warning: None,
        })
    }

    /// The check before each attempt.
    pub fn check(&self) -> Check {
        crate::metrics::describe();
        let by_name = self.settings.metrics_by_name;
        let process = self.settings.process();
        Check::new(self.codec.clone(), self.timing, process).metrics_by_name(by_name)
    }

    /// True if the first connect is made when the first lock is wanted, and not before.
    pub fn is_lazy(&self) -> bool {
        self.settings.lazy
    }

    /// The plan for looking at locks, which is impossible with advisory locks.
    pub fn to_look(self) -> Result<Self, ConfigError> {
        match self.codec {
            Codec::Advisory(_) => Err(ConfigError::NotShown(self.protocol)),
            _ => Ok(self),
        }
    }

    /// The plan for an SQLite file. `no_log` is true if no lasting log may be created beside it.
    pub fn in_file(self, no_log: bool) -> Self {
        match self.codec {
            Codec::Table(codec) if no_log => {
                Self { codec: Codec::Table(Box::new(codec.without_log())), ..self }
            }
            _ => self,
        }
    }

    /// The flow of a connection to a database; [`None`] with Consul.
    pub fn flow(&self) -> Option<Flow> {
        match &self.codec {
            Codec::Table(codec) => {
                Some(Flow::table((**codec).clone().within(self.timing.request())))
            }
            Codec::Advisory(codec) => Some(Flow::advisory(codec.clone(), self.ttl())),
            Codec::Session(_) => None,
        }
    }

    /// The engine for this place, whose server was `reached`, or is reached by the engine's first connect.
    pub fn engine(&self, reached: Option<Reached>) -> Engine {
        let Reached { timing, notifies, .. } = reached.unwrap_or(Reached::new(self.timing, false));
        let holder = self.settings.holder();
        let waiting = self.settings.waiting.unwrap_or(advisory::WAITING);
        let capabilities = match &self.codec {
            Codec::Table(_) => table::capabilities(&holder, notifies),
            Codec::Advisory(_) if self.protocol == Protocol::SqlLock => {
                sql_lock::capabilities(Some(&holder))
            }
            // The one connection that was brought is open, and there is none to wait on.
            Codec::Advisory(_) if self.brought => advisory::capabilities(0, Some(&holder)),
            Codec::Advisory(_) => advisory::capabilities(waiting, Some(&holder)),
            Codec::Session(_) => consul::capabilities(&holder),
        };
        let config = lock_core::Config::new(timing, self.seed);
        let config = lock_core::Config { warn_after: self.settings.warn_after, ..config };
        let mut engine = match reached {
            Some(_) => Engine::new(capabilities, config),
            None => Engine::unconnected(capabilities, config),
        };
        #[cfg(feature = "record")]
        engine.record(&format!("{:?} {}", self.traced.0, self.protocol), &self.traced.1);
        if self.brought {
            engine.open(clock::now());
        }
        engine
    }

    /// The requests of the first connect to Consul.
    pub fn setup(&self) -> Setup {
        // Attempts are owners too, but the first of them has another number.
        Setup::new(Owner::new(self.seed), consul::lease(self.ttl()))
    }

    /// The time that a lease lasts unless renewed.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The time after which an unreleased lock ends by itself. Consul takes up to twice the TTL to end a
    /// session.
    pub fn within(&self) -> Duration {
        match self.codec {
            Codec::Session(_) => self.ttl() * 2 + consul::lease(self.ttl()),
            _ => self.ttl(),
        }
    }

    /// The label of a connection whose locks have none.
    pub fn holder(&self) -> Option<String> {
        matches!(self.codec, Codec::Advisory(_)).then(|| self.settings.holder())
    }

    /// True if the table was named. The default table may be missing: no lock was ever acquired then.
    pub fn is_named(&self) -> bool {
        self.settings.table.is_some()
    }

    /// The database of an SQLite connection that the table is in.
    pub fn schema(&self) -> &str {
        self.settings.schema()
    }

    /// Consul's ACL token.
    pub fn token(&self) -> Option<String> {
        self.settings.token.clone()
    }
}

/// The error for a codec of another server, or no connection. No configuration leads to either.
pub fn unsupported() -> Error {
    ConfigError::System("this configuration leads to no connection".to_string()).into()
}

/// The error of every request after the caller's connection has ended.
pub fn gone() -> ConnectError {
    let why = "the connection that was handed over has ended: connect again with a new one";
    ConnectError::NoWay(why.to_string())
}

#[cfg(all(test, feature = "consul", feature = "postgres"))]
mod tests {
    use super::*;

    fn plan(url: &str) -> Plan {
        let config = Config::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        Plan::at(config).unwrap_or_else(|error| panic!("{url}: {error}")).1
    }

    /// Consul takes up to twice the TTL to end a session, and then keeps others away for the TTL, or for its longest
    /// delay of a minute.
    #[test]
    fn a_lock_that_nobody_releases_ends_within_the_time_that_is_told() {
        for (url, seconds) in [
            ("postgres://h/d?ttl=30s", 30),
            ("consul://localhost?ttl=30s", 90),
            ("consul://localhost?ttl=100s", 260),
        ] {
            assert_eq!(plan(url).within(), Duration::from_secs(seconds), "{url}");
        }
    }

    /// A table has the label in the lock's row.
    #[test]
    fn a_connection_is_labelled_where_it_is_the_holder() {
        for (url, labelled) in [
            ("postgres://h/d?label=backup", false),
            ("postgres://h/d?protocol=advisory&label=backup", true),
            ("consul://localhost?label=backup", false),
        ] {
            let holder = plan(url).holder();
            assert_eq!(holder.is_some(), labelled, "{url}");
            assert!(holder.is_none_or(|holder| holder.contains("backup")), "{url}");
        }
    }

    #[test]
    fn a_long_wait_is_warned_of_also_before_there_is_a_connection() {
        let second = Duration::from_secs(1);
        let config = Config::from_url("postgres://h/d").expect("good").warn_wait(second);
        let mut engine = Plan::at(config).expect("a plan").1.engine(None);
        let began = lock_core::Instant::from_nanos(0);
        engine.acquire(began, lock_core::LockName::new("a").expect("good"), false, None);
        engine.handle_timeout(began.after(second));
        let warned = std::iter::from_fn(|| engine.poll_event())
            .any(|event| matches!(event, lock_core::Event::WaitsLong { .. }));
        assert!(warned);
    }
}

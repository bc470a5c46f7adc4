//! From a configuration to all that a driver begins with, but connections.

use crate::clock;
use crate::config::Config;
use crate::place::Place;
use crate::settings::{Codec, Kind, Settings};
use lock_core::config::{ConfigError, Protocol};
use lock_core::http::consul::Setup;
use lock_core::{
    Capabilities, ClaimError, Engine, LockName, Mode, Owner, Timing, advisory, consul, table,
};
use std::sync::Arc;
use std::time::Duration;

/// Whether there is such a lock at all, where the locks are kept.
pub type Check = Arc<dyn Fn(&LockName, Mode) -> Result<(), ClaimError> + Send + Sync>;

/// What a driver is started with, wherever the locks are kept.
pub struct Plan {
    /// What makes the requests.
    pub codec: Codec,
    /// How long leases and requests last, unless the way to the server is slow.
    pub timing: Timing,
    settings: Settings,
    seed: u128,
    /// There is one connection, and never another.
    brought: bool,
}

impl Plan {
    /// To open connections to the place that `config` names.
    pub fn at(config: Config) -> Result<(Place, Self), ConfigError> {
        let Config { place, settings } = config;
        let place = place.ok_or(ConfigError::NoPlace)?;
        let plan = Self::new(place.kind(), settings, false)?;
        Ok((place, plan))
    }

    /// Over a connection of the caller's to a place of this `kind`.
    pub fn brought(config: Config, kind: Kind) -> Result<Self, ConfigError> {
        match config.place {
            Some(_) => Err(ConfigError::TwoPlaces),
            None => Self::new(kind, config.settings, true),
        }
    }

    fn new(kind: Kind, settings: Settings, brought: bool) -> Result<Self, ConfigError> {
        let (timing, codec) = (settings.timing(kind)?, settings.codec(kind)?);
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)
            .map_err(|error| ConfigError::System(format!("no random numbers: {error}")))?;
        Ok(Self { codec, timing, settings, seed: u128::from_ne_bytes(seed), brought })
    }

    /// What is asked before each attempt.
    pub fn check(&self) -> Check {
        let codec = self.codec.clone();
        Arc::new(move |name, mode| codec.check(name, mode))
    }

    /// To look at locks, which advisory ones do not allow.
    pub fn to_look(self) -> Result<Self, ConfigError> {
        match self.codec {
            Codec::Advisory(_) => Err(ConfigError::NotShown(Protocol::Advisory)),
            _ => Ok(self),
        }
    }

    /// In an SQLite file; `no_log` if none that stays may be made beside it.
    pub fn in_file(self, no_log: bool) -> Self {
        match self.codec {
            Codec::Table(codec) if no_log => {
                Self { codec: Codec::Table(codec.without_log()), ..self }
            }
            _ => self,
        }
    }

    /// The engine of a lock table; `notifies` if the server notifies waiters.
    pub fn table(&self, timing: Timing, notifies: bool) -> Engine {
        self.engine(table::capabilities(&self.settings.holder(), notifies), timing)
    }

    /// The engine of advisory locks. The one connection that was brought is open, and there is none to wait on.
    pub fn advisory(&self, timing: Timing) -> Engine {
        let waiting = self.settings.waiting.unwrap_or(advisory::WAITING);
        let waiting = if self.brought { 0 } else { waiting };
        let holder = self.settings.holder();
        let mut engine = self.engine(advisory::capabilities(waiting, Some(&holder)), timing);
        if self.brought {
            engine.open(clock::now());
        }
        engine
    }

    /// The engine of locks in Consul.
    pub fn consul(&self, timing: Timing) -> Engine {
        self.engine(consul::capabilities(&self.settings.holder()), timing)
    }

    /// The requests of the first connect to Consul.
    pub fn setup(&self) -> Setup {
        // Attempts are owners too, but the first of them has another number.
        Setup::new(Owner::new(self.seed), consul::lease(self.ttl()))
    }

    fn engine(&self, capabilities: Capabilities, timing: Timing) -> Engine {
        Engine::new(capabilities, lock_core::Config::new(timing, self.seed))
    }

    /// How long a lease lasts unless renewed.
    pub fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    /// After which what was not released ends by itself. Consul takes up to twice the TTL to end a session.
    pub fn within(&self) -> Duration {
        match self.codec {
            Codec::Session(_) => self.ttl() * 2 + consul::lease(self.ttl()),
            _ => self.ttl(),
        }
    }

    /// What is shown of a connection whose locks are not.
    pub fn holder(&self) -> Option<String> {
        matches!(self.codec, Codec::Advisory(_)).then(|| self.settings.holder())
    }

    /// Whether the table was named. The default one is missing where no lock was ever taken.
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

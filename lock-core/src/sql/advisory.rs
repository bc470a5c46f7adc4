//! The advisory protocol in SQL: `pg_advisory_lock` and `GET_LOCK`.
//!
//! As with the table, a driver runs what it is given and interprets nothing:
//!
//! ```text
//!   Request::Open    connect, then Setup -> Session: checks the server, makes the connection a lease
//!   any other        Codec::encode(request, session) -> Exchange
//! ```
//!
//! Each request is one statement. Only where that failed, and the connection did not, a second one
//! looks at what it had taken by then.
//!
//! # Whose lock it is
//!
//! The server's locks have numbers or short names, made from the lock's name by [`Key`] or
//! [`Prefix`], and a scope that is the server's, not ours:
//!
//! | | whoever is to be excluded must connect to |
//! |---|---|
//! | PostgreSQL | the same **database** on the same primary |
//! | MySQL, MariaDB | the same **server**, whatever the database |
//! | Galera, group replication with several primaries | refused: each node has locks of its own |
//!
//! They need no privilege. Whoever may connect may take any of them.
//!
//! # What each statement makes sure of
//!
//! * It finds the connection that was opened: the server's number for it, and a mark that is set
//!   when it is opened and gone when a pooler swaps or resets it. Otherwise it does nothing, and
//!   the session is lost.
//! * The server takes writes. A standby grants locks that the primary knows nothing of.
//! * It has run for long enough: see [`Outcome::Delayed`](crate::Outcome::Delayed).
//! * A fence is the server's clock, in µs since 1970, read **after** the lock was granted. A later
//!   holder's is greater, for it is read after the earlier one has let go.

mod exchange;
mod key;
pub mod mysql;
pub mod postgres;
mod setup;
pub mod sql_lock;

use super::{Statement, Text, Value};
use crate::name::LockName;
use crate::request::{Claim, Mode, Request};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

pub use crate::error::ClaimError;
pub use exchange::Exchange;
use key::Digest;
pub(super) use key::Digests;
pub use key::{Key, Prefix, PrefixError};
pub use setup::Setup;

/// Makes statements from requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Codec {
    dialect: Dialect,
    attempt: Text,
    wait: Arc<str>,
    held: Arc<str>,
    unlock: Text,
    keep: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Dialect {
    Postgres(Key),
    Mysql(Prefix),
    SqlLock,
}

/// A connection as the server knows it, from [`Setup::session`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// The server's name for the connection.
    id: i64,
    /// The mark that was set when it was opened.
    mark: Arc<str>,
    /// The start of the server, in µs by its own clock. It has not been later: the
    /// connection would not have survived that.
    since: i64,
    /// It waits for whole seconds only.
    whole_seconds: bool,
}

impl Session {
    /// The server's name for the connection: a process id on PostgreSQL, a connection's number on
    /// MySQL and MariaDB.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The two statements by which another connection ends this one's wait at MySQL or MariaDB. The second is to be run if the
    /// first gives a row: the server's name may lead to another server meanwhile, where the number is a stranger's.
    pub fn kill(&self) -> [Statement; 2] {
        let (id, mark) = (Value::Int(self.id), Value::Text(String::from(&*self.mark)));
        [
            Statement::new(mysql::WAITS, vec![id.clone(), mark]),
            Statement::new(mysql::KILL, vec![id]),
        ]
    }

    /// The server's time from which on it may grant what is requested.
    fn granted_from(&self, request: &Request) -> Value {
        let (Request::Acquire { min_uptime, .. } | Request::Wait { min_uptime, .. }) = request
        else {
            return Value::Null;
        };
        match micros(*min_uptime) {
            // It is known by other means, and the server's clock may say something else.
            0 => Value::Int(i64::MIN),
            uptime => Value::Int(self.since.saturating_add(uptime)),
        }
    }
}

impl Codec {
    /// Whether there is such a lock. To be asked before an attempt is made: an attempt that is
    /// refused takes those with it that share its request.
    ///
    /// # Errors
    /// [`ClaimError`] says what to do instead.
    pub fn check(&self, name: &LockName, mode: Mode) -> Result<(), ClaimError> {
        match &self.dialect {
            // Every name has a hash.
            Dialect::Postgres(Key::Hash) => Ok(()),
            Dialect::Postgres(key) => key.numbers(name).map(|_| ()),
            _ if mode == Mode::Shared => Err(ClaimError::NoShared),
            _ => Ok(()),
        }
    }

    /// The statement that creates the table, if locks are rows of one: see [`sql_lock`].
    pub fn create_table(&self) -> Option<&'static str> {
        matches!(self.dialect, Dialect::SqlLock).then_some(sql_lock::CREATE)
    }

    /// The checks of a new connection, which the server is to end when it is idle for `ttl`. `id` is what the server called it when it was made, if the client tells: the process
    /// in PostgreSQL's `BackendKeyData`, the connection in MySQL's greeting.
    pub fn setup(&self, ttl: Duration, id: Option<u32>) -> Setup {
        Setup::new(self.dialect.clone(), ttl, id)
    }

    /// The statements for `request` on the connection that is `session`. What is not run on a
    /// connection, such as [`Request::Open`], comes to a failure.
    pub fn encode(&self, request: &Request, session: &Session) -> Exchange {
        Exchange::new(Arc::new(self.clone()), request.clone(), session.clone())
    }

    fn new(dialect: Dialect, [attempt, unlock]: [Text; 2], texts: [String; 3]) -> Self {
        let [wait, held, keep] = texts.map(Arc::from);
        Self { dialect, attempt, wait, held, unlock, keep }
    }

    /// Whether locks are called by digests of their names.
    fn hashes(&self) -> bool {
        matches!(self.dialect, Dialect::Postgres(Key::Hash) | Dialect::Mysql(_))
    }

    /// The statement that carries out `request`, with the digest of the name of its claim, if it is known.
    fn act(
        &self,
        request: &Request,
        session: &Session,
        known: Option<Digest>,
    ) -> Option<Statement> {
        let claims = request.claims();
        let from = || session.granted_from(request);
        Some(match (request, &self.dialect) {
            (Request::KeepAlive { .. }, _) => self.on(session, &self.keep, []),
            (_, Dialect::SqlLock) => return None,
            (Request::Acquire { .. }, _) => {
                self.about(session, &self.attempt, claims, known, Some(from()))
            }
            (Request::Wait { claim, up_to, .. }, Dialect::Postgres(key)) => {
                let up_to = Value::Int(millis(*up_to).max(1));
                let claim = postgres::claim(*key, claim, known);
                self.on(session, &self.wait, [from(), up_to].into_iter().chain(claim))
            }
            (Request::Wait { claim, up_to, .. }, Dialect::Mysql(prefix)) => {
                let [limit, seconds] = mysql::limits(*up_to, session.whole_seconds);
                let name = Value::Text(mysql::name(prefix, claim, known));
                let params = [from(), name, seconds];
                let mut statement = self.on(session, &self.wait, params);
                statement.params.insert(0, limit);
                statement
            }
            (Request::Release { .. }, _) => self.about(session, &self.unlock, claims, known, None),
            _ => return None,
        })
    }

    /// The text for so many claims, with `more` and then they as its parameters.
    fn about(
        &self,
        session: &Session,
        text: &Text,
        claims: &[Claim],
        known: Option<Digest>,
        more: Option<Value>,
    ) -> Statement {
        let (text, one) = text.of(claims);
        let mut statement = self.on(session, text, more);
        let params = &mut statement.params;
        match (&self.dialect, one) {
            (Dialect::Postgres(key), Some(claim)) => {
                params.extend(postgres::claim(*key, claim, known))
            }
            (Dialect::Postgres(key), None) => params.extend(postgres::claims(*key, claims)),
            (Dialect::Mysql(prefix), Some(claim)) => {
                params.push(Value::Text(mysql::name(prefix, claim, known)))
            }
            (Dialect::Mysql(prefix), None) => params.push(mysql::json(prefix, claims)),
            (Dialect::SqlLock, _) => {}
        }
        statement.repeated |= one.is_some();
        statement
    }

    /// The statement that reads which of the claims the connection has.
    fn held(&self, request: &Request, session: &Session) -> Statement {
        let claims = request.claims();
        match &self.dialect {
            Dialect::Postgres(key) => self.on(session, &self.held, postgres::entries(*key, claims)),
            Dialect::Mysql(prefix) => self.on(session, &self.held, [mysql::json(prefix, claims)]),
            Dialect::SqlLock => self.on(session, &self.held, []),
        }
    }

    /// `text` on the connection that is `session`: its first parameters say which that is.
    fn on(
        &self,
        session: &Session,
        text: &Arc<str>,
        more: impl IntoIterator<Item = Value>,
    ) -> Statement {
        let mut params = Vec::with_capacity(MOST_PARAMS);
        params.extend([Value::Int(session.id), Value::Text(String::from(&*session.mark))]);
        params.extend(more);
        let repeated = matches!(self.dialect, Dialect::Postgres(_));
        Statement { repeated, ..Statement::new(text.clone(), params) }
    }
}

/// The parameters of a statement about one claim, so that their list never grows.
const MOST_PARAMS: usize = 7;

/// Whole µs, rounded up.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX)
}

/// Whole ms, rounded down.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

//! Pins: a transaction of the user's that commits only while the lock is its holder's.
//!
//! A holder that was stopped for longer than its lease, and goes on, may write one time too many. Where the lock is a row
//! of the database that the writes go to, a transaction can make sure that it does not: it **pins** the row. The pin
//! answers whether the row still has the fence of the holder's grant. If so, nobody else is granted the lock until
//! that transaction has ended, however long the holder is stopped in between.
//!
//! ```text
//!   A  begin · pin, fence 33: yes · write ─── is stopped, its lease ends ─── write · commit
//!   B                                         claims the lock … waits ……………………………… granted, fence 34
//! ```
//!
//! * The check is the fence. It is fixed for one grant and greater for each later one, so an unchanged fence says that
//!   nobody was granted the lock since. The owner would add nothing, and as a name and a fence are no secrets, a script
//!   can pin with what its environment tells it.
//! * The time plays no part. If the lease has ended and nobody has taken the lock, the pin holds all the same: the next
//!   holder waits. So no clock, whether stepped, slow or stopped, can break it.
//! * A renewal and a release pass a pinned row. Only a claim waits.

use crate::error::LostReason;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The statement that pins a lock, for any client and language: run it in a transaction, before what must not be done
/// without the lock. If it returns no row, roll back: see [`PinError::Unseen`].
///
/// ```
/// use lock_core::sql::postgres;
/// use lock_core::{Fence, LockName, PinParam, TableName};
///
/// let pin = postgres::codec(TableName::default()).pin(&LockName::new("report")?, Fence::new(33));
/// assert!(pin.text.ends_with("FOR KEY SHARE"));
/// assert_eq!(pin.params, [PinParam::Text("report".to_string()), PinParam::Int(33)]);
/// # Ok::<(), lock_core::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PinStatement {
    /// The text. The places of its parameters are `$1` and `$2` for PostgreSQL, `?1` and `?2` for SQLite, and `?` for
    /// MySQL and MariaDB.
    pub text: Arc<str>,
    /// Its parameters, in order: the lock's name, and the fence.
    pub params: Vec<PinParam>,
    /// The text with the parameters in it.
    pub(crate) inlined: String,
}

impl PinStatement {
    /// The statement with its parameters in the places of the placeholders, for a client that sends text. No name can be
    /// taken for anything else.
    pub fn inline(&self) -> &str {
        &self.inlined
    }
}

/// A parameter of a [`PinStatement`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PinParam {
    /// Text.
    Text(String),
    /// Bytes: on MySQL and MariaDB, where names are compared as bytes.
    Bytes(Vec<u8>),
    /// An integer of 64 bits.
    Int(i64),
}

/// Why a lock cannot be pinned in a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NotPinnable {
    /// The server's own locks end with their connection, and nothing makes them outlast it until a transaction of
    /// another connection has ended.
    #[error(
        "an advisory lock cannot be pinned, for it has no row: keep the lock in a table, or check the fence with each write"
    )]
    Advisory,
    /// A pin is known to one node of a Galera cluster, and the others grant the lock all the same.
    #[error(
        "a lock on a Galera cluster cannot be pinned, for the other nodes do not wait for the transaction: check the fence with each write"
    )]
    Cluster,
    /// A row in [another package's table](crate::sql::node_distributed_lock) is deleted by a release, and its holder is renewed in
    /// the columns that a pin would have to lock. In [the other's](crate::sql::advisory::sql_lock), a transaction of ours has locked
    /// the row, and the user's would wait for it.
    #[error(
        "a lock in another package's table cannot be pinned: keep the lock in a table of ours, or check the fence with each write"
    )]
    InPeersTable,
    /// A transaction of a database says nothing about Consul.
    #[error(
        "the lock is in Consul, which no transaction of a database can pin: put its operations before yours in one of Consul's transactions, or check the fence with each write"
    )]
    InConsul,
    /// One statement pins one lock.
    #[error("the guard holds several locks: pin them all by `Guard::pin`")]
    Several,
    /// Only Consul has operations.
    #[error("the lock is not in Consul: pin it in a transaction of its database")]
    NotInConsul,
    /// The transaction is in another kind of database.
    #[error(
        "the lock is in {lock}, and the transaction in {transaction}: keep the lock in the database that you write to, or check the fence with each write"
    )]
    #[non_exhaustive]
    OtherDatabase {
        /// The lock's.
        lock: &'static str,
        /// The transaction's.
        transaction: &'static str,
    },
    /// The connection of the transaction has other files of SQLite's.
    #[error(
        "the lock is in the file {file}, which the transaction's connection has not opened: keep the lock in the file that you write to, or check the fence with each write"
    )]
    #[non_exhaustive]
    OtherFile {
        /// The lock's.
        file: String,
    },
    /// The table was made before there were pins, and lacks the index.
    #[error("the lock's table lacks the index for pins: run {ddl}")]
    #[non_exhaustive]
    NoIndex {
        /// The statement that makes the index.
        ddl: String,
    },
}

impl NotPinnable {
    /// The lock and the transaction are in databases of these kinds.
    pub fn other_database(lock: &'static str, transaction: &'static str) -> Self {
        Self::OtherDatabase { lock, transaction }
    }

    /// The lock is in this file, and the transaction's connection has others.
    pub fn other_file(file: String) -> Self {
        Self::OtherFile { file }
    }
}

/// Why a lock was not pinned. Roll the transaction back.
///
/// `E` is the error of the transaction's client. The text is one line that says all. Only a client's error has a `source()`, its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError<E> {
    /// The lock is lost: its deadline had passed before the pin was sent, or its holder was told of a loss.
    #[error("the lock is lost, so roll back: {0}")]
    Lost(LostReason),
    /// The transaction does not see the grant. Either the lock was granted to someone else since, or released: then it is lost.
    /// Or the transaction had read before the grant, and sees the rows as they were then: then another transaction, which
    /// begins with the pin, can do the work.
    #[error(
        "the transaction does not see that the lock is held, so roll back: the lock is lost, or the transaction had read before it was granted (pin first)"
    )]
    Unseen,
    /// It cannot be pinned there.
    #[error(transparent)]
    Unsupported(NotPinnable),
    /// The client's error. Nothing is pinned.
    #[error(transparent)]
    Client(E),
}

impl<E> PinError<E> {
    /// The answer to a pin: whether its statement has returned a row.
    ///
    /// # Errors
    /// [`PinError::Unseen`] without a row.
    pub fn unless(is_pinned: bool) -> Result<(), Self> {
        if is_pinned { Ok(()) } else { Err(Self::Unseen) }
    }
}

impl<E> From<NotPinnable> for PinError<E> {
    fn from(why: NotPinnable) -> Self {
        Self::Unsupported(why)
    }
}

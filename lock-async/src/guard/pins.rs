//! Pins of the locks that a guard holds.

use super::Guard;
use crate::pin::PinTransaction;
use lock_core::{NotPinnable, PinError, PinStatement};

impl Guard {
    /// Pins the lock in a transaction of its database: that commits only while the lock is this holder's, however long the
    /// process is stopped in between. Nobody else is granted the lock until the transaction has ended.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("app.db");
    /// # let mut db = rusqlite::Connection::open(&file)?;
    /// # db.execute_batch("CREATE TABLE report (total INTEGER); INSERT INTO report VALUES (0)")?;
    /// let locks = lock_async::Locks::connect(&format!("sqlite:{}", file.display())).await?;
    /// let guard = locks.lock("report").await?;
    ///
    /// let mut transaction = db.transaction()?;
    /// guard.pin(&mut transaction).await?; // an error drops the transaction, which rolls it back
    /// transaction.execute("UPDATE report SET total = 200", [])?;
    /// transaction.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The transaction must be in the database that has the lock: on PostgreSQL, MySQL, MariaDB, or in the same file of
    /// SQLite. Its account needs the rights SELECT and UPDATE on the lock's table.
    ///
    /// * Make the pin the first statement of the transaction. Under REPEATABLE READ and SERIALIZABLE, a transaction that
    ///   has read before sees the rows as they were then: if the lock was granted since, the pin fails with [`PinError::Unseen`].
    /// * On SQLite, the pin waits for another writer for the connection's busy timeout. In a transaction that has read
    ///   before, it does not wait, and fails while anybody is writing.
    /// * The lock may be renewed and even released while it is pinned. The next holder waits for the transaction all the
    ///   same, so keep it short. A transaction that is forgotten keeps everybody waiting: set a limit, such as
    ///   PostgreSQL's `idle_in_transaction_session_timeout`.
    /// * A pin inside a savepoint ends if the transaction is rolled back to it.
    ///
    /// [`pin_statement`](Self::pin_statement) is for other clients. Advisory locks have no row, and cannot be pinned.
    /// SQLite's transaction blocks its thread, and so does a pin in it.
    ///
    /// # Cancel safety
    /// If the future is dropped, the transaction may have the lock pinned or not. Roll it back, or pin again. The lock
    /// itself stays as it is.
    ///
    /// # Errors
    /// [`PinError`]. Roll the transaction back.
    pub async fn pin<T: PinTransaction>(
        &self,
        transaction: &mut T,
    ) -> Result<(), PinError<T::Error>> {
        if let Some(reason) = self.lost_reason() {
            return Err(PinError::Lost(reason));
        }
        for pin in self.granted.held.pins(&self.pins) {
            transaction.pin(pin).await?;
        }
        Ok(())
    }

    /// The statement by which any client, in any language, [pins](Self::pin) the lock in a transaction. If it returns no
    /// row, roll back: see [`PinError::Unseen`].
    ///
    /// # Errors
    /// [`NotPinnable`]: the lock is not in a table.
    pub fn pin_statement(&self) -> Result<PinStatement, NotPinnable> {
        let (name, fence) = self.granted.held.only()?;
        self.pins.statement(name, fence)
    }

    /// The operation by which a transaction in Consul (`PUT /v1/txn`) pins the lock: a JSON object, to be put before the
    /// operations of yours. If the lock is lost, Consul carries out none of them, and answers with status 409.
    ///
    /// # Errors
    /// [`NotPinnable`]: the lock is not in Consul.
    pub fn pin_operation(&self) -> Result<String, NotPinnable> {
        let (name, fence) = self.granted.held.only()?;
        self.pins.operation(name, fence)
    }
}

//! Pins of locks, as far as they do not depend on a client.

use lock_core::sql::{Codec as Table, Flow};
use lock_core::{Fence, LockName, NotPinnable, PinStatement, TableName, http};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The source of pins: the place of the locks, once it was reached. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pins(Arc<OnceLock<Kept>>);

enum Kept {
    Table {
        codec: Box<Table>,
        /// SQLite's file.
        file: Option<PathBuf>,
    },
    Keys(http::consul::Codec),
    Advisory,
    /// A row that a transaction of ours has locked.
    Locked,
}

impl Pins {
    /// Takes the place that a connection was made to. SQLite keeps the table in `file`.
    pub fn reached(&self, flow: &Flow, file: Option<PathBuf>) {
        let table = |codec: &Table| Kept::Table { codec: Box::new(codec.clone()), file };
        let other = if flow.locks_rows() { Kept::Locked } else { Kept::Advisory };
        let _ = self.0.set(flow.codec().map_or(other, table));
    }

    /// The pins of Consul's keys.
    pub fn of_keys(codec: http::consul::Codec) -> Self {
        Self(Arc::new(Kept::Keys(codec).into()))
    }

    fn kept(&self) -> &Kept {
        self.0.get().unwrap_or(&Kept::Advisory)
    }

    /// The lock table with its schema, if it is on a server.
    pub fn table(&self) -> Option<&TableName> {
        match self.kept() {
            Kept::Table { codec, .. } => Some(codec.table()),
            _ => None,
        }
        .filter(|table| table.parts().0.is_some())
    }

    fn codec(&self) -> Result<&Table, NotPinnable> {
        match self.kept() {
            Kept::Table { codec, .. } => codec.check_pins().map(|()| &**codec),
            Kept::Keys(_) => Err(NotPinnable::InConsul),
            Kept::Advisory => Err(NotPinnable::Advisory),
            Kept::Locked => Err(NotPinnable::InPeersTable),
        }
    }

    /// The statement for any client.
    pub fn statement(&self, name: &LockName, fence: Fence) -> Result<PinStatement, NotPinnable> {
        self.codec().map(|codec| codec.pin(name, fence))
    }

    /// The operation for a transaction in Consul.
    pub fn operation(&self, name: &LockName, fence: Fence) -> Result<String, NotPinnable> {
        match self.kept() {
            Kept::Keys(codec) => Ok(codec.pin(name, fence)),
            _ => Err(NotPinnable::NotInConsul),
        }
    }
}

/// The pin of one lock, for its holder.
#[derive(Clone, Copy)]
pub struct Pin<'a> {
    /// The place of the lock.
    pub pins: &'a Pins,
    /// The lock.
    pub name: &'a LockName,
    /// The holder's grant.
    pub fence: Fence,
}

impl Pin<'_> {
    /// The statement for a transaction on PostgreSQL.
    pub fn on_postgres(&self) -> Result<PinStatement, NotPinnable> {
        self.on("PostgreSQL")
    }

    /// The statement for a transaction on MySQL or MariaDB.
    pub fn on_mysql(&self) -> Result<PinStatement, NotPinnable> {
        self.on("MySQL or MariaDB")
    }

    /// The reason of an error with this number of MySQL's or MariaDB's, if the lock's table is to blame.
    pub fn blamed(&self, error: u16) -> Option<NotPinnable> {
        self.pins.codec().ok()?.not_pinnable(error)
    }

    fn on(&self, transaction: &'static str) -> Result<PinStatement, NotPinnable> {
        let codec = self.pins.codec()?;
        match codec.database() {
            lock if lock != transaction => Err(NotPinnable::other_database(lock, transaction)),
            _ => Ok(codec.pin(self.name, self.fence)),
        }
    }

    /// The codec and the file for a transaction of SQLite's.
    #[cfg(feature = "sqlite")]
    pub(crate) fn in_file(&self) -> Result<(&Table, &std::path::Path), NotPinnable> {
        let codec = self.pins.codec()?;
        match self.pins.kept() {
            Kept::Table { file: Some(file), .. } if codec.database() == "SQLite" => {
                Ok((codec, file))
            }
            _ => Err(NotPinnable::other_database(codec.database(), "SQLite")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::sql::{postgres, sqlite};

    /// A pin of another server's table names it in full.
    #[test]
    fn a_table_on_a_server_is_known_once_it_was_reached() {
        let named = TableName::new("app.locks").expect("a name");
        let plain = TableName::new("locks").expect("a name");
        let pins = Pins::default();
        assert_eq!(pins.table(), None, "not reached");
        pins.reached(&Flow::table(postgres::codec(named.clone())), None);
        assert_eq!(pins.table(), Some(&named));
        let pins = Pins::default();
        pins.reached(&Flow::table(sqlite::codec(plain, "boot")), Some("/f".into()));
        assert_eq!(pins.table(), None, "a file has no schema");
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_transaction_of_sqlites_pins_what_is_in_a_file_alone() {
        let (name, table) = (LockName::new("a").expect("a name"), TableName::new("locks"));
        let table = table.expect("a name");
        let pinned = |flow: &Flow, file: Option<PathBuf>| {
            let pins = Pins::default();
            pins.reached(flow, file);
            Pin { pins: &pins, name: &name, fence: Fence::default() }.in_file().is_ok()
        };
        let sqlite = Flow::table(sqlite::codec(table.clone(), "boot"));
        let postgres = Flow::table(postgres::codec(table));
        assert!(pinned(&sqlite, Some("/f".into())));
        assert!(!pinned(&sqlite, None) && !pinned(&postgres, Some("/f".into())));
    }
}

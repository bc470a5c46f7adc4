//! Pins in a transaction of a connection of the user's.

use super::machine::identity;
use crate::pin::Pin;
use lock_core::{NotPinnable, PinError};
use rusqlite::Connection;
use std::path::Path;

/// Pins the lock in the transaction that the connection is inside of. Blocks, for as long as the connection's busy timeout
/// allows.
pub fn pin(connection: &Connection, pin: &Pin<'_>) -> Result<(), PinError<rusqlite::Error>> {
    let (codec, file) = pin.in_file()?;
    let other = || NotPinnable::other_file(file.display().to_string());
    let database = database_of(connection, file).map_err(PinError::Client)?.ok_or_else(other)?;
    let statement = codec.pin_within(&database, pin.name, pin.fence);
    let row = || {
        let mut prepared = connection.prepare_cached(&statement.text)?;
        let fence = i64::try_from(pin.fence.get()).unwrap_or(i64::MAX);
        let mut rows = prepared.query((pin.name.as_str(), fence))?;
        rows.next().map(|row| row.is_some())
    };
    PinError::unless(row().map_err(PinError::Client)?)
}

/// The connection's name for the database in `file`. The pragma's function would begin to read the file. SQLite does not
/// wait for the right to write in a transaction that reads already, whatever its busy timeout.
fn database_of(connection: &Connection, file: &Path) -> rusqlite::Result<Option<String>> {
    let Ok(Some(wanted)) = identity(file) else { return Ok(None) };
    let mut names = connection.prepare_cached("PRAGMA database_list")?;
    let mut rows = names.query([])?;
    while let Some(row) = rows.next()? {
        let (name, file): (String, Option<String>) = (row.get("name")?, row.get("file")?);
        let file = file.unwrap_or_default();
        if identity(Path::new(&file)).is_ok_and(|found| found == Some(wanted)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

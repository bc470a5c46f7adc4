//! What a lock is called, who holds it, and the table it is kept in.

use crate::error::{NameError, TableError};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// The name of a lock: 1 to 255 bytes of UTF-8 without control characters.
///
/// Two names are the same lock if and only if they are equal **byte by byte**: no case folding, no
/// trimming, no Unicode normalisation, on any backend.
///
/// ```
/// use lock_core::LockName;
/// let name: LockName = "nightly-report".parse()?;
/// assert_eq!(name.as_str(), "nightly-report");
/// assert!(LockName::new("").is_err());
/// assert!(LockName::new("two\nlines").is_err());
/// # Ok::<(), lock_core::NameError>(())
/// ```
//
// An `Arc<str>` because a name is copied into every request; its `Eq`, `Ord` and `Hash` are the
// text's, so sharing cannot be observed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct LockName(Arc<str>);

impl LockName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;
    /// The most permits of a semaphore.
    pub const MAX_PERMITS: u32 = 1_000;

    /// Checks `name` and makes it a lock name.
    ///
    /// # Errors
    /// [`NameError`] says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(NameError::TooLong { bytes: name.len() });
        }
        if let Some((at, _)) = name.char_indices().find(|(_, c)| c.is_control()) {
            return Err(NameError::Control { at });
        }
        Ok(Self(name.into()))
    }

    /// The same for what a server says, which may be the name of a [permit](Self::permits).
    pub(crate) fn stored(name: &str) -> Option<Self> {
        let of = Self::permit_of(name).map_or(name, |(of, _)| of);
        (Self::new(of).is_ok() && name.len() <= Self::MAX_BYTES).then(|| Self(name.into()))
    }

    /// The permits of the semaphore of this name. Each is a lock of a name of its own, which no lock has that a caller
    /// named: this name, the character U+001F, and the permit's number, from 1. So a semaphore of three is three
    /// locks, and not the lock of this name. Fewer than one permit count as one.
    ///
    /// # Errors
    /// [`NameError::NoRoom`] if the name leaves no room for the number, [`NameError::Permits`] for more than
    /// [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn permits(&self, count: u32) -> Result<Vec<Self>, NameError> {
        let last = format!("{self}{PERMIT}{}", Self::MAX_PERMITS);
        match (count > Self::MAX_PERMITS, last.len()) {
            (true, _) => Err(NameError::Permits { count }),
            (_, bytes) if bytes > Self::MAX_BYTES => {
                Err(NameError::NoRoom { most: self.0.len() - (bytes - Self::MAX_BYTES) })
            }
            _ => {
                let of = Self::permit_of(&self.0).map_or(self.as_str(), |(of, _)| of);
                let permit = |number| Self(format!("{of}{PERMIT}{number}").into());
                Ok((1..=count.max(1)).map(permit).collect())
            }
        }
    }

    /// The semaphore's name and the permit's number, if this is the name of a [permit](Self::permits).
    pub fn as_permit(&self) -> Option<(&str, u32)> {
        Self::permit_of(&self.0)
    }

    /// The same of a name as it is stored, such as [`LockState::name`](crate::admin::LockState::name).
    pub fn permit_of(name: &str) -> Option<(&str, u32)> {
        let (of, number) = name.split_once(PERMIT)?;
        let parsed: u32 = number.parse().ok()?;
        // One permit has one name.
        let plain = number.starts_with(|first: char| ('1'..='9').contains(&first));
        (plain && parsed <= Self::MAX_PERMITS).then_some((of, parsed))
    }

    /// A name that nobody else uses.
    pub(crate) fn of(owner: Owner) -> Self {
        Self(owner.to_string().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Between a semaphore's name and a permit's number.
pub(crate) const PERMIT: char = '\u{1f}';

impl core::str::FromStr for LockName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for LockName {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<&&str> for LockName {
    type Error = NameError;

    fn try_from(name: &&str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<&String> for LockName {
    type Error = NameError;

    fn try_from(name: &String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for LockName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<&LockName> for LockName {
    fn from(name: &LockName) -> Self {
        name.clone()
    }
}

impl AsRef<str> for LockName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A map with lock names for keys can be asked for a `str`.
impl core::borrow::Borrow<str> for LockName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The owner of a lease: a 128-bit number that is used for one hold and never again.
///
/// It must differ between holds, not only between processes: a process that held, lost and took a
/// lock again under one owner could be hurt by a delayed request of its own first hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(u128);

impl Owner {
    /// The owner of a lock that was released and is [kept](crate::Request::Keep): nobody's. No attempt has this number,
    /// as their numbers are random.
    pub const KEPT: Self = Self(0);

    /// The owner with this number.
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u128 {
        self.0
    }
}

/// 32 lower-case hexadecimal digits: the form in which it is stored.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a lock table, optionally with a schema: `locks`, `ops.locks`.
///
/// Each part is a letter or `_`, then up to 62 letters, digits or `_`, all ASCII: PostgreSQL cuts
/// longer identifiers off in silence, which would make two tables one. It is always quoted, so
/// its case counts and no keyword is in the way.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TableName {
    schema: Option<String>,
    table: String,
}

impl TableName {
    /// Checks `name` and makes it a table name.
    ///
    /// # Errors
    /// [`TableError`] repeats the rule.
    pub fn new(name: &str) -> Result<Self, TableError> {
        let (schema, table) = match name.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, name),
        };
        let well_formed = is_identifier(table) && schema.is_none_or(is_identifier);
        let (schema, table) = (schema.map(ToString::to_string), table.to_string());
        if well_formed { Ok(Self { schema, table }) } else { Err(TableError) }
    }

    /// The same table in `schema`, which the server named; [`None`] if that cannot be written without
    /// escapes.
    pub(crate) fn within(&self, schema: &str) -> Option<Self> {
        let odd = |c: char| c.is_control() || "'\"`\\$?{}".contains(c);
        let plain = !schema.is_empty() && !schema.contains(odd);
        plain.then(|| Self { schema: Some(schema.to_string()), table: self.table.clone() })
    }

    /// The quoted form for use in SQL: `"ops"."locks"`.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => alloc::format!("\"{schema}\".\"{}\"", self.table),
            None => alloc::format!("\"{}\"", self.table),
        }
    }

    /// The schema, if one was named, and the table's own name.
    pub fn parts(&self) -> (Option<&str>, &str) {
        (self.schema.as_deref(), &self.table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.table)
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TableName").field(&alloc::format!("{self}")).finish()
    }
}

impl Default for TableName {
    /// `locks`.
    fn default() -> Self {
        Self { schema: None, table: "locks".to_string() }
    }
}

fn is_identifier(part: &str) -> bool {
    part.len() <= 63
        && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bytes_within_limits() {
        for good in ["a", "Foo", "foo ", "fóo", "🔒", "it's \"quoted\"; --", &"x".repeat(255)] {
            assert_eq!(LockName::new(good).expect("good").as_str(), good);
            let name = LockName::new(good);
            assert_eq!(good.parse(), name);
            assert_eq!(good.try_into(), name);
            assert_eq!((&good).try_into(), name);
            assert_eq!(good.to_string().try_into(), name);
            assert_eq!((&good.to_string()).try_into(), name);
            let name = name.expect("good");
            assert_eq!((name.as_ref(), &LockName::from(&name)), (good, &name));
            assert!(alloc::collections::BTreeSet::from([name]).contains(good));
        }
        assert_eq!(LockName::new(""), Err(NameError::Empty));
        assert_eq!(LockName::new(&"é".repeat(128)), Err(NameError::TooLong { bytes: 256 }));
        assert_eq!(LockName::new("a\0b"), Err(NameError::Control { at: 1 }));
        assert_eq!(LockName::new("é\n"), Err(NameError::Control { at: 2 }));
        assert_eq!(LockName::new("\u{7f}"), Err(NameError::Control { at: 0 }));
        assert_eq!(LockName::new("\u{85}"), Err(NameError::Control { at: 0 }));
    }

    #[test]
    fn tables_are_plain_identifiers_and_quoted() {
        assert_eq!(TableName::new("ops.locks").expect("good").quoted(), r#""ops"."locks""#);
        assert_eq!(TableName::new("_L0").expect("good").parts(), (None, "_L0"));
        assert_eq!(TableName::new("ops.locks").expect("good").parts(), (Some("ops"), "locks"));
        let long = "a".repeat(64);
        for bad in ["", ".", "a.", ".a", "a.b.c", "1a", "a-b", "a\"b", "a b", "lócks", &long] {
            assert_eq!(TableName::new(bad), Err(TableError), "{bad}");
        }
    }

    #[test]
    fn owners_are_stored_as_32_digits() {
        let stored = "000000000000000000000000000000ab";
        assert_eq!(Owner::new(0xab).to_string(), stored);
        assert_eq!(Owner::new(0xab).get(), 0xab);
        assert_eq!(alloc::format!("{:?}", Owner::new(0xab)), stored);
        assert_eq!(alloc::format!("{:?}", LockName::new("a").expect("good")), "\"a\"");
    }
}

//! What a lock is called at the server.

use crate::error::ClaimError;
use crate::name::LockName;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;
use sha2::{Digest as _, Sha256};

/// Which of PostgreSQL's advisory locks a name stands for.
///
/// Locks of one `bigint` and of two `int` are different locks, even where the bits are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Key {
    /// Two `int` from the first 8 bytes of the name's SHA-256, each little-endian: the same locks as
    /// those of the npm package `advisory-lock` from version 1.1.1 on.
    ///
    /// Two names that have the same 64 bits are one lock, which two holders in one process would
    /// both get. Among a million names, the odds are 1 : 37 000 000.
    #[default]
    Hash,
    /// The name is a `bigint`, in decimal: `-7`.
    Int,
    /// The name is two `int` with a comma between them: `12,-7`.
    Pair,
}

/// The beginning of the names of MySQL's and MariaDB's locks; `withlock:` by default.
///
/// Those servers have one set of locks for all databases: to have locks of one's own, have a prefix
/// of one's own. 28 bytes at most, of `a-z`, `0-9` and `_.:-`. 32 hexadecimal digits of the name's
/// SHA-256 follow, so that neither the servers' limit of 64 characters nor their ideas of upper and
/// lower case make two names one lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(String);

/// A prefix that the server would change or cut off. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error(
    "the prefix of lock names must be at most {} of a-z, 0-9, _, ., : and -",
    Prefix::MAX_BYTES
)]
pub struct PrefixError;

/// The first half of a name's SHA-256.
pub(super) type Digest = [u8; 16];

fn digest(name: &LockName) -> Digest {
    let whole = Sha256::digest(name.as_str().as_bytes());
    core::array::from_fn(|at| whole[at])
}

/// The digests of names that were used on a connection. A release mostly follows an acquire of the same name, and hashing it is
/// the longest part of making a statement.
#[derive(Clone, Debug, Default)]
pub(in crate::sql) struct Digests(BTreeMap<LockName, Digest>);

impl Digests {
    /// The most that are kept.
    const MOST: usize = 64;

    pub(super) fn of(&mut self, name: &LockName) -> Digest {
        if let Some(known) = self.0.get(name) {
            return *known;
        }
        if self.0.len() == Self::MOST {
            self.0.clear();
        }
        *self.0.entry(name.clone()).or_insert_with(|| digest(name))
    }
}

impl Key {
    /// Returns the key of a lock as the server's functions take it: `-7`, or `12,-7`.
    ///
    /// ```
    /// use lock_core::LockName;
    /// use lock_core::sql::advisory::Key;
    ///
    /// let name = LockName::new("test-lock")?;
    /// assert_eq!(Key::Hash.of(&name)?, "-107789403,-1898803861"); // pg_advisory_lock(-107789403, -1898803861)
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ClaimError`] if the name is no such number, where it is used as the key.
    pub fn of(self, name: &LockName) -> Result<String, ClaimError> {
        let (one, two) = self.numbers(name)?;
        Ok(match two {
            Some(two) => format!("{one},{two}"),
            None => one.to_string(),
        })
    }

    /// The key as one `bigint`, or as two `int`.
    pub(super) fn numbers(self, name: &LockName) -> Result<(i64, Option<i64>), ClaimError> {
        self.numbers_by(name, None)
    }

    /// The same, with the name's digest if it is known.
    pub(super) fn numbers_by(
        self,
        name: &LockName,
        known: Option<Digest>,
    ) -> Result<(i64, Option<i64>), ClaimError> {
        let digest = || known.unwrap_or_else(|| digest(name));
        let name = name.as_str();
        // Only what a number is written back as: "7" and "+7" would be two names of one lock.
        let int = |text: &str| text.parse().ok().filter(|n: &i64| n.to_string() == text);
        let half = |text: &str| int(text).filter(|n| i32::try_from(*n).is_ok());
        match self {
            Key::Hash => {
                let digest = digest();
                let int = |at: usize| {
                    let bytes = [digest[at], digest[at + 1], digest[at + 2], digest[at + 3]];
                    i64::from(i32::from_le_bytes(bytes))
                };
                Ok((int(0), Some(int(4))))
            }
            Key::Int => Ok((int(name).ok_or(ClaimError::NotAnInt)?, None)),
            Key::Pair => {
                let halves = name.split_once(',').and_then(|(one, two)| half(one).zip(half(two)));
                halves.map(|(one, two)| (one, Some(two))).ok_or(ClaimError::NotAPair)
            }
        }
    }

    /// Returns the key of a lock as `pg_locks` shows it: `classid`, `objid` and `objsubid`, with spaces between them.
    ///
    /// This query shows its holders, and those that wait in the server's queue:
    ///
    /// ```sql
    /// SELECT pid, mode, granted FROM pg_locks
    ///  WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ///    AND concat_ws(' ', classid, objid, objsubid) = '4187177893 2396163435 2'
    /// ```
    ///
    /// ```
    /// # use lock_core::LockName;
    /// # use lock_core::sql::advisory::Key;
    /// assert_eq!(Key::Hash.entry(&LockName::new("test-lock")?)?, "4187177893 2396163435 2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ClaimError`] as for [`of`](Self::of).
    pub fn entry(self, name: &LockName) -> Result<String, ClaimError> {
        let (one, two) = self.numbers(name)?;
        let bits = |number: i64| number.cast_unsigned() & 0xffff_ffff;
        Ok(match two {
            Some(two) => format!("{} {} 2", bits(one), bits(two)),
            None => format!("{} {} 1", one.cast_unsigned() >> 32, bits(one)),
        })
    }
}

impl Prefix {
    /// The longest prefix, in bytes.
    pub const MAX_BYTES: usize = 28;

    /// Checks `prefix`.
    ///
    /// # Errors
    /// [`PrefixError`] repeats the rule.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        let harmless = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.:-".contains(&b);
        let good = prefix.len() <= Self::MAX_BYTES && prefix.bytes().all(harmless);
        if good { Ok(Self(prefix.to_string())) } else { Err(PrefixError) }
    }

    /// The server's name for the lock.
    pub(super) fn of(&self, name: &LockName) -> String {
        self.by(digest(name))
    }

    /// The same, by the digest of the lock's name.
    pub(super) fn by(&self, digest: Digest) -> String {
        let mut name = self.0.clone();
        for byte in digest {
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("withlock:".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> LockName {
        LockName::new(text).expect("good")
    }

    #[test]
    fn hashed_keys_are_those_of_the_npm_package() {
        for (of, key) in [
            ("test-lock", "-107789403,-1898803861"),
            ("dbmigration", "-1682085387,-1149921686"),
            ("é", "2119539018,1405301568"),
            ("日本", "213854927,-886643877"),
        ] {
            assert_eq!(Key::Hash.of(&name(of)).as_deref(), Ok(key), "{of}");
        }
        assert_eq!(Key::default(), Key::Hash);
    }

    #[test]
    fn a_number_is_written_in_one_way_only() {
        for good in ["0", "7", "-7", "9007199254740991", "-9223372036854775808"] {
            assert_eq!(Key::Int.of(&name(good)).as_deref(), Ok(good));
        }
        for bad in ["+7", "07", "-0", " 7", "7.0", "7,8", "seven", "9223372036854775808", "1e3"] {
            assert_eq!(Key::Int.of(&name(bad)), Err(ClaimError::NotAnInt), "{bad}");
        }
        for good in ["0,0", "12,-7", "2147483647,-2147483648"] {
            assert_eq!(Key::Pair.of(&name(good)).as_deref(), Ok(good));
        }
        for bad in ["7", "7,", ",7", "1,2,3", "1, 2", "+1,2", "2147483648,0", "0,-2147483649"] {
            assert_eq!(Key::Pair.of(&name(bad)), Err(ClaimError::NotAPair), "{bad}");
        }
    }

    #[test]
    fn digests_are_remembered_and_bounded() {
        let mut digests = Digests::default();
        for number in 0..3 * Digests::MOST {
            let name = name(&format!("{}", number / 2));
            assert_eq!(digests.of(&name), digest(&name));
            assert!(digests.0.len() <= Digests::MOST);
        }
        let known = digests.of(&name("test-lock"));
        assert_eq!(
            Key::Hash.numbers_by(&name("other"), Some(known)),
            Key::Hash.numbers(&name("test-lock"))
        );
        assert_eq!(Prefix::default().by(known), Prefix::default().of(&name("test-lock")));
        assert_eq!(Key::Int.numbers_by(&name("7"), Some(known)), Ok((7, None)));
    }

    #[test]
    fn keys_are_shown_as_unsigned_halves() {
        assert_eq!(Key::Pair.entry(&name("-1,7")).as_deref(), Ok("4294967295 7 2"));
        assert_eq!(Key::Int.entry(&name("-1")).as_deref(), Ok("4294967295 4294967295 1"));
        assert_eq!(Key::Int.entry(&name("4294967297")).as_deref(), Ok("1 1 1"));
        assert_eq!(Key::Hash.entry(&name("test-lock")).as_deref(), Ok("4187177893 2396163435 2"));
        assert_eq!(Key::Int.entry(&name("a")), Err(ClaimError::NotAnInt));
    }

    #[test]
    fn get_lock_names_are_short_and_lower_case() {
        let default = Prefix::default();
        assert_eq!(default.of(&name("a")), "withlock:ca978112ca1bbdcafac231b39a23dc4d");
        let (small, large) = (default.of(&name("foo")), default.of(&name("FOO")));
        assert_ne!(small.to_lowercase(), large.to_lowercase());
        let longest = Prefix::new(&"x".repeat(28)).expect("good").of(&name(&"y".repeat(255)));
        assert_eq!(longest.len(), 60);
        assert!(Prefix::new("").is_ok() && Prefix::new("app_1.prod:a-b").is_ok());
        for bad in ["A", "a b", "é", "a'b", "a\"", "a\\", &"x".repeat(29)] {
            assert_eq!(Prefix::new(bad), Err(PrefixError), "{bad}");
        }
    }
}

//! A lock's name as a key that Consul can keep and find again.
//!
//! Consul stores any key that comes in JSON, but a key in a path goes through what HTTP servers do
//! to paths: `.`, `..` and empty segments are redirected elsewhere, `..%2F` out of the keys even, and
//! characters that its Go library calls unprintable are refused. Later versions refuse such keys, and
//! spaces at the ends, in JSON too. So these are escaped in the key itself, as `=` and two digits: the
//! same key can then be locked by JSON and watched by path. (Some versions, such as 1.21.5, watch no
//! keys but those of letters, digits and `,_./-?&=`.)

use crate::name::LockName;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

/// The place of a lock's key: a text in which `{name}` stands for the lock's name.
///
/// A name of letters, digits, spaces and ASCII punctuation is put there as it is. What cannot be is
/// escaped: `=`, `%`, everything beyond ASCII, a `/` or a `.` where it would not only be text. Two
/// names that differ in any byte have two keys.
///
/// ```
/// use lock_core::LockName;
/// use lock_core::http::KeyTemplate;
///
/// let keys = KeyTemplate::under("locks")?;
/// assert_eq!(keys.key(&LockName::new("job 7/nightly")?), "locks/job 7/nightly/lock");
/// assert_eq!(keys.key(&LockName::new("../é")?), "locks/.=2E/=C3=A9/lock");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyTemplate {
    before: String,
    after: String,
}

/// A template that cannot make keys. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It does not have the name in it, or more than once.
    #[error("the key must contain {{name}} once, such as locks/{{name}}/lock")]
    Name,
    /// It is long.
    #[error("the key's prefix must have {} bytes at most", KeyTemplate::MAX_BYTES)]
    TooLong,
    /// It has parts that HTTP servers do not leave alone.
    #[error(
        "the key's prefix must not begin with /, nor have an empty part, a space at its ends, or two dots in a row"
    )]
    Part,
    /// It has a character that would have to be escaped.
    #[error("the key's prefix must be of ASCII characters, without = and %")]
    Character,
}

impl KeyTemplate {
    /// The longest template, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// A template such as `locks/{name}/lock`.
    ///
    /// # Errors
    /// [`KeyError`] says which rule it breaks.
    pub fn new(template: &str) -> Result<Self, KeyError> {
        if template.len() > Self::MAX_BYTES {
            return Err(KeyError::TooLong);
        }
        let (before, after) = template.split_once("{name}").ok_or(KeyError::Name)?;
        if after.contains("{name}") {
            return Err(KeyError::Name);
        }
        if !template.bytes().all(is_plain) {
            return Err(KeyError::Character);
        }
        // As a name that needs no escape would leave it.
        let key = format!("{before}x{after}");
        if escape(&key) != key {
            return Err(KeyError::Part);
        }
        Ok(Self { before: before.to_string(), after: after.to_string() })
    }

    /// `PREFIX/{name}/lock`.
    ///
    /// # Errors
    /// [`KeyError`] says which rule the prefix breaks.
    pub fn under(prefix: &str) -> Result<Self, KeyError> {
        Self::new(&format!("{prefix}/{{name}}/lock"))
    }

    /// The key of a lock.
    pub fn key(&self, name: &LockName) -> String {
        format!("{}{}{}", self.before, escape(name.as_str()), self.after)
    }

    /// The lock that a key is of; `None` if it is none of ours.
    pub fn name(&self, key: &str) -> Option<LockName> {
        let escaped = key.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let mut bytes = Vec::with_capacity(escaped.len());
        let mut rest = escaped.as_bytes();
        while let [first, others @ ..] = rest {
            rest = others;
            bytes.push(match first {
                b'=' => {
                    let code = core::str::from_utf8(others.get(..2)?).ok()?;
                    rest = &others[2..];
                    u8::from_str_radix(code, 16).ok()?
                }
                byte => *byte,
            });
        }
        let name = LockName::stored(&String::from_utf8(bytes).ok()?)?;
        (escape(name.as_str()) == escaped).then_some(name)
    }

    /// The beginning of all keys.
    pub fn prefix(&self) -> &str {
        &self.before
    }
}

impl Default for KeyTemplate {
    /// `locks/{name}/lock`.
    fn default() -> Self {
        Self { before: "locks/".to_string(), after: "/lock".to_string() }
    }
}

/// Stays as it is, if its neighbours allow it.
fn is_plain(byte: u8) -> bool {
    (byte == b' ' || byte.is_ascii_graphic()) && byte != b'=' && byte != b'%'
}

/// Reversible: `=` is only ever the beginning of an escape.
fn escape(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut key = String::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let after = bytes.get(at + 1).copied();
        let ends = |neighbour| matches!(neighbour, None | Some(b'/'));
        let plain = match byte {
            // It would make a part empty.
            b'/' => !ends(before) && after.is_some(),
            b'.' => before != Some(b'.') && !(ends(before) && ends(after)),
            b' ' => before.is_some() && after.is_some(),
            _ => is_plain(byte),
        };
        if plain {
            key.push(char::from(byte));
        } else {
            write!(key, "={byte:02X}").expect("a String takes everything");
        }
    }
    key
}

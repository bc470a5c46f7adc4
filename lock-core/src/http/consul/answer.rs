//! Consul's answers, as far as they are of concern.

use super::super::Response;
use crate::error::Failure;
use crate::fence::Fence;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const MAX_DEPTH: usize = 32;

/// The answer to a transaction.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Transaction {
    results: Option<Vec<Done>>,
    errors: Option<Vec<Refused>>,
}

#[derive(Deserialize)]
struct Done {
    #[serde(rename = "KV")]
    entry: Entry,
}

/// A key's entry. What else there is of it is of no concern.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where it is of no concern, it may be missing.
    #[serde(default)]
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
    pub(super) session: Option<String>,
    /// In base64.
    pub(super) value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    op_index: u64,
    what: String,
}

#[derive(Deserialize)]
pub(super) struct Created {
    #[serde(rename = "ID")]
    pub(super) id: String,
}

/// JSON that is what was asked for: no other types, nothing missing, nothing twice, nothing after it.
/// What the parser has to say is not repeated, for it quotes the answer.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    if is_deep(body) {
        return Err(surprise());
    }
    serde_json::from_slice(body).map_err(|_| surprise())
}

/// Deeper than any answer is, also in what is of no concern.
fn is_deep(body: &[u8]) -> bool {
    let (mut depth, mut text, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            // Outside of a text it is no JSON, whatever follows.
            b'\\' => escaped = true,
            b'"' => text = !text,
            b'[' | b'{' if !text => depth += 1,
            b']' | b'}' if !text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// The entry of `key` after the one operation of a transaction.
pub(super) fn changed(body: &[u8], key: &str) -> Result<Entry, Failure> {
    let mut entries = changes(body)?;
    match (entries.pop(), entries.is_empty()) {
        (Some(entry), true) if entry.key == key => Ok(entry),
        _ => Err(surprise()),
    }
}

/// The entries that the operations of a transaction changed or read, in their order: one at least.
pub(super) fn changes(body: &[u8]) -> Result<Vec<Entry>, Failure> {
    let Transaction { results, errors } = read(body)?;
    if errors.is_some_and(|errors| !errors.is_empty()) {
        return Err(surprise());
    }
    let entries: Vec<Entry> =
        results.unwrap_or_default().into_iter().map(|done| done.entry).collect();
    if entries.is_empty() {
        return Err(unknown(
            "Consul does not show the key that it changed: may the ACL token read it?",
        ));
    }
    Ok(entries)
}

/// Why the first operation of a transaction was not carried out; those after it cannot fail.
pub(super) fn why(body: &[u8]) -> Result<String, Failure> {
    let Transaction { results, errors: Some(mut errors) } = read(body)? else {
        return Err(surprise());
    };
    match (errors.pop(), errors.is_empty(), results.is_none_or(|done| done.is_empty())) {
        (Some(Refused { op_index: 0, what }), true, true) => Ok(what),
        _ => Err(surprise()),
    }
}

/// A fence fits a signed integer, wherever it is given to.
pub(super) fn fence(modify_index: u64) -> Result<Fence, Failure> {
    let fits = i64::try_from(modify_index).is_ok_and(|index| index > 0);
    if fits { Ok(Fence::new(modify_index)) } else { Err(surprise()) }
}

/// The index at which the watch ended, if a watch can go on from it.
pub(super) fn index(response: &Response<'_>) -> Option<u64> {
    response.index?.trim().parse().ok().filter(|index| *index > 0)
}

/// Fit for a path, and not endless.
pub(super) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

pub(super) fn unknown(message: &str) -> Failure {
    Failure::Unknown(message.to_string())
}

pub(super) fn surprise() -> Failure {
    unknown("Consul's answer is not one to what was asked: is this address Consul's?")
}

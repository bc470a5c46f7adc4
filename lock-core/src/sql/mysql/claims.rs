//! Claims as parameters of statements.

use crate::request::Claim;
use crate::sql::exchange::Own;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;

/// `claims` as a JSON array, with what each has of its own.
pub(in super::super) fn json(claims: &[&Claim], own: impl Fn(&Claim) -> Option<Own>) -> String {
    let mut text = String::from("[");
    for (at, claim) in claims.iter().enumerate() {
        let [name, owner] = pair(claim);
        text += if at == 0 { "" } else { "," };
        text += &format!("[\"{name}\",\"{owner}\"");
        if let Some(Own { ttl, label, turn }) = own(claim) {
            text += &format!(",{ttl},\"");
            hex(&mut text, label.as_bytes());
            text += "\"";
            text += &turn.map(|turn| format!(",{turn}")).unwrap_or_default();
        }
        text += "]";
    }
    text + "]"
}

/// A claim's name and owner, both hexadecimal.
pub(in super::super) fn pair(claim: &Claim) -> [String; 2] {
    let mut name = String::new();
    hex(&mut name, claim.name.as_str().as_bytes());
    [name, claim.owner.to_string()]
}

pub(super) fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
}

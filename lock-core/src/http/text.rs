//! Text in the forms that HTTP and JSON want.

use alloc::string::{String, ToString};
use core::fmt::Write;

/// For the path of a URL: everything is escaped but letters, digits, `-_.~` and `/`.
pub(super) fn path(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                path.push(char::from(byte));
            }
            _ => write!(path, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    path
}

/// A JSON string, with its quotes.
pub(super) fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| chunk.get(at).copied().unwrap_or(0));
        let bits = u32::from_be_bytes([0, a, b, c]);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The text that [`base64`] was made of.
pub(super) fn from_base64(coded: &str) -> String {
    let mut bytes = alloc::vec::Vec::with_capacity(coded.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in coded.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A server's words, for people: the first line, not too long, nothing that a terminal obeys.
pub(super) fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(1000)]);
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // The test vectors of RFC 4648.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            // With the last two digits, which are neither letters nor numbers.
            ("~~~", "fn5+"),
            ("???", "Pz8/"),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded), plain);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfb, 0xef]), "//777w==");
        assert_eq!(from_base64("Zm9v\nZm9v"), "foo", "as far as it is base64");
        assert_eq!(from_base64("Zv8="), "f\u{fffd}", "as far as it is text");
    }

    #[test]
    fn what_a_server_says_is_one_short_line() {
        assert_eq!(said(b"\n a\x1b[31m\tb \r\nc"), "a [31m b ");
        assert_eq!(said(b"\xff"), "\u{fffd}");
        assert_eq!(said(&[b'x'; 5000]), "x".repeat(200));
        assert_eq!(said(b""), "");
    }

    #[test]
    fn a_path_has_only_what_paths_may_have() {
        assert_eq!(path("a/b-_.~c"), "a/b-_.~c");
        assert_eq!(path("a b?#%=+é"), "a%20b%3F%23%25%3D%2B%C3%A9");
        assert_eq!(json("a\"\\\u{1}"), r#""a\"\\\u0001""#);
    }
}

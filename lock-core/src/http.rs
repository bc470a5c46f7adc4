//! Protocols over HTTP: requests to send, and what their answers mean.
//!
//! A driver sends what it is given and hands back the answer; it interprets nothing:
//!
//! ```text
//!   Codec   encode(request) -> http::Request    ...    decode(request, Response) -> Reply
//! ```
//!
//! It must not follow redirects, which would lead a request with a token elsewhere, must not repeat
//! requests by itself, and must stop reading an answer after [`MAX_BODY`] bytes.

pub mod consul;
mod key;
mod text;

use alloc::string::String;
use core::time::Duration;

pub use key::{KeyError, KeyTemplate};

/// No answer that is any good is longer, in bytes. One byte more is enough for a codec to refuse it.
pub const MAX_BODY: usize = 1024 * 1024;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// It only asks.
    Get,
    /// It changes something.
    Put,
}

impl Method {
    /// As it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
        }
    }
}

/// A request, without the server's address, and without the secret that it may need.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Whether it changes something.
    pub method: Method,
    /// What follows the server's address: ASCII, with everything escaped that must be.
    pub path_and_query: String,
    /// JSON; empty if there is none.
    pub body: String,
    /// The server may take so long before it answers, beyond the time that any request takes.
    pub waits: Duration,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// The header [`consul::INDEX_HEADER`], if it is there and text.
    pub index: Option<&'a str>,
    /// The body, or so much of it that it is longer than [`MAX_BODY`].
    pub body: &'a [u8],
}

//! One setting, which a method sets, or a URL's parameter.

use super::SECRET;
use crate::Input;
use lock_core::TableName;
use lock_core::config::{Durability, Expiry, Protocol};
use lock_core::sql::advisory::Key;
use lock_shared::Config;
use std::time::Duration;

/// A setting, and its value.
#[derive(Clone, Debug)]
pub(super) enum Setting {
    Protocol(Protocol),
    Ttl(Duration),
    LongestTtl(Duration),
    RequestTimeout(Duration),
    Table(TableName),
    Durability(Durability),
    Expiry(Expiry),
    Keys(Key),
    Prefix(String),
    Waiting(usize),
    /// A part of it is secret.
    Token(String),
    Label(String),
    WarnWait(Duration),
    WarnHold(Duration),
    DefaultLabel(String),
    Lazy,
    MetricsByName(bool),
}

impl Setting {
    pub(super) fn read(input: &mut Input<'_>) -> Self {
        match input.byte() % 16 {
            0 => {
                let protocols = [
                    Protocol::Table,
                    Protocol::Advisory,
                    Protocol::Session,
                    Protocol::NodeDistributedLock,
                    Protocol::SqlLock,
                ];
                Self::Protocol(protocols[usize::from(input.byte()) % protocols.len()])
            }
            1 => Self::Ttl(input.duration()),
            2 => Self::RequestTimeout(input.duration()),
            3 => Self::Table(TableName::new(&input.text()).unwrap_or_default()),
            4 if input.flag() => Self::Durability(Durability::Relaxed),
            4 => Self::Durability(Durability::Durable),
            5 if input.flag() => Self::Expiry(Expiry::Observed),
            5 => Self::Expiry(Expiry::Server),
            6 => Self::Keys([Key::Hash, Key::Int, Key::Pair][usize::from(input.byte()) % 3]),
            7 => Self::Prefix(input.text()),
            8 => Self::Waiting(input.byte().into()),
            9 => Self::Token(format!("{SECRET}{}", input.text())),
            10 => Self::Label(input.text()),
            11 => Self::WarnWait(input.duration()),
            12 => Self::WarnHold(input.duration()),
            13 => Self::DefaultLabel(input.text()),
            14 if input.flag() => Self::LongestTtl(input.duration()),
            14 => Self::Lazy,
            _ => Self::MetricsByName(input.flag()),
        }
    }

    pub(super) fn apply(&self, config: Config) -> Config {
        match self.clone() {
            Self::Protocol(protocol) => config.protocol(protocol),
            Self::Ttl(ttl) => config.ttl(ttl),
            Self::LongestTtl(longest) => config.longest_ttl(longest),
            Self::RequestTimeout(request) => config.request_timeout(request),
            Self::Table(table) => config.table(table),
            Self::Durability(durability) => config.durability(durability),
            Self::Expiry(expiry) => config.expiry(expiry),
            Self::Keys(keys) => config.keys(keys),
            Self::Prefix(prefix) => config.prefix(prefix),
            Self::Waiting(waiting) => config.waiting(waiting),
            Self::Token(token) => config.token(token),
            Self::Label(label) => config.label(label),
            Self::WarnWait(time) => config.warn_wait(time),
            Self::WarnHold(time) => config.warn_hold(time),
            Self::DefaultLabel(label) => config.default_label(label),
            Self::Lazy => config.lazy(),
            Self::MetricsByName(by_name) => config.metrics_by_name(by_name),
        }
    }

    /// The URL's parameter that does the same. `None` if there is none.
    pub(super) fn parameter(&self) -> Option<String> {
        let millis = |time: &Duration| format!("{}ms", time.as_millis());
        let (name, value) = match self {
            Self::Protocol(protocol) => ("protocol", protocol.to_string()),
            Self::Ttl(ttl) => ("ttl", millis(ttl)),
            Self::LongestTtl(longest) => ("longest_ttl", millis(longest)),
            Self::RequestTimeout(request) => ("request_timeout", millis(request)),
            Self::Table(table) => ("table", table.to_string()),
            Self::Durability(durability) => ("durability", durability.to_string()),
            Self::Expiry(expiry) => ("expiry", expiry.to_string()),
            Self::Keys(Key::Int) => ("keys", "int".to_string()),
            Self::Keys(Key::Pair) => ("keys", "pair".to_string()),
            Self::Keys(_) => ("keys", "hash".to_string()),
            Self::Prefix(prefix) => ("prefix", prefix.clone()),
            Self::Waiting(waiting) => ("waiting", waiting.to_string()),
            Self::Token(token) => ("token", token.clone()),
            Self::Label(label) => ("label", label.clone()),
            Self::WarnWait(time) => ("warn_wait", millis(time)),
            Self::WarnHold(time) => ("warn_hold", millis(time)),
            Self::DefaultLabel(_) | Self::Lazy | Self::MetricsByName(_) => return None,
        };
        Some(format!("{name}={}", escaped(&value)))
    }

    /// True if a place's URL contains the setting, where it matters.
    pub(super) fn is_in_place(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::Table(_) | Self::Keys(_) | Self::Prefix(_))
    }
}

/// Text with every byte escaped that is not a letter or a digit.
pub(super) fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

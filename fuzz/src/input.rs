//! The bytes of an input, read piece by piece.

use lock_core::Owner;
use lock_core::sql::{Rows, Value};
use std::time::Duration;

/// The rest of an input. Past its end there are zeros.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A short text.
    pub(crate) fn text(&mut self) -> String {
        let length = usize::from(self.byte() % 64).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    /// Some milliseconds, up to two days and more.
    pub(crate) fn duration(&mut self) -> Duration {
        let bytes = [self.byte(), self.byte()].map(u64::from);
        Duration::from_millis((bytes[0] << (bytes[1] % 21)) + bytes[1])
    }

    pub(crate) fn rows(&mut self) -> Rows {
        (0..self.byte() % 4).map(|_| (0..self.byte() % 8).map(|_| self.value()).collect()).collect()
    }

    pub(crate) fn value(&mut self) -> Value {
        let choice = self.byte();
        match choice % 8 {
            0 => Value::Null,
            1 => Value::Int(i64::from(self.byte())),
            2 => Value::Int(i64::MIN + i64::from(self.byte())),
            3 => Value::Text("a".into()),
            4 => Value::Text("b".into()),
            5 => Value::Text(Owner::new(1).to_string()),
            6 => Value::Texts(vec!["a".into()]),
            _ => Value::Text(char::from(self.byte()).to_string()),
        }
    }
}

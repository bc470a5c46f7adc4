//! Releases as statements, of locks that are freed or stay taken for a while.

use super::Exchange;
use super::own::micros;
use crate::request::{Claim, Request};
use crate::sql::{Statement, Text, Value};
use alloc::vec::Vec;
use core::time::Duration;

impl Exchange {
    /// The same release, without a word to those that wait.
    pub(super) fn untold(&self) -> Option<Statement> {
        match (&self.request, &self.codec.keep) {
            (Request::Keep { keep, .. }, Some(texts)) => Some(self.kept(&texts[1], *keep)),
            _ => self.codec.untold.as_ref().map(|text| self.released(text)),
        }
    }

    pub(super) fn released(&self, text: &Text) -> Statement {
        let claims: Vec<&Claim> = self.request.claims().iter().collect();
        self.statement(text, &claims, true, [])
    }

    /// A release by `text` that leaves the locks taken until `keep` after their grants.
    pub(super) fn kept(&self, text: &Text, keep: Duration) -> Statement {
        let claims: Vec<&Claim> = self.request.claims().iter().collect();
        self.statement(text, &claims, true, [Value::Int(micros(keep))])
    }
}

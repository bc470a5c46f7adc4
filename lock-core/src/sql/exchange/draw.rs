//! Tickets that are drawn by statements of their own.

use super::outcomes::{drawn, to_be_drawn};
use super::rows::number;
use super::{Exchange, Stage, done};
use crate::outcome::Outcome;
use crate::sql::{Rows, Statement, Value};
use alloc::string::ToString;
use alloc::vec::Vec;

/// So many of a request's claims draw a ticket by it, where each takes a statement of its own.
const MOST_DRAWN: usize = 8;

impl Exchange {
    /// The stage in which the first of the claims from this one on draws a ticket.
    pub(super) fn draws(&self, from: usize, mut outcomes: Vec<Outcome>) -> Stage {
        let mut rest = outcomes.iter_mut().take(MOST_DRAWN).enumerate().skip(from);
        let next = rest.find_map(|(at, outcome)| to_be_drawn(outcome).map(|_| at));
        match next.filter(|_| self.codec.draw.is_some()) {
            Some(at) => Stage::Draw { at, outcomes },
            None => done(drawn(outcomes)),
        }
    }

    /// The stage after a ticket was drawn, if there still was a row to draw it from.
    pub(super) fn drew(&self, at: usize, mut outcomes: Vec<Outcome>, rows: Rows) -> Option<Stage> {
        let number = if rows.is_empty() { 0 } else { number(rows)? };
        if let Some(place) = outcomes.get_mut(at).and_then(to_be_drawn) {
            place.ticket = u64::try_from(number).unwrap_or_default();
        }
        Some(self.draws(at + 1, outcomes))
    }

    /// Draws a ticket for the claim `at`.
    pub(super) fn draw(&self, at: usize) -> Option<Statement> {
        let (text, claim) = (self.codec.draw.as_ref()?, self.request.claims().get(at)?);
        let params = [Value::Text(claim.name.to_string()), Value::Text(claim.owner.to_string())];
        Some(Statement { durable: false, ..Statement::new(text.clone(), params) })
    }
}

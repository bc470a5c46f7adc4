//! The TTL and the label that claims of one request have of their own.

use super::super::Value;
use super::{Exchange, Stage};
use crate::request::{Claim, Request};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// The terms of a claim in a statement about several, besides name and owner.
pub(in super::super) struct Own {
    /// In µs.
    pub(in super::super) ttl: i64,
    pub(in super::super) label: String,
    /// Its [number](crate::Turn), where it counts.
    pub(in super::super) turn: Option<i64>,
}

pub(super) fn names(claims: &[&Claim]) -> Value {
    Value::Texts(claims.iter().map(|claim| String::from(claim.name.as_str())).collect())
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Exchange {
    /// The terms of this claim in a statement about several: its turn where it wants the lock, TTL and label if one of
    /// them is its own. Renewals that are checked have a TTL each, for each must have been renewed for its own.
    pub(super) fn own(&self, claim: &Claim) -> Option<Own> {
        let turn = self.has_turns().then(|| claim.turn.number());
        let has = turn.is_some() || self.has_own(claim) || self.checks_renewals();
        let (ttl, label) = has.then(|| self.terms(claim))?;
        Some(Own { ttl, label, turn })
    }

    /// The same for all claims of a PostgreSQL statement, as columns: TTLs, labels and turns for claims, TTLs for renewals,
    /// turns to look, none for others. TTLs and labels are empty if no claim has any of its own.
    pub(super) fn own_columns(&self, claims: &[&Claim]) -> Vec<Vec<String>> {
        let some = claims.iter().any(|claim| self.has_own(claim));
        let all = || claims.iter().map(|claim| self.terms(claim)).filter(|_| some);
        let ttls = || all().map(|(ttl, _)| ttl.to_string()).collect();
        let labels = || all().map(|(_, label)| label).collect();
        let turns = || claims.iter().map(|claim| claim.turn.number().to_string()).collect();
        match (&self.request, &self.stage) {
            (Request::Acquire { .. }, Stage::Act { .. }) => Vec::from([ttls(), labels(), turns()]),
            (Request::Renew { .. }, Stage::Act { .. }) => Vec::from([ttls()]),
            (_, Stage::Ask { .. }) => Vec::from([turns()]),
            _ => Vec::new(),
        }
    }

    /// Whether its claims want locks, each in its turn.
    pub(super) fn has_turns(&self) -> bool {
        let claims = matches!(self.request, Request::Acquire { .. });
        matches!(self.stage, Stage::Ask { .. }) || claims && matches!(self.stage, Stage::Act { .. })
    }

    fn checks_renewals(&self) -> bool {
        matches!((&self.request, &self.stage), (Request::Renew { .. }, Stage::Check { .. }))
    }

    fn has_own(&self, claim: &Claim) -> bool {
        match (&self.request, &self.stage) {
            (Request::Acquire { .. }, Stage::Act { .. }) => {
                claim.ttl.is_some() || claim.label.is_some()
            }
            (Request::Renew { .. }, Stage::Act { .. }) => claim.ttl.is_some(),
            _ => false,
        }
    }

    /// A claim's TTL in µs and its label, its own or the request's.
    fn terms(&self, claim: &Claim) -> (i64, String) {
        let (ttl, label) = match &self.request {
            Request::Acquire { ttl, label, .. } => (*ttl, claim.label.as_ref().unwrap_or(label)),
            Request::Renew { ttl, .. } => {
                return (micros(claim.ttl.unwrap_or(*ttl)), String::new());
            }
            _ => return (0, String::new()),
        };
        (micros(claim.ttl.unwrap_or(ttl)), label.to_string())
    }

    /// The TTL in µs and the label of a claim that is alone in its request.
    pub(super) fn terms_of_first(&self) -> (i64, String) {
        self.request.claims().first().map(|claim| self.terms(claim)).unwrap_or_default()
    }
}

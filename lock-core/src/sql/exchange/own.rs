//! The TTL and the label that claims of one request have of their own.

use super::{Exchange, Stage, micros};
use crate::request::{Claim, Request};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Exchange {
    /// The terms of this claim in a statement about several, besides name and owner: its TTL in µs and its label, if one of
    /// them is its own. Renewals that are checked have a TTL each, for each must have been renewed for its own.
    pub(super) fn own(&self, claim: &Claim) -> Option<(i64, String)> {
        (self.has_own(claim) || self.checks_renewals()).then(|| self.terms(claim))
    }

    /// The same for all claims of a PostgreSQL statement, as columns: TTLs and labels for claims, TTLs for renewals, none
    /// for others. They are empty if no claim has anything of its own.
    pub(super) fn own_columns(&self, claims: &[&Claim]) -> Vec<Vec<String>> {
        let columns = match (&self.request, &self.stage) {
            (Request::Acquire { .. }, Stage::Act { .. }) => 2,
            (Request::Renew { .. }, Stage::Act { .. }) => 1,
            _ => 0,
        };
        let some = claims.iter().any(|claim| self.has_own(claim));
        let all = || claims.iter().map(|claim| self.terms(claim)).filter(|_| some);
        let ttls = all().map(|(ttl, _)| ttl.to_string()).collect();
        let labels = all().map(|(_, label)| label).collect();
        Vec::from([ttls, labels]).into_iter().take(columns).collect()
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

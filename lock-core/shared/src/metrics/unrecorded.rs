//! Nothing is recorded.

use crate::wish::Wish;
use lock_core::config::{Error, ReleaseError};
use lock_core::{Instant, LostReason};
use std::time::Duration;

/// One acquire.
pub struct Attempt;

/// One hold.
pub struct Hold;

/// Tells a recorder what the metrics mean.
pub fn describe() {}

#[allow(missing_docs)]
impl Attempt {
    pub fn begin(_: &Wish) -> Self {
        Self
    }

    pub fn ended<T>(self, _: &Result<T, Error>) {}
}

#[allow(missing_docs)]
impl Hold {
    pub fn new(_: Duration) -> Self {
        Self
    }

    pub fn begin(&self, _: &Wish) {}

    pub fn renewed(&self, _: Instant) {}

    pub fn renewal_failed(&self) {}

    pub fn lost(&self, _: &LostReason) {}

    pub fn released(&self, _: Instant) {}

    pub fn found(&self, _: &Result<(), ReleaseError>) {}
}

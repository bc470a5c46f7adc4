//! Questions whose answers come in pages, asked until the last page is there.

use super::{AdminRequest, AdminResponse, LockState, PAGE, PurgeError, surprise};
use crate::error::Failure;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// All locks that are held, page by page.
///
/// Ask each request that [`poll_request`](Self::poll_request) gives, hand its answer to
/// [`handle_response`](Self::handle_response), and take the locks from [`finish`](Self::finish).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Listing {
    /// The last name of the page before.
    after: Option<String>,
    held: Vec<LockState>,
    end: Option<Result<(), Failure>>,
}

impl Listing {
    /// One that begins with the first page.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next request; [`None`] after the last page.
    pub fn poll_request(&self) -> Option<AdminRequest> {
        self.end.is_none().then(|| AdminRequest::List { after: self.after.clone() })
    }

    /// Takes the answer to the last request. Every page must go on where the page before ended: a server
    /// that gives the same page again would be asked for ever.
    pub fn handle_response(&mut self, answer: AdminResponse) {
        let AdminResponse::Locks(page) = answer else {
            self.end = Some(Err(surprise()));
            return;
        };
        let last = page.last().map(|last| last.name.clone());
        if page.len() < PAGE {
            self.end = Some(Ok(()));
        } else if last <= self.after {
            let stuck = "the server lists the same locks again";
            self.end = Some(Err(Failure::Unknown(stuck.to_string())));
        }
        self.after = last;
        self.held.extend(page.into_iter().filter(|lock| lock.hold.is_some()));
    }

    /// The locks that are held, in the order of their names as bytes.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if a page does not fit its request, or pages are missing.
    pub fn finish(self) -> Result<Vec<LockState>, Failure> {
        self.end.unwrap_or_else(|| Err(incomplete())).map(|()| self.held)
    }
}

/// A purge, page by page; used as a [`Listing`] is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Purging {
    request: AdminRequest,
    removed: usize,
    /// How many more pages are asked for.
    pages: u32,
    end: Option<Result<(), Failure>>,
}

impl Purging {
    /// After so many full pages a purge is over, though there may be more rows. No server needs so many
    /// in a row: one that always tells of a full page would be asked for ever.
    pub const MOST_PAGES: u32 = 1 << 20;

    /// A purge of the rows of locks that are free and were not granted for so long.
    ///
    /// # Errors
    /// [`PurgeError`] as from [`AdminRequest::purge`].
    pub fn new(unused: Duration) -> Result<Self, PurgeError> {
        let request = AdminRequest::purge(unused)?;
        Ok(Self { request, removed: 0, pages: Self::MOST_PAGES, end: None })
    }

    /// The next request; [`None`] after the last page.
    pub fn poll_request(&self) -> Option<AdminRequest> {
        self.end.is_none().then(|| self.request.clone())
    }

    /// Takes the answer to the last request.
    pub fn handle_response(&mut self, answer: AdminResponse) {
        let AdminResponse::Purged(count) = answer else {
            self.end = Some(Err(surprise()));
            return;
        };
        self.removed = self.removed.saturating_add(count);
        self.pages = self.pages.saturating_sub(1);
        if count < PAGE || self.pages == 0 {
            self.end = Some(Ok(()));
        }
    }

    /// How many rows were removed.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if an answer was to another request, or pages are missing.
    pub fn finish(self) -> Result<usize, Failure> {
        self.end.unwrap_or_else(|| Err(incomplete())).map(|()| self.removed)
    }
}

fn incomplete() -> Failure {
    Failure::Unknown("the answer is incomplete".to_string())
}

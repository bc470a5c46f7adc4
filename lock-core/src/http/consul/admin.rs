//! An operator's requests about the keys of locks in Consul; see [`admin`](crate::admin).
//!
//! A break ends the holder's session, and with it **all** locks of that holder: a session is what a holder
//! keeps an eye on, so that is how it hears of it. The lock-delay then gives it time to stop. (If the key
//! alone were deleted, the holder would go on believing that it has the lock.) Every later grant has a
//! greater index, as that is one of the whole of Consul's history.

use super::answer::{Entry, fence, is_id, read};
use super::{Codec, put};
use crate::admin::{AdminRequest, AdminResponse, Hold, LockState, PurgeError};
use crate::error::Failure;
use crate::fence::Fence;
use crate::http::{MAX_BODY, Method, Request, Response, text};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

impl Codec {
    /// The HTTP request for `request`.
    ///
    /// # Errors
    /// [`PurgeError::NoRows`]: what Consul keeps of a free lock is a key.
    pub fn encode_admin(&self, request: &AdminRequest) -> Result<Request, PurgeError> {
        let get = |path_and_query: String| {
            let (body, waits) = (String::new(), Duration::ZERO);
            let request = Request { method: Method::Get, path_and_query, body, waits };
            Ok(self.scope.apply(request))
        };
        match request {
            AdminRequest::List { .. } => {
                get(format!("/v1/kv/{}?consistent&recurse", text::path(self.keys.prefix())))
            }
            AdminRequest::Status { name } | AdminRequest::Break { name, .. } => {
                get(format!("/v1/kv/{}?consistent", text::path(&self.keys.key(name))))
            }
            AdminRequest::Purge { .. } => Err(PurgeError::NoRows),
        }
    }

    /// The answer to `request`.
    ///
    /// # Errors
    /// The request's fate, if this is no answer to it.
    pub fn answer(
        &self,
        request: &AdminRequest,
        response: &Response<'_>,
    ) -> Result<AdminResponse, Failure> {
        if response.body.len() > MAX_BODY {
            return Err(Failure::refused("Consul has too many keys there to list".to_string()));
        }
        match (request, response.status) {
            (AdminRequest::List { after }, 200) => {
                let mut locks = self.locks(response.body)?;
                locks.retain(|lock| {
                    lock.hold.is_some() && after.as_ref().is_none_or(|after| lock.name > *after)
                });
                locks.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(AdminResponse::Locks(locks))
            }
            (AdminRequest::Status { .. }, 200) => {
                self.locks(response.body).map(AdminResponse::Locks)
            }
            (AdminRequest::List { .. } | AdminRequest::Status { .. }, 404) => {
                Ok(AdminResponse::Locks(Vec::new()))
            }
            // The hold that was to be broken is over: nothing followed.
            (AdminRequest::Break { .. }, 200 | 404) => Ok(AdminResponse::Broken(None)),
            (AdminRequest::Break { .. } | AdminRequest::Purge { .. }, _) => {
                Err(self.failed(false, response))
            }
            _ => Err(self.failed(true, response)),
        }
    }

    /// The request after the first answer, if there is one: its answer is for
    /// [`followed`](Self::followed).
    ///
    /// # Errors
    /// As for [`answer`](Self::answer).
    pub fn follow(
        &self,
        request: &AdminRequest,
        response: &Response<'_>,
    ) -> Result<Option<Request>, Failure> {
        let (AdminRequest::Break { name, fence: meant }, 200) = (request, response.status) else {
            return Ok(None);
        };
        let key = self.keys.key(name);
        for entry in read::<Vec<Entry>>(response.body)? {
            if let (true, Some(session)) = (entry.key == key, &entry.session)
                && fence(entry.modify_index)? == *meant
                && is_id(session)
            {
                let destroy = put(format!("/v1/session/destroy/{session}"), String::new());
                return Ok(Some(self.scope.apply(destroy)));
            }
        }
        Ok(None)
    }

    /// The answer to that.
    ///
    /// # Errors
    /// As for [`answer`](Self::answer).
    pub fn followed(
        &self,
        request: &AdminRequest,
        response: &Response<'_>,
    ) -> Result<AdminResponse, Failure> {
        match (request, response.status) {
            (AdminRequest::Break { fence, .. }, 200) if read(response.body)? => {
                Ok(AdminResponse::Broken(Some(Fence::new(fence.get().saturating_add(1)))))
            }
            _ => Err(self.failed(false, response)),
        }
    }

    /// The locks among the keys. Others are nobody's business.
    fn locks(&self, body: &[u8]) -> Result<Vec<LockState>, Failure> {
        let state = |entry: Entry| {
            let name = self.keys.name(&entry.key)?;
            let hold = entry.session.filter(|session| !session.is_empty()).map(|_| Hold {
                label: text::from_base64(entry.value.as_deref().unwrap_or_default()),
                held_for: None,
                expires_in: None,
                ends_late: false,
                kept: false,
            });
            let fence = fence(entry.modify_index);
            Some(fence.map(|fence| LockState { name: name.to_string(), fence, hold }))
        };
        read::<Vec<Entry>>(body)?.into_iter().filter_map(state).collect()
    }
}

//! An operator's requests about locks in Consul.

use super::{Answer, Requests};
use crate::admin::AdminBackend;
use lock_core::admin::{AdminRequest, AdminResponse};
use lock_core::config::Error;
use lock_core::http::{Request, Response};
use std::time::Duration;

/// An agent, and how long each request to it may take.
pub(crate) struct ConsulAdmin {
    pub(crate) requests: Requests,
    pub(crate) budget: Duration,
}

impl Answer {
    fn response(&self) -> Response<'_> {
        Response { status: self.status, index: self.index.as_deref(), body: &self.body }
    }
}

impl AdminBackend for ConsulAdmin {
    fn execute(&mut self, request: &AdminRequest) -> Result<AdminResponse, Error> {
        let Self { requests, budget } = self;
        let send = |request: &Request| {
            let heard = requests.send(request, *budget);
            heard.map_err(|error| error.failure(request.method))
        };
        let first = send(&requests.codec.encode_admin(request)?)?;
        match requests.codec.follow(request, &first.response())? {
            None => Ok(requests.codec.answer(request, &first.response())?),
            Some(next) => Ok(requests.codec.followed(request, &send(&next)?.response())?),
        }
    }
}

//! An operator's requests about locks in Consul.

use super::{Answer, Requests};
use crate::admin::{AdminBackend, Executing};
use lock_core::Failure;
use lock_core::admin::AdminRequest;
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

impl ConsulAdmin {
    async fn send(&mut self, request: &Request) -> Result<Answer, Failure> {
        let heard = self.requests.in_time(request, self.budget).await;
        heard.map_err(|error| error.failure(request.method))
    }
}

impl AdminBackend for ConsulAdmin {
    fn execute<'a>(&'a mut self, request: &'a AdminRequest) -> Executing<'a> {
        Box::pin(async move {
            let codec = self.requests.to.codec.clone();
            let first = self.send(&codec.encode_admin(request)?).await?;
            let answer = match codec.follow(request, &first.response())? {
                None => codec.answer(request, &first.response())?,
                Some(next) => codec.followed(request, &self.send(&next).await?.response())?,
            };
            Ok::<_, Error>(answer)
        })
    }
}

//! An operator's questions about locks in Consul.

use super::{Answer as Heard, Requests};
use crate::admin::{Ask, Asking};
use lock_core::Failure;
use lock_core::admin::Question;
use lock_core::config::Error;
use lock_core::http::{Request, Response};
use std::time::Duration;

/// An agent, and how long each request to it may take.
pub(crate) struct ConsulAdmin {
    pub(crate) requests: Requests,
    pub(crate) budget: Duration,
}

impl Heard {
    fn response(&self) -> Response<'_> {
        Response { status: self.status, index: self.index.as_deref(), body: &self.body }
    }
}

impl ConsulAdmin {
    async fn send(&mut self, request: &Request) -> Result<Heard, Failure> {
        let heard = self.requests.in_time(request, self.budget).await;
        heard.map_err(|trouble| trouble.failure(request.method))
    }
}

impl Ask for ConsulAdmin {
    fn ask<'a>(&'a mut self, question: &'a Question) -> Asking<'a> {
        Box::pin(async move {
            let codec = self.requests.to.codec.clone();
            let first = self.send(&codec.ask(question)?).await?;
            let answer = match codec.follow(question, &first.response())? {
                None => codec.answer(question, &first.response())?,
                Some(next) => codec.followed(question, &self.send(&next).await?.response())?,
            };
            Ok::<_, Error>(answer)
        })
    }
}

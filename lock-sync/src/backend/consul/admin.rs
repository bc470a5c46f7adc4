//! An operator's questions about locks in Consul.

use super::{Answer as Heard, Requests, failure};
use crate::admin::Ask;
use lock_core::admin::{Answer, Question};
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

impl Ask for ConsulAdmin {
    fn ask(&mut self, question: &Question) -> Result<Answer, Error> {
        let Self { requests, budget } = self;
        let send = |request: &Request| {
            let heard = requests.send(request, *budget);
            heard.map_err(|error| failure(request.method, &error))
        };
        let first = send(&requests.codec.ask(question)?)?;
        match requests.codec.follow(question, &first.response())? {
            None => Ok(requests.codec.answer(question, &first.response())?),
            Some(request) => Ok(requests.codec.followed(question, &send(&request)?.response())?),
        }
    }
}

//! An operator's requests about locks in Consul.

use super::{Answer, Requests};
use crate::admin::{AdminBackend, Executing, Waiting};
use crate::clock;
use lock_core::admin::AdminRequest;
use lock_core::config::Error;
use lock_core::http::consul::Watch;
use lock_core::http::{Request, Response};
use lock_core::{Failure, LockName};
use std::time::Duration;

/// An agent, and how long each request to it may take.
pub(crate) struct ConsulAdmin {
    pub(crate) requests: Requests,
    pub(crate) budget: Duration,
    pub(crate) watch: Watch,
}

impl Answer {
    fn response(&self) -> Response<'_> {
        Response { status: self.status, index: self.index.as_deref(), body: &self.body }
    }
}

impl ConsulAdmin {
    async fn send(&mut self, request: &Request) -> Result<Answer, Failure> {
        let heard = self.requests.in_time(request, request.waits + self.budget).await;
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

    fn moved(&mut self) {
        self.requests.link = None;
    }

    fn wait<'a>(&'a mut self, name: &'a LockName, up_to: Duration) -> Waiting<'a> {
        Box::pin(async move {
            let until = clock::now().after(up_to);
            let request = self.watch.request(&self.requests.to.codec, name, up_to);
            let heard = self.send(&request).await.ok();
            let pause = self.watch.handle_answer(heard.as_ref().map(Answer::response).as_ref());
            if let Some(pause) = pause {
                tokio::time::sleep(until.since(clock::now()).min(pause)).await;
            }
            pause.is_none()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_shared::lookup::stand_in::asked;
    use lock_shared::place::Place;
    use lock_shared::plan::Plan;
    use lock_shared::settings::Codec;

    /// Its history may have begun anew meanwhile, with smaller numbers. The caller asks again at once, so the error takes all of
    /// the time.
    #[tokio::test]
    async fn after_an_error_the_next_watch_is_the_first() {
        let (port, asked) =
            asked(["200 OK\r\nX-Consul-Index: 7", "500 No leader", "200 OK\r\nX-Consul-Index: 3"]);
        let url = format!("consul://127.0.0.1:{port}?sslmode=disable");
        let config = lock_shared::Config::from_url(&url).expect("good");
        let (Place::Consul(server), plan) = Plan::at(config).expect("a plan") else {
            unreachable!("it is Consul's")
        };
        let Codec::Session(codec) = plan.codec else { unreachable!("it is Consul's") };
        let requests = Requests::new(codec, server, None).await.expect("good");
        let mut admin =
            ConsulAdmin { requests, budget: Duration::from_secs(60), watch: Watch::default() };
        let name = LockName::new("a").expect("good");
        let up_to = Duration::from_millis(50);
        for told in [true, false, true] {
            let began = std::time::Instant::now();
            assert_eq!(admin.wait(&name, up_to).await, told);
            assert!(told || began.elapsed() >= up_to, "{:?}", began.elapsed());
        }
        let [first, second, third] = asked.join().expect("no panic");
        assert!(second.contains("index=7"), "{second}");
        assert_eq!(third, first);
    }
}

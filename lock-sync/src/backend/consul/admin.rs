//! An operator's requests about locks in Consul.

use super::{Answer, Requests};
use crate::admin::AdminBackend;
use crate::clock;
use lock_core::LockName;
use lock_core::admin::{AdminRequest, AdminResponse};
use lock_core::config::Error;
use lock_core::http::consul::Watch;
use lock_core::http::{Request, Response};
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

impl AdminBackend for ConsulAdmin {
    fn execute(&mut self, request: &AdminRequest) -> Result<AdminResponse, Error> {
        let Self { requests, budget, .. } = self;
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

    fn wait(&mut self, name: &LockName, up_to: Duration) -> bool {
        let until = clock::now().after(up_to);
        let request = self.watch.request(&self.requests.codec, name, up_to);
        let heard = self.requests.send(&request, request.waits + self.budget).ok();
        let pause = self.watch.handle_answer(heard.as_ref().map(Answer::response).as_ref());
        if let Some(pause) = pause {
            std::thread::sleep(until.since(clock::now()).min(pause));
        }
        pause.is_none()
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
    #[test]
    fn after_an_error_the_next_watch_is_the_first() {
        let (port, asked) =
            asked(["200 OK\r\nX-Consul-Index: 7", "500 No leader", "200 OK\r\nX-Consul-Index: 3"]);
        let url = format!("consul://127.0.0.1:{port}?sslmode=disable");
        let config = lock_shared::Config::from_url(&url).expect("good");
        let (Place::Consul(server), plan) = Plan::at(config).expect("a plan") else {
            unreachable!("it is Consul's")
        };
        let Codec::Session(codec) = plan.codec else { unreachable!("it is Consul's") };
        let requests = Requests::new(codec, &server, None).expect("good");
        let mut admin =
            ConsulAdmin { requests, budget: Duration::from_secs(60), watch: Watch::default() };
        let name = LockName::new("a").expect("good");
        let up_to = Duration::from_millis(50);
        for told in [true, false, true] {
            let began = std::time::Instant::now();
            assert_eq!(admin.wait(&name, up_to), told);
            assert!(told || began.elapsed() >= up_to, "{:?}", began.elapsed());
        }
        let [first, second, third] = asked.join().expect("no panic");
        assert!(second.contains("index=7"), "{second}");
        assert_eq!(third, first);
    }
}

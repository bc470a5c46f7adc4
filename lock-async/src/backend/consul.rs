//! Requests to a Consul agent.
//!
//! The client does one exchange at a time, with one time limit. It follows no redirect, which would take the
//! token elsewhere. It uses no proxy, tries once, and reads no more of an answer than any answer needs.

mod admin;
mod link;

use super::panics::{PANICKED, guarded};
use super::{Backend, Backends, left};
use crate::runtime::read_files;
use hyper::header::HeaderValue;
use link::{Address, Answer, Link};
use lock_core::config::ConfigError;
use lock_core::http::consul::{Codec, Setup, Step, TOKEN_HEADER};
use lock_core::http::{self, Method, Response};
use lock_core::sql::ConnectError;
use lock_core::{Failure, Instant, Judgment, Pace, Reached, Reply, Request, Timing};
use lock_shared::check::Check;
use lock_shared::consul::{RequestError, Server, token_header};
use lock_shared::hosts::Hosts;
use lock_shared::plan::Plan;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant as Now};

pub(crate) use admin::ConsulAdmin;

/// Sends requests. There is one for each connection.
pub(crate) struct Requests {
    to: Arc<To>,
    /// The connection, and its agent's place in the URL. `None` while a request is in flight, so that dropping
    /// the request also drops the connection.
    link: Option<(usize, Link)>,
    /// True once it has waited at the server. Its connection exists only for that wait.
    waited: bool,
}

/// The settings that all connections share.
struct To {
    codec: Codec,
    agents: Hosts<Address>,
    token: Option<HeaderValue>,
}

impl Requests {
    /// Makes requests to `server`, with the rights of `token`.
    pub(crate) async fn new(
        codec: Codec,
        server: Server,
        token: Option<String>,
    ) -> Result<Self, ConfigError> {
        let token = token.as_deref().map(token_header).transpose()?;
        let read = move || server.agents().try_map(|agent| Address::new(&server, &agent));
        let agents = read_files(read).await?;
        Ok(Self::over(Arc::new(To { codec, agents, token })))
    }

    fn over(to: Arc<To>) -> Self {
        Self { to, link: None, waited: false }
    }

    /// Checks that locks are possible, and measures the requests on a new connection. Each may take `budget`.
    async fn check(
        &mut self,
        mut setup: Setup,
        budget: Duration,
        pace: &mut Pace,
    ) -> Result<(), Failure> {
        let (mut answer, mut took) = (None, Vec::new());
        self.link = None;
        loop {
            match setup.step(answer.take()) {
                Step::Ask(request) => {
                    let sent = Now::now();
                    answer = Some(self.first(&request, budget).await);
                    took.push(sent.elapsed());
                }
                Step::Ready => {
                    pace.requested(&took);
                    return Ok(());
                }
                Step::Failed(failure) => return Err(failure),
            }
        }
    }

    /// Sends a request of the first connect. Only here, an error is final.
    async fn first(&mut self, request: &Request, budget: Duration) -> Result<Reply, Failure> {
        self.exchange(request, budget, |method, error| error.first_failure(method)).await
    }

    async fn ask(&mut self, request: &Request, budget: Duration) -> Result<Reply, Failure> {
        self.exchange(request, budget, |method, error| error.failure(method)).await
    }

    async fn exchange(
        &mut self,
        request: &Request,
        budget: Duration,
        failed: impl Fn(Method, RequestError) -> Failure,
    ) -> Result<Reply, Failure> {
        let sent = self.to.codec.encode(request)?;
        let answer = self.in_time(&sent, budget).await;
        let answer = answer.map_err(|error| failed(sent.method, error))?;
        let Answer { status, index, body } = &answer;
        let response = Response { status: *status, index: index.as_deref(), body };
        self.to.codec.decode(request, &response)
    }

    async fn in_time(
        &mut self,
        request: &http::Request,
        budget: Duration,
    ) -> Result<Answer, RequestError> {
        let late = |_| Err(RequestError::new(true, "no answer in time"));
        let mut asked = None;
        let sending = guarded(self.send(request, budget, &mut asked));
        let sent = tokio::time::timeout(budget, sending).await;
        let panicked = || Err(RequestError::new(true, PANICKED));
        let answer = sent.map_or_else(late, |answer| answer.unwrap_or_else(panicked));
        let Some(at) = asked else { return answer };
        if answer.as_ref().map_or(true, Answer::is_of_a_broken_agent) {
            self.to.agents.pass_over(at);
        }
        answer.map_err(|error| self.to.agents.named(at, error))
    }

    async fn send(
        &mut self,
        request: &http::Request,
        budget: Duration,
        asked: &mut Option<usize>,
    ) -> Result<Answer, RequestError> {
        let limit = left(tokio::time::Instant::now() + budget);
        let agents = &self.to.agents;
        let mut kept = self.link.take().filter(|(at, _)| *at == agents.first());
        if let Some((_, link)) = &mut kept
            && !link.is_ready().await
        {
            kept = None;
        }
        let (at, mut link) = match kept {
            Some(link) => link,
            None => connect(agents, limit()).await?,
        };
        *asked = Some(at);
        let mut builder = hyper::Request::builder()
            .method(request.method.as_str())
            .uri(&request.path_and_query)
            .header("Host", agents.get(at).map_or("", Address::authority))
            .header("User-Agent", "lock-async");
        if let Some(token) = &self.to.token {
            builder = builder.header(TOKEN_HEADER, token.clone());
        }
        let made = builder
            .body(request.body.clone())
            .map_err(|error| RequestError::new(false, error.to_string()))?;
        let answer = link.exchange(made).await?;
        // The connection stays usable only if the whole answer was read.
        self.link = answer.whole.then_some((at, link));
        Ok(answer.answer)
    }
}

/// Connects to the first agent that can be used, and returns its place among them.
async fn connect(agents: &Hosts<Address>, limit: Duration) -> Result<(usize, Link), RequestError> {
    // A connect that takes most of the time has sent nothing.
    let mut turns = agents.turns(limit / 8 * 7);
    while let Some(turn) = turns.next_turn() {
        let until = left(tokio::time::Instant::now() + turn.limit);
        let connected = tokio::time::timeout(turn.limit, turn.host.connect(until)).await;
        let late = |_| Err(RequestError::new(false, "no answer in time"));
        match connected.unwrap_or_else(late) {
            Ok(link) => {
                agents.prefer(turn.at);
                return Ok((turn.at, link));
            }
            Err(error) => turns.failed(error),
        }
    }
    Err(turns.error())
}

/// The agents that requests go to.
pub(crate) struct Agents {
    requests: Requests,
    setup: Setup,
    timing: Timing,
    /// Told what the first connect finds.
    check: Check,
}

impl Agents {
    /// The agents of these requests, none of them connected to yet.
    pub(crate) fn new(requests: Requests, plan: &Plan, check: Check) -> Self {
        Self { requests, setup: plan.setup(), timing: plan.timing, check }
    }
}

impl Backends for Agents {
    type Backend = Requests;

    async fn connect(&mut self) -> Result<Reached, ConnectError> {
        let mut pace = Pace::default();
        loop {
            self.requests.check(self.setup.clone(), self.timing.connect(), &mut pace).await?;
            match pace.judge(self.timing) {
                Judgment::Fits(timing) => {
                    self.check.reached(timing);
                    return Ok(Reached::new(timing, false));
                }
                Judgment::CheckAgain | Judgment::ConnectAgain => {}
                Judgment::TooSlow(error) => return Err(error.into()),
            }
        }
    }

    fn backend(&mut self) -> Option<Requests> {
        Some(Requests::over(self.requests.to.clone()))
    }
}

impl Backend for Requests {
    async fn execute(
        &mut self,
        request: Request,
        _now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        self.waited |= request.waits();
        let reply = self.ask(&request, budget).await;
        poll_fn(|cx| {
            self.poll_idle(cx);
            Poll::Ready(())
        })
        .await;
        reply
    }

    /// Each waiting attempt has a connection of its own, with nothing to keep.
    fn lasts(&self) -> bool {
        !self.waited
    }

    /// Notices that Consul ended the connection, so that the next request finds a new one.
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        if self.link.as_mut().is_some_and(|(_, link)| link.poll_ended(cx)) {
            self.link = None;
        }
    }

    async fn close(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_shared::lookup::stand_in::{NO_LOCK, agent, agent_with_free_locks};
    use lock_shared::place::Place;
    use lock_shared::settings;

    /// The way to the agents of this URL, and the first request to them.
    async fn to_ask(url: &str) -> (Requests, Request) {
        to_ask_with(url, None).await.expect("good")
    }

    /// The same with a token.
    async fn to_ask_with(
        url: &str,
        token: Option<&str>,
    ) -> Result<(Requests, Request), ConfigError> {
        let config = lock_shared::Config::from_url(url).expect("good");
        let (Place::Consul(server), plan) = Plan::at(config).expect("a plan") else {
            unreachable!("it is Consul's")
        };
        let settings::Codec::Session(codec) = &plan.codec else { unreachable!("it is Consul's") };
        let requests = Requests::new(codec.clone(), server, token.map(str::to_string)).await?;
        let Step::Ask(request) = plan.setup().step(None) else { unreachable!("a question") };
        Ok((requests, request))
    }

    /// It may be a moment's fault. The agent speaks no TLS.
    #[tokio::test]
    async fn only_the_first_connect_is_refused_by_a_handshake_that_fails() {
        let url = format!("consul://127.0.0.2:{}?sslmode=verify-full", agent(NO_LOCK));
        let (mut requests, request) = to_ask(&url).await;
        let limit = Duration::from_secs(60);
        let first = requests.first(&request, limit).await;
        assert!(matches!(first, Err(Failure::Rejected { retry: false, .. })), "{first:?}");
        let later = requests.execute(request, lock_shared::clock::now(), limit).await;
        assert!(matches!(later, Err(Failure::NotSent(_))), "{later:?}");
    }

    /// Otherwise each request would begin with an agent that is gone.
    #[tokio::test]
    async fn the_agent_that_answers_is_the_first_for_the_next_request() {
        let closed = std::net::TcpListener::bind("127.0.0.2:0");
        let gone = closed.and_then(|listener| listener.local_addr()).expect("bound");
        let url = format!("consul://{gone},127.0.0.2:{}?sslmode=disable", agent(NO_LOCK));
        let (mut requests, request) = to_ask(&url).await;
        assert_eq!(requests.to.agents.first(), 0);
        let _answer = requests.ask(&request, Duration::from_secs(60)).await;
        assert_eq!(requests.to.agents.first(), 1);
    }

    /// The engine gives each request the time that this way takes.
    #[tokio::test]
    async fn what_the_first_connect_measured_is_handed_on() {
        let url = format!("consul://127.0.0.1:{}", agent_with_free_locks());
        let (requests, _) = to_ask(&url).await;
        let plan = Plan::at(lock_shared::Config::from_url(&url).expect("good")).expect("a plan").1;
        let mut agents = Agents::new(requests, &plan, plan.check());
        let reached = agents.connect().await.expect("fit for locks");
        assert_ne!(reached.timing, plan.timing);
    }

    /// The agent is frozen, and the handshake belongs to the connect.
    #[tokio::test]
    async fn a_connect_that_takes_too_long_has_sent_nothing() {
        let frozen = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = frozen.local_addr().expect("bound").port();
        let url = format!("consul://127.0.0.1:{port}?sslmode=verify-full");
        let (mut requests, request) = to_ask(&url).await;
        let late = requests.ask(&request, Duration::from_millis(400)).await;
        assert!(matches!(late, Err(Failure::NotSent(_))), "{late:?}");
    }

    /// The agent may have failed after the servers had done it.
    #[tokio::test]
    async fn a_change_that_failed_in_the_agent_may_have_been_made() {
        const FAILED: &str =
            "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let (mut requests, _) =
            to_ask(&format!("consul://127.0.0.2:{}?sslmode=disable", agent(FAILED))).await;
        let close = Request::Close { session: "adf4238a-882b-9ddc-4a9d-5b6758e4159e".into() };
        let failed = requests.ask(&close, Duration::from_secs(60)).await;
        assert!(matches!(failed, Err(Failure::Unknown(_))), "{failed:?}");
    }

    /// Without one, whoever asks is anonymous.
    #[tokio::test]
    async fn a_token_that_cannot_be_sent_is_refused() {
        let refused = to_ask_with("consul://localhost", Some("two\nlines")).await.map(drop);
        assert!(refused.is_err());
    }

    /// With it, the next request waits for a change, although there is no such lock yet.
    #[tokio::test]
    async fn an_answer_that_there_is_nothing_has_an_index() {
        const NONE: &str = "HTTP/1.1 404 Not Found\r\nX-Consul-Index: 7\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let url = format!("consul://127.0.0.2:{}?sslmode=disable", agent(NONE));
        let (mut requests, request) = to_ask(&url).await;
        let (sent, limit) =
            (requests.to.codec.encode(&request).expect("good"), Duration::from_secs(60));
        let answer = requests.in_time(&sent, limit).await;
        assert!(answer.is_ok_and(|answer| answer.index.as_deref() == Some("7")));
    }
}

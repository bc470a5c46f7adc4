//! Requests to a Consul agent.
//!
//! The client does one exchange at a time, with one time limit. It follows no redirect, which would take the
//! token elsewhere. It uses no proxy, tries once, and reads no more of an answer than any answer needs.

mod admin;
mod connect;
mod lookup;

use super::{Backend, Backends, in_time};
use crate::clock;
use connect::{Connects, NotConnected};
use lock_core::config::ConfigError;
use lock_core::http::consul::{Codec, INDEX_HEADER, Setup, Step, TOKEN_HEADER};
use lock_core::http::{self, MAX_BODY, Method, Response};
use lock_core::sql::ConnectError;
use lock_core::{Failure, Instant, Judgment, Pace, Reached, Reply, Request, Timing};
use lock_shared::check::Check;
use lock_shared::consul::{RequestError, Server, token_header};
use lock_shared::hosts::{Hosts, Turn};
use lock_shared::plan::Plan;
use lookup::{Lookup, NotFound, Resolves};
use rustls::crypto::ring;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant as Now};
use ureq::http::{HeaderValue, Request as Builder};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Timeout};

pub(crate) use admin::ConsulAdmin;

/// Sends requests. There is one for each of the engine's connections; all of them share the client, which keeps TCP connections open.
#[derive(Clone)]
pub(crate) struct Requests {
    codec: Codec,
    agents: Hosts<To>,
    token: Option<HeaderValue>,
}

/// One of Consul's agents. The client calls itself an agent, too.
#[derive(Clone, Debug)]
struct To {
    client: Agent,
    lookup: Arc<Lookup>,
    /// The part of a URL before the path. Its host is the name that the certificate must have, because the
    /// client has no other means to say that. [`Resolves`] looks up the agent's host all the same.
    origin: Arc<str>,
    /// The agent's host and port.
    host: HeaderValue,
}

/// An answer.
struct Answer {
    status: u16,
    index: Option<String>,
    body: Vec<u8>,
}

impl Requests {
    /// Requests to `server`, with the right that `token` gives.
    pub(crate) fn new(
        codec: Codec,
        server: &Server,
        token: Option<String>,
    ) -> Result<Self, ConfigError> {
        let token = token.as_deref().map(token_header).transpose()?;
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("lock-sync");
        let config = match tls(server)? {
            Some(tls) => config.https_only(true).tls_config(tls),
            None => config,
        };
        let config = config.build();
        let scheme = if server.encrypted { "https" } else { "http" };
        let agents = server.agents().try_map(|agent| {
            let (host, port) = (agent.authority.host(), agent.authority.port_u16().unwrap_or(8500));
            let lookup = Arc::new(Lookup::new(host, port));
            let resolves = Resolves(lookup.clone());
            let client = Agent::with_parts(config.clone(), Connects::default(), resolves);
            let name = match agent.server_name.to_str() {
                name if name.contains(':') => format!("[{name}]"),
                name => name.into_owned(),
            };
            let origin = format!("{scheme}://{name}:{port}").into();
            let host = HeaderValue::from_str(agent.authority.as_str())
                .map_err(|error| ConfigError::Url(error.to_string()))?;
            Ok::<_, ConfigError>(To { client, lookup, origin, host })
        })?;
        Ok(Self { codec, agents, token })
    }

    /// Checks that locks are possible, and measures the requests. Each may take `budget`.
    fn check(&self, mut setup: Setup, budget: Duration, pace: &mut Pace) -> Result<(), Failure> {
        let (mut answer, mut took) = (None, Vec::new());
        loop {
            match setup.step(answer.take()) {
                Step::Ask(request) => {
                    let sent = Now::now();
                    answer = Some(self.first(&request, budget));
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

    /// A question of the first connect, which alone refuses for good.
    fn first(&self, request: &Request, budget: Duration) -> Result<Reply, Failure> {
        self.exchange(request, budget, |method, error| error.first_failure(method))
    }

    fn ask(&self, request: &Request, budget: Duration) -> Result<Reply, Failure> {
        self.exchange(request, budget, |method, error| error.failure(method))
    }

    fn exchange(
        &self,
        request: &Request,
        budget: Duration,
        failed: impl Fn(Method, RequestError) -> Failure,
    ) -> Result<Reply, Failure> {
        let sent = self.codec.encode(request)?;
        let answer = in_time(budget, |left| {
            self.send(&sent, left).map_err(|error| failed(sent.method, error))
        })?;
        let Answer { status, index, body } = &answer;
        self.codec.decode(request, &Response { status: *status, index: index.as_deref(), body })
    }

    /// Sends a request to the first agent that can be connected to.
    fn send(&self, request: &http::Request, budget: Duration) -> Result<Answer, RequestError> {
        let until = Now::now() + budget;
        // A connect that takes most of the time has sent nothing.
        let mut turns = self.agents.turns(budget / 8 * 7);
        while let Some(turn) = turns.next_turn() {
            let left = until.saturating_duration_since(Now::now());
            let called = catch_unwind(AssertUnwindSafe(|| self.call(&turn, request, left)));
            match called.unwrap_or_else(|_| Err(panicked())) {
                // Another may know better: this one has no way to the leader, or there is none.
                Ok(answer) if answer.status >= 500 => {
                    self.agents.pass_over(turn.at);
                    return Ok(answer);
                }
                Ok(answer) => {
                    self.agents.prefer(turn.at);
                    return Ok(answer);
                }
                Err(error) => {
                    turn.host.lookup.doubt();
                    match request_error(&error) {
                        error if error.sent => {
                            self.agents.pass_over(turn.at);
                            return Err(self.agents.named(turn.at, error));
                        }
                        error => turns.failed(error),
                    }
                }
            }
        }
        Err(turns.error())
    }

    fn call(
        &self,
        turn: &Turn<'_, To>,
        request: &http::Request,
        budget: Duration,
    ) -> Result<Answer, ureq::Error> {
        let To { client, origin, host, .. } = turn.host;
        let url = format!("{origin}{}", request.path_and_query);
        let mut builder = Builder::builder().method(request.method.as_str()).uri(url);
        builder = builder.header("Host", host.clone());
        if let Some(token) = &self.token {
            builder = builder.header(TOKEN_HEADER, token.clone());
        }
        let call = builder.body(request.body.as_str())?;
        let call = client.configure_request(call).timeout_global(Some(budget));
        let call = call.timeout_resolve(Some(turn.limit)).timeout_connect(Some(turn.limit));
        let mut response = client.run(call.build())?;
        let index = response.headers().get(INDEX_HEADER);
        let index = index.and_then(|value| value.to_str().ok()).map(str::to_string);
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let longest = MAX_BODY as u64 + 1;
        response.body_mut().as_reader().take(longest).read_to_end(&mut body)?;
        Ok(Answer { status, index, body })
    }
}

/// The agents that requests go to.
pub(crate) struct Agents {
    requests: Requests,
    server: Server,
    token: Option<String>,
    setup: Setup,
    timing: Timing,
    /// Told what the first connect finds.
    check: Check,
}

impl Agents {
    /// The agents of `server`, none of them connected to yet.
    pub(crate) fn new(
        codec: Codec,
        server: Server,
        plan: &Plan,
        check: Check,
    ) -> Result<Self, ConfigError> {
        let (token, setup, timing) = (plan.token(), plan.setup(), plan.timing);
        let requests = Requests::new(codec, &server, token.clone())?;
        Ok(Self { requests, server, token, setup, timing, check })
    }
}

impl Backends for Agents {
    fn connect(&mut self) -> Result<Reached, ConnectError> {
        let mut pace = Pace::default();
        loop {
            self.requests.check(self.setup.clone(), self.timing.connect(), &mut pace)?;
            match pace.judge(self.timing) {
                Judgment::Fits(timing) => {
                    self.check.reached(timing);
                    return Ok(Reached::new(timing, false));
                }
                // Another client makes another connection.
                Judgment::CheckAgain | Judgment::ConnectAgain => {
                    let codec = self.requests.codec.clone();
                    self.requests = Requests::new(codec, &self.server, self.token.clone())
                        .map_err(|error| Failure::NotSent(error.to_string()))?;
                }
                Judgment::TooSlow(error) => return Err(error.into()),
            }
        }
    }

    fn backend(&mut self, _waits: bool) -> Option<Box<dyn Backend>> {
        Some(Box::new(self.requests.clone()))
    }
}

impl Backend for Requests {
    fn execute(
        &mut self,
        request: Request,
        _now: Instant,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        let until = clock::now().after(budget);
        self.ask(&request, until.since(clock::now()))
    }

    /// Each waiting attempt has a connection of its own, with nothing to keep.
    fn lasts(&self) -> bool {
        false
    }
}

/// The TLS settings, if TLS is wanted.
fn tls(server: &Server) -> Result<Option<TlsConfig>, ConfigError> {
    if !server.encrypted {
        return Ok(None);
    }
    let roots = server.roots()?;
    let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let config = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots));
    Ok(Some(config.build()))
}

/// The error of a client that panicked.
fn panicked() -> ureq::Error {
    ureq::Error::Other("the client panicked".into())
}

/// The error of a request without an answer.
fn request_error(error: &ureq::Error) -> RequestError {
    use ureq::Error::{BadUri, ConnectionFailed, HostNotFound, Http, Other};
    let not_connected = match error {
        Other(why) => why.downcast_ref::<NotConnected>(),
        _ => None,
    };
    let sent = match error {
        HostNotFound | ConnectionFailed | BadUri(_) | Http(_) => false,
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => false,
        Other(why) => not_connected.is_none() && !why.is::<NotFound>(),
        _ => true,
    };
    let reason = reason(not_connected.map_or(error, |NotConnected(error)| error));
    match not_connected.and_then(NotConnected::advice) {
        Some(advice) => RequestError { sent, told: format!("{reason}: {advice}"), stays: true },
        None => RequestError::new(sent, reason),
    }
}

/// The error in one line.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "no answer in time".to_string(),
        ureq::Error::Other(why) => why.to_string().replace(char::is_control, " "),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the agent closed the connection".to_string()
        }
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
            "the answer is not valid HTTP: is this the address of a Consul agent?".to_string()
        }
        other => other.to_string().replace(char::is_control, " "),
    }
}

#[cfg(test)]
mod tests;

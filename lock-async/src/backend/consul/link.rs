//! A connection to Consul.

use crate::backend::names::addresses_of;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::http::{Request, Response};
use hyper_util::rt::TokioIo;
use lock_core::config::ConfigError;
use lock_core::http::MAX_BODY;
use lock_core::http::consul::INDEX_HEADER;
use lock_shared::consul::{Agent, RequestError, Server};
use lock_shared::handshake::advice;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An agent's address, and the TLS settings.
pub(super) struct Address {
    authority: String,
    /// The host, without the brackets around an IPv6 address.
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) index: Option<String>,
    pub(super) body: Vec<u8>,
}

/// An answer. `whole` is true if all of it was read.
pub(super) struct Taken {
    pub(super) answer: Answer,
    pub(super) whole: bool,
}

/// A connection, and the future that moves its bytes. Each request polls that future, too.
pub(super) struct Link {
    requests: SendRequest<String>,
    moving: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
}

impl Answer {
    /// True if another agent may know better: this one has no way to the leader, or there is none.
    pub(super) fn is_of_a_broken_agent(&self) -> bool {
        self.status >= 500
    }
}

impl Address {
    /// Reads the files with the certificates. Blocks.
    pub(super) fn new(server: &Server, agent: &Agent) -> Result<Self, ConfigError> {
        let host = agent.authority.host().trim_matches(['[', ']']).to_string();
        let port = agent.authority.port_u16().unwrap_or(8500);
        let name = agent.server_name.clone();
        let tls = if server.encrypted { Some((tls(server)?, name)) } else { None };
        Ok(Self { authority: agent.authority.to_string(), host, port, tls })
    }

    /// Host and port.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Connects to the first address of the host that can be used, while `left` returns some time.
    pub(super) async fn connect(&self, left: impl Fn() -> Duration) -> Result<Link, RequestError> {
        let found = addresses_of(&self.host, self.port, left()).await;
        let addresses = found.map_err(|why| not_sent(&why))?;
        let mut result = Err(not_sent("the host has no address"));
        for (at, address) in addresses.iter().enumerate() {
            // An address that does not answer leaves time for the next.
            let share = left() / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
            let connecting = async {
                let stream = TcpStream::connect(address).await.map_err(broken)?;
                stream.set_nodelay(true).map_err(broken)?;
                match &self.tls {
                    None => Link::over(stream).await,
                    Some((tls, name)) => {
                        Link::over(tls.connect(name.clone(), stream).await.map_err(broken)?).await
                    }
                }
            };
            result = tokio::time::timeout(share, connecting)
                .await
                .unwrap_or_else(|_| Err(not_sent("no answer in time")));
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

fn tls(server: &Server) -> Result<TlsConnector, ConfigError> {
    let wrong = |error: &dyn std::error::Error| ConfigError::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    let (known, _) = roots.add_parsable_certificates(server.roots()?);
    if known == 0 {
        return Err(ConfigError::Tls("this system has no certificate authority that can be read: name one with sslrootcert=FILE".to_string()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Link {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, RequestError> {
        let (requests, connection): (_, Connection<_, String>) =
            handshake(TokioIo::new(stream)).await.map_err(|error| request_error(&error, false))?;
        Ok(Self { requests, moving: Box::pin(connection) })
    }

    /// Waits until the last request is done. Returns true if the connection accepts another.
    pub(super) async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| match self.poll_ended(cx) {
            true => Poll::Ready(false),
            false => self.requests.poll_ready(cx).map(|ready| ready.is_ok()),
        })
        .await
    }

    /// True if Consul has ended the connection. Call it only while no request is in flight.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.moving.as_mut().poll(cx).is_ready()
    }

    /// Sends a request, and reads its answer up to the length of the longest valid one.
    pub(super) async fn exchange(
        &mut self,
        request: Request<String>,
    ) -> Result<Taken, RequestError> {
        let Self { requests, moving } = self;
        let mut ended = false;
        let mut exchange = pin!(async {
            let response = requests.try_send_request(request).await.map_err(|mut error| {
                // A message that comes back was not sent.
                let sent = error.take_message().is_none();
                request_error(error.error(), sent)
            })?;
            take(response).await
        });
        poll_fn(|cx| {
            if let done @ Poll::Ready(_) = exchange.as_mut().poll(cx) {
                return done;
            }
            if ended || moving.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // The exchange has the reason from the connection.
            ended = true;
            exchange.as_mut().poll(cx)
        })
        .await
    }
}

async fn take(response: Response<Incoming>) -> Result<Taken, RequestError> {
    let (head, mut incoming) = response.into_parts();
    let index = head.headers.get(INDEX_HEADER).and_then(|value| value.to_str().ok());
    let (status, index) = (head.status.as_u16(), index.map(str::to_string));
    let mut body = Vec::new();
    let mut whole = true;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let frame = frame.map_err(|error| request_error(&error, true))?;
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if body.len() > MAX_BODY {
            body.truncate(MAX_BODY + 1);
            whole = false;
            break;
        }
    }
    Ok(Taken { answer: Answer { status, index, body }, whole })
}

fn not_sent(told: &str) -> RequestError {
    RequestError::new(false, told)
}

/// The error for a connect that failed.
fn broken(error: io::Error) -> RequestError {
    if let Some(advice) = advice(&error) {
        return RequestError { sent: false, told: format!("{error}: {advice}"), stays: true };
    }
    RequestError::new(
        false,
        match error.kind() {
            io::ErrorKind::UnexpectedEof => "the agent closed the connection".to_string(),
            _ => error.to_string(),
        },
    )
}

/// The error for an exchange that broke off.
fn request_error(error: &hyper::Error, sent: bool) -> RequestError {
    use std::error::Error as _;
    let told = if error.is_parse() {
        "the answer is not valid HTTP: is this the address of a Consul agent?".to_string()
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "the agent closed the connection".to_string()
    } else {
        error.source().map_or_else(|| error.to_string(), ToString::to_string)
    };
    RequestError::new(sent, told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_shared::lookup::stand_in::agent;

    /// The agent goes away in the middle of its answer, or without one. It may have carried out the request.
    #[tokio::test]
    async fn a_request_that_broke_off_may_have_arrived() {
        for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
            let port = agent(answer);
            let stream = TcpStream::connect(("127.0.0.2", port)).await.expect("it listens");
            let mut link = Link::over(stream).await.expect("a connection");
            let request = Request::put("/v1/txn").body("[]".to_string()).expect("good");
            let error = link.exchange(request).await.map(drop).expect_err(answer);
            assert!(error.sent, "{answer:?}: {error:?}");
        }
    }
}

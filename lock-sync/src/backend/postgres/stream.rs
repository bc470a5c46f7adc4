//! A socket with a time limit for every read and write.
//!
//! The `postgres` client waits for ever for a server that is frozen while its kernel still answers. It lets
//! its user wrap the socket, as TLS does. This wrapper adds a time limit, and TLS where wanted.

use lock_shared::handshake::NO_TLS;
use lock_shared::postgres::{MakeRustlsConnect, Tls};
use lock_shared::sslmode::SslMode;
use postgres::Socket;
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Deadline of all reads and writes.
#[derive(Clone)]
pub(super) struct Limit(Arc<Mutex<Until>>);

struct Until {
    at: Instant,
    /// True once the stream was cut: the deadline no longer moves.
    cut: bool,
    /// The task to wake when the stream is cut.
    waker: Option<Waker>,
}

impl Limit {
    /// Sets the deadline, counted from now.
    pub(super) fn set(&self, budget: Duration) {
        let mut until = self.lock();
        if !until.cut {
            until.at = Instant::now() + budget;
        }
    }

    /// Ends reads and writes in flight, and all later ones.
    pub(super) fn cut(&self) {
        let mut until = self.lock();
        (until.at, until.cut) = (Instant::now(), true);
        if let Some(waker) = until.waker.take() {
            waker.wake();
        }
    }

    /// The deadline. A cut wakes `waker`.
    fn get(&self, waker: &Waker) -> Instant {
        let mut until = self.lock();
        if !until.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            until.waker = Some(waker.clone());
        }
        until.at
    }

    fn lock(&self) -> MutexGuard<'_, Until> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Until { at: Instant::now(), cut: false, waker: None })))
    }
}

/// Makes streams around sockets, as the `postgres` client wants them made.
#[derive(Clone)]
pub(super) struct Connector {
    tls: Tls,
    host: String,
    limit: Limit,
}

impl Connector {
    pub(super) fn new(tls: Tls, limit: Limit) -> Self {
        Self { tls, host: String::new(), limit }
    }

    /// The same with another mode.
    pub(super) fn in_mode(&self, mode: SslMode) -> Self {
        let mut other = self.clone();
        other.tls.mode = mode;
        other
    }

    /// The mode of the URL.
    pub(super) fn mode(&self) -> SslMode {
        self.tls.mode
    }

    /// The same with another limit.
    pub(super) fn within(&self, limit: Limit) -> Self {
        Self { limit, ..self.clone() }
    }

    async fn connect(self, socket: Socket) -> io::Result<Stream> {
        let mut bounded = Bounded { socket, limit: self.limit, sleep: None };
        if self.tls.mode == SslMode::Disable {
            return Ok(Stream::Plain(bounded));
        }
        // The protocol's SSLRequest: a length, and a code in place of a version.
        bounded.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
        let mut answer = [0];
        bounded.read_exact(&mut answer).await?;
        match (&answer, self.tls.mode) {
            (b"S", _) => {
                let mut make = self.tls.rustls(&self.host).map_err(io::Error::other)?;
                let connect = MakeTlsConnect::<Bounded>::make_tls_connect(&mut make, &self.host)
                    .map_err(io::Error::other)?;
                Ok(Stream::Encrypted(Box::new(connect.connect(bounded).await?)))
            }
            (b"N", SslMode::Prefer | SslMode::Allow) => Ok(Stream::Plain(bounded)),
            (b"N", _) => Err(io::Error::other(NO_TLS)),
            _ => Err(io::Error::other("the server does not speak PostgreSQL's protocol")),
        }
    }
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Self;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Self> {
        Ok(Self { host: host.to_string(), ..self.clone() })
    }
}

impl TlsConnect<Socket> for Connector {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(Connector::connect(self, socket))
    }
}

/// A socket with a limit.
pub(super) struct Bounded<S = Socket> {
    socket: S,
    limit: Limit,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S> Bounded<S> {
    /// `result`, or an error when it is still pending at the limit.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        let limit = self.limit.get(cx.waker());
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limit)));
        // It is set again only for an earlier limit, and when it is over: most answers come long before.
        if limit < sleep.deadline() {
            sleep.as_mut().reset(limit);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if limit <= Instant::now() {
                let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
                return Poll::Ready(Err(late));
            }
            sleep.as_mut().reset(limit);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.bounded(cx, result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.bounded(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_flush(cx);
        self.bounded(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.bounded(cx, result)
    }
}

/// The stream that the client reads and writes.
pub(super) enum Stream {
    Plain(Bounded),
    Encrypted(Box<<MakeRustlsConnect as MakeTlsConnect<Bounded>>::Stream>),
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Stream::Plain(_) => ChannelBinding::none(),
            Stream::Encrypted(stream) => stream.channel_binding(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Encrypted(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test that takes longer hangs.
    const LATE: Duration = Duration::from_secs(60);
    const SOON: Duration = Duration::from_millis(20);

    /// Over a connection that is frozen, after a request that was answered long before its limit.
    #[test]
    fn each_request_ends_at_its_own_limit() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let (socket, _frozen) = tokio::io::duplex(8);
            let limit = Limit::default();
            let mut bounded = Bounded { socket, limit: limit.clone(), sleep: None };
            let mut answer = [0];
            limit.set(LATE * 60);
            let answered = tokio::time::timeout(SOON, bounded.read(&mut answer)).await;
            assert!(answered.is_err(), "its timer runs");
            // An earlier limit after a later one, and later ones while the timer runs.
            for (first, then) in [(SOON, SOON), (SOON, SOON * 3), (SOON * 3, SOON)] {
                limit.set(first);
                let _begun = tokio::time::timeout(Duration::ZERO, bounded.read(&mut answer)).await;
                let began = Instant::now();
                limit.set(then);
                let ended = tokio::time::timeout(LATE, bounded.read(&mut answer)).await;
                let error = ended.expect("bounded").expect_err("nobody has written");
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                assert!((then..LATE).contains(&began.elapsed()), "{:?}", began.elapsed());
            }
        });
    }
}

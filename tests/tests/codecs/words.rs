//! What the clients' errors become.

use lock_shared::postgres::describe;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::NoTls;

/// A connection whose server takes everything, and fails when it is to answer.
struct Failing(io::ErrorKind);

impl AsyncRead for Failing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::new(self.0, "a text of the client's")))
    }
}

impl AsyncWrite for Failing {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// As a server that was killed ends a connection with TLS. The client's own words are of TLS, and have a link.
#[tokio::test]
async fn a_postgres_server_that_breaks_off_is_told_in_plain_words() {
    let mut config = tokio_postgres::Config::new();
    config.user("u");
    for (kind, says) in [
        (io::ErrorKind::UnexpectedEof, ": the server closed the connection"),
        (io::ErrorKind::ConnectionReset, ": a text of the client's"),
        (io::ErrorKind::TimedOut, "a text of the client's"),
    ] {
        let failed = config.connect_raw(Failing(kind), NoTls).await.err().expect("it fails");
        let (code, told) = describe(&failed);
        assert!(code.is_none() && told.ends_with(says), "{kind}: {told}");
        assert_eq!(told.starts_with(says), kind == io::ErrorKind::TimedOut, "{told}");
    }
}

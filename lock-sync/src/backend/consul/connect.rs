//! Connections to an agent.

use ureq::Error;
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector};

/// Connects as the client does, and marks what fails: no request has been sent then.
#[derive(Debug, Default)]
pub(super) struct Connects(DefaultConnector);

/// The failure of a connect, up to the end of the TLS handshake.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotConnected(pub(super) Error);

impl Connector for Connects {
    type Out = <DefaultConnector as Connector>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        self.0
            .connect(details, chained)
            .map_err(|error| Error::Other(Box::new(NotConnected(error))))
    }
}

impl NotConnected {
    /// The advice for a TLS handshake that keeps failing until someone acts.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match &self.0 {
            Error::Io(error) => lock_shared::handshake::advice(error),
            other => lock_shared::handshake::advice(other),
        }
    }
}

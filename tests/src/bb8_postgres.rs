//! What the crate `bb8-postgres` has, without the default features of `bb8`: they give tokio another kind of mutex, on
//! which a copy of a runtime in a forked process waits for ever when it is dropped.

pub use bb8;

use tokio_postgres::{Client, Config, Error, NoTls};

/// Makes and judges the connections of a pool.
pub struct PostgresConnectionManager(Config);

impl PostgresConnectionManager {
    /// For a configuration.
    pub fn new(config: Config, _: NoTls) -> Self {
        Self(config)
    }

    /// For a URL.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn new_from_stringlike(url: &str, tls: NoTls) -> Result<Self, Error> {
        Ok(Self::new(url.parse()?, tls))
    }
}

impl bb8::ManageConnection for PostgresConnectionManager {
    type Connection = Client;
    type Error = Error;

    async fn connect(&self) -> Result<Client, Error> {
        let (client, connection) = self.0.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn is_valid(&self, client: &mut Client) -> Result<(), Error> {
        client.simple_query("").await.map(drop)
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

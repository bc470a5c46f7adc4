//! A Galera cluster of three nodes of MariaDB.

use crate::proxy::server_of;
use crate::servers::Server;

/// The nodes. Each takes writes.
pub struct Galera {
    nodes: Vec<Server>,
}

impl Galera {
    /// Starts a cluster.
    pub fn start() -> Self {
        let first = Server::with("galera", &[]);
        let others = [1, 2].map(|_| Server::following("galera", &server_of(first.url()), &[]));
        Self { nodes: [first].into_iter().chain(others).collect() }
    }

    /// A node.
    pub fn node(&self, at: usize) -> &Server {
        &self.nodes[at]
    }

    /// Starts a node again, which joins another, without the data that it had.
    pub fn rejoin(&mut self, at: usize, other: usize) {
        let other = server_of(self.nodes[other].url());
        self.nodes[at].follow(&other);
    }

    /// The URL of all nodes, for a user that may use the database `test`. The node at `first` is the first in it.
    pub fn url(&self, first: usize) -> String {
        let server = |at: usize| server_of(self.nodes[at % self.nodes.len()].url());
        let all: Vec<_> = (first..first + self.nodes.len()).map(server).collect();
        let url = self.nodes[0].url().replacen("root:hunter2", "app:secret", 1);
        url.replace(&server(0), &all.join(","))
    }

    /// The URL of a node alone, for the same user.
    pub fn url_of(&self, at: usize) -> String {
        self.nodes[at].url().replacen("root:hunter2", "app:secret", 1)
    }
}

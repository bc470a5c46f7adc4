//! Consul: three servers, of which the leader is killed.

use lock_core::http::Method;
use lock_tests::consul::Consul;
use lock_tests::fail_over::{Cluster, kills, run};
use lock_tests::place::Place;
use lock_tests::proxy::server_of;
use lock_tests::servers::Server;
use lock_tests::withlock::eventually;
use std::time::Duration;

/// The shortest that Consul accepts when nothing else is configured.
const TTL: Duration = Duration::from_secs(10);

struct Three {
    servers: Vec<Server>,
    /// The one that was killed.
    dead: usize,
}

impl Three {
    fn new() -> Self {
        let first = Server::consul();
        let other = || Server::following("consul", &server_of(first.url()), &[]);
        let (second, third) = (other(), other());
        let three = Self { servers: vec![first, second, third], dead: 0 };
        three.joined();
        three
    }

    /// Waits until each of them has a vote, and one may be killed.
    fn joined(&self) {
        let said =
            |server: &Server, path: &str| Consul::at(server.url()).raw(Method::Get, path, "").body;
        eventually("three voters", || {
            let all = said(&self.servers[0], "/v1/operator/raft/configuration");
            all.matches(r#""Voter":true"#).count() == 3
        });
        eventually("a healthy cluster", || {
            let health = said(&self.servers[0], "/v1/operator/autopilot/health");
            health.contains(r#""FailureTolerance":1"#)
        });
    }

    fn leader(&self) -> usize {
        let alive = &self.servers[(self.dead + 1) % 3];
        let leader = Consul::at(alive.url()).raw(Method::Get, "/v1/status/leader", "").body;
        let port = leader.trim_matches('"').rsplit(':').next().expect("a port").to_string();
        let is_at = |server: &Server| server.url().ends_with(&port);
        self.servers.iter().position(is_at).expect("one of them")
    }
}

impl Cluster for Three {
    fn place(&self) -> Place {
        let all: Vec<_> = self.servers.iter().map(|server| server_of(server.url())).collect();
        Place::consul_at(&format!("http://{}", all.join(",")))
    }

    fn kill(&mut self) {
        self.dead = self.leader();
        self.servers[self.dead].kill();
    }

    /// They elect one.
    fn promote(&mut self) {}

    fn repair(&mut self) {
        self.servers[self.dead].start();
        self.joined();
    }
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_leader_that_dies_takes_no_lock_along() {
    let report = run(&mut Three::new(), TTL, kills(1));
    println!("Consul: {report}");
    assert_eq!((report.overlaps, report.fallen, report.forgotten), (0, 0, 0));
}

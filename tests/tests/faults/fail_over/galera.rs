//! A Galera cluster of three: the node that all use is killed, and they go on at the next.

use lock_tests::fail_over::{Cluster, kills, run};
use lock_tests::galera::Galera;
use lock_tests::place::Place;
use std::time::Duration;

/// The others go on without a node when they have not heard from it for five seconds.
const TTL: Duration = Duration::from_secs(15);

/// The cluster, and the node that all use.
struct Nodes {
    galera: Galera,
    used: usize,
}

impl Cluster for Nodes {
    fn place(&self) -> Place {
        Place::at(&self.galera.url(0))
    }

    fn kill(&mut self) {
        self.galera.node(self.used).kill();
    }

    fn promote(&mut self) {
        self.used = (self.used + 1) % 3;
    }

    fn repair(&mut self) {
        self.galera.rejoin((self.used + 2) % 3, self.used);
    }
}

#[test]
#[ignore = "needs a Galera cluster: tests/run starts one"]
fn every_lock_outlives_the_node_that_is_used() {
    let report = run(&mut Nodes { galera: Galera::start(), used: 0 }, TTL, kills(1));
    println!("Galera: {report}");
    assert_eq!((report.overlaps, report.fallen, report.forgotten), (0, 0, 0));
}

//! Schedules of the model.

use lock_core::sim::advisory::FakeAdvisory;
use lock_core::sim::consul::FakeConsul;
use lock_core::sim::table::FakeTable;
use lock_core::sim::{Scope, Server, Wish, World, random};
use lock_core::{Capabilities, advisory, consul, table};

/// Runs any schedule of the model-checked table protocol. It must break no promise.
pub fn schedules(bytes: &[u8]) {
    unbroken(bytes, &FakeTable::new(), &table::capabilities("somebody", false));
}

/// Runs any schedule with advisory locks.
pub fn schedules_advisory(bytes: &[u8]) {
    unbroken(bytes, &FakeAdvisory::new(), &advisory::capabilities(advisory::WAITING, None));
}

/// Runs any schedule with Consul.
pub fn schedules_consul(bytes: &[u8]) {
    unbroken(bytes, &FakeConsul::new(), &consul::capabilities("somebody"));
}

fn unbroken<S: Server>(bytes: &[u8], server: &S, capabilities: &Capabilities) {
    let world = |mut scope: Scope| {
        if S::CONNECTIONS {
            scope.wishes.push(Wish::WAIT.shared());
        }
        World::new(server.clone(), capabilities.clone(), scope)
    };
    let walked = random::walk(world, bytes);
    assert!(walked.violation.is_none(), "{}", random::describe(world, bytes));
}

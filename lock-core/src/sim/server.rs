//! What a simulated server must do.

use crate::fence::Fence;
use crate::name::{LockName, Owner};
use crate::protocol::{Action, Claim, Protocol};
use crate::time::Instant;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;

/// A server as a value: it understands the protocol's own commands, no SQL and no HTTP.
///
/// Each command takes effect at once and as a whole. Everything that can go wrong on the way to it
/// and back is the [`World`](super::World)'s business.
pub trait Server: Clone + Debug + Eq + Hash {
    /// What it speaks.
    type Protocol: Protocol;

    /// Carries out a command that reaches the server on `connection` when its clock shows `now`.
    ///
    /// `now` may be earlier than at the command before: a statement may read the clock, wait for a
    /// row, and go on when others have overtaken it.
    fn apply(
        &mut self,
        now: Instant,
        connection: Connection,
        command: &<Self::Protocol as Protocol>::Command,
    ) -> <Self::Protocol as Protocol>::Reply;

    /// What a command is for, and what it is about.
    fn describe(command: &<Self::Protocol as Protocol>::Command) -> (Action, &[Claim]);

    /// Every lock that the server knows, each name once, in the names' order.
    fn leases(&self) -> Vec<Lease>;

    /// What tells states of the server apart for a search, with each time as `time` and each fence
    /// as `fence` sees it.
    ///
    /// Servers that know more than their leases, and go by it, must say so.
    fn project(
        &self,
        time: &dyn Fn(Instant) -> Instant,
        fence: &dyn Fn(Fence) -> Fence,
    ) -> impl Hash {
        let seen = |lease: Lease| Lease {
            expires: time(lease.expires),
            fence: fence(lease.fence),
            ..lease
        };
        self.leases().into_iter().map(seen).collect::<Vec<_>>()
    }

    /// Dies: keeps what it committed, unless it is configured not to.
    fn crash(&mut self);

    /// Starts again when its clock shows `now`.
    fn restart(&mut self, _now: Instant) {}

    /// A connection has ended. Of no importance to a server whose locks are leases.
    fn disconnect(&mut self, _now: Instant, _connection: Connection) {}
}

/// Names a client's connection: a new one after each crash of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// Which client.
    pub client: usize,
    /// How many it had before.
    pub number: u32,
}

/// What a server knows about one lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The lock's name.
    pub name: LockName,
    /// Whose it is or, once expired, was; [`None`] after a release.
    pub owner: Option<Owner>,
    /// The last grant's fence.
    pub fence: Fence,
    /// When it ends, on the server's clock.
    pub expires: Instant,
}

impl Lease {
    /// Who has the lock at `now`.
    pub fn holder(&self, now: Instant) -> Option<Owner> {
        self.owner.filter(|_| now < self.expires)
    }
}

//! Bugs to seed into the clients' driver, to see that the checks bite.

/// A mistake that a driver around the engine could make. A server's mistakes are seeded by
/// implementing [`Server`](super::Server) around a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Flaw {
    /// The request is sent first and taken from the engine when the reply is there, so the lease
    /// is counted from the reply.
    DeadlineFromReply,
    /// An answer that did not come is reported as "did not reach the server".
    UnknownAsNotSent,
    /// The late reply to a request that was given up is taken for the answer to the next.
    RepliesCrossed,
    /// A claim that was not answered is repeated under a new owner.
    NewOwnerOnRetry,
    /// A process that is started again has the seed that it had before, hence its owners.
    OwnerReused,
    /// Leases are written and compared with the clients' clocks.
    ClientsClock,
    /// The clock that the engine is fed stands still while the machine sleeps.
    SuspendNotCounted,
    /// "Held?" is answered from a flag that events set and clear.
    HeldCached,
    /// "Held?" is answered with yes until the release is confirmed.
    HeldWhileReleasing,
    /// A guard that goes out of scope does not release.
    DropWithoutRelease,
    /// A request that was given up is forgotten: the engine is never told.
    AnswerForgotten,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Flaw; 11] = [
        Flaw::DeadlineFromReply,
        Flaw::UnknownAsNotSent,
        Flaw::RepliesCrossed,
        Flaw::NewOwnerOnRetry,
        Flaw::OwnerReused,
        Flaw::ClientsClock,
        Flaw::SuspendNotCounted,
        Flaw::HeldCached,
        Flaw::HeldWhileReleasing,
        Flaw::DropWithoutRelease,
        Flaw::AnswerForgotten,
    ];
}

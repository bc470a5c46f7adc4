//! The session protocol: a lock is a key in Consul that a session has locked.
//!
//! One session carries all locks of a client, and one renewal keeps them all:
//!
//! ```text
//!   create    a session with a TTL and a lock-delay
//!   renew     reset its TTL                             404: it is gone, and so is every lock
//!   lock      the key is free or ours -> ours; the entry's ModifyIndex is the fence
//!   unlock    ours -> free, at once
//!   watch     answer when the key has changed since an index, or after a time
//!   destroy   the session, when no lock is left
//! ```
//!
//! Before its first lock a client asks whether it would get one: see [`Setup`].
//!
//! A session ends when its TTL is over, but also earlier, when the agent that it was made at is
//! thought dead. Then the keys that it had stay locked for the *lock-delay*. So a hold counts until
//! `c0 + k·min(TTL, lock-delay)` of the last renewal that was answered, which is what
//! [`Consul::lease`] says: make the engine's [`Timing`](crate::Timing) of that.
//!
//! # What goes wrong with Consul's locks, and where it is handled
//!
//! | | handled by |
//! |---|---|
//! | the client goes on when its session may have ended | the lease above: lost at the deadline, without hearing from Consul |
//! | 404 on renewal is taken for an error that will pass | [`Reply::Renewed`]`(false)`: lost at once; errors and timeouts change nothing before the deadline |
//! | the session is destroyed before the key is unlocked, and the next one waits for the lock-delay | the engine closes a session when nothing is left in it |
//! | held, lock-delay and invalid session are taken for one another | three verdicts: [`Locked::Busy`] waits for a change, [`Locked::Delayed`] asks again after a time because nothing tells when the delay ends, [`Locked::NoSession`] ends the session |
//! | an answer to `lock` never came; it may be carried out later | the claim is repeated in the same session, which changes nothing if it was; the session takes no other claims from then on, and what is given up in it is unlocked twice: at once, and when a late request must have arrived |
//! | an answer to `unlock` never came; carried out late, it would free the successor's lock | the same: the successor is in another session |
//! | asking again and again slips past the lock-delay | a waiter asks again only after a watch has seen the key free |
//! | all that wait are told at once, and whoever is lucky gets it | who unlocks writes to the key by how many it was passed over; who was passed over by fewer lets others go first |
//! | a server that restarts begins old lock-delays anew, also for who has the key by now | the delay is waited for; a claim that was not answered and is given up is unlocked twice, see above |
//! | the blocking query's index goes backwards, or is zero | the codec: [`Reply::Watched`] always has an index to go on with |
//! | LockIndex falls when somebody writes the key | the fence is ModifyIndex, and fixed at the grant |
//! | one session is re-entrant | rivals for one name queue in the engine, also while the first is still releasing |
//! | a plain write or delete of the key by others | not covered, like a `DELETE` in a table |

mod setup;

use crate::error::Failure;
use crate::fence::Fence;
use crate::name::Owner;
use crate::protocol::{Action, Claim, Holder, Protocol, Sessions, Verdict, Wait};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

pub use setup::{Setup, Step};

/// The Consul protocol's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Consul {
    ttl: Duration,
    holder: Arc<str>,
}

impl Consul {
    /// The shortest TTL that Consul accepts.
    pub const MIN_TTL: Duration = Duration::from_secs(10);
    /// The longest TTL that Consul accepts.
    pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
    /// The longest lock-delay that Consul accepts.
    pub const MAX_LOCK_DELAY: Duration = Duration::from_secs(60);

    /// Sessions with a TTL of `ttl`, and `holder` for people to read in the keys.
    pub fn new(ttl: Duration, holder: &str) -> Self {
        Self { ttl, holder: holder.into() }
    }

    /// How long a lock is surely protected after a renewal: what the engine's timing is to be
    /// made of.
    pub fn lease(&self) -> Duration {
        self.ttl.min(Self::MAX_LOCK_DELAY)
    }
}

/// Consul's name for a session; empty until it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub Arc<str>);

/// What is asked of Consul.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Make a session.
    Create {
        /// Its name, for people.
        name: Owner,
        /// It may end when it was not renewed for so long.
        ttl: Duration,
        /// How long its keys stay locked when it ends in any other way than by unlocking them.
        lock_delay: Duration,
    },
    /// Reset a session's TTL.
    Renew {
        /// Which.
        session: Session,
    },
    /// End a session.
    Destroy {
        /// Which.
        session: Session,
    },
    /// Lock a key that is free or the session's already.
    Lock {
        /// For which session.
        session: Session,
        /// The key.
        claim: Claim,
        /// Written to the key, for people. The same at each repetition, or that would be a write.
        holder: Arc<str>,
    },
    /// Unlock a key that is the session's.
    Unlock {
        /// Whose.
        session: Session,
        /// The key.
        lease: Claim,
        /// By how many others its holder was passed over: written to the key.
        passed: u32,
    },
    /// Answer when the key has changed, or after a time.
    Watch {
        /// The key.
        claim: Claim,
        /// It has changed when its index is greater. Zero: answer at once.
        since: u64,
        /// Answer within this time.
        up_to: Duration,
    },
}

impl Command {
    /// What the command is for.
    pub fn action(&self) -> Action {
        match self {
            Command::Create { .. } => Action::Open,
            Command::Renew { .. } => Action::Keep,
            Command::Destroy { .. } => Action::Close,
            Command::Lock { .. } => Action::Acquire,
            Command::Unlock { .. } => Action::Release,
            Command::Watch { .. } => Action::Wait,
        }
    }

    /// What it is about.
    pub fn claims(&self) -> &[Claim] {
        match self {
            Command::Create { .. } | Command::Renew { .. } | Command::Destroy { .. } => &[],
            Command::Lock { claim, .. } | Command::Watch { claim, .. } => {
                core::slice::from_ref(claim)
            }
            Command::Unlock { lease, .. } => core::slice::from_ref(lease),
        }
    }
}

/// What Consul answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// To [`Command::Create`].
    Created(Session),
    /// To [`Command::Renew`]: whether the session exists.
    Renewed(bool),
    /// To [`Command::Destroy`], whether it existed or not.
    Destroyed,
    /// To [`Command::Lock`].
    Locked(Locked),
    /// To [`Command::Unlock`]: whether it was the session's.
    Unlocked(bool),
    /// To [`Command::Watch`].
    Watched {
        /// To watch from next; never zero.
        index: u64,
        /// Whether a session has the key.
        locked: bool,
        /// What its last holder wrote to it when it unlocked it.
        passed: Option<u32>,
    },
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Locked {
    /// The key is the session's; the fence is its ModifyIndex.
    Granted(Fence),
    /// It is another session's.
    Busy(Option<Holder>),
    /// The session that had it was lost, and the lock-delay is not over.
    Delayed,
    /// The session does not exist.
    NoSession,
}

impl Protocol for Consul {
    type Command = Command;
    type Reply = Reply;
    type Session = Session;

    fn label(&self) -> Option<&str> {
        Some(&self.holder)
    }

    /// A transaction is all or nothing, and one lock's denial is not another's.
    fn batch(&self) -> usize {
        1
    }

    fn sessions(&self) -> Option<Sessions> {
        Some(Sessions::Records)
    }

    fn again(&self) -> Action {
        Action::Wait
    }

    fn open(&self, owner: Owner) -> Option<Command> {
        Some(Command::Create { name: owner, ttl: self.ttl, lock_delay: self.lease() })
    }

    fn opened(&self, reply: &Reply) -> Result<Session, Failure> {
        match reply {
            Reply::Created(session) if !session.0.is_empty() => Ok(session.clone()),
            _ => Err(Failure::Unknown("the reply does not name the new session".to_string())),
        }
    }

    fn keep(&self, session: &Session) -> Option<Command> {
        Some(Command::Renew { session: session.clone() })
    }

    fn close(&self, session: &Session) -> Option<Command> {
        Some(Command::Destroy { session: session.clone() })
    }

    fn acquire(&self, session: &Session, mut claims: Vec<Claim>, _: bool) -> Command {
        let claim = claims.swap_remove(0);
        Command::Lock { session: session.clone(), claim, holder: self.holder.clone() }
    }

    fn wait(&self, _: &Session, wait: Wait) -> Option<Command> {
        Some(Command::Watch { claim: wait.claim, since: wait.since, up_to: wait.up_to })
    }

    fn renew(&self, _: Vec<Claim>) -> Option<Command> {
        None
    }

    fn release(&self, session: &Session, mut leases: Vec<Claim>, passed: u32) -> Command {
        Command::Unlock { session: session.clone(), lease: leases.swap_remove(0), passed }
    }

    fn verdicts(&self, action: Action, reply: Reply) -> Result<Vec<Verdict>, Failure> {
        let done = |ours| if ours { Verdict::Done } else { Verdict::NotOurs };
        let verdict = match (action, reply) {
            (Action::Open, Reply::Created(_)) | (Action::Close, Reply::Destroyed) => Verdict::Done,
            (Action::Keep, Reply::Renewed(exists)) => done(exists),
            (Action::Acquire, Reply::Locked(Locked::Granted(fence))) => Verdict::Granted { fence },
            (Action::Acquire, Reply::Locked(Locked::Busy(holder))) => Verdict::Busy { holder },
            (Action::Acquire, Reply::Locked(Locked::Delayed)) => Verdict::Delayed,
            (Action::Acquire, Reply::Locked(Locked::NoSession)) => Verdict::NoSession,
            (Action::Release, Reply::Unlocked(ours)) => done(ours),
            (Action::Wait, Reply::Watched { index, locked: true, .. }) => {
                Verdict::Unchanged { since: index }
            }
            (Action::Wait, Reply::Watched { locked: false, passed, .. }) => {
                Verdict::Free { passed }
            }
            _ => {
                let what = "the reply does not belong to the command";
                return Err(Failure::Unknown(what.to_string()));
            }
        };
        Ok([verdict].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    const TTL: Duration = Duration::from_secs(100);

    #[test]
    fn a_lock_counts_for_no_longer_than_it_stays_locked_after_its_session() {
        assert_eq!(Consul::new(TTL, "").lease(), Duration::from_secs(60));
        assert_eq!(Consul::new(Consul::MIN_TTL, "").lease(), Duration::from_secs(10));
        assert_eq!(Consul::MAX_TTL, Duration::from_secs(86_400));
        let create = Consul::new(TTL, "").open(Owner::new(1));
        let lock_delay = Duration::from_secs(60);
        assert_eq!(create, Some(Command::Create { name: Owner::new(1), ttl: TTL, lock_delay }));
    }

    #[test]
    fn a_session_needs_a_name() {
        let consul = Consul::new(TTL, "");
        let created = |name: &str| Reply::Created(Session(name.into()));
        assert_eq!(consul.opened(&created("1")), Ok(Session("1".into())));
        assert!(consul.opened(&created("")).is_err());
        assert!(consul.opened(&Reply::Destroyed).is_err());
    }

    #[test]
    fn a_setup_changes_nothing_and_tells_what_is_in_the_way() {
        let consul = Consul::new(TTL, "");
        let created = || Some(Ok(Reply::Created(Session("1".into()))));
        let run = |answers: [Option<Result<Reply, Failure>>; 3]| {
            let mut setup = consul.setup(Owner::new(7));
            let mut asked = Vec::new();
            let mut step = setup.step(None);
            for answer in answers {
                let Step::Ask(command) = step else { break };
                asked.push(command.action());
                step = setup.step(answer);
            }
            (asked, step)
        };
        let refused = || Failure::refused("no rights".into());
        let all = [Action::Open, Action::Release, Action::Close];
        let unlocked = |ours| Some(Ok(Reply::Unlocked(ours)));
        let destroyed = || Some(Ok(Reply::Destroyed));
        assert_eq!(run([created(), unlocked(false), destroyed()]), (all.into(), Step::Ready));
        // It exists, and its TTL ends it.
        assert_eq!(run([created(), unlocked(false), Some(Err(refused()))]).1, Step::Ready);
        let failed = Step::Failed(refused());
        assert_eq!(
            run([Some(Err(refused())), None, None]),
            ([Action::Open].into(), failed.clone())
        );
        assert_eq!(run([created(), Some(Err(refused())), destroyed()]), (all.into(), failed));
        // A failure that may pass later is final at the first connect, unless there are too many requests.
        let rejected = |status| {
            let failure = Failure::not_now("no rights".into()).with_code(Some(Code::Http(status)));
            run([Some(Err(failure)), None, None]).1
        };
        let for_good = refused().with_code(Some(Code::Http(403)));
        assert_eq!(rejected(403), Step::Failed(for_good));
        assert!(matches!(rejected(429), Step::Failed(Failure::Rejected { retry: true, .. })));
        for wrong in [destroyed(), unlocked(true)] {
            assert!(matches!(run([wrong, None, None]).1, Step::Failed(Failure::Unknown(_))));
        }
        let (asked, step) = run([created(), created(), destroyed()]);
        assert!(matches!(step, Step::Failed(Failure::Unknown(_))) && asked == all);
    }

    #[test]
    fn one_lock_a_request() {
        assert_eq!(Consul::new(TTL, "").batch(), 1);
    }

    #[test]
    fn a_reply_of_the_wrong_kind_is_never_a_grant() {
        let consul = Consul::new(TTL, "");
        let granted = || Reply::Locked(Locked::Granted(Fence::new(1)));
        for action in [Action::Open, Action::Keep, Action::Close, Action::Release, Action::Wait] {
            assert!(matches!(consul.verdicts(action, granted()), Err(Failure::Unknown(_))));
        }
        let unlocked = Reply::Unlocked(true);
        assert!(matches!(consul.verdicts(Action::Acquire, unlocked), Err(Failure::Unknown(_))));
    }
}

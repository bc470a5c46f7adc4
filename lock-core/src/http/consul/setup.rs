//! What is asked of a Consul before it is relied on.

use crate::error::{Code, Failure};
use crate::name::{LockName, Owner};
use crate::outcome::{Outcome, Reply};
use crate::request::{Claim, Request, SessionName};
use alloc::string::ToString;
use core::time::Duration;

/// Finds out whether Consul would let locks be taken, without taking one: whether a session of that
/// TTL may be made, and whether a key may be written. What is missing (a leader, rights, a
/// TTL within its bounds) is told when the client connects, and not in the middle of its work.
///
/// ```text
///   loop: match setup.step(answer) {
///       Ask(request)    -> ask it; answer = its reply or failure
///       Ready           -> done
///       Failed(failure) -> tell
///   }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setup {
    owner: Owner,
    lease: Duration,
    session: SessionName,
    stage: Stage,
    /// The failure to report when the session has been ended.
    failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Create,
    Unlock,
    Destroy,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Ask this and come back with its reply or its failure.
    Ask(Request),
    /// It may be used.
    Ready,
    /// It cannot be used, or could not be asked.
    Failed(Failure),
}

impl Setup {
    /// The requests of a client before its first lock. `owner` is a number that no other client uses, `lease` the
    /// TTL that its engine will ask for.
    pub fn new(owner: Owner, lease: Duration) -> Self {
        let session = SessionName::default();
        Self { owner, lease, session, stage: Stage::Begin, failure: None }
    }

    /// Takes the answer to the last request (`None` at first), says what is next.
    pub fn step(&mut self, answer: Option<Result<Reply, Failure>>) -> Step {
        let answer = match answer {
            Some(Ok(reply)) => Ok(Some(reply)),
            Some(Err(failure)) => Err(for_good(failure)),
            None => Ok(None),
        };
        match (self.stage, answer) {
            (Stage::Begin, _) => {
                let (owner, ttl) = (self.owner, self.lease);
                self.ask(Stage::Create, Request::Open { owner, ttl })
            }
            (Stage::Create, Ok(Some(Reply::Opened(session)))) => {
                self.session = session.clone();
                let claims = [self.claim()].into();
                self.ask(Stage::Unlock, Request::Release { session, claims, passed_over: None })
            }
            (Stage::Create, Err(failure)) => Step::Failed(failure),
            (Stage::Create, Ok(_)) => Step::Failed(surprise()),
            (Stage::Unlock, Ok(Some(reply))) if releases(&reply) => self.end(None),
            (Stage::Unlock, Err(failure)) => self.end(Some(failure)),
            (Stage::Unlock, Ok(_)) => self.end(Some(surprise())),
            // Whatever came of that: its TTL ends it.
            (Stage::Destroy, _) => self.failure.take().map_or(Step::Ready, Step::Failed),
        }
    }

    fn end(&mut self, failure: Option<Failure>) -> Step {
        self.failure = failure;
        self.ask(Stage::Destroy, Request::Close { session: self.session.clone() })
    }

    fn ask(&mut self, stage: Stage, request: Request) -> Step {
        self.stage = stage;
        Step::Ask(request)
    }

    /// A lock that nobody has: its name is a number that is used once.
    fn claim(&self) -> Claim {
        Claim::new(LockName::of(self.owner), self.owner)
    }
}

fn releases(reply: &Reply) -> bool {
    match reply {
        Reply::Outcomes(all) => matches!(all[..], [Outcome::Done | Outcome::NotOwner]),
        _ => false,
    }
}

/// Later a rejection may pass. The first connect refuses for good, unless there are too many requests.
fn for_good(failure: Failure) -> Failure {
    if failure.code() == Some(Code::Http(429)) { failure } else { failure.may_pass(false) }
}

fn surprise() -> Failure {
    Failure::Unknown("the reply does not belong to the request".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Action;
    use alloc::vec::Vec;

    #[test]
    fn a_setup_changes_nothing_and_tells_what_is_in_the_way() {
        let created = || Some(Ok(Reply::Opened("1".into())));
        let run = |answers: [Option<Result<Reply, Failure>>; 3]| {
            let mut setup = Setup::new(Owner::new(7), Duration::from_secs(30));
            let mut asked = Vec::new();
            let mut step = setup.step(None);
            for answer in answers {
                let Step::Ask(request) = step else { break };
                asked.push(request.action());
                step = setup.step(answer);
            }
            (asked, step)
        };
        let refused = || Failure::refused("no rights".into());
        let all = [Action::Open, Action::Release, Action::Close];
        let one = |outcome| Some(Ok(Reply::one(outcome)));
        let destroyed = || one(Outcome::Done);
        let ready = run([created(), one(Outcome::NotOwner), destroyed()]);
        assert_eq!(ready, (all.into(), Step::Ready));
        // It exists, and its TTL ends it.
        let unended = run([created(), one(Outcome::NotOwner), Some(Err(refused()))]);
        assert_eq!(unended.1, Step::Ready);
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
        let wrong = run([destroyed(), None, None]).1;
        assert!(matches!(wrong, Step::Failed(Failure::Unknown(_))));
        let (asked, step) = run([created(), created(), destroyed()]);
        assert!(matches!(step, Step::Failed(Failure::Unknown(_))) && asked == all);
    }
}

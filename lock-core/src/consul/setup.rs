//! What is asked of a Consul before it is relied on.

use super::{Command, Consul, Reply, Session};
use crate::error::{Code, Failure};
use crate::name::{LockName, Owner};
use crate::protocol::{Claim, Mode, Protocol};
use alloc::string::ToString;

/// Finds out whether Consul would let locks be taken, without taking one: whether a session of that
/// TTL may be made, and whether a key may be written. What is missing (a leader, rights, a
/// TTL within its bounds) is told when the client connects, and not in the middle of its work.
///
/// ```text
///   loop: match setup.step(answer) {
///       Ask(command)    -> ask it; answer = its reply or failure
///       Ready           -> done
///       Failed(failure) -> tell
///   }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setup {
    consul: Consul,
    owner: Owner,
    session: Session,
    stage: Stage,
    /// What is to be told when the session has been ended.
    failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Create,
    Unlock,
    Destroy,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Ask this and come back with its reply or its failure.
    Ask(Command),
    /// It may be used.
    Ready,
    /// It cannot be used, or could not be asked.
    Failed(Failure),
}

impl Consul {
    /// What a client asks before its first lock. `owner` is a number that nobody else uses.
    pub fn setup(&self, owner: Owner) -> Setup {
        let (consul, session) = (self.clone(), Session::default());
        Setup { consul, owner, session, stage: Stage::Begin, failure: None }
    }
}

impl Setup {
    /// Takes the answer to the last command (`None` at first), says what is next.
    pub fn step(&mut self, answer: Option<Result<Reply, Failure>>) -> Step {
        let answer = match answer {
            Some(Ok(reply)) => Ok(Some(reply)),
            Some(Err(failure)) => Err(for_good(failure)),
            None => Ok(None),
        };
        match (self.stage, answer) {
            (Stage::Begin, _) => self.ask(Stage::Create, self.consul.open(self.owner)),
            (Stage::Create, Ok(Some(reply))) => match self.consul.opened(&reply) {
                Ok(session) => {
                    self.session = session.clone();
                    self.ask(
                        Stage::Unlock,
                        Some(Command::Unlock { session, lease: self.claim(), passed: 0 }),
                    )
                }
                Err(failure) => Step::Failed(failure),
            },
            (Stage::Create, Err(failure)) => Step::Failed(failure),
            (Stage::Unlock, Ok(Some(Reply::Unlocked(_)))) => self.end(None),
            (Stage::Unlock, Err(failure)) => self.end(Some(failure)),
            (Stage::Unlock, Ok(_)) => self.end(Some(surprise())),
            // Whatever came of that: its TTL ends it.
            (Stage::Destroy, _) => self.failure.take().map_or(Step::Ready, Step::Failed),
            (Stage::Create, Ok(None)) => Step::Failed(surprise()),
        }
    }

    fn end(&mut self, failure: Option<Failure>) -> Step {
        self.failure = failure;
        self.ask(Stage::Destroy, self.consul.close(&self.session))
    }

    fn ask(&mut self, stage: Stage, command: Option<Command>) -> Step {
        self.stage = stage;
        command.map_or_else(|| Step::Failed(surprise()), Step::Ask)
    }

    /// A lock that nobody has: its name is a number that is used once.
    fn claim(&self) -> Claim {
        Claim { name: LockName::of(self.owner), owner: self.owner, mode: Mode::Exclusive }
    }
}

/// Later a rejection may pass. The first connect refuses for good, unless there are too many requests.
fn for_good(failure: Failure) -> Failure {
    if failure.code() == Some(Code::Http(429)) { failure } else { failure.may_pass(false) }
}

fn surprise() -> Failure {
    Failure::Unknown("the reply does not belong to the command".to_string())
}

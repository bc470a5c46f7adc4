//! Consul against the one that the model checker believes in: random requests, the same replies.
//!
//! Sessions have other names there, and indices other values: they are mapped, and their order must
//! be the same. Lock-delays are none, or longer than the test.

use lock_core::sim::consul::FakeConsul;
use lock_core::sim::{Connection, Server};
use lock_core::{Claim, ConnectionId, Instant, Outcome, Owner, Reply, Request, SessionName};
use lock_tests::consul::{Consul, claim, lock, watch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant as Clock};

const NAMES: [&str; 3] = ["a", "b/é", "..//%"];
const TTL: Duration = Duration::from_secs(3600);
const WAIT: Duration = Duration::from_millis(34);
const NOW: Instant = Instant::from_nanos(1_000_000);
const CLIENT: Connection = Connection { client: 0, number: 0, id: ConnectionId::MAIN };

/// A request; sessions are numbered in the order of their creation, modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// With a lock-delay, or without.
    Create(bool),
    Renew(usize),
    Destroy(usize),
    Lock(usize, usize),
    /// As one that stands in the line, or not.
    Unlock(usize, usize, bool),
    Join(usize, usize),
    Leave(usize, usize),
    /// The end of a session's entry in the line: from zero, or from when it was made.
    Behind(usize, usize, bool),
    /// From zero, from an index before the last that was seen, or from that.
    Watch(usize, u8),
}

fn turn() -> impl Strategy<Value = Turn> {
    let (session, name) = (0_usize..6, 0..NAMES.len());
    prop_oneof![
        2 => any::<bool>().prop_map(Turn::Create),
        2 => session.clone().prop_map(Turn::Renew),
        2 => session.clone().prop_map(Turn::Destroy),
        9 => (session.clone(), name.clone()).prop_map(|(session, name)| Turn::Lock(session, name)),
        5 => (session.clone(), name.clone(), any::<bool>()).prop_map(|(session, name, joined)| Turn::Unlock(session, name, joined)),
        7 => (session.clone(), name.clone()).prop_map(|(session, name)| Turn::Join(session, name)),
        2 => (session.clone(), name.clone()).prop_map(|(session, name)| Turn::Leave(session, name)),
        3 => (session, name.clone(), any::<bool>()).prop_map(|(session, name, waits)| Turn::Behind(session, name, waits)),
        5 => (name, 0_u8..3).prop_map(|(name, since)| Turn::Watch(name, since)),
    ]
}

/// The two servers, and what is the same at both.
struct Both {
    fake: FakeConsul,
    real: Consul,
    /// Their sessions, also those that are gone.
    sessions: Vec<[SessionName; 2]>,
    /// The indices that were seen of each key, and then of each line.
    indices: BTreeMap<usize, BTreeMap<u64, u64>>,
    /// When a session joined the line of a name, the last time.
    joined: BTreeMap<(usize, usize), [u64; 2]>,
    seen: BTreeMap<&'static str, u32>,
}

impl Both {
    fn new() -> Self {
        Self {
            fake: FakeConsul::new(),
            real: Consul::new(),
            sessions: vec![],
            indices: BTreeMap::new(),
            joined: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Asks both; the fake's reply, and how long the real one took.
    fn ask(&mut self, requests: [Request; 2]) -> ([Reply; 2], Duration) {
        let [for_fake, for_real] = requests;
        let waits = self.fake.waits(NOW, CLIENT, &for_fake);
        let began = Clock::now();
        let real = self.real.try_ask(&for_real, TTL).expect("a reply");
        let took = began.elapsed();
        // Consul adds a sixteenth to what it was asked for, which the codec allows for.
        assert!(!waits || took >= WAIT * 15 / 17, "it did not wait: {took:?} for {for_real:?}");
        assert!(waits || took < Duration::from_secs(20), "it waited: {took:?} for {for_real:?}");
        if waits {
            *self.seen.entry("waited").or_default() += 1;
        }
        ([self.fake.apply(NOW, CLIENT, &for_fake), real], took)
    }

    /// Both indices are new and greater than all before, or both were seen together.
    fn index(&mut self, name: usize, fake: u64, real: u64) {
        let known = self.indices.entry(name).or_default();
        match known.get(&fake) {
            Some(seen) => assert_eq!(*seen, real, "index {fake} of {name}"),
            None => {
                let last = known.last_key_value();
                assert!(
                    last.is_none_or(|(f, r)| *f < fake && *r < real),
                    "{fake} {real} after {known:?}"
                );
                known.insert(fake, real);
            }
        }
    }

    fn step(&mut self, turn: Turn) {
        let session = |at: usize| (!self.sessions.is_empty()).then(|| at % self.sessions.len());
        let both =
            |make: &dyn Fn(SessionName) -> Request, at: usize| self.sessions[at].clone().map(make);
        let (requests, name) = match turn {
            Turn::Create(delay) => {
                let owner = Owner::new(self.sessions.len() as u128 + 1);
                let lock_delay = Duration::from_secs(if delay { 60 } else { 0 });
                let create = Request::Open { owner, ttl: lock_delay };
                ([create.clone(), create], None)
            }
            Turn::Renew(at) => match session(at) {
                Some(at) => (both(&|session| Request::KeepAlive { session }, at), None),
                None => return,
            },
            Turn::Destroy(at) => match session(at) {
                Some(at) => (both(&|session| Request::Close { session }, at), None),
                None => return,
            },
            Turn::Lock(at, name) => match session(at) {
                Some(at) => (both(&|session| lock(session, NAMES[name], "h"), at), Some(name)),
                None => return,
            },
            Turn::Unlock(at, name, joined) => match session(at) {
                Some(at) => {
                    let turn =
                        if joined { lock_core::Turn::Of(Some(1)) } else { lock_core::Turn::Any };
                    let claims = Vec::from([Claim { turn, ..claim(NAMES[name]) }]);
                    let unlock = |session| Request::Release {
                        passed_over: None,
                        session,
                        claims: claims.clone(),
                    };
                    (both(&unlock, at), Some(name))
                }
                None => return,
            },
            Turn::Join(at, name) => match session(at) {
                Some(at) => {
                    let claims = || Vec::from([claim(NAMES[name])]);
                    (both(&|session| Request::Join { session, claims: claims() }, at), Some(name))
                }
                None => return,
            },
            Turn::Leave(at, name) => match session(at) {
                Some(at) => {
                    let claims = || Vec::from([claim(NAMES[name])]);
                    (both(&|session| Request::Leave { session, claims: claims() }, at), Some(name))
                }
                None => return,
            },
            Turn::Behind(at, name, waits) => match session(at) {
                Some(at) => {
                    let made = self.joined.get(&(at, name)).copied().filter(|_| waits);
                    let since = made.unwrap_or([0, 0]);
                    let sessions = self.sessions[at].clone();
                    let wait = |which: usize, up_to| {
                        let mut request = watch(NAMES[name], since[which], up_to);
                        if let Request::Wait { behind, .. } = &mut request {
                            *behind = Some(sessions[which].clone());
                        }
                        request
                    };
                    let waits = self.fake.waits(NOW, CLIENT, &wait(0, WAIT));
                    let up_to = if waits { WAIT } else { WAIT * 1000 };
                    ([wait(0, up_to), wait(1, up_to)], Some(name))
                }
                None => return,
            },
            Turn::Watch(name, since) => {
                let last = self.indices.get(&name).and_then(BTreeMap::last_key_value);
                let since = match (since, last) {
                    (0, _) | (_, None) => [0, 0],
                    (1, Some((fake, real))) => [fake - 1, real - 1],
                    (_, Some((fake, real))) => [*fake, *real],
                };
                let watch = |since, up_to| watch(NAMES[name], since, up_to);
                // Where it answers at once, it must not depend on how long it may take.
                let waits = self.fake.waits(NOW, CLIENT, &watch(since[0], WAIT));
                let up_to = if waits { WAIT } else { WAIT * 1000 };
                (since.map(|since| watch(since, up_to)), Some(name))
            }
        };
        let ([fake, real], took) = self.ask(requests.clone());
        let what = match (fake, real) {
            (Reply::Opened(fake), Reply::Opened(real)) => {
                self.sessions.push([fake, real]);
                "created"
            }
            (fake, real) => {
                let [fake, real] = [fake, real].map(|reply| match reply {
                    Reply::Outcomes(all) => <[Outcome; 1]>::try_from(all).expect("one")[0].clone(),
                    other => panic!("{other:?}"),
                });
                self.compared(turn, name, fake, real)
                    .unwrap_or_else(|outcomes| panic!("{outcomes}: {requests:?} took {took:?}"))
            }
        };
        *self.seen.entry(what).or_default() += 1;
    }
}

impl Both {
    /// What two outcomes of a turn are, if they are the same.
    fn compared(
        &mut self,
        turn: Turn,
        name: Option<usize>,
        fake: Outcome,
        real: Outcome,
    ) -> Result<&'static str, String> {
        Ok(match (turn, fake, real) {
            (_, Outcome::Granted(fake), Outcome::Granted(real)) => {
                self.index(name.expect("a key's"), fake.get(), real.get());
                "granted"
            }
            (
                Turn::Behind(..),
                Outcome::Unchanged { index: fake },
                Outcome::Unchanged { index: real },
            ) => {
                self.index(name.expect("a line's") + NAMES.len(), fake, real);
                "watched: stands"
            }
            (_, Outcome::Unchanged { index: fake }, Outcome::Unchanged { index: real }) => {
                self.index(name.expect("a key's"), fake, real);
                "watched: locked"
            }
            (
                Turn::Join(at, _),
                Outcome::InLine { place: fake, ahead: fake_ahead },
                Outcome::InLine { place: real, ahead: real_ahead },
            ) => {
                let name = name.expect("a key's");
                let line = name + NAMES.len();
                self.index(line, fake.ticket, real.ticket);
                let at = at % self.sessions.len();
                self.joined.insert((at, name), [fake.ticket, real.ticket]);
                if fake.ahead != real.ahead {
                    return Err(format!("{fake:?}, {real:?}"));
                }
                match (fake_ahead, real_ahead) {
                    (None, None) => "first in line",
                    (Some((fake, made)), Some((real, since))) => {
                        self.index(line, made, since);
                        assert!(self.sessions.contains(&[fake, real]), "the same session");
                        "behind another"
                    }
                    other => return Err(format!("{other:?}")),
                }
            }
            (_, fake, real) if fake != real => return Err(format!("{fake:?}, {real:?}")),
            (Turn::Behind(..), Outcome::Free, _) => "watched: left",
            (_, Outcome::Free, _) => "watched: free",
            (_, Outcome::Busy(_), _) => "busy",
            (_, Outcome::Delayed, _) => "delayed",
            (Turn::Lock(..) | Turn::Join(..), Outcome::NoSession, _) => "no session",
            (Turn::Unlock(..), Outcome::DoneContended, _) => "unlocked for others",
            (Turn::Leave(..), Outcome::Done, _) => "left",
            (Turn::Unlock(..), Outcome::Done, _) => "unlocked",
            (Turn::Unlock(..), Outcome::NotOwner, _) => "not ours",
            (Turn::Renew(_), Outcome::Done, _) => "renewed",
            (Turn::Renew(_), Outcome::NoSession, _) => "not renewed",
            (Turn::Destroy(_), Outcome::Done, _) => "destroyed",
            (_, fake, real) => return Err(format!("{fake:?}, {real:?}")),
        })
    }
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn consul_answers_as_the_simulated_one() {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() };
    let mut seen = BTreeMap::<&str, u32>::new();
    let script = prop::collection::vec(turn(), 1..60);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let counted = std::cell::RefCell::new(&mut seen);
    let result = runner.run(&script, |script| {
        let mut both = Both::new();
        // Something to choose from, from the beginning.
        for delay in [true, false] {
            both.step(Turn::Create(delay));
        }
        for turn in script {
            both.step(turn);
        }
        for (what, times) in both.seen {
            *counted.borrow_mut().entry(what).or_default() += times;
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{seen:?}");
    let all = [
        "created",
        "renewed",
        "not renewed",
        "destroyed",
        "granted",
        "busy",
        "delayed",
        "no session",
        "unlocked",
        "not ours",
        "watched: locked",
        "watched: free",
        "waited",
        "first in line",
        "behind another",
        "watched: stands",
        "watched: left",
        "unlocked for others",
        "left",
    ];
    for what in all {
        assert!(seen.contains_key(what), "{what} was never seen");
    }
}

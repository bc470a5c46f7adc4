//! Consul against the one that the model checker believes in: random commands, the same replies.
//!
//! Sessions have other names there, and indices other values: they are mapped, and their order must
//! be the same. Lock-delays are none, or longer than the test.

use lock_core::consul::{Command, Locked, Reply, Session};
use lock_core::sim::consul::FakeConsul;
use lock_core::sim::{Connection, Server};
use lock_core::{Instant, Lane, Owner};
use lock_tests::consul::{Consul, claim};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant as Clock};

const NAMES: [&str; 3] = ["a", "b/é", "..//%"];
const TTL: Duration = Duration::from_secs(3600);
const WAIT: Duration = Duration::from_millis(34);
const NOW: Instant = Instant::from_nanos(1_000_000);
const CLIENT: Connection = Connection { client: 0, number: 0, lane: Lane::HOME };

/// A command; sessions are numbered in the order of their creation, modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// With a lock-delay, or without.
    Create(bool),
    Renew(usize),
    Destroy(usize),
    Lock(usize, usize),
    Unlock(usize, usize),
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
        5 => (session, name.clone()).prop_map(|(session, name)| Turn::Unlock(session, name)),
        5 => (name, 0_u8..3).prop_map(|(name, since)| Turn::Watch(name, since)),
    ]
}

/// The two servers, and what is the same at both.
struct Both {
    fake: FakeConsul,
    real: Consul,
    /// Their sessions, also those that are gone.
    sessions: Vec<[Session; 2]>,
    /// The indices that were seen of each key.
    indices: BTreeMap<usize, BTreeMap<u64, u64>>,
    seen: BTreeMap<&'static str, u32>,
}

impl Both {
    fn new() -> Self {
        Self {
            fake: FakeConsul::new(),
            real: Consul::new(),
            sessions: vec![],
            indices: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Asks both; the fake's reply, and how long the real one took.
    fn ask(&mut self, commands: [Command; 2]) -> ([Reply; 2], Duration) {
        let [for_fake, for_real] = commands;
        let waits = self.fake.waits(NOW, CLIENT, &for_fake);
        let began = Clock::now();
        let real = self.real.ask(&for_real);
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
            |make: &dyn Fn(Session) -> Command, at: usize| self.sessions[at].clone().map(make);
        let (commands, name) = match turn {
            Turn::Create(delay) => {
                let name = Owner::new(self.sessions.len() as u128 + 1);
                let lock_delay = Duration::from_secs(if delay { 60 } else { 0 });
                let create = Command::Create { name, ttl: TTL, lock_delay };
                ([create.clone(), create], None)
            }
            Turn::Renew(at) => match session(at) {
                Some(at) => (both(&|session| Command::Renew { session }, at), None),
                None => return,
            },
            Turn::Destroy(at) => match session(at) {
                Some(at) => (both(&|session| Command::Destroy { session }, at), None),
                None => return,
            },
            Turn::Lock(at, name) => match session(at) {
                Some(at) => {
                    let lock = |session| Command::Lock {
                        session,
                        claim: claim(NAMES[name]),
                        holder: "h".into(),
                    };
                    (both(&lock, at), Some(name))
                }
                None => return,
            },
            Turn::Unlock(at, name) => match session(at) {
                Some(at) => {
                    // What is left word of differs from one unlock to the next.
                    let passed = u32::try_from(self.indices.len()).expect("small");
                    let unlock =
                        |session| Command::Unlock { session, lease: claim(NAMES[name]), passed };
                    (both(&unlock, at), Some(name))
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
                let watch =
                    |since, up_to| Command::Watch { claim: claim(NAMES[name]), since, up_to };
                // Where it answers at once, it must not depend on how long it may take.
                let waits = self.fake.waits(NOW, CLIENT, &watch(since[0], WAIT));
                let up_to = if waits { WAIT } else { WAIT * 1000 };
                (since.map(|since| watch(since, up_to)), Some(name))
            }
        };
        let ([fake, real], took) = self.ask(commands.clone());
        let what = match (fake, real) {
            (Reply::Created(fake), Reply::Created(real)) => {
                self.sessions.push([fake, real]);
                "created"
            }
            (Reply::Locked(Locked::Granted(fake)), Reply::Locked(Locked::Granted(real))) => {
                self.index(name.expect("a key's"), fake.get(), real.get());
                "granted"
            }
            (
                Reply::Watched { index: fake, locked: fake_locked, passed: fake_passed },
                Reply::Watched { index: real, locked: real_locked, passed: real_passed },
            ) => {
                assert_eq!((fake_locked, fake_passed), (real_locked, real_passed), "{turn:?}");
                let name = name.expect("a key's");
                // Of a key that was never there, there is no index of its own.
                if self.fake.keys_mut().contains_key(&claim(NAMES[name]).name) {
                    self.index(name, fake, real);
                }
                if fake_locked { "watched: locked" } else { "watched: free" }
            }
            (fake, real) => {
                assert_eq!(fake, real, "{turn:?}: {commands:?} took {took:?}");
                match fake {
                    Reply::Locked(Locked::Busy(_)) => "busy",
                    Reply::Locked(Locked::Delayed) => "delayed",
                    Reply::Locked(Locked::NoSession) => "no session",
                    Reply::Unlocked(true) => "unlocked",
                    Reply::Unlocked(false) => "not ours",
                    Reply::Renewed(true) => "renewed",
                    Reply::Renewed(false) => "not renewed",
                    Reply::Destroyed => "destroyed",
                    other => panic!("{other:?}"),
                }
            }
        };
        *self.seen.entry(what).or_default() += 1;
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
    ];
    for what in all {
        assert!(seen.contains_key(what), "{what} was never seen");
    }
}

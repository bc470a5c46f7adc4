//! Advisory locks: random commands on a few connections at once, and the same replies from a real
//! server as from the one that the model checker believes in.

use lock_core::advisory::{Command, Reply, Tried};
use lock_core::sim::advisory::FakeAdvisory;
use lock_core::sim::{Connection, Server};
use lock_core::{Claim, Fence, Instant, Lane, LockName, Mode};
use lock_tests::advisory::{LONG, Line, claim, fresh};
use lock_tests::servers::Kind;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::time::Duration;

const GRACE: Duration = Duration::ZERO;

/// What happens on one of the connections.
#[derive(Clone, Debug)]
enum Turn {
    Try(Vec<(&'static str, Mode)>),
    /// As long as it takes where nobody is in the way, else hardly at all.
    Wait(&'static str, Mode),
    Unlock(Vec<(&'static str, Mode)>),
    Keep,
    /// The connection is dropped and another one opened.
    Reopen,
}

const CONNECTIONS: usize = 3;
const NAMES: [&str; 3] = ["a", "A", "b"];

fn turn(modes: &'static [Mode]) -> impl Strategy<Value = Turn> {
    let mode = || prop::sample::select(modes);
    let some = || {
        let names = prop::sample::subsequence(NAMES.to_vec(), 1..=3);
        (names, prop::collection::vec(mode(), 3)).prop_map(|(mut names, modes)| {
            names.sort_unstable();
            names.into_iter().zip(modes).collect()
        })
    };
    prop_oneof![
        6 => some().prop_map(Turn::Try),
        3 => (prop::sample::select(&NAMES[..]), mode()).prop_map(|(name, mode)| Turn::Wait(name, mode)),
        6 => some().prop_map(Turn::Unlock),
        1 => Just(Turn::Keep),
        1 => Just(Turn::Reopen),
    ]
}

struct Play {
    kind: Kind,
    fake: FakeAdvisory,
    lines: Vec<Line>,
    /// What comes before every name in this script.
    own: String,
    now: Instant,
    /// The last fence of each name, here and there.
    fences: BTreeMap<LockName, (Fence, Fence)>,
}

impl Play {
    fn new(kind: Kind) -> Self {
        let lines = (0..CONNECTIONS).map(|_| Line::new(kind, LONG)).collect();
        let fake = FakeAdvisory::new();
        let now = Instant::from_nanos(1_000_000);
        let mut play = Self { kind, fake, lines, own: fresh(""), now, fences: BTreeMap::new() };
        for at in 0..CONNECTIONS {
            play.ideal(at, &Command::Open { ttl: LONG });
        }
        play
    }

    fn ideal(&mut self, at: usize, command: &Command) -> Reply {
        self.now = self.now.after(Duration::from_micros(10));
        self.fake.apply(self.now, connection(at), command)
    }

    /// What the server that the model checker believes in does with a wait: it ends when it is over.
    fn ideal_wait(&mut self, at: usize, command: &Command, up_to: Duration) -> Reply {
        if self.fake.waits(self.now, connection(at), command) {
            self.fake.queue(self.now, connection(at), command);
            self.now = self.now.after(up_to);
            self.fake.tick(self.now);
        }
        self.ideal(at, command)
    }

    fn turn(&mut self, at: usize, turn: Turn) {
        let claims = |names: Vec<(&str, Mode)>| -> Vec<Claim> {
            names
                .into_iter()
                .map(|(name, mode)| claim(&format!("{name}{}", self.own), mode))
                .collect()
        };
        let command = match turn {
            Turn::Try(names) => Command::Try { claims: claims(names), grace: GRACE },
            Turn::Unlock(names) => Command::Unlock { leases: claims(names) },
            Turn::Keep => Command::Keep,
            Turn::Reopen => return self.reopen(at),
            Turn::Wait(name, mode) => {
                let claim = claims(vec![(name, mode)]).remove(0);
                let wait = |up_to| Command::Wait { claim: claim.clone(), up_to, grace: GRACE };
                let busy = self.fake.waits(self.now, connection(at), &wait(LONG));
                let up_to = if busy { Duration::from_millis(1) } else { LONG };
                let command = wait(up_to);
                let ideal = self.ideal_wait(at, &command, up_to);
                return self.compare(at, &command, ideal);
            }
        };
        let ideal = self.ideal(at, &command);
        self.compare(at, &command, ideal);
    }

    fn reopen(&mut self, at: usize) {
        self.now = self.now.after(Duration::from_micros(10));
        self.fake.close(self.now, connection(at));
        self.ideal(at, &Command::Open { ttl: LONG });
        let new = Line::new(self.kind, LONG);
        let old = std::mem::replace(&mut self.lines[at], new);
        self.lines[at].end(old);
    }

    fn compare(&mut self, at: usize, command: &Command, ideal: Reply) {
        let real = self.lines[at].ask(command).expect("answered");
        let (Reply::Tried(ideal), Reply::Tried(real)) = (&ideal, &real) else {
            assert_eq!(ideal, real, "{command:?}");
            return;
        };
        assert_eq!(ideal.len(), real.len());
        for ((claim, ideal), real) in command.claims().iter().zip(ideal).zip(real) {
            let (Tried::Granted(ideal), Tried::Granted(real)) = (ideal, real) else {
                assert_eq!(ideal, real, "{claim:?} of {command:?}");
                continue;
            };
            let last = self.fences.insert(claim.name.clone(), (*ideal, *real));
            assert!(last.is_none_or(|(a, b)| a < *ideal && b < *real), "{last:?} {ideal} {real}");
        }
    }
}

fn connection(client: usize) -> Connection {
    Connection { client, number: 0, lane: Lane::HOME }
}

fn play_many(kind: Kind) {
    let modes: &[Mode] = match kind {
        Kind::Postgres => &[Mode::Exclusive, Mode::Exclusive, Mode::Shared],
        Kind::Mysql | Kind::Mariadb => &[Mode::Exclusive],
    };
    let scripts = prop::collection::vec((0..CONNECTIONS, turn(modes)), 1..60);
    let config =
        ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() };
    let played = TestRunner::new(config).run(&scripts, |script| {
        let mut play = Play::new(kind);
        for (at, turn) in script {
            play.turn(at, turn);
        }
        Ok(())
    });
    played.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn postgres_locks_as_the_server_should() {
    play_many(Kind::Postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn mysql_locks_as_the_server_should() {
    play_many(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn mariadb_locks_as_the_server_should() {
    play_many(Kind::Mariadb);
}

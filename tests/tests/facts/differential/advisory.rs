//! Advisory locks: random requests on a few connections at once, and the same replies from a real
//! server as from the one that the model checker believes in.

use lock_core::sim::advisory::FakeAdvisory;
use lock_core::sim::{Connection, Server};
use lock_core::sql::advisory::sql_lock;
use lock_core::{
    Claim, ConnectionId, Fence, Instant, LockName, Mode, Outcome, Owner, Reply, Request,
    SessionName,
};
use lock_tests::advisory::{LONG, Line, claim, fresh};
use lock_tests::place::{Place, mysql_client};
use lock_tests::servers::Kind;
use mysql::prelude::Queryable;
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
    /// Where locks are rows of a table: the database that has it.
    rows: Option<String>,
    fake: FakeAdvisory,
    lines: Vec<Line>,
    /// What comes before every name in this script.
    own: String,
    now: Instant,
    /// The last fence of each name, here and there.
    fences: BTreeMap<LockName, (Fence, Fence)>,
}

impl Play {
    fn new(kind: Kind, rows: Option<String>) -> Self {
        let lines = (0..CONNECTIONS).map(|_| line(kind, rows.as_deref())).collect();
        let fake = FakeAdvisory::new();
        let fake = if rows.is_some() { fake.one_lock() } else { fake };
        let (own, now) = (fresh(""), Instant::from_nanos(1_000_000));
        let mut play = Self { kind, rows, fake, lines, own, now, fences: BTreeMap::new() };
        for at in 0..CONNECTIONS {
            play.ideal(at, &Request::Open { owner: Owner::new(1), ttl: LONG });
        }
        play
    }

    fn ideal(&mut self, at: usize, request: &Request) -> Reply {
        self.now = self.now.after(Duration::from_micros(10));
        self.fake.apply(self.now, connection(at), request)
    }

    /// What the server that the model checker believes in does with a wait: it ends when it is over.
    fn ideal_wait(&mut self, at: usize, request: &Request, up_to: Duration) -> Reply {
        if self.fake.waits(self.now, connection(at), request) {
            self.fake.queue(self.now, connection(at), request);
            self.now = self.now.after(up_to);
            self.fake.tick(self.now);
        }
        self.ideal(at, request)
    }

    fn turn(&mut self, at: usize, turn: Turn) {
        let most = if self.rows.is_some() { 1 } else { NAMES.len() };
        let claims = |names: Vec<(&str, Mode)>| -> Vec<Claim> {
            names
                .into_iter()
                .take(most)
                .map(|(name, mode)| claim(&format!("{name}{}", self.own), mode))
                .collect()
        };
        let request = match turn {
            Turn::Try(names) => Request::Acquire {
                session: SessionName::default(),
                claims: claims(names),
                ttl: Duration::from_secs(30),
                min_uptime: GRACE,
                label: "".into(),
            },
            Turn::Unlock(names) => Request::Release {
                passed_over: None,
                session: SessionName::default(),
                claims: claims(names),
            },
            Turn::Keep => Request::KeepAlive { session: SessionName::default() },
            Turn::Reopen => return self.reopen(at),
            Turn::Wait(name, mode) => {
                let claim = claims(vec![(name, mode)]).remove(0);
                let wait = |up_to| Request::Wait {
                    behind: None,
                    session: SessionName::default(),
                    claim: claim.clone(),
                    since: 0,
                    up_to,
                    min_uptime: GRACE,
                };
                let busy = self.fake.waits(self.now, connection(at), &wait(LONG));
                let up_to = if busy { Duration::from_millis(1) } else { LONG };
                let request = wait(up_to);
                let ideal = self.ideal_wait(at, &request, up_to);
                return self.compare(at, &request, ideal);
            }
        };
        let ideal = self.ideal(at, &request);
        self.compare(at, &request, ideal);
    }

    fn reopen(&mut self, at: usize) {
        self.now = self.now.after(Duration::from_micros(10));
        self.fake.close(self.now, connection(at));
        self.ideal(at, &Request::Open { owner: Owner::new(1), ttl: LONG });
        let new = line(self.kind, self.rows.as_deref());
        let old = std::mem::replace(&mut self.lines[at], new);
        self.lines[at].end(old);
    }

    fn compare(&mut self, at: usize, request: &Request, ideal: Reply) {
        let real = self.lines[at].ask(request).expect("answered");
        let (Reply::Outcomes(ideal), Reply::Outcomes(real)) = (&ideal, &real) else {
            assert_eq!(ideal, real, "{request:?}");
            return;
        };
        assert_eq!(ideal.len(), real.len());
        for ((claim, ideal), real) in request.claims().iter().zip(ideal).zip(real) {
            let (Outcome::Granted(ideal), Outcome::Granted(real)) = (ideal, real) else {
                assert_eq!(ideal, real, "{claim:?} of {request:?}");
                continue;
            };
            let last = self.fences.insert(claim.name.clone(), (*ideal, *real));
            assert!(last.is_none_or(|(a, b)| a < *ideal && b < *real), "{last:?} {ideal} {real}");
        }
    }
}

fn connection(client: usize) -> Connection {
    Connection { client, number: 0, id: ConnectionId::MAIN }
}

fn line(kind: Kind, rows: Option<&str>) -> Line {
    match rows {
        Some(url) => Line::at(url, kind, sql_lock::codec(), LONG),
        None => Line::new(kind, LONG),
    }
}

fn play_many(kind: Kind, rows: Option<&Place>) {
    let modes: &[Mode] = match kind {
        Kind::Postgres => &[Mode::Exclusive, Mode::Exclusive, Mode::Shared],
        Kind::Mysql | Kind::Mariadb => &[Mode::Exclusive],
    };
    let scripts = prop::collection::vec((0..CONNECTIONS, turn(modes)), 1..60);
    let config =
        ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() };
    let played = TestRunner::new(config).run(&scripts, |script| {
        let mut play = Play::new(kind, rows.map(|place| place.url().to_string()));
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
    play_many(Kind::Postgres, None);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn mysql_locks_as_the_server_should() {
    play_many(Kind::Mysql, None);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn mariadb_locks_as_the_server_should() {
    play_many(Kind::Mariadb, None);
}

/// Where names are compared as bytes.
fn play_rows(kind: Kind) {
    let place = Place::sql_lock_at(kind.place().url());
    let collate = format!("ALTER DATABASE {} COLLATE utf8mb4_bin", place.table());
    mysql_client(place.url()).query_drop(collate).expect("set");
    play_many(kind, Some(&place));
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn mysql_locks_rows_as_the_server_should() {
    play_rows(Kind::Mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn mariadb_locks_rows_as_the_server_should() {
    play_rows(Kind::Mariadb);
}

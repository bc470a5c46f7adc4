//! PostgreSQL's own: shared locks, its databases, its standbys, its crashes.

use lock_core::Mode::{Exclusive, Shared};
use lock_core::sql::Refusal;
use lock_core::sql::advisory::{Key, postgres::codec};
use lock_core::{Outcome, Reply, Request, SessionName};
use lock_tests::advisory::{LONG, Line, claims, connect, fresh, open};
use lock_tests::place::{client, postgres_url};
use lock_tests::proxy::eventually;
use lock_tests::servers::{Kind, Server};
use lock_tests::withlock::HANG;
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread::{scope, sleep};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(100);

fn line() -> Line {
    Line::new(Kind::Postgres, LONG)
}

fn at(server: &Server) -> Line {
    Line::at(server.url(), Kind::Postgres, codec(Key::Hash), LONG)
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn shared_locks_share_and_exclude_exclusive_ones() {
    let (mut a, mut b, mut c, name) = (line(), line(), line(), fresh("shared"));
    assert!(a.try_as(&name, Shared).is_some() && b.try_as(&name, Shared).is_some());
    assert_eq!(c.take(&name), None);
    assert!(!a.free(&name), "it is not exclusive");
    assert!(a.free_as(&name, Shared) && b.free_as(&name, Shared));
    assert!(c.take(&name).is_some());
    assert_eq!(a.try_as(&name, Shared), None);
    assert_eq!(a.wait_as(&name, Shared, SOON), None);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_connection_may_have_a_lock_in_both_modes() {
    let (mut a, mut b, name) = (line(), line(), fresh("both"));
    assert!(a.try_as(&name, Shared).is_some() && a.take(&name).is_some());
    assert_eq!(b.try_as(&name, Shared), None);
    assert!(a.free(&name));
    assert!(b.try_as(&name, Shared).is_some(), "the shared one is left");
    assert_eq!(a.take(&name), None, "another shares it");
    assert!(b.free_as(&name, Shared) && a.take(&name).is_some());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_try_passes_nobody_who_waits() {
    let (mut a, mut b, mut c, name) = (line(), line(), line(), fresh("queue"));
    let id = b.session.id();
    assert!(a.try_as(&name, Shared).is_some());
    scope(|scope| {
        let waiting = scope.spawn(|| b.wait(&name, LONG));
        c.sees_waiting(id);
        assert_eq!(c.try_as(&name, Shared), None, "though it could share");
        assert!(a.try_as(&name, Shared).is_some(), "what it has already");
        assert_eq!(a.take(&name), None, "though nobody else has it");
        assert!(a.wait(&name, SOON).is_some(), "whoever has it waits behind nobody");
        assert!(a.free(&name));
        assert!(a.free_as(&name, Shared) && a.free_as(&name, Shared));
        assert!(waiting.join().expect("no panic").is_some());
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn those_that_can_share_are_served_together_and_in_turn() {
    let name = fresh("turns");
    let mut lines: Vec<Line> = (0..4).map(|_| line()).collect();
    let ids: Vec<i64> = lines.iter().map(|line| line.session.id()).collect();
    let mut holder = line();
    assert!(holder.take(&name).is_some());
    let (granted, turns) = mpsc::channel();
    scope(|scope| {
        let modes = [Shared, Shared, Exclusive, Shared];
        let mut enough = Vec::new();
        for ((at, mode), line) in (0..).zip(modes).zip(&mut lines) {
            let (name, granted, (done, until)) = (&name, granted.clone(), mpsc::channel::<()>());
            enough.push(done);
            scope.spawn(move || {
                assert!(line.wait_as(name, mode, LONG).is_some());
                granted.send(at).expect("it is heard");
                let _ = until.recv();
                assert!(line.free_as(name, mode));
            });
            holder.sees_waiting(ids[at]);
        }
        let next = || turns.recv_timeout(HANG).expect("somebody's turn");
        assert!(holder.free(&name));
        assert_eq!(BTreeSet::from([next(), next()]), BTreeSet::from([0, 1]));
        holder.sees_waiting(ids[3]); // it could share, but does not pass the third
        enough.drain(..2);
        assert_eq!(next(), 2);
        enough.clear();
        assert_eq!(next(), 3);
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn keys_are_those_of_other_clients_and_belong_to_the_database() {
    let url = postgres_url();
    let (mut npm, mut other) = (client(&url), client(&url));
    let mut taken = |call: &str| -> bool {
        npm.query_one(&format!("SELECT pg_try_advisory_lock({call})"), &[]).expect("asked").get(0)
    };
    let number = std::process::id();
    let [int, pair] = [number.to_string(), format!("-{number},7")];
    let mut of_int = Line::at(&url, Kind::Postgres, codec(Key::Int), LONG);
    let mut of_pair = Line::at(&url, Kind::Postgres, codec(Key::Pair), LONG);
    let mut hashed = line();
    assert!(of_int.take(&int).is_some() && of_pair.take(&pair).is_some());
    assert!(!taken(&int) && !taken(&pair));
    assert!(taken(&format!("0, {int}")), "another lock");
    // The npm package's own name in its tests; nobody else here has it.
    assert!(taken("-107789403, -1898803861"));
    assert_eq!(hashed.take("test-lock"), None);

    other.batch_execute(&format!("CREATE DATABASE advisory_{number}")).expect("created");
    let (server, _) = url.rsplit_once('/').expect("a database");
    let mut elsewhere =
        Line::at(&format!("{server}/advisory_{number}"), Kind::Postgres, codec(Key::Int), LONG);
    assert!(elsewhere.take(&int).is_some(), "each database has its own");
    drop(elsewhere);
    other.batch_execute(&format!("DROP DATABASE advisory_{number} WITH (FORCE)")).expect("dropped");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn settings_of_a_wait_end_with_it() {
    let (mut a, mut b, name) = (line(), line(), fresh("setting"));
    assert!(a.take(&name).is_some());
    assert_eq!(b.wait(&name, SOON), None);
    assert!(b.wait(&fresh("free"), SOON).is_some());
    b.run(&format!(
        "DO $$ BEGIN ASSERT current_setting('lock_timeout')::interval = '{} s'; END $$",
        LONG.as_secs()
    ));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_standby_is_refused() {
    let server = Kind::Postgres.server();
    let mut line = connect(server.url());
    open(&mut *line, &codec(Key::Hash), LONG, None).expect("a primary");
    std::fs::write(server.folder().join("data/standby.signal"), "").expect("written");
    server.restart();
    let mut line = connect(server.url());
    let refused = open(&mut *line, &codec(Key::Hash), LONG, None);
    assert_eq!(refused, Err(Refusal::Standby));
    line.batch("DO $$ BEGIN ASSERT pg_try_advisory_lock(1); END $$"); // it would have granted
}

/// The server goes on, all connections end, and all locks are gone: but it says that it has run all
/// the time.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_crash_of_one_process_counts_as_a_start() {
    let server = Kind::Postgres.server();
    let name = fresh("crash");
    let grace = Duration::from_secs(4);
    let attempt = Request::Acquire {
        session: SessionName::default(),
        claims: claims(&[&name]),
        ttl: Duration::from_secs(30),
        min_uptime: grace,
        label: "".into(),
    };
    let mut holder = at(&server);
    let mut settled = loop {
        let mut line = at(&server);
        match line.ask(&attempt).expect("asked") {
            Reply::Outcomes(entries) if entries == [Outcome::Delayed] => sleep(SOON),
            Reply::Outcomes(_) => break line,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(holder.keep(), Ok(true));
    let pid = i32::try_from(holder.session.id()).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    // It ends all connections when it has noticed, and lets nobody in while it recovers.
    assert!(eventually(&mut || settled.keep() != Ok(true)));
    let mut recovered = || postgres::Client::connect(server.url(), postgres::NoTls).is_ok();
    assert!(eventually(&mut recovered));
    let mut after = at(&server);
    assert_eq!(after.ask(&attempt), Ok(Reply::Outcomes(vec![Outcome::Delayed])));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_server_out_of_memory_has_taken_some_and_says_which() {
    let server = Kind::Postgres.server();
    client(server.url())
        .batch_execute("ALTER SYSTEM SET max_locks_per_transaction = 10; ")
        .and_then(|()| client(server.url()).batch_execute("ALTER SYSTEM SET max_connections = 20"))
        .expect("set");
    server.restart();
    let mut a = at(&server);
    let names: Vec<String> = (0..20_000).map(|n| format!("n{n:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let entries = a.try_all(claims(&names));
    assert_eq!(a.looked, 1, "the statement failed");
    let granted: Vec<bool> = entries.iter().map(|e| matches!(e, Outcome::Granted(_))).collect();
    let count = granted.iter().filter(|granted| **granted).count();
    println!("{count} of {} were taken", names.len());
    assert!(count > 100 && count < names.len());
    let freed = a.ask(&Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: claims(&names),
    });
    let entry = |granted| if granted { Outcome::Done } else { Outcome::NotOwner };
    assert_eq!(freed, Ok(Reply::Outcomes(granted.into_iter().map(entry).collect())));
}

//! Holders that die, stop, or are cut off: nobody else gets in early, and everybody else gets in.

use lock_tests::place::{Place, client};
use lock_tests::servers::Server;
use lock_tests::traces;
use lock_tests::withlock::{
    Run, Sandbox, eventually, is_alive, parent, pid, signal_group, state, url,
};
use rustix::process::{Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const TTL: Duration = Duration::from_secs(6);
/// A command that writes on and on, until somebody ends it.
const WRITE: &str = "while :; do echo >>written; sleep 0.02; done";

/// An SQLite file, looked at past withlock.
fn file(sandbox: &Sandbox) -> rusqlite::Connection {
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    file.busy_timeout(Duration::from_secs(10)).expect("set");
    file
}

/// What a row says: fence, whether it is owned, when it was acquired and when it expires, in µs of
/// the clock that the lease is of.
type Row = (i64, bool, i64, i64);

fn row(sandbox: &Sandbox) -> Row {
    file(sandbox)
        .query_row(
            "SELECT fence, owner IS NOT NULL, acquired_us, expires_us FROM locks WHERE name = 'n'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .expect("a row")
}

fn row_at(place: &Place) -> Row {
    let table = place.table();
    let row = client(place.url()).query_one(
        &format!(
            "SELECT fence, owner IS NOT NULL,
                    (extract(epoch FROM acquired_at) * 1000000)::bigint,
                    (extract(epoch FROM expires_at) * 1000000)::bigint
               FROM {table} WHERE name = 'n'"
        ),
        &[],
    );
    let row = row.expect("a row");
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

/// Now, in µs of the clock of leases in SQLite files.
fn since_boot() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// Now, in µs of the clock of leases in PostgreSQL.
fn since_epoch() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_micros()).expect("before 292000")
}

/// Kills the holder, child and all. Who waits gets in when the lease has expired, and not before.
fn after_a_kill(sandbox: &Sandbox, url: &str, row: impl Fn() -> Row, now: impl Fn() -> i64) {
    let holder = sandbox.hold(url, &["--ttl", "6s", "n"], "exec sleep 600");
    let first = row();
    let waiter =
        sandbox.start(&mut sandbox.withlock(url, &["--ttl", "6s", "n", "--", "touch", "entered"]));
    eventually("a renewal", || row().3 > first.3);
    let child = sandbox.child();
    holder.signal(Signal::KILL);
    signal_group(child, Signal::KILL);
    let killed = Instant::now();
    holder.end();
    let last = row();
    assert_eq!((last.0, last.1), (first.0, true), "the lease is as it was");
    while !sandbox.path("entered").exists() {
        assert!(killed.elapsed() < TTL + Duration::from_secs(15), "nobody gets in");
        sleep(Duration::from_millis(1));
    }
    let (entered, took) = (now(), killed.elapsed());
    assert!(entered >= last.3, "it got in {} µs early", last.3 - entered);
    waiter.end().expect(0);
    let next = row();
    assert!(next.0 > last.0 && next.2 >= last.3, "{last:?} then {next:?}");
    println!("the next one got in {took:.2?} after the kill, TTL {TTL:?}");
}

#[test]
fn after_a_kill_the_next_gets_in_when_the_lease_is_over_on_sqlite() {
    let sandbox = Sandbox::new();
    after_a_kill(&sandbox, &sandbox.url(), || row(&sandbox), since_boot);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn after_a_kill_the_next_gets_in_when_the_lease_is_over_on_postgres() {
    let (sandbox, place) = (Sandbox::recorded(), Place::postgres());
    after_a_kill(&sandbox, &url(&place), || row_at(&place), since_epoch);
    traces::check(&place);
}

/// A stopped machine, so to speak: it comes back after its lease, and its command does no more.
fn after_a_stop(place: &Place) {
    let (sandbox, url) = (Sandbox::recorded(), &url(place));
    let holder = sandbox.hold(url, &["--ttl", "6s", "n"], WRITE);
    let child = sandbox.child();
    let guardian = parent(child);
    holder.signal(Signal::STOP);
    kill_process(guardian, Signal::STOP).expect("it is there");
    signal_group(child, Signal::STOP);
    let stopped = Instant::now();
    // A shell that is just starting a program waits for it in D, and the program is stopped.
    let halted = || matches!(state(child), Some('T' | 'D'));
    eventually("it is stopped", || halted() && state(holder.pid()) == Some('T'));
    sandbox.run(url, &["--ttl", "6s", "n", "--", "true"]).expect(0);
    // Last renewed a third of the TTL before at most, unless the machine was in trouble.
    assert!(stopped.elapsed() >= TTL / 2, "{:?}", stopped.elapsed());
    let resumed = Instant::now();
    signal_group(child, Signal::CONT);
    kill_process(guardian, Signal::CONT).expect("it is there");
    holder.signal(Signal::CONT);
    eventually("the command is ended", || !is_alive(child));
    println!("the command was ended {:.1?} after it could go on", resumed.elapsed());
    let ended = holder.end().expect(123);
    assert!(ended.stderr.contains("was lost"), "{ended:?}");
    sandbox.run(url, &["--try", "n", "--", "true"]).expect(0);
    traces::check(place);
}

#[test]
fn who_was_stopped_past_the_lease_ends_its_command_on_sqlite() {
    after_a_stop(&Place::sqlite());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn who_was_stopped_past_the_lease_ends_its_command_on_postgres() {
    after_a_stop(&Place::postgres());
}

/// A withlock that is killed takes its command along, and what that has started, every time.
#[test]
fn kill_takes_the_command_along() {
    const LANES: usize = 4;
    const ROUNDS: usize = 25;
    let slowest = std::thread::scope(|scope| {
        let lane = || {
            let mut slowest = Duration::ZERO;
            for _ in 0..ROUNDS {
                let sandbox = Sandbox::new();
                // A command that ignores all that can be ignored.
                let script = "trap '' TERM HUP INT QUIT; (while :; do sleep 0.2; done) & \
                              echo $! >inner.new; mv inner.new inner; while :; do sleep 0.2; done";
                let holder = sandbox.hold(&sandbox.url(), &["n"], script);
                eventually("all are there", || sandbox.path("inner").exists());
                let family = [sandbox.child(), pid(&sandbox.read("inner"))];
                assert!(family.iter().all(|pid| is_alive(*pid)));
                holder.signal(Signal::KILL);
                let killed = Instant::now();
                while family.iter().any(|pid| is_alive(*pid)) {
                    assert!(killed.elapsed() < Duration::from_secs(30), "it lives on");
                    sleep(Duration::from_micros(200));
                }
                slowest = slowest.max(killed.elapsed());
            }
            slowest
        };
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join().expect("no failure")).max()
    });
    let slowest = slowest.expect("lanes");
    println!("{} kills, the slowest took {slowest:.1?}", LANES * ROUNDS);
}

/// Killed at any moment, also between the start of the command's process and its first step.
#[test]
fn kill_at_any_moment_leaves_no_command_behind() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    sandbox.run(&url, &["n", "--", "true"]).expect(0);
    for round in 0..60 {
        let script = "echo $$ >>pids; exec sleep 600";
        let run = sandbox.start(&mut sandbox.withlock(
            &format!("{url}?ttl=1s"),
            &[format!("n{round}").as_str(), "--", "sh", "-c", script],
        ));
        sleep(Duration::from_millis(round / 2));
        run.signal(Signal::KILL);
        run.end();
    }
    for line in sandbox.read("pids").lines() {
        eventually("none lives on", || !is_alive(pid(line)));
    }
}

/// The lock is renewed for as long as the command runs.
fn held_throughout(sandbox: &Sandbox, url: &str, row: impl Fn() -> Row) {
    let holder = sandbox.hold(url, &["--ttl", "6s", "n"], "sleep 16");
    let (fence, ..) = row();
    let mut tries = 0;
    let began = Instant::now();
    while began.elapsed() < TTL * 2 {
        sandbox.run(url, &["--try", "n", "--", "touch", "rival"]).expect(75);
        let now = row();
        assert_eq!((now.0, now.1), (fence, true));
        tries += 1;
    }
    let ended = holder.end().expect(0);
    assert!(ended.took >= TTL * 2, "{ended:?}");
    assert!(!sandbox.path("rival").exists() && tries > 5, "{tries} tries");
    sandbox.run(url, &["--try", "n", "--", "true"]).expect(0);
    assert!(row().0 > fence);
}

#[test]
fn a_long_command_keeps_the_lock_on_sqlite() {
    let sandbox = Sandbox::new();
    held_throughout(&sandbox, &sandbox.url(), || row(&sandbox));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_long_command_keeps_the_lock_on_postgres() {
    let (sandbox, place) = (Sandbox::new(), Place::postgres());
    held_throughout(&sandbox, &url(&place), || row_at(&place));
}

/// Somebody frees the lock by hand: the next renewal finds out.
fn taken_away(sandbox: &Sandbox, url: &str, tamper: impl Fn(&str)) {
    for sql in
        ["DELETE FROM locks", "UPDATE locks SET owner = NULL", "UPDATE locks SET owner = 'me'"]
    {
        let holder = sandbox.hold(url, &["--ttl", "3s", "n"], WRITE);
        let child = sandbox.child();
        tamper(sql);
        let ended = holder.end().expect(123);
        assert!(!is_alive(child));
        assert_eq!(ended.stderr.lines().count(), 1, "{sql}: {ended:?}");
        assert!(ended.stderr.starts_with("withlock: the lock \"n\" was lost"), "{sql}: {ended:?}");
        // The next renewal said so; nobody waited for the deadline.
        assert!(ended.stderr.contains("no longer ours"), "{sql}: {ended:?}");
        assert!(ended.stderr.contains("stopped"), "{sql}: {ended:?}");
        assert_eq!(ended.stdout, "");
        tamper("UPDATE locks SET owner = NULL");
        std::fs::remove_file(sandbox.path("up")).expect("there");
    }
}

#[test]
fn a_lock_that_was_taken_away_ends_the_command_on_sqlite() {
    let sandbox = Sandbox::new();
    let tamper = |sql: &str| file(&sandbox).execute_batch(sql).expect("done");
    taken_away(&sandbox, &sandbox.url(), tamper);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_lock_that_was_taken_away_ends_the_command_on_postgres() {
    let place = Place::postgres();
    let tamper = |sql: &str| place.tamper(&sql.replace("locks", "{table}"));
    taken_away(&Sandbox::new(), &url(&place), tamper);
}

/// Holds the file's write lock for a while, so that no renewal gets through.
fn without_renewals(sandbox: &Sandbox, during: impl FnOnce(i64)) {
    let file = file(sandbox);
    file.execute_batch("BEGIN IMMEDIATE").expect("begun");
    let expires = file
        .query_row("SELECT expires_us FROM locks WHERE name = 'n'", [], |row| row.get(0))
        .expect("a row");
    during(expires);
    file.execute_batch("ROLLBACK").expect("rolled back");
}

/// Waits for the end of the holder and checks that the command did not outlive the lease.
fn ended_in_time(holder: Run, child: rustix::process::Pid, expires: i64, now: impl Fn() -> i64) {
    eventually("the command is ended", || !is_alive(child));
    let left = expires - now();
    println!("the command was ended {} ms before the lease was over", left / 1_000);
    assert!(left > 0, "it outlived its lease by {} µs", -left);
    let ended = holder.end().expect(123);
    // The shell has a word of its own for what the signal did to what it was running.
    let mut ours = ended.stderr.lines().filter(|line| *line != "Terminated");
    assert!(ours.all(|line| line.starts_with("withlock: ")), "{ended:?}");
    let lost = ended.stderr.lines().find(|line| line.contains("was lost")).expect("told");
    assert!(lost.contains("(last error: "), "{ended:?}");
}

#[test]
fn a_command_that_ignores_term_is_killed_before_the_lease_is_over() {
    let sandbox = Sandbox::new();
    let script = format!("trap 'echo >>told' TERM; {WRITE}");
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "3s", "n"], &script);
    let child = sandbox.child();
    without_renewals(&sandbox, |expires| ended_in_time(holder, child, expires, since_boot));
    assert_eq!(sandbox.read("told").lines().count(), 1, "it was told once");
}

/// What the command has started belongs to it, also when the command itself obeys at once.
#[test]
fn what_the_command_started_is_killed_before_the_lease_is_over() {
    let sandbox = Sandbox::new();
    let script = format!("(trap '' TERM; exec sh -c 'echo $$ >inner; {WRITE}') & wait");
    let holder = sandbox.hold(&sandbox.url(), &["--ttl", "3s", "n"], &script);
    eventually("the inner one runs", || !sandbox.read("written").is_empty());
    let inner = pid(&sandbox.read("inner"));
    without_renewals(&sandbox, |expires| {
        while is_alive(inner) && since_boot() < expires {
            sleep(Duration::from_millis(1));
        }
        let alive = is_alive(inner);
        let _ = kill_process(inner, Signal::KILL);
        assert!(!alive, "a process of the command's group outlived the lease");
    });
    holder.end().expect(123);
}

/// The server vanishes: TERM, time to clean up, and KILL for those who do not take the hint.
#[test]
#[ignore = "needs a PostgreSQL server of its own: tests/servers"]
fn when_the_server_vanishes_there_is_time_to_clean_up() {
    let server = Server::postgres();
    let place = Place::at(server.url());
    let [tidy, stubborn] = [Sandbox::new(), Sandbox::new()];
    let trap = "trap 'echo told >>notes; sleep 0.1; echo tidy >>notes; exit 0' TERM";
    let tidy_one = tidy.hold(&url(&place), &["--ttl", "4s", "tidy"], &format!("{trap}; {WRITE}"));
    let script = format!("trap 'echo told >>notes' TERM; {WRITE}");
    let stubborn_one = stubborn.hold(&url(&place), &["--ttl", "4s", "n"], &script);
    let children = [tidy.child(), stubborn.child()];
    sleep(Duration::from_secs(2));
    server.pause();
    let paused = Instant::now();
    eventually("the first is told", || !tidy.read("notes").is_empty());
    let told = paused.elapsed();
    eventually("the second is ended", || !is_alive(children[1]));
    let (ended_at, killed) = (since_epoch(), paused.elapsed());
    assert!(told < killed, "TERM after {told:?}, KILL after {killed:?}");
    eventually("the first has ended", || !is_alive(children[0]));
    assert_eq!(tidy.read("notes"), "told\ntidy\n");
    assert_eq!(stubborn.read("notes"), "told\n");
    // It must neither give up at the first failed renewal nor hold on past the lease.
    assert!(told > Duration::from_secs(1), "TERM after {told:?} already");
    for run in [tidy_one, stubborn_one] {
        let ended = run.end_within(Duration::from_secs(20)).expect(123);
        let told: Vec<_> = ended.stderr.lines().filter(|line| line.contains("withlock")).collect();
        assert!(matches!(told[..], [one] if one.contains("was lost")), "{ended:?}");
    }
    println!("TERM {told:.2?} and KILL {killed:.2?} after the server froze, TTL 4 s");
    server.resume();
    let (.., expires) = row_at(&place);
    assert!(ended_at < expires, "the command outlived its lease by {} µs", ended_at - expires);
}

/// A server that is away for less than the lease is no loss.
#[test]
#[ignore = "needs a PostgreSQL server of its own: tests/servers"]
fn a_server_that_comes_back_in_time_is_no_loss() {
    let server = Server::postgres();
    let place = Place::at(server.url());
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&url(&place), &["--ttl", "20s", "n"], "sleep 12; echo done");
    let fence = row_at(&place).0;
    sleep(Duration::from_secs(6));
    server.restart();
    let ended = holder.end().expect(0);
    assert_eq!(ended.stdout, "done\n");
    assert_eq!(row_at(&place).0, fence);
    sandbox.run(&url(&place), &["--try", "n", "--", "true"]).expect(0);
}

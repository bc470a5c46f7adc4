//! Many processes want one lock: one at a time gets it, and all of them do.

use lock_tests::place::Place;
use lock_tests::traces;
use lock_tests::withlock::{EventLog, Sandbox, url};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const PROCESSES: usize = 20;
const ROUNDS: usize = 50;

/// One crowd at a time: each of them fills the machine, and servers have more to do than answer.
static ALONE: Mutex<()> = Mutex::new(());

/// Every process runs `withlock` again and again. What they wrap adds one to a number in a file, in
/// two steps: two at once would lose an increment.
fn crowd(place: &Place, each: usize) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (sandbox, url) = (Sandbox::recorded(), url(place));
    let log = EventLog::new(&sandbox);
    let work = log.script("read n <counter; echo $((n + 1)) >counter");
    std::fs::write(sandbox.path("work"), work).expect("written");
    std::fs::write(sandbox.path("counter"), "0\n").expect("written");
    let lane =
        format!("i=0; while [ $((i += 1)) -le {each} ]; do \"$W\" count -- sh work || exit; done");
    let began = std::time::Instant::now();
    let lanes: Vec<_> = (0..PROCESSES)
        .map(|_| sandbox.start(sandbox.command("sh").args(["-c", &lane]).env("WITHLOCK_URL", &url)))
        .collect();
    for lane in lanes {
        let ended = lane.end_within(Duration::from_secs(300)).expect(0);
        assert_eq!(ended.stdout, "");
        // A server that was slow for a moment is told of, and is no failure.
        let told = ended.stderr.lines().find(|line| !line.ends_with("; trying again"));
        assert_eq!(told, None, "nothing else to tell");
    }
    let took = began.elapsed();
    let rounds = PROCESSES * each;
    println!("{rounds} rounds in {took:.1?}: {:.0} per second", rounds as f64 / took.as_secs_f64());
    log.check(rounds);
    assert_eq!(sandbox.read("counter").trim(), rounds.to_string());
    traces::check(place);
}

#[test]
fn one_at_a_time_gets_in_on_sqlite() {
    crowd(&Place::sqlite(), ROUNDS);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn one_at_a_time_gets_in_on_postgres() {
    crowd(&Place::postgres(), ROUNDS);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn one_at_a_time_gets_in_through_a_pooler() {
    crowd(&Place::postgres_pooled(), 10);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn one_at_a_time_gets_in_through_a_pooler_of_sessions() {
    crowd(&Place::postgres_pooled_sessions(), 10);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn one_at_a_time_gets_in_on_mysql() {
    crowd(&Place::mysql(), 10);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn one_at_a_time_gets_in_on_mariadb() {
    crowd(&Place::mariadb(), 10);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn one_at_a_time_gets_in_with_postgres_advisory_locks() {
    crowd(&Place::postgres_advisory(), 10);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn one_at_a_time_gets_in_with_mysql_advisory_locks() {
    crowd(&Place::mysql_advisory(), 10);
}

#[test]
#[ignore = "needs MySQL and MariaDB servers: tests/run starts them"]
fn one_at_a_time_gets_in_with_locked_rows() {
    for place in [Place::mysql_sql_lock(), Place::mariadb_sql_lock()] {
        crowd(&place, 10);
    }
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn one_at_a_time_gets_in_with_mariadb_advisory_locks() {
    crowd(&Place::mariadb_advisory(), 10);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn one_at_a_time_gets_in_on_consul() {
    crowd(&Place::consul(), 10);
}

/// The file and its table are made by whoever comes first, in whatever company.
#[test]
fn a_file_is_made_once_though_many_want_to_make_it() {
    for _ in 0..10 {
        let sandbox = Sandbox::new();
        let log = EventLog::new(&sandbox);
        let script = log.script(":");
        let args = ["first", "--", "sh", "-c", script.as_str()];
        let runs: Vec<_> = (0..PROCESSES)
            .map(|_| sandbox.start(&mut sandbox.withlock(&sandbox.url(), &args)))
            .collect();
        for run in runs {
            run.end().expect(0);
        }
        log.check(PROCESSES);
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_table_is_made_once_though_many_want_to_make_it() {
    made_once(Place::postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_table_is_made_once_on_mysql() {
    made_once(Place::mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_table_is_made_once_on_mariadb() {
    made_once(Place::mariadb);
}

fn made_once(place: fn() -> Place) {
    for _ in 0..5 {
        let (sandbox, place) = (Sandbox::new(), place());
        let log = EventLog::new(&sandbox);
        let script = log.script(":");
        let args = ["first", "--", "sh", "-c", script.as_str()];
        let runs: Vec<_> = (0..PROCESSES)
            .map(|_| sandbox.start(&mut sandbox.withlock(&url(&place), &args)))
            .collect();
        for run in runs {
            run.end().expect(0);
        }
        log.check(PROCESSES);
    }
}

/// Names are compared byte by byte; other names are other locks.
#[test]
fn locks_of_different_names_do_not_wait_for_one_another() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let holder = sandbox.hold(&url, &["name"], "exec sleep 600");
    for other in ["Name", "name ", " name", "nam", "name1", "ｎame", "na\u{301}me"] {
        sandbox.run(&url, &["--try", other, "--", "true"]).expect(0);
    }
    sandbox.run(&url, &["--try", "name", "--", "true"]).expect(75);
    drop(holder);
}

/// A table is a world of its own, and so is a file.
#[test]
fn locks_in_different_tables_and_files_are_different_locks() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let _holder = sandbox.hold(&url, &["name"], "exec sleep 600");
    sandbox.run(&url, &["--try", "--table", "others", "name", "--", "true"]).expect(0);
    sandbox.run(&format!("{url}?table=others"), &["--try", "name", "--", "true"]).expect(0);
    sandbox.run(&url.replace("locks", "others"), &["--try", "name", "--", "true"]).expect(0);
    // The same by other ways.
    sandbox.run("sqlite:locks.db", &["--try", "name", "--", "true"]).expect(75);
    sandbox.run("sqlite:lock%73.db", &["--try", "name", "--", "true"]).expect(75);
    sandbox.run(&url, &["--try", "--table", "locks", "name", "--", "true"]).expect(75);
    std::os::unix::fs::symlink("locks.db", sandbox.path("link.db")).expect("linked");
    sandbox.run("sqlite:link.db", &["--try", "name", "--", "true"]).expect(75);
}

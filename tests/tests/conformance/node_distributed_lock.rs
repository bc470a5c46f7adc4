//! The table of the npm package `node-distributed-lock`: what ours do there, and what they do beside the package's own
//! statements. `tests/fleets` runs the package itself beside ours.

use lock_sync::{ClaimError, Error, LostReason, Refusal};
use lock_tests::drivers::{Admin, Driver, Locks, connect};
use lock_tests::fail_over::crowd;
use lock_tests::place::{Place, client};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(3);
const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

/// A table of a test's own, and its URL.
fn table() -> (Place, String) {
    let place = Place::postgres();
    let parameters = format!("protocol=node-distributed-lock&table={}", place.table());
    let url = format!("{}?{parameters}", place.url());
    (place, url)
}

fn locks(driver: Driver, url: &str) -> Locks {
    connect(driver, &format!("{url}&ttl=3s")).expect("connected")
}

/// Runs SQL on the table; `{table}` is its name.
fn run(place: &Place, sql: &str) -> u64 {
    let sql = sql.replace("{table}", place.table());
    client(place.url()).execute(&sql, &[]).expect("run")
}

/// As the package takes a lock.
fn peer_takes(place: &Place, name: &str, seconds_ago: u32) {
    let values = format!("('{name}', now() - interval '{seconds_ago} seconds', 'a-peer')");
    run(place, &format!("INSERT INTO {{table}} (mutex, ts, node_id) VALUES {values}"));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn locks_in_the_packages_table_exclude_each_other() {
    let (_place, url) = table();
    let all = [0, 1, 2, 3].map(|at| locks(DRIVERS[at % 2], &url));
    let report = crowd(all.into(), Duration::from_secs(2));
    assert_eq!((report.overlaps, report.fallen), (0, 0), "{report}");
    assert!(report.grants > 10, "{report}");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_peers_lock_is_waited_for_and_taken_when_it_has_ended() {
    for driver in DRIVERS {
        let (place, url) = table();
        let ours = locks(driver, &url);
        peer_takes(&place, "held", 0);
        peer_takes(&place, "ended", 4);
        assert!(ours.try_lock("held").expect("asked").is_none());
        let guard = ours.try_lock("ended").expect("asked").expect("after the fleet's TTL");
        let released = std::thread::scope(|scope| {
            let waits = scope.spawn(|| ours.try_lock_for("held", TTL * 3).expect("asked"));
            std::thread::sleep(Duration::from_millis(500));
            let deleted = run(&place, "DELETE FROM {table} WHERE node_id = 'a-peer'");
            assert_eq!(deleted, 1, "the other was taken over");
            waits.join().expect("no panic")
        });
        assert!(released.is_some_and(|guard| guard.is_held()), "nobody tells, so it looks");
        guard.release().expect("released");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_lock_is_renewed_for_peers_and_its_loss_is_told() {
    for driver in DRIVERS {
        let (place, url) = table();
        let guard = locks(driver, &url).lock("a").expect("taken");
        std::thread::sleep(TTL + TTL / 3);
        assert!(guard.is_held());
        let stale = "DELETE FROM {table} WHERE ts < NOW() - INTERVAL '3 seconds'";
        assert_eq!(run(&place, stale), 0, "as a peer does first");
        assert_eq!(run(&place, "DELETE FROM {table}"), 1, "as one with a shorter TTL does");
        assert_eq!(guard.wait_lost(TTL), Some(LostReason::Taken));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn peers_see_a_release_as_their_own() {
    for driver in DRIVERS {
        let (place, url) = table();
        let ours = locks(driver, &url);
        let first = ours.lock("a").expect("taken");
        let fence = first.fence();
        first.release().expect("released");
        assert_eq!(run(&place, "SELECT FROM {table}"), 0, "no row is left");
        assert!(ours.lock("a").expect("taken").fence() > fence);
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn names_that_the_package_does_not_take_are_refused() {
    for driver in DRIVERS {
        let ours = locks(driver, &table().1);
        let longest = "é".repeat(36);
        assert!(ours.try_lock(&longest).expect("asked").is_some_and(|guard| guard.is_held()));
        let told = ours.try_lock(&"a".repeat(37)).map(drop);
        assert_eq!(told, Err(Error::Claim(ClaimError::TooLong)));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_default_ttl_is_the_packages() {
    for driver in DRIVERS {
        let (place, url) = table();
        let guard = connect(driver, &url).expect("connected").lock("a").expect("taken");
        assert!(guard.remaining() > Duration::from_secs(900), "{:?}", guard.remaining());
        peer_takes(&place, "b", 60);
        assert!(connect(driver, &url).expect("again").try_lock("b").expect("asked").is_none());
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn operators_see_and_break_locks_of_both() {
    for driver in DRIVERS {
        let (place, url) = table();
        let guard = locks(driver, &url).lock("ours").expect("taken");
        peer_takes(&place, "a-peers", 0);
        peer_takes(&place, "ended", 4000);
        let mut admin = Admin::connect(driver, &url, TTL);
        let held = admin.list().expect("listed");
        let names: Vec<_> = held.iter().map(|state| &*state.name).collect();
        assert_eq!(names, ["a-peers", "ours"]);
        assert_eq!(held[0].hold.as_ref().map(|hold| &*hold.label), Some("node a-peer"));
        let status = admin.status("ours").expect("asked").expect("a row");
        assert!(admin.break_hold("ours", status.fence).expect("asked").is_some());
        assert_eq!(guard.wait_lost(TTL), Some(LostReason::Taken));
        assert_eq!(admin.purge(Duration::from_secs(3600)), Ok(1));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn another_table_is_refused() {
    for driver in DRIVERS {
        let place = Place::postgres();
        let own = connect(driver, &place.whole_url()).expect("a lock table");
        drop(own);
        let url = format!("{}&protocol=node-distributed-lock", place.whole_url());
        let told = connect(driver, &url).map(drop);
        assert!(matches!(&told, Err(Error::UnsafeServer(Refusal::WrongShape { .. }))), "{told:?}");
    }
}

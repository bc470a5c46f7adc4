//! A Galera cluster of three nodes: tables through all of them at once, nodes that lag or are cut off, and advisory locks.

use lock_sync::{Error, NotPinnable, PinError, Refusal};
use lock_tests::drivers::{Admin, Client, Driven, Driver, Locks, connect, in_transaction};
use lock_tests::fail_over::crowd;
use lock_tests::galera::Galera;
use lock_tests::place::{Place, mysql_client};
use lock_tests::withlock::eventually;
use mysql::prelude::Queryable;
use std::time::Duration;

/// Longer than the others take to go on without a node: five seconds.
const TTL: Duration = Duration::from_secs(15);
/// Longer than any step of these tests takes.
const LONG: Duration = Duration::from_secs(60);
const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];
const ALL_DRIVERS: [Driver; 3] = [Driver::Blocking, Driver::Tokio, Driver::Pooled];

/// Locks in one table, through each of these nodes.
fn through<const N: usize>(galera: &Galera, driver: Driver, nodes: [usize; N]) -> [Locks; N] {
    let place = Place::at(&galera.url_of(0));
    nodes.map(|node| Driven::new(driver, place.through(&galera.url_of(node))).locks(TTL))
}

/// How long they contend: `LOCK_TEST_SECONDS`, or else a moment.
fn time() -> Duration {
    let seconds = std::env::var("LOCK_TEST_SECONDS");
    Duration::from_secs(seconds.map_or(3, |seconds| seconds.parse().expect("a number")))
}

#[test]
#[ignore = "needs a Galera cluster: tests/run starts one"]
fn locks_through_all_nodes_exclude_each_other() {
    let galera = Galera::start();
    for driver in ALL_DRIVERS {
        let all = through(&galera, driver, [0, 1, 2, 0, 1, 2]);
        let report = crowd(all.into(), time());
        println!("{driver:?}: {report}");
        assert_eq!((report.overlaps, report.fallen), (0, 0), "{driver:?}");
        assert!(report.grants > 10, "{driver:?}: {report}");
    }
}

/// The nodes do not know each other's row locks.
#[test]
#[ignore = "needs a Galera cluster: tests/run starts one"]
fn a_lock_on_a_cluster_cannot_be_pinned() {
    let galera = Galera::start();
    for driver in ALL_DRIVERS {
        let [locks] = through(&galera, driver, [1]);
        let guard = locks.lock("a").expect("free");
        let pin = in_transaction(&guard, Client::Own, &galera.url_of(1), &[], || {});
        assert_eq!(pin, Err(PinError::Unsupported(NotPinnable::Cluster)), "{driver:?}");
    }
}

/// What was committed at one node is not to be read at the other yet.
#[test]
#[ignore = "needs a Galera cluster: tests/run starts one"]
fn a_lock_is_not_granted_again_by_a_node_that_lags() {
    let galera = Galera::start();
    let mut behind = mysql_client(galera.node(1).url());
    for driver in ALL_DRIVERS {
        let [ahead, lagging] = through(&galera, driver, [0, 1]);
        for name in ["a", "b", "a", "b", "a", "c"] {
            behind.query_drop("FLUSH TABLES WITH READ LOCK").expect("it stands still");
            let first = ahead.lock(name).expect("taken");
            let second = std::thread::scope(|scope| {
                let asks = scope.spawn(|| lagging.try_lock(name));
                std::thread::sleep(Duration::from_millis(150));
                behind.query_drop("UNLOCK TABLES").expect("it goes on");
                asks.join().expect("no panic")
            });
            assert!(second.expect("asked").is_none(), "{driver:?}: {name}");
            assert!(first.is_held());
            let fence = first.fence();
            behind.query_drop("FLUSH TABLES WITH READ LOCK").expect("it stands still");
            first.release().expect("released");
            behind.query_drop("UNLOCK TABLES").expect("it goes on");
            let next = lagging.lock(name).expect("free");
            assert!(next.fence() > fence, "{driver:?}: {name}");
            next.release().expect("released");
        }
    }
}

#[test]
#[ignore = "needs a Galera cluster: tests/run starts one"]
fn who_looks_at_a_node_that_lags_sees_what_the_others_know() {
    let galera = Galera::start();
    let place = Place::at(&galera.url_of(0));
    let mut behind = mysql_client(galera.node(1).url());
    for driver in DRIVERS {
        let locks = Driven::new(driver, place.through(place.url())).locks(TTL);
        let at_another = place.through(&galera.url_of(1));
        let mut looks = Admin::connect(driver, &at_another.whole_url(), TTL);
        for name in ["a", "b"] {
            behind.query_drop("FLUSH TABLES WITH READ LOCK").expect("it stands still");
            let guard = locks.lock(name).expect("taken");
            let seen = std::thread::scope(|scope| {
                let looks = scope.spawn(|| looks.status(name));
                std::thread::sleep(Duration::from_millis(150));
                behind.query_drop("UNLOCK TABLES").expect("it goes on");
                looks.join().expect("no panic")
            });
            assert!(seen.expect("asked").is_some(), "{driver:?}: {name}");
            guard.release().expect("released");
        }
    }
}

#[test]
#[ignore = "needs a Galera cluster: tests/run starts one"]
fn a_node_that_is_cut_off_grants_nothing_and_is_left_for_another() {
    let galera = Galera::start();
    let cut = |cut: u8| {
        let set = format!("SET GLOBAL wsrep_provider_options = 'gmcast.isolate={cut}'");
        mysql_client(galera.node(0).url()).query_drop(set).expect("set");
    };
    let place = Place::at(&galera.url(0));
    let alone = place.through(&galera.url_of(0));
    let [moving, staying] = [&place, &alone].map(|place| {
        DRIVERS.map(|driver| Driven::new(driver, place.through(place.url())).locks(TTL))
    });
    let held = moving.each_ref().map(|locks| locks.lock(&format!("{locks:p}")).expect("taken"));
    cut(1);
    eventually("it has noticed", || {
        let told: Option<(String, String)> = mysql_client(galera.node(0).url())
            .query_first("SHOW STATUS LIKE 'wsrep_ready'")
            .expect("asked");
        told.is_some_and(|(_, ready)| ready == "OFF")
    });
    for (at, locks) in moving.iter().enumerate() {
        let guard = locks.try_lock_for("a", LONG).expect("at another node").expect("free");
        assert!(guard.is_held(), "{at}");
        for locks in &staying {
            let told = locks.try_lock_for("a", Duration::from_secs(1)).map(|got| got.is_some());
            assert!(told.as_ref().is_err_and(Error::is_transient), "{told:?}");
        }
        guard.release().expect("released");
    }
    for driver in DRIVERS {
        let told = connect(driver, alone.url()).map(drop);
        assert!(told.as_ref().is_err_and(Error::is_transient), "{told:?}");
    }
    std::thread::sleep(TTL / 2);
    assert!(held.iter().all(|guard| guard.is_held()), "they are renewed at another node");
    cut(0);
    for locks in &staying {
        let again = locks.try_lock_for("a", LONG).expect("it is back");
        assert!(again.is_some_and(|guard| guard.is_held()));
    }
    for guard in held {
        guard.release().expect("released");
    }
}

#[test]
#[ignore = "needs a Galera cluster: tests/run starts one"]
fn advisory_locks_are_refused_at_each_node() {
    let galera = Galera::start();
    for driver in DRIVERS {
        for node in 0..3 {
            let refused = connect(driver, &format!("{}?protocol=advisory", galera.url_of(node)));
            let told = refused.map(drop);
            assert_eq!(told, Err(Error::UnsafeServer(Refusal::SeveralPrimaries)), "{driver:?}");
        }
    }
}

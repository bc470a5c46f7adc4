//! The blocking driver on the threads of async runtimes: on those for blocking, as it is meant to be used, and
//! on a runtime's workers, where it holds up other tasks, but does what it always does.

use lock_sync::{Admin, Config, Guard, Locks};
use lock_tests::place::{Keeps, Place, client, postgres_url};
use lock_tests::proxy::{Proxy, server_of};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{block_in_place, spawn_blocking};

const TTL: Duration = Duration::from_secs(30);

type Work = Box<dyn FnOnce() + Send>;

/// From connecting to the last drop, which is of a guard or of the locks, also while a panic unwinds.
fn whole_life(place: &Place) {
    let locks = place.locks(TTL);
    let guard = locks.lock("a").expect("free");
    assert!(locks.try_lock("a").expect("asked").is_none());
    guard.release().expect("ours");
    drop(locks.try_lock("a").expect("asked").expect("free"));
    let guard = locks.lock("a").expect("free");
    drop(locks);
    drop(guard);
    let unwinds: [fn(&Place); 2] = [
        |place| {
            let locks = place.locks(TTL);
            let _ends_with_the_locks = (locks.lock("a").expect("free"), locks);
            panic!("on purpose");
        },
        |place| {
            let locks = place.locks(TTL);
            let guard = locks.lock("a").expect("free");
            let _ends_with_the_guard = (locks, guard);
            panic!("on purpose");
        },
    ];
    for unwind in unwinds {
        assert!(catch_unwind(AssertUnwindSafe(|| unwind(place))).is_err());
    }
    if place.keeps() == Keeps::Advisory {
        return; // Which do not tell their names.
    }
    let mut admin = Admin::open(place.config(TTL)).expect("connected");
    assert_eq!(admin.list().expect("listed"), []);
}

/// Locks that were connected elsewhere are used, and dropped.
fn later_life(locks: Locks, guard: Guard) {
    assert!(locks.try_lock("b").expect("asked").is_none());
    drop(locks);
    assert!(guard.is_held());
    drop(guard);
}

/// On each kind of thread that a runtime has.
fn everywhere(place: Place) {
    let place = Arc::new(place);
    let several = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let several = several.expect("a runtime");
    let single = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let locks = || {
        let locks = place.locks(TTL);
        let guard = locks.lock("b").expect("free");
        (locks, guard)
    };
    let bodies = |runtime: &Runtime, run: &dyn Fn(&Runtime, Work)| {
        let own = place.clone();
        run(runtime, Box::new(move || whole_life(&own)));
        let (locks, guard) = locks();
        run(runtime, Box::new(move || later_life(locks, guard)));
    };
    bodies(&several, &|runtime, work| {
        runtime.block_on(async { spawn_blocking(work).await.expect("spawn_blocking") });
    });
    bodies(&several, &|runtime, work| {
        let task = runtime.spawn(async move { block_in_place(work) });
        runtime.block_on(task).expect("block_in_place");
    });
    bodies(&several, &|runtime, work| {
        let task = runtime.spawn(async move { work() });
        runtime.block_on(task).expect("a worker");
    });
    bodies(&single, &|runtime, work| {
        let task = runtime.spawn(async move { work() });
        runtime.block_on(task).expect("the only thread");
    });
    // It is dropped after what the clients keep for the thread.
    let ends = place.clone();
    let thread = std::thread::spawn(move || {
        KEPT.with_borrow(|kept| assert!(kept.is_none()));
        let locks = ends.locks(TTL);
        let guard = locks.lock("b").expect("free");
        KEPT.set(Some((locks, guard)));
    });
    thread.join().expect("no panic");
    assert!(place.locks(TTL).try_lock("b").expect("asked").is_some(), "all are released");
}

thread_local! {
    static KEPT: RefCell<Option<(Locks, Guard)>> = const { RefCell::new(None) };
}

macro_rules! on {
    ($($place:ident $(, $server:literal)?;)*) => {$(
        #[test]
        $(#[ignore = $server])?
        fn $place() {
            everywhere(Place::$place());
        }
    )*};
}

on! {
    sqlite;
    postgres, "needs a PostgreSQL server: tests/run starts one";
    postgres_advisory, "needs a PostgreSQL server: tests/run starts one";
    mysql, "needs a MySQL server: tests/run starts one";
    mysql_advisory, "needs a MySQL server: tests/run starts one";
    mariadb, "needs a MariaDB server: tests/run starts one";
    consul, "needs a Consul server: tests/run starts one";
}

/// It would not look again for an hour, and the change comes while it waits.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_observer_on_a_worker_hears_what_the_server_tells() {
    let (place, hour) = (Place::postgres(), TTL * 120);
    let guard = place.locks(hour).lock("leader").expect("free");
    let (waits, waiting) = channel();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let proxy = Proxy::start(&server_of(place.url()));
        let through = place.through(&proxy.url(place.url()));
        let admin = Admin::open(through.config(TTL)).expect("connected");
        let mut observer = admin.observe("leader").expect("a name").interval(hour);
        let mut change = || observer.changed_within(TTL).expect("told").expect("known");
        assert_eq!(change().expect("somebody").term, guard.fence());
        std::thread::scope(|scope| {
            let standby = scope.spawn(|| {
                let locks = place.locks(hour);
                let standby = locks.acquire("leader").on_waiting(|_| {
                    let _ = waits.send(());
                });
                standby.wait().expect("freed")
            });
            scope.spawn(move || {
                waiting.recv_timeout(TTL).expect("it waits");
                std::thread::sleep(Duration::from_secs(1));
                guard.release().expect("released");
            });
            let leader = change().or_else(&mut change).expect("the next");
            assert_eq!(leader.term, standby.join().expect("no panic").fence());
        });
        assert_eq!(proxy.connections(), 1, "it waits over one connection");
    });
}

/// The client of PostgreSQL cannot even be dropped on a runtime's thread.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_client_that_was_handed_over_may_be_dropped_on_a_worker() {
    let url = postgres_url();
    let place = Place::at(&url);
    let table = || lock_sync::TableName::new(place.table()).expect("a name");
    let unfit = || Config::new().ttl(Duration::ZERO);
    let [one, two, three, four] = std::array::from_fn(|_| client(&url));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async move {
            assert!(Locks::with_postgres(one, unfit()).is_err());
            assert!(Admin::with_postgres(two, unfit()).is_err());
            let config = || Config::new().table(table());
            drop(Admin::with_postgres(three, config()).expect_err("no table"));
            let locks = Locks::with_postgres(four, config().ttl(TTL)).expect("connected");
            let guard = locks.lock("a").expect("free");
            drop(locks);
            panic!("on purpose, while {guard:?} is there");
        })
    }));
    assert!(ended.is_err());
    assert!(place.locks(TTL).try_lock("a").expect("asked").is_some());
}

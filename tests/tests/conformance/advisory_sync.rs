//! What lock-sync's advisory locks have that others do not: shared locks, keys of one's own, waits in
//! the server's queue, a limit for those, connections of the caller's.

use lock_sync::{Cancel, ClaimError, Config, Error, Key, Locks, LostReason, Mode, Protocol};
use lock_tests::advisory::waiting_at;
use lock_tests::drivers::{Driven, Driver};
use lock_tests::place::{Place, client, mysql_client};
use lock_tests::proxy::{Mode as Network, Proxy, eventually, server_of};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(300);

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn shared_locks_are_shared_and_exclude_exclusive_ones() {
    let place = Place::postgres_advisory();
    let [a, b, c] = [0; 3].map(|_| place.locks(TTL));
    let (one, two) = (a.lock_shared("a").expect("free"), b.lock_shared("a").expect("shared"));
    let three = a.try_lock_shared("a").expect("asked").expect("on one connection, too");
    assert_eq!([&one, &two, &three].map(lock_sync::Guard::mode), [Mode::Shared; 3]);
    assert!(one.is_held() && two.is_held() && three.is_held());
    assert!(c.try_lock("a").expect("asked").is_none());
    assert!(a.try_lock("a").expect("asked").is_none(), "nor on a connection that shares it");
    assert!(c.try_lock_for("a", SOON).expect("asked").is_none());
    one.release().expect("released");
    two.release().expect("released");
    assert!(c.try_lock("a").expect("asked").is_none(), "the third has it still");
    three.release().expect("released");

    let exclusive = c.lock("a").expect("free");
    assert_eq!(exclusive.mode(), Mode::Exclusive);
    assert!(a.try_lock_shared("a").expect("asked").is_none());
    assert!(c.try_lock_shared("a").expect("asked").is_none(), "nor by the holder's connection");
    assert!(a.try_lock_shared_for("a", SOON).expect("asked").is_none());
    std::thread::scope(|scope| {
        let waiters =
            [&a, &b].map(|locks| scope.spawn(|| locks.lock_shared("a").expect("in the end")));
        std::thread::sleep(SOON);
        assert!(!waiters.iter().any(|waiter| waiter.is_finished()));
        exclusive.release().expect("released");
        let guards = waiters.map(|waiter| waiter.join().expect("no panic"));
        assert!(guards.iter().all(lock_sync::Guard::is_held), "both at once");
    });
    assert!(c.acquire("a").mode(Mode::Shared).no_wait().wait().is_ok());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn readers_and_writers_exclude_each_other() {
    let place = Place::postgres_advisory();
    let (readers, writers) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let locks = place.locks(TTL);
            let (readers, writers, most) = (&readers, &writers, &most);
            scope.spawn(move || {
                for round in 0..20 {
                    if (thread + round) % 4 == 0 {
                        let guard = locks.lock("a").expect("taken");
                        assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0, "two writers");
                        assert_eq!(readers.load(Ordering::SeqCst), 0, "a writer among readers");
                        writers.fetch_sub(1, Ordering::SeqCst);
                        guard.release().expect("released");
                    } else {
                        let guard = locks.lock_shared("a").expect("taken");
                        let inside = readers.fetch_add(1, Ordering::SeqCst) + 1;
                        assert_eq!(writers.load(Ordering::SeqCst), 0, "a reader beside a writer");
                        most.fetch_max(inside, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(1));
                        readers.fetch_sub(1, Ordering::SeqCst);
                        guard.release().expect("released");
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) > 1, "readers were never together");
}

#[test]
#[ignore = "needs MySQL, MariaDB and Consul servers: tests/run starts them"]
fn elsewhere_there_are_no_shared_locks() {
    for place in [Place::mysql_advisory(), Place::mariadb_advisory(), Place::consul()] {
        let locks = place.locks(TTL);
        // A server gives no lock away in its first TTL.
        locks.lock("b").expect("taken").release().expect("freed");
        let refused = Err(Error::Claim(ClaimError::NoShared));
        assert_eq!(locks.lock_shared("a").map(drop), refused);
        assert!(place.locks(TTL).try_lock("a").expect("asked").is_some(), "nothing was taken");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn keys_are_those_that_others_use() {
    let place = Place::postgres_advisory();
    let mut other = client(place.url());
    let mut free = |call: &str| -> bool {
        let row = other.query_one(&format!("SELECT pg_try_advisory_lock({call})"), &[]);
        let free = row.expect("asked").get(0);
        if free {
            other.execute(&format!("SELECT pg_advisory_unlock({call})"), &[]).expect("freed");
        }
        free
    };
    let keyed = |key| Locks::open(place.config(TTL).keys(key)).expect("connected");
    // As the npm package advisory-lock calls it.
    for (locks, name, call) in [
        (place.locks(TTL), "test-lock", "-107789403, -1898803861"),
        (keyed(Key::Int), "-7", "(-7)::bigint"),
        (keyed(Key::Pair), "12,-7", "12, -7"),
    ] {
        let guard = locks.lock(name).expect("taken");
        assert!(!free(call), "{name}");
        guard.release().expect("released");
        assert!(free(call), "{name}");
    }
    for (key, name, why) in
        [(Key::Int, "a", ClaimError::NotAnInt), (Key::Pair, "7", ClaimError::NotAPair)]
    {
        assert_eq!(keyed(key).try_lock(name).map(drop), Err(Error::Claim(why)));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_wait_that_is_given_up_leaves_postgres_queue_at_once() {
    let place = Place::postgres_advisory();
    let waiting = waiting_at(&place);
    given_up(place, waiting);
}

#[test]
#[ignore = "needs MySQL and MariaDB servers: tests/run starts them"]
fn a_wait_that_is_given_up_leaves_get_locks_queue_at_once() {
    for place in [Place::mysql_advisory(), Place::mariadb_advisory()] {
        let mut waiting = waiting_at(&place);
        // The host that ends the wait is the one that it is at.
        let server = server_of(place.url());
        let second = place.url().replace(&server, &format!("127.0.0.1:1,{server}"));
        given_up(place.through(&second), &mut waiting);
        given_up(place, waiting);
    }
}

/// The server hears of nothing, and would answer when the wait is over.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_wait_that_is_given_up_in_silence_leaves_no_connection() {
    /// A wait lasts for a quarter of it.
    const LONG: Duration = Duration::from_secs(60);
    for driver in [Driver::Blocking, Driver::Tokio] {
        let direct = Place::postgres_advisory();
        let mut waiting = waiting_at(&direct);
        let _held = direct.locks(LONG).lock("a").expect("taken");
        let proxy = Proxy::start(&server_of(direct.url()));
        let through = direct.through(&format!("{}?request_timeout=1s", proxy.url(direct.url())));
        let locks = Driven::new(driver, through).locks(LONG);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| locks.lock("a").map(drop));
            assert!(eventually(|| waiting() == 1));
            // The wait has one of its own.
            assert_eq!(proxy.connections(), 2);
            proxy.set(Network::Hole);
            let closed = Instant::now();
            locks.close();
            assert_eq!(waiter.join().expect("no panic"), Err(Error::Closed));
            assert!(eventually(|| proxy.has_ended(1)));
            assert!(closed.elapsed() < LONG / 6, "{driver:?}: {:?}", closed.elapsed());
        });
    }
}

/// With either driver.
fn given_up(place: Place, mut waiting: impl FnMut() -> i64) {
    let place = Driven::new(Driver::Blocking, place);
    leaves_the_queue(&place, &mut waiting);
    let place = place.driven_by(Driver::Tokio);
    leaves_the_queue(&place, &mut waiting);
}

fn leaves_the_queue(place: &Driven, waiting: &mut impl FnMut() -> i64) {
    let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
    let _guard = ours.lock("a").expect("taken");
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| theirs.lock("a").map(drop))).collect();
        // Rivals in one process wait there for one another.
        assert!(eventually(|| waiting() == 1));
        // They hold up no other lock, and the wait lasts for a quarter of the TTL.
        let began = Instant::now();
        for _ in 0..10 {
            theirs.lock("b").expect("free").release().expect("released");
        }
        assert!(began.elapsed() < TTL / 5, "{:?}", began.elapsed());
        let closed = Instant::now();
        theirs.close();
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), Err(Error::Closed));
        }
        assert!(eventually(|| waiting() == 0));
        // The wait was to last for a quarter of the TTL, and a dead client is noticed after a ninth.
        assert!(closed.elapsed() < TTL / 10, "{:?}", closed.elapsed());
    });
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn waits_beyond_the_limit_ask_again_and_again() {
    let place = Place::postgres_advisory();
    let holder = place.locks(TTL);
    let waiters = Locks::open(place.config(TTL).waiting(2).label("limited")).expect("connected");
    let names: Vec<String> = (0..5).map(|n| format!("n{n}")).collect();
    let guards: Vec<_> = names.iter().map(|name| holder.lock(name).expect("taken")).collect();
    let mut observer = client(place.url());
    let mut connections = || -> i64 {
        let text = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%(limited)'";
        observer.query_one(text, &[]).expect("asked").get(0)
    };
    std::thread::scope(|scope| {
        let waiters = &waiters;
        let waiting: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(move || waiters.lock(name).expect("in the end")))
            .collect();
        assert!(eventually(|| connections() == 3), "the home connection, and two that wait");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(connections(), 3);
        drop(guards);
        for waiter in waiting {
            assert!(waiter.join().expect("no panic").is_held());
        }
    });
}

/// Somebody may have had a lock for as long as that when the server stopped.
fn nothing_is_granted_before_the_longest_ttl_is_over(place: Place) {
    let mut place = Driven::new(Driver::Blocking, place);
    for driver in [Driver::Blocking, Driver::Tokio] {
        place = place.driven_by(driver);
        let young = place.set(TTL, |config| config.longest_ttl(Duration::from_secs(24 * 3600)));
        let Err(Error::Busy(busy)) = young.acquire("a").no_wait().wait() else {
            panic!("{driver:?}: granted")
        };
        assert!(busy.withheld, "{driver:?}: {busy}");
        let old = place.set(Duration::from_secs(2), |config| config.longest_ttl(SOON));
        assert!(old.try_lock_for("a", TTL).expect("asked").is_some(), "{driver:?}");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn no_lock_of_a_postgres_is_granted_before_the_longest_ttl_is_over() {
    nothing_is_granted_before_the_longest_ttl_is_over(Place::postgres_advisory());
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn no_lock_of_a_mysql_is_granted_before_the_longest_ttl_is_over() {
    nothing_is_granted_before_the_longest_ttl_is_over(Place::mysql_advisory());
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn no_lock_of_a_mariadb_is_granted_before_the_longest_ttl_is_over() {
    nothing_is_granted_before_the_longest_ttl_is_over(Place::mariadb_advisory());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_postgres_client_of_the_callers_is_the_only_connection() {
    let place = Place::postgres_advisory();
    let config =
        Config::new().protocol(Protocol::Advisory).longest_ttl(SOON).ttl(Duration::from_secs(3));
    only(&place, Locks::with_postgres(client(place.url()), config));
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_mysql_connection_of_the_callers_is_the_only_connection() {
    let place = Place::mysql_advisory();
    let url = place.whole_url();
    let (_, prefix) = url.split_once("prefix=").expect("it has one");
    let config = Config::new().protocol(Protocol::Advisory).longest_ttl(SOON).prefix(prefix);
    let config = config.ttl(Duration::from_secs(3));
    only(&place, Locks::with_mysql(mysql_client(place.url()), config));
}

fn only(place: &Place, ours: Result<Locks, Error>) {
    let (ours, theirs) = (ours.expect("connected"), place.locks(TTL));
    // The server ends connections that are idle for a TTL, and there is no way to another.
    std::thread::sleep(Duration::from_secs(4));
    let held = theirs.lock("a").expect("taken");
    assert!(
        ours.try_lock_for("a", SOON).expect("asked").is_none(),
        "without a connection to wait on"
    );
    let released = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = ours.lock("a").expect("taken");
            assert!(released.load(Ordering::SeqCst));
            guard
        });
        std::thread::sleep(SOON);
        released.store(true, Ordering::SeqCst);
        held.release().expect("released");
        let guard = waiter.join().expect("no panic");
        place.rob("a");
        let lost = guard.wait_lost(Duration::from_secs(3));
        assert!(matches!(lost, Some(LostReason::Disconnected { .. })), "{lost:?}");
    });
    let refused = ours.lock("a").map(drop);
    assert!(
        matches!(&refused, Err(Error::NoConnection(why)) if why.contains("connect again")),
        "{refused:?}"
    );
}

/// So is a connection that waits there, for it has the lock in the end.
#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn who_waits_is_shown_at_the_server() {
    use mysql::prelude::Queryable;
    let place = Place::mysql_advisory();
    let held = place.locks(TTL).lock("a").expect("free");
    let waits = Locks::open(place.config(TTL).label("that waits")).expect("connected");
    let mut raw = mysql_client(place.url());
    let pid = format!("pid {} (that waits)", std::process::id());
    let text = "SELECT ATTR_VALUE FROM performance_schema.session_connect_attrs WHERE ATTR_NAME = 'holder'";
    let mut shown = || {
        let shown: Vec<String> = raw.query(text).expect("asked");
        shown.iter().filter(|holder| holder.ends_with(&pid)).count()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| waits.lock("a").expect("freed").release().expect("released"));
        let both = eventually(|| shown() == 2);
        drop(held);
        assert!(both, "the one that asks, and the one that waits");
    });
}

#[test]
#[ignore = "needs PostgreSQL, MySQL and MariaDB servers: tests/run starts them"]
fn who_has_a_connection_is_shown_at_the_server() {
    let pid = format!("pid {} (of this test)", std::process::id());
    let place = Place::postgres_advisory();
    let _locks = Locks::open(place.config(TTL).label("of this test")).expect("connected");
    let text = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%' || $1 AND datname = current_database()";
    let shown: i64 = client(place.url()).query_one(text, &[&pid]).expect("asked").get(0);
    assert_eq!(shown, 1);

    use mysql::prelude::Queryable;
    let place = Place::mysql_advisory();
    let _locks = Locks::open(place.config(TTL).label("of this test")).expect("connected");
    let text = "SELECT ATTR_VALUE FROM performance_schema.session_connect_attrs WHERE ATTR_NAME = 'holder'";
    let shown: Vec<String> = mysql_client(place.url()).query(text).expect("asked");
    assert!(shown.iter().any(|holder| holder.ends_with(&pid)), "{shown:?}");
}

#[test]
#[ignore = "needs PostgreSQL, MySQL, MariaDB and Consul servers: tests/run starts them"]
fn any_label_will_do() {
    let label = format!("a\0b\n{}", "é".repeat(100_000));
    for place in [
        Place::postgres_advisory(),
        Place::mysql_advisory(),
        Place::mariadb_advisory(),
        Place::consul(),
    ] {
        let locks = Locks::open(place.config(TTL).label(&label)).expect("connected");
        drop(locks.lock("a").expect("taken"));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn tables_and_advisory_locks_do_not_exclude_each_other() {
    let place = Place::postgres_advisory();
    let table = Locks::connect(place.url()).expect("connected");
    let _row = table.lock("a").expect("taken");
    // A server grants none before it has run for a TTL.
    assert!(place.locks(TTL).try_lock_for("a", 2 * TTL).expect("asked").is_some());
}

#[test]
#[ignore = "needs PostgreSQL, MySQL and MariaDB servers: tests/run starts them"]
fn a_first_lock_long_after_connecting_is_had_all_the_same() {
    let ttl = Duration::from_secs(2);
    for place in [Place::postgres_advisory(), Place::mysql_advisory(), Place::mariadb_advisory()] {
        let locks = place.locks(ttl);
        // The server has ended the connection by then.
        std::thread::sleep(ttl * 5 / 2);
        let guard = locks.try_lock("a").expect("asked").expect("free");
        std::thread::sleep(ttl * 5 / 2);
        assert!(guard.is_held(), "it is kept from then on");
        guard.release().expect("released");
        std::thread::sleep(ttl * 5 / 2);
        assert!(locks.try_lock("a").expect("asked").is_some(), "and also without a lock");
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_locks_key_leads_to_its_holder_in_pg_locks() {
    let place = Place::postgres_advisory();
    let names = [(Key::Hash, "nightly-report"), (Key::Int, "-7000000001"), (Key::Pair, "12,-7")];
    for (keys, name) in names {
        let config = place.config(TTL).keys(keys).label(format!("holds {name}"));
        let guard = Locks::open(config).expect("connected").lock(name).expect("taken");
        let text = "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                     WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                       AND concat_ws(' ', classid, objid, objsubid) = $1 AND granted";
        let entry = keys.entry(guard.name()).expect("a key");
        let holders = client(place.url()).query(text, &[&entry]).expect("asked");
        let holders: Vec<String> = holders.iter().map(|row| row.get(0)).collect();
        assert!(matches!(&holders[..], [holder] if holder.contains("holds ")), "{holders:?}");
        // The functions of the server take the other form.
        let key = keys.of(guard.name()).expect("a key");
        let text = format!("SELECT pg_try_advisory_lock({key})");
        let free: bool = client(place.url()).query_one(&text, &[]).expect("asked").get(0);
        assert!(!free, "{key} is another lock");
    }
}

#[test]
#[ignore = "needs servers: tests/run starts some"]
fn a_cancelled_wait_at_the_server_ends_at_once_and_leaves_nothing() {
    for place in [Place::postgres_advisory(), Place::mysql_advisory(), Place::consul()] {
        let (ours, theirs) = (place.locks(TTL), place.locks(TTL));
        let guard = ours.lock("a").expect("free");
        let cancel = Cancel::new();
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| theirs.acquire("a").cancelled_by(&cancel).wait().map(drop));
            std::thread::sleep(Duration::from_millis(500));
            let began = Instant::now();
            cancel.cancel();
            assert_eq!(waiting.join().expect("no panic"), Err(Error::Cancelled));
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        });
        guard.release().expect("released");
        // A wait that was cut at the server may just have been granted, and ends with its connection.
        assert!(ours.try_lock_for("a", TTL / 3).expect("asked").is_some());
    }
}

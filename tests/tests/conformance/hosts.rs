//! Several hosts in a URL: one that does not answer leaves time for the next.

use lock_sync::Error;
use lock_tests::advisory::waiting_at;
use lock_tests::drivers::{Driven, Driver, Locks};
use lock_tests::place::Place;
use lock_tests::proxy::{Proxy, eventually, server_of};
use std::net::{TcpListener, TcpStream};

use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(2);
const TTL: Duration = Duration::from_secs(30);

/// A host without a server.
struct Silent {
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Silent {
    /// It takes connections, and what is sent, and never says a word: a server that is frozen.
    fn frozen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { listener, _queue: Vec::new() }
    }

    /// It takes no connection and refuses none: a network that swallows packets.
    fn swallowing() -> Self {
        let Self { listener, _queue: mut queue } = Self::frozen();
        rustix::net::listen(&listener, 0).expect("a queue of one");
        let address = listener.local_addr().expect("bound");
        while let Ok(stream) = TcpStream::connect_timeout(&address, LIMIT / 20) {
            queue.push(stream);
            assert!(queue.len() < 10, "the queue does not get full");
        }
        Self { listener, _queue: queue }
    }

    fn host(&self) -> String {
        self.listener.local_addr().expect("bound").to_string()
    }
}

/// A kind of server, and its driver.
#[derive(Clone, Copy)]
struct At(fn() -> Place, Driver);

/// Connects by way of these hosts; how long that took. `own` among them stands for the server.
fn connect(At(place, driver): At, hosts: &[&str]) -> (Result<Locks, Error>, Duration) {
    let direct = place();
    let server = server_of(direct.url());
    let hosts = hosts.join(",").replace("own", &server);
    let url = direct.url().replace(&server, &hosts);
    let url = format!("{url}?request_timeout={}ms", LIMIT.as_millis());
    let place = Driven::new(driver, direct.through(&url));
    let began = Instant::now();
    let locks = place.try_labelled(TTL, "");
    (locks, began.elapsed())
}

fn the_next_one_has_time(at: At, silent: &Silent) {
    let (locks, took) = connect(at, &[&silent.host(), "own"]);
    let guard = locks.expect("by the second host").lock("a").expect("taken");
    assert!(guard.is_held());
    // With Consul, an eighth of the time is left for the answer.
    assert!(took >= LIMIT / 16 * 7, "the first one had its share: {took:?}");
}

fn all_of_them_share_the_limit(at: At, silent: &Silent) {
    let (locks, took) = connect(at, &[&silent.host(), &silent.host(), &silent.host()]);
    assert!(matches!(locks, Err(Error::Unavailable(_))), "{:?}", locks.err());
    assert!(took <= LIMIT * 2, "{took:?}");
}

macro_rules! hosts {
    ($($name:ident)*) => {
        hosts! { postgres, postgres, "needs a PostgreSQL server: tests/run starts one": $($name)* }
        hosts! { mysql, mysql, "needs a MySQL server: tests/run starts one": $($name)* }
        hosts! { consul, consul, "needs a Consul server: tests/run starts one": $($name)* }
    };
    ($module:ident, $place:ident, $needs:literal: $($name:ident)*) => {
        mod $module {
            use super::{At, Driver, Place};
            mod blocking {
                $(#[test]
                #[ignore = $needs]
                fn $name() { super::super::$name(super::At(super::Place::$place, super::Driver::Blocking)) })*
            }
            mod asynchronous {
                $(#[test]
                #[ignore = $needs]
                fn $name() { super::super::$name(super::At(super::Place::$place, super::Driver::Tokio)) })*
            }
        }
    };
}

hosts! {
    a_network_that_swallows_packets_leaves_time_for_the_next_host
    a_dead_host_takes_no_time
    silent_networks_share_the_limit
}

/// A request that was sent to a frozen agent of Consul may have been executed, so it goes to no other.
mod frozen {
    use super::*;
    hosts! { postgres, postgres, "needs a PostgreSQL server: tests/run starts one":
    a_frozen_server_leaves_time_for_the_next_host frozen_servers_share_the_limit }
    hosts! { mysql, mysql, "needs a MySQL server: tests/run starts one":
    a_frozen_server_leaves_time_for_the_next_host frozen_servers_share_the_limit }
}

fn a_network_that_swallows_packets_leaves_time_for_the_next_host(at: At) {
    the_next_one_has_time(at, &Silent::swallowing());
}

fn a_frozen_server_leaves_time_for_the_next_host(at: At) {
    the_next_one_has_time(at, &Silent::frozen());
}

fn silent_networks_share_the_limit(at: At) {
    all_of_them_share_the_limit(at, &Silent::swallowing());
}

fn frozen_servers_share_the_limit(at: At) {
    all_of_them_share_the_limit(at, &Silent::frozen());
}

fn a_dead_host_takes_no_time(at: At) {
    let (locks, took) = connect(at, &["127.0.0.1:1", "own", "127.0.0.1:2"]);
    assert!(locks.expect("by the second host").lock("a").expect("taken").is_held());
    assert!(took < LIMIT / 2, "{took:?}");
    let (locks, _) = connect(at, &["127.0.0.1:1", "127.0.0.1:2"]);
    let Some(Error::Unavailable(told)) = locks.err() else { panic!("it connected") };
    assert!(told.contains("none of the hosts can be used: 127.0.0.1:1"), "{told}");
    assert!(told.contains("127.0.0.1:2: "), "{told}");
}

/// A parameter of PostgreSQL's clients, which is for all of an attempt.
#[test]
fn a_connect_takes_no_longer_than_the_url_allows() {
    for silent in [Silent::swallowing(), Silent::frozen()] {
        for mode in ["disable", "prefer"] {
            let url = format!("postgres://u@{}/d?sslmode={mode}&ttl=10m", silent.host());
            // Nor does it take longer than a request may, whatever the URL allows.
            for limits in
                ["connect_timeout=1&request_timeout=1m", "connect_timeout=60&request_timeout=1s"]
            {
                for driver in [Driver::Blocking, Driver::Tokio] {
                    let began = Instant::now();
                    let url = format!("{url}&{limits}");
                    let error = lock_tests::drivers::connect(driver, &url).err();
                    let Some(Error::Unavailable(why)) = error else {
                        panic!("{driver:?}: {error:?}")
                    };
                    assert!(!why.contains("handshake"), "{driver:?}: it is silent: {why}");
                    assert!(
                        began.elapsed() < LIMIT * 15,
                        "{driver:?}, {url}: {:?}",
                        began.elapsed()
                    );
                }
            }
        }
    }
}

/// After a fail-over, no connect asks the dead primary first.
fn the_host_that_was_connected_to_comes_first(At(place, driver): At) {
    let direct = place();
    let server = server_of(direct.url());
    let [dead, alive] = [0; 2].map(|_| Proxy::start(&server));
    dead.cut(true);
    let hosts = [&dead, &alive].map(|proxy| server_of(&proxy.url(direct.url()))).join(",");
    let url = direct.url().replace(&server, &hosts);
    let place = Driven::new(driver, direct.through(&url));
    let locks = place.try_labelled(TTL, "").expect("by the second host");
    locks.lock("a").expect("taken").release().expect("released");
    let before = (dead.connections(), alive.connections());
    assert!(before.0 > 0, "the first was asked");
    alive.cut(false);
    assert!(locks.lock("a").expect("taken").is_held());
    assert!(alive.connections() > before.1, "it was connected to again");
    assert_eq!(dead.connections(), before.0);
}

mod remembered {
    use super::*;
    hosts! { postgres, postgres, "needs a PostgreSQL server: tests/run starts one":
    the_host_that_was_connected_to_comes_first }
    hosts! { mysql, mysql, "needs a MySQL server: tests/run starts one":
    the_host_that_was_connected_to_comes_first }
}

/// A wait begins and ends at the host that was connected to: the dead one is not asked by each connection again, and elsewhere
/// the number of this connection is somebody else's.
fn a_wait_begins_and_ends_at_the_same_host(place: fn() -> Place) {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let direct = place();
        let _held = direct.locks(TTL).lock("a").expect("free");
        let mut waiting = waiting_at(&direct);
        let server = server_of(direct.url());
        let [other, own] = [0; 2].map(|_| Proxy::start(&server));
        other.cut(true);
        let hosts = [&other, &own].map(|proxy| server_of(&proxy.url(direct.url()))).join(",");
        let url = direct.url().replace(&server, &hosts);
        let locks = Driven::new(driver, direct.through(&url)).locks(TTL);
        let asked = other.connections();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| locks.lock("a").map(drop));
            assert!(eventually(|| waiting() == 1));
            let before = own.connections();
            locks.close();
            assert_eq!(waiter.join().expect("no panic"), Err(Error::Closed));
            assert!(eventually(|| own.connections() > before), "{driver:?}: nothing ends it");
            assert_eq!(other.connections(), asked, "{driver:?}");
        });
    }
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_wait_at_mysql_begins_and_ends_at_the_same_host() {
    a_wait_begins_and_ends_at_the_same_host(Place::mysql_advisory);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_wait_at_postgres_begins_and_ends_at_the_same_host() {
    a_wait_begins_and_ends_at_the_same_host(Place::postgres_advisory);
}

/// The server takes no writes any more, as after a switch-over. That is no reason to leave a wait at it.
fn a_wait_ends_where_nothing_is_written_any_more(place: fn() -> Place) {
    for driver in [Driver::Blocking, Driver::Tokio] {
        let direct = place();
        let _held = direct.locks(TTL).lock("a").expect("free");
        let mut waiting = waiting_at(&direct);
        let server = server_of(direct.url());
        let proxy = Proxy::start(&server);
        let url = direct.url().replace(&server, &server_of(&proxy.url(direct.url())));
        let place = Driven::new(driver, direct.through(&format!("{url}?sslmode=disable")));
        let locks = place.locks(TTL);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| locks.lock("a").map(drop));
            assert!(eventually(|| waiting() == 1));
            let [_, (_, asks, instead)] = ASKS;
            proxy.rewrite(asks, instead);
            let (tell, told) = std::sync::mpsc::channel();
            proxy.answer(move |sent| {
                if sent.windows(5).any(|text| text == b"KILL ") {
                    let _ = tell.send(());
                }
                None
            });
            locks.close();
            assert_eq!(waiter.join().expect("no panic"), Err(Error::Closed));
            told.recv_timeout(TTL).unwrap_or_else(|_| panic!("{driver:?}: nothing ends it"));
            assert!(eventually(|| waiting() == 0), "{driver:?}");
        });
    }
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_wait_ends_at_a_mysql_that_takes_no_writes_any_more() {
    a_wait_ends_where_nothing_is_written_any_more(Place::mysql_advisory);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_wait_ends_at_a_mariadb_that_takes_no_writes_any_more() {
    a_wait_ends_where_nothing_is_written_any_more(Place::mariadb_advisory);
}

/// A question of a client's about what its server takes, and one to which the answer is that it takes no writes.
const ASKS: [(&str, &str, &str); 2] = [
    ("postgres", "SHOW transaction_read_only", "SELECT 'on'               "),
    ("mysql", "CAST(@@GLOBAL.read_only AS CHAR)", "CAST(1                  AS CHAR)"),
];

fn a_host_that_takes_no_writes_is_passed_over(At(place, driver): At) {
    let direct = place();
    let server = server_of(direct.url());
    // A login without TLS is possible after one with TLS.
    direct.locks(TTL).lock("a").expect("taken").release().expect("released");
    let proxy = Proxy::start(&server);
    for (scheme, asks, instead) in ASKS {
        if direct.url().replace("mariadb:", "mysql:").starts_with(scheme) {
            proxy.rewrite(asks, instead);
        }
    }
    let hosts = format!("{},{server}", server_of(&proxy.url(direct.url())));
    let url = direct.url().replace(&server, &hosts);
    let writes = if url.starts_with("postgres") { "&target_session_attrs=read-write" } else { "" };
    let place = Driven::new(driver, direct.through(&format!("{url}?sslmode=disable{writes}")));
    let locks = place.try_labelled(TTL, "").expect("by the second host");
    assert!(locks.lock("a").expect("taken").is_held());
    assert!(proxy.connections() > 0, "the first was asked");
}

mod read_only {
    use super::*;
    hosts! { postgres, postgres, "needs a PostgreSQL server: tests/run starts one":
    a_host_that_takes_no_writes_is_passed_over }
    hosts! { mysql, mysql, "needs a MySQL server: tests/run starts one":
    a_host_that_takes_no_writes_is_passed_over }
    hosts! { mariadb, mariadb, "needs a MariaDB server: tests/run starts one":
    a_host_that_takes_no_writes_is_passed_over }
}

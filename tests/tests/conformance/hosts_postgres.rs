//! Several hosts in a URL: one that does not answer leaves time for the next.

use lock_sync::Error;
use lock_tests::drivers::{Driven, Driver, Locks};
use lock_tests::place::Place;
use lock_tests::proxy::server_of;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(2);

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

/// Connects by way of these hosts; how long that took.
fn connect(driver: Driver, hosts: &[String]) -> (Result<Locks, Error>, Duration) {
    let direct = Place::postgres();
    let server = server_of(direct.url());
    let url = direct.url().replace(&server, &hosts.join(","));
    let url = format!("{url}?request_timeout={}ms", LIMIT.as_millis());
    let place = Driven::new(driver, direct.through(&url));
    let began = Instant::now();
    let locks = place.try_labelled(Duration::from_secs(30), "");
    (locks, began.elapsed())
}

fn the_next_one_has_time(driver: Driver, silent: &Silent) {
    let server = server_of(Place::postgres().url());
    let (locks, took) = connect(driver, &[silent.host(), server]);
    let guard = locks.expect("by the second host").lock("a").expect("taken");
    assert!(guard.is_held());
    assert!(took >= LIMIT / 2, "the first one had its share: {took:?}");
}

fn all_of_them_share_the_limit(driver: Driver, silent: &Silent) {
    let (locks, took) = connect(driver, &[silent.host(), silent.host(), silent.host()]);
    assert!(matches!(locks, Err(Error::Unavailable(_))), "{:?}", locks.err());
    assert!(took <= LIMIT * 2, "{took:?}");
}

macro_rules! hosts {
    ($($name:ident)*) => {
        mod blocking {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(super::Driver::Blocking) })*
        }
        mod asynchronous {
            $(#[test]
            #[ignore = "needs a PostgreSQL server: tests/run starts one"]
            fn $name() { super::$name(super::Driver::Tokio) })*
        }
    };
}

hosts! {
    a_network_that_swallows_packets_leaves_time_for_the_next_host
    a_frozen_server_leaves_time_for_the_next_host
    silent_networks_share_the_limit
    frozen_servers_share_the_limit
}

fn a_network_that_swallows_packets_leaves_time_for_the_next_host(driver: Driver) {
    the_next_one_has_time(driver, &Silent::swallowing());
}

fn a_frozen_server_leaves_time_for_the_next_host(driver: Driver) {
    the_next_one_has_time(driver, &Silent::frozen());
}

fn silent_networks_share_the_limit(driver: Driver) {
    all_of_them_share_the_limit(driver, &Silent::swallowing());
}

fn frozen_servers_share_the_limit(driver: Driver) {
    all_of_them_share_the_limit(driver, &Silent::frozen());
}

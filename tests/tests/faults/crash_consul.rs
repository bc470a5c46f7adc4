//! What a Consul that was killed still knows: facts about restarts, on servers of their own.

use lock_core::Outcome;
use lock_tests::consul::Consul;
use lock_tests::servers::Server;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn what_was_answered_outlives_a_kill() {
    let server = Server::consul();
    let consul = Consul::at(server.url());
    let [one, two] = [0; 2].map(|_| consul.session(LONG, Duration::from_secs(60)));
    let mut last = 0;
    for round in 0..3 {
        let fence = consul.granted(&one, "a");
        assert!(fence > last, "round {round}: {fence} after {last}");
        server.kill();
        let began = Instant::now();
        server.start();
        println!("round {round}: back after {:?}", began.elapsed());
        assert_eq!(consul.lock(&two, "a"), Outcome::Busy(None));
        assert_eq!(consul.granted(&one, "a"), fence, "the same hold");
        assert!(consul.unlock(&one, "a"));
        last = fence;
    }
    // What was freed stays free.
    server.kill();
    server.start();
    assert!(consul.granted(&two, "a") > last);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_restart_begins_every_ttl_anew() {
    let server = Server::consul();
    let consul = Consul::at(server.url());
    let ttl = Duration::from_secs(3);
    let one = consul.session(ttl, Duration::ZERO);
    let began = Instant::now();
    consul.granted(&one, "a");
    server.kill();
    // It would have ended by now, at twice its TTL.
    std::thread::sleep((ttl * 2 + Duration::from_millis(500)).saturating_sub(began.elapsed()));
    server.start();
    let two = consul.session(LONG, Duration::ZERO);
    assert_eq!(consul.lock(&two, "a"), Outcome::Busy(None), "after {:?}", began.elapsed());
    assert!(consul.renew(&one));
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn a_restart_begins_old_lock_delays_anew_also_for_who_has_the_lock_by_now() {
    let server = Server::consul();
    let consul = Consul::at(server.url());
    let delay = Duration::from_secs(2);
    let [one, two] = [0; 2].map(|_| consul.session(LONG, delay));
    for name in ["held", "free", "delayed"] {
        consul.granted(&one, name);
    }
    consul.destroy(&one);
    assert_eq!(consul.lock(&two, "held"), Outcome::Delayed);
    std::thread::sleep(delay + Duration::from_millis(100));
    let fence = consul.granted(&two, "held");
    consul.granted(&two, "free");
    assert!(consul.unlock(&two, "free"));
    // The delays are not in what Consul stores, but in how it comes there: it reads its log again.
    server.restart();
    let began = Instant::now();
    for name in ["held", "free", "delayed"] {
        assert_eq!(consul.lock(&two, name), Outcome::Delayed, "{name}");
    }
    let (index, _) = consul.watch("held", 0, LONG);
    assert_eq!(index, Some(fence), "it is the second's all the same");
    while consul.lock(&two, "held") == Outcome::Delayed {
        assert!(began.elapsed() < delay * 2, "never");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(consul.granted(&two, "held"), fence);
    consul.granted(&two, "free");
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn while_it_is_frozen_nothing_is_answered_and_then_all_is() {
    let server = Server::consul();
    let consul = Consul::at(server.url());
    let one = consul.session(LONG, Duration::ZERO);
    server.pause();
    let (asker, session) = (consul.clone(), one.clone());
    let asked = std::thread::spawn(move || asker.granted(&session, "a"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!asked.is_finished());
    server.resume();
    let fence = asked.join().expect("granted");
    assert_eq!(consul.granted(&one, "a"), fence);
}

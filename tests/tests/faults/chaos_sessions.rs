//! Servers that vanish, freeze and come back; answers that are lost: where locks belong to a
//! connection, or to a session in Consul.

use lock_sync::{Error, LostReason, ReleaseError};
use lock_tests::drivers::{Driven, Driver, Locks};
use lock_tests::place::{Keeps, Place};
use lock_tests::proxy::{Mode, Proxy, eventually, server_of};
use lock_tests::servers::{Kind, Server};
use lock_tests::traces;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(6);
/// For which a lock counts after a sign of life.
const VALID: Duration = Duration::from_millis(4999);
/// Timers are late, and the machine is shared: as late as the next holder may enter. A hung request would be later.
const LATE: Duration = Duration::from_secs(1);

/// Where the locks are, and who asks for them.
struct At {
    server: On,
    driver: Driver,
}

#[derive(Clone, Copy)]
enum On {
    Advisory(Kind),
    SqlLock(Kind),
    Consul,
}

impl At {
    /// On the server that the environment names.
    fn place(&self) -> Place {
        match self.server {
            On::Advisory(Kind::Postgres) => Place::postgres_advisory(),
            On::Advisory(Kind::Mysql) => Place::mysql_advisory(),
            On::Advisory(Kind::Mariadb) => Place::mariadb_advisory(),
            On::SqlLock(Kind::Mysql) => Place::mysql_sql_lock(),
            On::SqlLock(_) => Place::mariadb_sql_lock(),
            On::Consul => Place::consul(),
        }
    }

    /// On a server of the test's own.
    fn own(&self) -> (Server, Driven) {
        let server = match self.server {
            On::Advisory(kind) | On::SqlLock(kind) => kind.server(),
            On::Consul => Server::consul(),
        };
        let place = match self.server {
            On::Advisory(_) => Place::advisory_at(server.url()),
            On::SqlLock(_) => Place::sql_lock_at(server.url()),
            On::Consul => Place::consul_at(server.url()),
        };
        (server, Driven::new(self.driver, place))
    }

    /// Whether a server that is shut down may end the connection of a holder before that of a waiter, and grant the lock meanwhile.
    fn grants_while_it_ends(&self) -> bool {
        !matches!(self.server, On::Consul)
    }

    /// A place, the same behind a proxy, and the proxy.
    fn proxied(&self) -> (Driven, Driven, Proxy) {
        let direct = self.place();
        let proxy = Proxy::start(&server_of(direct.url()));
        let through = direct.through(&proxy.url(direct.url()));
        (Driven::new(self.driver, direct), Driven::new(self.driver, through), proxy)
    }
}

macro_rules! chaos {
    ($($name:ident)*) => {
        mod blocking {
            const DRIVER: crate::chaos_sessions::Driver = crate::chaos_sessions::Driver::Blocking;
            everywhere! { $($name)* }
        }
        mod asynchronous {
            const DRIVER: crate::chaos_sessions::Driver = crate::chaos_sessions::Driver::Tokio;
            everywhere! { $($name)* }
        }
    };
}

macro_rules! everywhere {
    ($($name:ident)*) => {
        at! { postgres_advisory, crate::chaos_sessions::On::Advisory(crate::chaos_sessions::Kind::Postgres), "needs a PostgreSQL server: tests/run starts one": $($name)* }
        at! { mysql_advisory, crate::chaos_sessions::On::Advisory(crate::chaos_sessions::Kind::Mysql), "needs a MySQL server: tests/run starts one": $($name)* }
        at! { mariadb_advisory, crate::chaos_sessions::On::Advisory(crate::chaos_sessions::Kind::Mariadb), "needs a MariaDB server: tests/run starts one": $($name)* }
        at! { mysql_sql_lock, crate::chaos_sessions::On::SqlLock(crate::chaos_sessions::Kind::Mysql), "needs a MySQL server: tests/run starts one": $($name)* }
        at! { mariadb_sql_lock, crate::chaos_sessions::On::SqlLock(crate::chaos_sessions::Kind::Mariadb), "needs a MariaDB server: tests/run starts one": $($name)* }
        at! { consul, crate::chaos_sessions::On::Consul, "needs a Consul server: tests/run starts one": $($name)* }
    };
}

macro_rules! at {
    ($module:ident, $server:expr, $needs:literal: $($name:ident)*) => {
        mod $module {
            $(#[test]
            #[ignore = $needs]
            fn $name() { crate::chaos_sessions::$name(&crate::chaos_sessions::At { server: $server, driver: super::DRIVER }) })*
        }
    };
}

chaos! {
    a_silent_network_means_lost_before_the_next_one_enters
    a_frozen_server_hangs_nobody
    an_acquire_whose_answer_is_lost_is_settled_at_once
    an_abandoned_acquire_whose_answer_is_lost_leaks_nothing
    a_cut_connection_takes_its_own_locks_along_and_no_others
    an_outage_is_waited_out_without_spinning
    a_restart_and_a_crash_in_the_middle_of_everything
}

/// Lets the session be opened, and statements be prepared, so that the next acquire is one message.
fn warm_up(locks: &Locks) {
    for _ in 0..3 {
        locks.lock("a").expect("taken").release().expect("released");
    }
}

fn a_silent_network_means_lost_before_the_next_one_enters(at: &At) {
    let (direct, through, proxy) = at.proxied();
    let (locks, others) = (through.locks(TTL), direct.locks(TTL));
    let guard = locks.lock("a").expect("taken");
    let called = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (slot, silent) = (called.clone(), Instant::now());
    guard.on_lost(move |_| *slot.lock().expect("unpoisoned") = Some(silent.elapsed()));
    proxy.set(Mode::Unplugged);

    let next = others.try_lock_for("a", TTL * 5).expect("asked").expect("taken over");
    assert!(!guard.is_held(), "two guards of one name");
    let taken_over = silent.elapsed();
    assert!(eventually(|| called.lock().expect("unpoisoned").is_some()));
    let lost_after = called.lock().expect("unpoisoned").expect("just seen");
    assert!(lost_after <= VALID + LATE, "told {lost_after:?} after the last sign of life");
    assert!(taken_over >= TTL / 2, "not before it expired: {taken_over:?}");
    let began = Instant::now();
    assert!(matches!(guard.release(), Err(ReleaseError::Lost(_))));
    let took = began.elapsed();
    assert!(took < TTL, "a release is bounded: {took:?}");
    assert!(next.is_held());
    traces::check(&direct);
}

fn a_frozen_server_hangs_nobody(at: &At) {
    let (server, place) = at.own();
    let locks = place.locks(TTL);
    let guard = locks.lock("a").expect("taken");
    server.pause();
    let frozen = Instant::now();
    std::thread::scope(|scope| {
        let hung = scope.spawn(|| (locks.try_lock("b").map(drop), frozen.elapsed()));
        let bounded = scope.spawn(|| {
            (locks.try_lock_for("c", Duration::from_millis(500)).map(drop), frozen.elapsed())
        });
        assert!(guard.wait_lost(TTL * 2).is_some());
        assert!(frozen.elapsed() <= VALID + LATE, "a hung request delays no loss");
        for (result, after) in [hung.join().expect("no panic"), bounded.join().expect("no panic")] {
            assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
            assert!(after < TTL, "two request budgets at most: {after:?}");
        }
    });
    server.resume();
    drop(guard);
    let guard =
        locks.try_lock_for("a", Duration::from_secs(20)).expect("asked").expect("it works again");
    assert!(guard.is_held());
    traces::check(&place);
}

fn an_acquire_whose_answer_is_lost_is_settled_at_once(at: &At) {
    let (direct, through, proxy) = at.proxied();
    let locks = through.locks(Duration::from_secs(30));
    warm_up(&locks);
    proxy.set(Mode::NoReplies);
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| locks.lock("a").expect("taken"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!taken.is_finished());
        let began = Instant::now();
        proxy.cut(false);
        proxy.set(Mode::Pass);
        let guard = taken.join().expect("no panic");
        // Freed with its connection, or still the session's own: nobody waits for the TTL.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        guard.release().expect("released");
    });
    traces::check(&direct);
}

fn an_abandoned_acquire_whose_answer_is_lost_leaks_nothing(at: &At) {
    let (direct, through, proxy) = at.proxied();
    let (locks, others) =
        (through.locks(Duration::from_secs(30)), direct.locks(Duration::from_secs(30)));
    warm_up(&locks);
    proxy.set(Mode::NoReplies);
    std::thread::scope(|scope| {
        let given_up = scope.spawn(|| locks.lock("a").map(drop));
        std::thread::sleep(Duration::from_secs(2));
        assert!(others.try_lock("a").expect("asked").is_none(), "the server had granted it");
        locks.close();
        proxy.cut(false);
        proxy.set(Mode::Pass);
        assert_eq!(given_up.join().expect("no panic"), Err(Error::Closed));
        let began = Instant::now();
        assert!(others.try_lock_for("a", Duration::from_secs(20)).expect("asked").is_some());
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "freed, not run out: {:?}",
            began.elapsed()
        );
    });
    traces::check(&direct);
}

/// A connection's, or a session's: that lives on.
fn a_cut_connection_takes_its_own_locks_along_and_no_others(at: &At) {
    let (direct, through, proxy) = at.proxied();
    let (locks, others) = (through.locks(TTL), direct.locks(TTL));
    let kept = others.lock("kept").expect("taken");
    for _ in 0..2 {
        let guard = locks.lock("a").expect("taken");
        let cut = Instant::now();
        proxy.cut(false);
        if direct.keeps() == Keeps::Keys {
            std::thread::sleep(TTL / 2);
            assert!(guard.is_held());
            guard.release().expect("still ours");
            continue;
        }
        let lost = guard.wait_lost(TTL).expect("lost");
        assert!(matches!(lost, LostReason::Disconnected { .. }), "{lost:?}");
        let noticed = cut.elapsed();
        assert!(noticed < TTL / 2, "when it was to be kept, at the latest: {noticed:?}");
        let after = others.try_lock_for("a", TTL / 2).expect("asked");
        assert!(after.is_some(), "the server knows, too");
        assert_eq!(guard.release(), Err(ReleaseError::Lost(lost)));
    }
    assert!(kept.is_held());
    traces::check(&direct);
}

fn an_outage_is_waited_out_without_spinning(at: &At) {
    let (direct, through, proxy) = at.proxied();
    let locks = through.locks(Duration::from_secs(30));
    let guard = locks.lock("held").expect("taken");
    let before = proxy.connections();
    proxy.cut(true);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| locks.lock("a").expect("taken"));
        let tried = scope.spawn(|| locks.try_lock("b").map(drop));
        assert!(matches!(tried.join().expect("no panic"), Err(Error::Unavailable(_))));
        std::thread::sleep(Duration::from_secs(5));
        // A waiter and a holder, each backing off up to a second, over some fifteen seconds.
        let tries = proxy.connections() - before;
        assert!((5..=100).contains(&tries), "{tries} connections were tried");
        proxy.cut(false);
        waiter.join().expect("no panic").release().expect("released");
    });
    assert_eq!(guard.is_held(), direct.keeps() == Keeps::Keys, "it outlives its connection");
    traces::check(&direct);
}

fn a_restart_and_a_crash_in_the_middle_of_everything(at: &At) {
    let (server, place) = at.own();
    // A server that forgets its locks gives none away for as long as its clients may count on them.
    let ttl = if place.keeps() == Keeps::Keys { Duration::from_secs(30) } else { TTL };
    let holder = place.locks(ttl);
    let held = holder.lock("held").expect("taken");
    let (inside, rounds, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let goes_on = |most: usize| {
        let before = rounds.load(Ordering::SeqCst);
        (0..most).any(|_| eventually(|| rounds.load(Ordering::SeqCst) > before + 20))
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let locks = place.locks(ttl);
            let (inside, rounds, stop) = (&inside, &rounds, &stop);
            scope.spawn(move || {
                let mut last = 0;
                while !stop.load(Ordering::SeqCst) {
                    let guard = locks.lock("a").expect("waiters outlast a restart");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                    assert!(guard.fence().get() > last);
                    last = guard.fence().get();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    rounds.fetch_add(1, Ordering::SeqCst);
                    // A release that meets the restart is not confirmed.
                    let _ = guard.release();
                }
            });
        }
        for crash in [false, true, false] {
            assert!(goes_on(1), "work goes on");
            if crash || at.grants_while_it_ends() {
                server.kill();
                server.start();
            } else {
                server.restart();
            }
            assert!(goes_on(6), "work goes on after the restart");
        }
        stop.store(true, Ordering::SeqCst);
    });
    if place.keeps() == Keeps::Keys {
        assert!(held.is_held(), "renewed across three restarts");
        held.release().expect("still ours");
    } else {
        let lost = held.lost_reason();
        let forgotten = matches!(lost, Some(LostReason::Disconnected { .. }));
        assert!(forgotten, "the server has forgotten it: {lost:?}");
        assert!(holder.lock("held").expect("taken anew").fence() > held.fence());
    }
    traces::check(&place);
}

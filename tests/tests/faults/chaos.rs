//! Servers that vanish, freeze and come back; answers that are lost.

use lock_sync::{Error, LostReason, ReleaseError};
use lock_tests::drivers::{Driven, Driver, Locks};
use lock_tests::observer::Observer;
use lock_tests::place::Place;
use lock_tests::proxy::{Mode, Proxy, eventually, server_of};
use lock_tests::servers::Kind;
use lock_tests::traces::{self, Depth};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(6);
/// For which a lease of that TTL counts.
const VALID: Duration = Duration::from_millis(4999);
/// Timers are late, and the machine is shared: as late as the next holder may enter. A hung request would be later.
const LATE: Duration = Duration::from_secs(1);

/// Which server, and who asks it.
#[derive(Clone, Copy)]
struct At(Kind, Driver);

macro_rules! chaos {
    (both { $($name:ident)* } mixed { $($mixed:ident)* }) => {
        mod blocking {
            const DRIVER: crate::chaos::Driver = crate::chaos::Driver::Blocking;
            everywhere! { $($name)* }
        }
        mod asynchronous {
            const DRIVER: crate::chaos::Driver = crate::chaos::Driver::Tokio;
            everywhere! { $($name)* }
        }
        mod mixed {
            const DRIVER: crate::chaos::Driver = crate::chaos::Driver::Mixed;
            everywhere! { $($mixed)* }
        }
    };
}

macro_rules! everywhere {
    ($($name:ident)*) => {
        at! { postgres, Postgres, "needs a PostgreSQL server: tests/run starts one": $($name)* }
        at! { mysql, Mysql, "needs a MySQL server: tests/run starts one": $($name)* }
        at! { mariadb, Mariadb, "needs a MariaDB server: tests/run starts one": $($name)* }
    };
}

macro_rules! at {
    ($module:ident, $kind:ident, $needs:literal: $($name:ident)*) => {
        mod $module {
            $(#[test]
            #[ignore = $needs]
            fn $name() { crate::chaos::$name(crate::chaos::At(crate::chaos::Kind::$kind, super::DRIVER)) })*
        }
    };
}

chaos! {
    both {
        a_silent_network_means_lost_by_the_deadline
        a_frozen_server_hangs_nobody
        an_acquire_whose_answer_is_lost_is_settled_at_once
        an_abandoned_acquire_whose_answer_is_lost_leaks_nothing
        a_cut_connection_loses_nothing
        an_outage_is_waited_out_without_spinning
    }
    mixed {
        a_restart_and_a_crash_in_the_middle_of_everything
        twenty_waiters_do_not_spin
    }
}

/// A place behind a proxy, and the proxy.
fn proxied(At(kind, driver): At) -> (Driven, Driven, Proxy) {
    let direct = kind.place();
    let proxy = Proxy::start(&server_of(direct.url()));
    let through = direct.through(&proxy.url(direct.url()));
    (Driven::new(driver, direct), Driven::new(driver, through), proxy)
}

/// Lets the connection prepare its statements, if it does such a thing, so that the next acquire is one message.
fn warm_up(locks: &Locks) {
    for _ in 0..2 {
        locks.lock("a").expect("taken").release().expect("released");
    }
}

fn a_silent_network_means_lost_by_the_deadline(at: At) {
    let (direct, through, proxy) = proxied(at);
    let (locks, others) = (through.locks(TTL), direct.locks(TTL));
    let guard = locks.lock("a").expect("taken");
    let called = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (slot, silent) = (called.clone(), Instant::now());
    guard.on_lost(move |reason| {
        *slot.lock().expect("unpoisoned") = Some((reason, silent.elapsed()))
    });
    proxy.set(Mode::Hole);

    let next = others.try_lock_for("a", TTL * 4).expect("asked").expect("taken over");
    assert!(!guard.is_held(), "two guards of one name");
    let taken_over = silent.elapsed();
    assert!(eventually(|| called.lock().expect("unpoisoned").is_some()));
    let (reason, lost_after) = called.lock().expect("unpoisoned").clone().expect("just seen");
    assert!(matches!(reason, LostReason::Deadline { .. }), "{reason:?}");
    assert!(lost_after <= VALID + LATE, "told {lost_after:?} after the last sign of life");
    assert!(taken_over >= TTL / 2, "not before it expired: {taken_over:?}");

    let began = Instant::now();
    assert_eq!(guard.release(), Err(ReleaseError::Lost(reason)));
    assert!(began.elapsed() < TTL, "a release is bounded: {:?}", began.elapsed());
    assert!(next.is_held());
    traces::check(&direct);
}

fn a_frozen_server_hangs_nobody(at: At) {
    let server = at.0.server();
    let place = Driven::new(at.1, Place::at(server.url()));
    let locks = place.locks(TTL);
    let guard = locks.lock("a").expect("taken");
    server.pause();
    let frozen = Instant::now();
    std::thread::scope(|scope| {
        let hung = scope.spawn(|| (locks.try_lock("b").map(drop), frozen.elapsed()));
        let bounded = scope.spawn(|| {
            (locks.try_lock_for("c", Duration::from_millis(500)).map(drop), frozen.elapsed())
        });
        let lost = guard.wait_lost(TTL * 2);
        assert!(matches!(lost, Some(LostReason::Deadline { .. })), "{lost:?}");
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

fn an_acquire_whose_answer_is_lost_is_settled_at_once(at: At) {
    let (direct, through, proxy) = proxied(at);
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
        // The server had granted it: the same owner gets it again, without waiting for the TTL.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        guard.release().expect("released");
    });
    traces::check(&direct);
}

fn an_abandoned_acquire_whose_answer_is_lost_leaks_nothing(at: At) {
    let (direct, through, proxy) = proxied(at);
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

fn a_cut_connection_loses_nothing(at: At) {
    let (_, through, proxy) = proxied(at);
    let locks = through.locks(TTL);
    let guard = locks.lock("a").expect("taken");
    for _ in 0..3 {
        proxy.cut(false);
        std::thread::sleep(TTL / 2);
        assert!(guard.is_held());
    }
    guard.release().expect("still ours");
    traces::check(&through);
}

fn an_outage_is_waited_out_without_spinning(at: At) {
    let (_, through, proxy) = proxied(at);
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
    assert!(guard.is_held());
    guard.release().expect("released");
    traces::check(&through);
}

fn a_restart_and_a_crash_in_the_middle_of_everything(at: At) {
    let server = at.0.server();
    // Holders and waiters of every driver that knows the server.
    let place = Driven::new(at.1, Place::at(server.url()));
    let ttl = Duration::from_secs(30);
    let holder = place.locks(ttl);
    let held = holder.lock("held").expect("taken");
    let (inside, rounds, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let locks = place.locks(ttl);
            let (inside, rounds, stop) = (&inside, &rounds, &stop);
            scope.spawn(move || {
                let mut last = 0;
                while !stop.load(Ordering::SeqCst) {
                    let guard = locks.lock("a").expect("waiters outlast a restart");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                    assert!(guard.is_held());
                    assert!(guard.fence().get() > last);
                    last = guard.fence().get();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    rounds.fetch_add(1, Ordering::SeqCst);
                    // A release that meets the restart is not confirmed; the lease then runs out.
                    let _ = guard.release();
                }
            });
        }
        for crash in [false, true, false] {
            let before = rounds.load(Ordering::SeqCst);
            assert!(eventually(|| rounds.load(Ordering::SeqCst) > before + 20), "work goes on");
            if crash {
                server.kill();
                server.start();
            } else {
                server.restart();
            }
            let before = rounds.load(Ordering::SeqCst);
            let recovered =
                (0..3).any(|_| eventually(|| rounds.load(Ordering::SeqCst) > before + 20));
            assert!(recovered, "work goes on after the restart");
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(held.is_held(), "renewed across three restarts");
    held.release().expect("still ours");
    // A release does not wait for the disk, and may be forgotten in the crash.
    traces::check_to(&place, Depth::Holds);
}

fn twenty_waiters_do_not_spin(at: At) {
    let server = at.0.server();
    let place = Driven::new(at.1, Place::at(server.url()));
    let _guard = place.locks(Duration::from_secs(30)).lock("a").expect("taken");
    let mut observer = Observer::new(&server);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    place.locks(Duration::from_secs(30)).try_lock_for("a", Duration::from_secs(6))
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(2));
        observer.reset();
        std::thread::sleep(Duration::from_secs(3));
        let calls: i64 = observer.counted().iter().map(|(_, calls)| calls).sum();
        // Two statements a try, a try every 0.5 to 1 s once backed off: 240 at most in 3 s. PostgreSQL
        // tells sixteen of them when it is time, and the four that are far behind look.
        let some = if at.0 == Kind::Postgres { 0..=40 } else { 20..=300 };
        assert!(some.contains(&calls), "{calls} statements in 3 s");
        for waiter in waiters {
            assert!(waiter.join().expect("no panic").expect("asked").is_none());
        }
    });
    traces::check(&place);
}

//! Prepared statements on MySQL and MariaDB: what is run again is prepared, and where that is not
//! possible, locks are taken all the same.

use lock_sync::{Config, TableName};
use lock_tests::drivers::{Driven, Driver, Locks, wait};
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::{Proxy, server_of};
use lock_tests::servers::{Kind, Server};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(6);
/// `COM_QUERY`, `COM_STMT_PREPARE` and `COM_STMT_EXECUTE`, the fifth byte of what a client sends.
const QUERY: u8 = 0x03;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;

macro_rules! prepared {
    ($($name:ident)*) => {
        mod mysql_server {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mysql, super::Driver::Blocking) })*
        }
        mod mariadb_server {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mariadb, super::Driver::Blocking) })*
        }
        mod mysql_server_with_tokio {
            $(#[test]
            #[ignore = "needs a MySQL server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mysql, super::Driver::Tokio) })*
        }
        mod mariadb_server_with_tokio {
            $(#[test]
            #[ignore = "needs a MariaDB server: tests/run starts one"]
            fn $name() { super::$name(super::Kind::Mariadb, super::Driver::Tokio) })*
        }
    };
}

prepared! {
    what_is_run_again_is_prepared
    what_cannot_be_prepared_is_sent_as_text
    what_the_server_forgot_is_prepared_anew_once
    what_would_take_too_long_to_prepare_is_sent_as_text
    nothing_is_prepared_after_a_slow_answer
    whatever_is_answered_is_no_panic
}

/// The server's rows and its own locks, through a proxy.
fn places(server: &Server, driver: Driver) -> [(Driven, Proxy); 2] {
    let url = server.url();
    [Place::at(url), Place::advisory_at(url)].map(|place| {
        // Before it grants its own locks, the server must have run for as long as a lease lasts.
        place.locks(TTL).lock("first").expect("taken").release().expect("released");
        let proxy = Proxy::start(&server_of(url));
        let through = place.through(&format!("{}?sslmode=disable", proxy.url(url)));
        (Driven::new(driver, through), proxy)
    })
}

fn pairs(count: usize, locks: &Locks) {
    for _ in 0..count {
        let guard = locks.lock("a").expect("taken");
        assert!(guard.fence().get() > 1_700_000_000_000_000, "it is the time");
        guard.release().expect("released");
    }
}

/// How many requests a pair takes. A session is also kept alive meanwhile, so that there may be one more.
fn requests(locks: &Locks, proxy: &Proxy) -> usize {
    let before = proxy.requests();
    pairs(1, locks);
    proxy.requests() - before
}

/// How often the server has prepared a statement, and executed one.
fn counted(admin: &mut Conn) -> [u64; 2] {
    ["Com_stmt_prepare", "Com_stmt_execute"].map(|name| {
        let query = format!("SHOW GLOBAL STATUS LIKE '{name}'");
        let row: Option<(String, u64)> = admin.query_first(query).expect("asked");
        row.expect("a row").1
    })
}

fn since(admin: &mut Conn, before: [u64; 2]) -> [u64; 2] {
    let [prepared, executed] = counted(admin);
    [prepared - before[0], executed - before[1]]
}

fn what_is_run_again_is_prepared(kind: Kind, driver: Driver) {
    let server = kind.server();
    let mut admin = mysql_client(server.url());
    for (place, proxy) in places(&server, driver) {
        let locks = place.locks(TTL);
        // What is run once takes no second round trip.
        for (prepared, executed, sent) in [(0, 0, 2), (2, 2, 4), (0, 2, 2), (0, 2, 2)] {
            let before = counted(&mut admin);
            let requests = requests(&locks, &proxy);
            assert!((sent..=sent + 1).contains(&requests), "{requests}, {:?}", place.keeps());
            let [times, executions] = since(&mut admin, before);
            // MySQL counts also that it prepares it anew for parameters of another type than it thought.
            assert!((prepared..=2 * prepared).contains(&times), "{times}, {:?}", place.keeps());
            assert_eq!(executions, executed, "{:?}", place.keeps());
        }
    }
}

fn what_cannot_be_prepared_is_sent_as_text(kind: Kind, driver: Driver) {
    let server = kind.server();
    let mut admin = mysql_client(server.url());
    for (place, proxy) in places(&server, driver) {
        let locks = place.locks(TTL);
        admin.query_drop("SET GLOBAL max_prepared_stmt_count = 0").expect("set");
        let before = counted(&mut admin);
        // It is tried once.
        for sent in [2, 4, 2, 2] {
            let requests = requests(&locks, &proxy);
            assert!((sent..=sent + 1).contains(&requests), "{requests}, {:?}", place.keeps());
        }
        assert_eq!(since(&mut admin, before)[1], 0);
        admin.query_drop("SET GLOBAL max_prepared_stmt_count = DEFAULT").expect("set");
        // Another connection tries by itself.
        let (locks, before) = (place.locks(TTL), counted(&mut admin));
        pairs(3, &locks);
        assert_eq!(since(&mut admin, before)[1], 4);
    }
}

/// A client of the caller's that keeps one statement has the server forget the others.
fn what_the_server_forgot_is_prepared_anew_once(kind: Kind, driver: Driver) {
    let server = kind.server();
    let mut admin = mysql_client(server.url());
    let url = server.url().replacen("mariadb://", "mysql://", 1);
    let config = Config::new().table(TableName::new("locks").expect("good"));
    let locks = match driver {
        Driver::Tokio => Locks::Tokio(wait(async {
            let opts = mysql_async::Opts::from_url(&url).expect("a good URL");
            let opts = mysql_async::OptsBuilder::from_opts(opts).stmt_cache_size(1);
            let own = mysql_async::Conn::new(opts).await.expect("connected");
            lock_async::Locks::with_mysql(own, config).await.expect("connected")
        })),
        _ => {
            let opts = mysql::Opts::from_url(&url).expect("a good URL");
            let opts = mysql::OptsBuilder::from_opts(opts).prefer_socket(false).stmt_cache_size(1);
            let own = Conn::new(opts).expect("connected");
            Locks::Blocking(lock_sync::Locks::with_mysql(own, config).expect("connected"))
        }
    };
    let before = counted(&mut admin);
    pairs(5, &locks);
    // Each text has the other one forgotten when it is prepared, and is prepared anew once. One is forgotten again
    // after it was executed twice, and sent as text from then on; the other one never.
    assert_eq!(since(&mut admin, before), [4, 2 + 4]);
}

fn what_would_take_too_long_to_prepare_is_sent_as_text(kind: Kind, driver: Driver) {
    let direct = kind.place();
    let proxy = Proxy::start(&server_of(direct.url()));
    let url = format!("{}?sslmode=disable", proxy.url(direct.url()));
    let locks = Driven::new(driver, direct.through(&url)).locks(TTL * 4);
    let ours = direct.locks(TTL * 10);
    let guard = ours.lock("a").expect("taken");
    assert!(locks.try_lock("a").expect("asked").is_none());
    let request = lock_core::Timing::new(TTL * 4).expect("good").request();
    let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let count = counts.clone();
    proxy.answer(move |sent| {
        let command = sent.get(4);
        // To prepare and execute takes two thirds of the time. To have the question who is in the way prepared, too,
        // would take too long.
        if matches!(command, Some(&PREPARE | &EXECUTE)) {
            std::thread::sleep(request / 3);
            count[usize::from(command == Some(&EXECUTE))].fetch_add(1, Ordering::SeqCst);
        }
        None
    });
    let sent = || [0, 1].map(|at: usize| counts[at].load(Ordering::SeqCst));
    assert!(locks.try_lock("a").expect("asked").is_none(), "that much was known");
    assert_eq!(sent(), [1, 1], "prepared and executed");
    guard.release().expect("released");
    assert!(locks.try_lock("a").expect("asked").is_some());
    assert_eq!(sent(), [1, 2], "what was prepared is not prepared again");
}

fn nothing_is_prepared_after_a_slow_answer(kind: Kind, driver: Driver) {
    let direct = kind.place();
    let proxy = Proxy::start(&server_of(direct.url()));
    let url = format!("{}?sslmode=disable", proxy.url(direct.url()));
    let locks = Driven::new(driver, direct.through(&url)).locks(TTL * 4);
    let request = lock_core::Timing::new(TTL * 4).expect("good").request();
    let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let count = counts.clone();
    proxy.answer(move |sent| {
        match sent.get(4) {
            // There is no time for two of them.
            Some(&QUERY) => {
                std::thread::sleep(request * 3 / 5);
                count[0].fetch_add(1, Ordering::SeqCst);
            }
            Some(&PREPARE) => drop(count[1].fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        None
    });
    let guards = ["a", "b"].map(|name| locks.lock(name).expect("taken"));
    let [texts, prepared] = [0, 1].map(|at: usize| counts[at].load(Ordering::SeqCst));
    assert!(texts >= 2 && prepared == 0, "the second one is no first one: {texts}, {prepared}");
    proxy.answer(|_| None);
    drop(guards);
}

fn whatever_is_answered_is_no_panic(kind: Kind, driver: Driver) {
    let direct = kind.place();
    let proxy = Proxy::start(&server_of(direct.url()));
    let url = format!("{}?sslmode=disable", proxy.url(direct.url()));
    let locks = Driven::new(driver, direct.through(&url)).locks(TTL / 2);
    let take = || match locks.try_lock("a") {
        Ok(Some(guard)) => guard.release().is_ok(),
        _ => false,
    };
    for command in [PREPARE, EXECUTE] {
        let answered = Arc::new(AtomicUsize::new(0));
        for first in [0x00, 0x01, 0xfb, 0xfe, 0xff] {
            for length in [0, 2, 11, 12, 40] {
                let body: Vec<u8> =
                    (0..length).map(|n: u8| first ^ (n / 4).wrapping_mul(37)).collect();
                let answer = [&[length, 0, 0, 1][..], &body].concat();
                let answered = answered.clone();
                proxy.answer(move |sent| {
                    let own = sent.get(4) == Some(&command);
                    answered.fetch_add(usize::from(own), Ordering::SeqCst);
                    own.then(|| answer.clone())
                });
                for _ in 0..3 {
                    take();
                }
            }
        }
        assert!(answered.load(Ordering::SeqCst) >= 25, "each at least once");
    }
    proxy.answer(|_| None);
    assert!(lock_tests::proxy::eventually(take), "it goes on");
}

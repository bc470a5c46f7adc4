//! The first connect is a part of the wait.

use lock_tests::servers::{Kind, Server};
use lock_tests::withlock::{Run, Sandbox, children, eventually, is_alive};
use rustix::process::Signal;
use std::time::Duration;

/// Where nobody listens: a port that has just been free.
fn nowhere() -> [String; 3] {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    ["postgres://me", "mysql://me", "consul://"].map(|scheme| match scheme.ends_with('/') {
        true => format!("{scheme}{address}/locks"),
        false => format!("{scheme}@{address}/locks"),
    })
}

fn start(sandbox: &Sandbox, url: &str, args: &[&str]) -> Run {
    let args = [args, &["n", "--", "touch", "ran"]].concat();
    sandbox.start(&mut sandbox.withlock(url, &args))
}

fn tries_again(run: &Run) {
    eventually("it tries again", || run.output()[1].contains("; trying again\n"));
}

/// Nobody could be trusted, so nobody is asked.
#[test]
fn a_system_without_authorities_is_told() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("empty")).expect("made");
    for url in [
        "postgres://me@127.0.0.1:1/d?sslmode=verify-full",
        "consul://127.0.0.1:1?sslmode=verify-full",
    ] {
        let mut command = sandbox.withlock(url, &["-n", "n", "--", "touch", "ran"]);
        command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", sandbox.path("empty"));
        let ended = sandbox.start(&mut command).end().expect(125);
        assert!(ended.stderr.contains("no certificate authorities"), "{ended:?}");
    }
}

/// Not even for a wait that has no end: it is started after withlock.
fn it_is_started_later(server: &Server) {
    let sandbox = Sandbox::new();
    server.kill();
    for wait in [&["--wait", "5m"][..], &[]] {
        let run = start(&sandbox, server.url(), wait);
        tries_again(&run);
        server.start();
        let ended = run.end_within(Duration::from_secs(120)).expect(0);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(sandbox.path("ran").exists());
        std::fs::remove_file(sandbox.path("ran")).expect("there");
        server.kill();
    }
}

#[test]
#[ignore = "needs a PostgreSQL server of its own: tests/servers"]
fn a_server_that_is_started_later_is_waited_for_on_postgres() {
    it_is_started_later(&Kind::Postgres.server());
}

#[test]
#[ignore = "needs a MariaDB server of its own: tests/servers"]
fn a_server_that_is_started_later_is_waited_for_on_mariadb() {
    it_is_started_later(&Kind::Mariadb.server());
}

#[test]
#[ignore = "needs a Consul server of its own: tests/servers"]
fn a_server_that_is_started_later_is_waited_for_on_consul() {
    let server = Server::consul();
    let url = server.url().replace("http://", "consul://");
    let sandbox = Sandbox::new();
    server.kill();
    let run = start(&sandbox, &url, &[]);
    tries_again(&run);
    server.start();
    run.end_within(Duration::from_secs(120)).expect(0);
    assert!(sandbox.path("ran").exists());
}

/// Nobody is known to have the lock, so the end of the wait is a failure of withlock's.
#[test]
fn a_server_that_stays_away_is_125_at_the_end_of_the_wait() {
    let sandbox = Sandbox::new();
    for url in nowhere() {
        for args in [&["--wait", "700ms"][..], &["--wait", "700ms", "--skip"], &["-w1s", "-E9"]] {
            let ended = start(&sandbox, &url, args).end().expect(125);
            assert!(ended.took >= Duration::from_millis(700), "{ended:?}");
            let lines: Vec<_> = ended.stderr.lines().collect();
            let [first, last] = lines[..] else { panic!("{ended:?}") };
            assert!(first.starts_with("withlock: waiting for \"n\" at ") && first != last);
            assert!(last.contains("the lock server cannot be used"), "{ended:?}");
            // The cause is known from the tries before.
            assert!(!last.contains("no answer in time"), "{ended:?}");
        }
        let ended = start(&sandbox, &url, &["--wait", "200ms", "--quiet"]).end().expect(125);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        // Commands that do not wait for the lock do not wait for the server either.
        for args in [&["--try"][..], &["--skip"], &["-n", "--skip"], &["--wait", "0s"]] {
            let ended = start(&sandbox, &url, args).end().expect(125);
            assert_eq!(ended.stderr.lines().count(), 1, "{args:?}: {ended:?}");
            assert!(!ended.stderr.contains("trying again"), "{ended:?}");
        }
    }
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn signals_end_a_wait_for_the_server() {
    let sandbox = Sandbox::new();
    for (signal, code) in
        [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)]
    {
        let run = start(&sandbox, &nowhere()[0], &[]);
        tries_again(&run);
        let started = children(run.pid());
        for ignored in [Signal::USR1, Signal::WINCH, Signal::CONT] {
            run.signal(ignored);
        }
        run.signal(signal);
        let ended = run.end_within(Duration::from_secs(30)).expect(code);
        assert_eq!(ended.status.code(), Some(code), "it ended by itself: {ended:?}");
        eventually("nobody is left", || !started.iter().any(|pid| is_alive(*pid)));
    }
    assert!(!sandbox.path("ran").exists());
}

/// Waiting would not help.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn what_a_server_refuses_is_refused_at_once() {
    let place = lock_tests::place::Place::postgres();
    let (server, _) = place.url().rsplit_once('/').expect("a database");
    let sandbox = Sandbox::new();
    for url in [format!("{server}/no_such_database"), "postgres://%zz@/".to_string()] {
        let ended = start(&sandbox, &url, &[]).end().expect(125);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    let ended = start(&sandbox, place.url(), &["--grace", "1h"]).end().expect(125);
    assert!(ended.stderr.contains("--grace must not be more"), "{ended:?}");
    // And what makes no sense is known before anybody is asked.
    let ended = start(&sandbox, &nowhere()[0], &["--grace", "1h"]).end().expect(125);
    assert!(ended.stderr.contains("--grace must not be more"), "{ended:?}");
}

//! What MySQL and MariaDB have of their own.

use lock_core::sql::advisory::{Prefix, mysql::codec};
use lock_core::sql::{Refusal, Value};
use lock_core::{Failure, Mode, Request, SessionName};
use lock_tests::advisory::{LONG, Line, claim, claims, connect, fresh, open};
use lock_tests::on_mysql_and_mariadb;
use lock_tests::servers::Kind;
use std::thread::scope;
use std::time::Duration;

on_mysql_and_mariadb! {
    there_are_no_shared_locks
    a_lock_belongs_to_the_server_and_a_prefix_to_its_users
    a_server_that_is_read_only_is_refused_and_grants_nothing
    the_time_of_a_fence_moves_with_no_time_zone
    a_wait_is_ended_by_its_number_only_where_its_session_waits
}

fn there_are_no_shared_locks(kind: Kind) {
    let (mut a, mut b, name) = (Line::new(kind, LONG), Line::new(kind, LONG), fresh("shared"));
    let command = Request::Acquire {
        session: SessionName::default(),
        claims: vec![claim(&name, Mode::Shared)],
        ttl: Duration::from_secs(30),
        min_uptime: Duration::ZERO,
        label: "".into(),
    };
    let answer = a.ask(&command);
    assert!(matches!(answer, Err(Failure::Rejected { retry: false, .. })), "{answer:?}");
    assert!(b.take(&name).is_some(), "nor was it taken for an exclusive one");
}

fn a_lock_belongs_to_the_server_and_a_prefix_to_its_users(kind: Kind) {
    let name = fresh("scope");
    let url = kind.place().url().to_string();
    let mut here = Line::new(kind, LONG);
    assert!(here.take(&name).is_some());
    let elsewhere = url.replace("/test", "/mysql");
    assert_ne!(url, elsewhere);
    let default = codec(Prefix::default());
    assert_eq!(Line::at(&elsewhere, kind, default, LONG).take(&name), None, "in all databases");
    let own = codec(Prefix::new("own:").expect("good"));
    assert!(Line::at(&url, kind, own, LONG).take(&name).is_some(), "another lock");
}

fn a_server_that_is_read_only_is_refused_and_grants_nothing(kind: Kind) {
    let server = kind.server();
    let name = fresh("replica");
    let codec = codec(Prefix::default());
    let [mut a, mut b] = [0; 2].map(|_| Line::at(server.url(), kind, codec.clone(), LONG));
    a.run("SET GLOBAL read_only = 1");
    assert_eq!(a.keep(), Ok(false), "its locks count elsewhere by now");
    let names = claims(&[&name]);
    let commands = [
        Request::Acquire {
            session: SessionName::default(),
            claims: names.clone(),
            ttl: Duration::from_secs(30),
            min_uptime: Duration::ZERO,
            label: "".into(),
        },
        wait_for(&name),
    ];
    for command in commands {
        let answer = a.ask(&command);
        let Err(Failure::Rejected { retry: true, message, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert!(message.contains("read-only"), "{message}");
    }
    let mut client = connect(server.url());
    assert_eq!(open(&mut *client, &codec, LONG, None), Err(Refusal::ReadOnly));
    a.run("SET GLOBAL read_only = 0");
    assert!(b.take(&name).is_some());
    assert_eq!(a.keep(), Ok(true));
}

fn wait_for(name: &str) -> Request {
    Request::Wait {
        behind: None,
        session: SessionName::default(),
        claim: claim(name, Mode::Exclusive),
        since: 0,
        up_to: LONG,
        min_uptime: Duration::ZERO,
    }
}

fn the_time_of_a_fence_moves_with_no_time_zone(kind: Kind) {
    let server = kind.server();
    let codec = codec(Prefix::default());
    let before = Line::at(server.url(), kind, codec.clone(), LONG).time();
    connect(server.url()).batch("SET GLOBAL time_zone = '-11:00'");
    assert!(Line::at(server.url(), kind, codec, LONG).time() > before);
}

/// The server's name may lead to another one meanwhile, and the number to a stranger there.
fn a_wait_is_ended_by_its_number_only_where_its_session_waits(kind: Kind) {
    let name = fresh("kill");
    let mut holder = Line::new(kind, LONG);
    assert!(holder.take(&name).is_some());
    let [mut waiter, idle] = [0; 2].map(|_| Line::new(kind, LONG));
    let session = waiter.session.clone();
    let [waits, kill] = session.kill();
    let [other, _] = idle.session.kill();
    // The number of one is asked for with another's mark.
    let mut stranger = other.clone();
    stranger.params[0] = waits.params[0].clone();
    let (found, answer) = scope(|scope| {
        let waiting = scope.spawn(|| waiter.ask(&wait_for(&name)));
        holder.sees_waiting(session.id());
        let found = [&stranger, &other, &waits].map(|asks| holder.client.run(asks));
        holder.client.run(&kill).expect("ended");
        (found, waiting.join().expect("no panic"))
    });
    assert_eq!(found, [vec![], vec![], vec![vec![Value::Int(session.id())]]].map(Ok));
    assert!(answer.is_err(), "{answer:?}");
    assert!(holder.free(&name));
}

//! What PostgreSQL tells those that wait for a lock table's locks, fact by fact.

use crate::postgres::{Table, new, other};
use lock_core::admin::{AdminRequest, AdminResponse};
use lock_core::sql::postgres as dialect;
use lock_core::{Instant, LockName, News, Outcome, Place, Reply, Request, TableName, Turn};
use lock_tests::raw::Raw;
use postgres::fallible_iterator::FallibleIterator;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

/// The same, and it listens.
fn subscriber(table: &Table) -> Table {
    let mut subscriber = other(table);
    let listen = Request::Subscribe { up_to: SHORT };
    assert_eq!(subscriber.try_ask(&listen), Ok(Reply::News(News::Begun)));
    subscriber
}

/// What was told since the last time.
fn told(subscriber: &mut Table) -> Vec<String> {
    let mut notifications = subscriber.client.notifications();
    let mut told = notifications.timeout_iter(SHORT * 4);
    let mut names = Vec::new();
    while let Some(notification) = told.next().expect("connected") {
        names.push(notification.payload().to_string());
    }
    names
}

/// The payload that tells that a lock is freed, and that it is the turn of this ticket.
fn freed(name: &str, ticket: u64) -> String {
    format!("\u{2}{ticket} 0 {name}")
}

/// Somebody is denied, and waits with this ticket.
fn waits(table: &mut Table, name: &str, owner: u128) -> u64 {
    table.waits(&[name], owner, None)[0].expect("another has it").ticket
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_release_of_what_somebody_waits_for_is_told() {
    let mut table = new();
    let mut waiter = other(&table);
    let mut subscribers = [subscriber(&table), subscriber(&table)];
    table.granted("a", 1, LONG).expect("free");
    let ticket = waits(&mut waiter, "a", 2);
    assert!(told(&mut subscribers[0]).is_empty(), "not before it is free");
    assert_eq!(table.release(&["a"], 1), [true]);
    for subscriber in &mut subscribers {
        assert_eq!(told(subscriber), [freed("a", ticket)]);
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn nothing_is_told_when_nobody_waits() {
    let mut table = new();
    let mut subscriber = subscriber(&table);
    table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.release(&["a"], 1), [true]);
    // Nor when the last that waited has it.
    table.granted("b", 1, LONG).expect("free");
    let ticket = waits(&mut table, "b", 2);
    assert_eq!(table.release(&["b"], 1), [true]);
    assert_eq!(told(&mut subscriber), [freed("b", ticket)]);
    assert!(matches!(table.in_turn("b", 2, Some(ticket)), Outcome::Granted(_)));
    assert_eq!(table.release(&["b"], 2), [true]);
    assert!(told(&mut subscriber).is_empty());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_release_by_a_stranger_is_not_told() {
    let mut table = new();
    let mut subscriber = subscriber(&table);
    table.granted("a", 1, LONG).expect("free");
    let ticket = waits(&mut table, "a", 2);
    assert_eq!(table.release(&["a"], 2), [false]);
    assert!(told(&mut subscriber).is_empty());
    assert_eq!(table.release(&["a"], 1), [true]);
    assert_eq!(told(&mut subscriber), [freed("a", ticket)]);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_break_is_told_as_a_release_is() {
    let mut table = new();
    let mut subscriber = subscriber(&table);
    let fence = table.granted("a", 1, LONG).expect("free");
    let ticket = waits(&mut table, "a", 2);
    let name = LockName::new("a").expect("good");
    let request = AdminRequest::Break { name, fence };
    let mut exchange = table.codec.encode_admin(&request, Instant::default());
    while let Some(statement) = exchange.poll_statement() {
        exchange.handle_rows(table.client.run(&statement).expect("broken"));
    }
    let raised = exchange.finish().and_then(AdminResponse::raised).expect("an answer");
    assert!(raised > Some(fence), "{raised:?}");
    assert_eq!(told(&mut subscriber), [freed("a", ticket)]);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn who_claims_again_what_it_has_keeps_the_line() {
    let mut table = new();
    let mut subscriber = subscriber(&table);
    table.granted("a", 1, LONG).expect("free");
    let ticket = waits(&mut table, "a", 2);
    table.granted("a", 1, LONG).expect("still its own");
    assert_eq!(table.renew(&["a"], 1, LONG), [true]);
    assert_eq!(table.release(&["a"], 1), [true]);
    assert_eq!(told(&mut subscriber), [freed("a", ticket)]);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_waiter_draws_one_ticket_and_then_only_reads() {
    let mut table = new();
    table.granted("a", 1, LONG).expect("free");
    let ticket = waits(&mut table, "a", 2);
    let version = |table: &mut Table| -> String {
        let columns = "concat_ws(' ', ctid, xmin, xmax)";
        let sql = format!("SELECT {columns} FROM {}", table.place.table());
        table.client.query_one(&sql, &[]).expect("a row").get(0)
    };
    let before = version(&mut table);
    for _ in 0..9 {
        let place = table.waits(&["a"], 2, Some(ticket))[0];
        assert_eq!(place, Some(Place { ticket, ahead: 0 }));
    }
    assert_eq!(table.granted("a", 3, LONG), None, "nor does who does not wait");
    assert_eq!(version(&mut table), before, "no more writes, and not even a row lock");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_table_is_told_of_whatever_it_is_called() {
    let table = new();
    let schema: String =
        other(&table).client.query_one("SELECT current_schema()::text", &[]).expect("one").get(0);
    let full = TableName::new(&format!("{schema}.{}", table.place.table())).expect("good");
    let mut named = other(&table);
    named.codec = dialect::codec(full);
    let mut subscriber = subscriber(&table);
    named.granted("a", 1, LONG).expect("free");
    let ticket = waits(&mut named, "a", 2);
    assert_eq!(named.release(&["a"], 1), [true]);
    assert_eq!(told(&mut subscriber), [freed("a", ticket)]);
    // And another table's releases are not.
    let mut another = new();
    another.granted("a", 1, LONG).expect("free");
    waits(&mut another, "a", 2);
    assert_eq!(another.release(&["a"], 1), [true]);
    assert!(told(&mut subscriber).is_empty());
}

/// The mark and the release race: whoever was told of a holder is told of its release.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn whoever_learned_of_the_holder_is_told_of_its_release() {
    let mut table = new();
    let waiter = std::sync::Mutex::new((other(&table), subscriber(&table)));
    let (mut learned, mut missed) = (0, 0);
    for round in 0..100 {
        let name = format!("lock-{round}");
        table.granted(&name, 1, LONG).expect("free");
        let denied = std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let (waiter, _) = &mut *waiter.lock().expect("alone");
                waiter.sees(&[&name], 2, Turn::Of(None))
            });
            std::thread::sleep(Duration::from_micros(round * 21 % 2_000));
            assert_eq!(table.release(&[&name], 1), [true]);
            waits.join().expect("no panic")
        });
        let (_, subscriber) = &mut *waiter.lock().expect("alone");
        if let [Outcome::Busy(Some(_))] = denied[..] {
            learned += 1;
            let mut notifications = subscriber.client.notifications();
            let mut told = notifications.timeout_iter(Duration::from_secs(5));
            let heard = told.next().expect("connected").expect("it is told");
            assert_eq!(heard.payload(), freed(&name, 1));
        } else {
            missed += 1;
            told(subscriber);
        }
    }
    println!("{learned} learned of the holder, {missed} came too late for that");
    assert!(learned > 0, "the race was never lost by the holder");
}

//! What the table protocol does on a real MySQL and a real MariaDB, fact by fact, and what it
//! relies on there.

use lock_core::sql::{Statement, mysql as dialect};
use lock_core::{Failure, Fence, Outcome, Reply, Request, SessionName, TableName, Turn};
use lock_tests::on_mysql_and_mariadb;
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::eventually;
use lock_tests::raw::Raw;
use lock_tests::servers::Kind;
use lock_tests::table::claims;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

type Table = lock_tests::table::Table<Conn>;

on_mysql_and_mariadb! {
    the_time_is_that_of_the_statements_start
    the_time_moves_with_no_time_zone
    an_update_that_changes_nothing_counts_no_rows_and_tells_its_number
    a_claim_tells_its_fence_and_a_denied_one_zero
    a_column_that_counts_by_itself_would_be_taken_for_a_fence
    assignments_are_made_from_left_to_right
    an_expired_lease_is_taken_and_not_renewed
    fences_outlive_releases_and_purges
    a_batch_grants_the_free_ones_and_names_the_holders_of_the_others
    who_frees_it_knows_whether_somebody_waits
    a_look_is_in_nobodys_way
    a_ticket_that_cannot_be_drawn_takes_nothing_from_what_was_seen
    of_many_who_want_a_new_name_at_once_one_gets_it
    batches_of_the_same_names_do_not_deadlock
    a_deadlock_means_try_again
    a_claim_that_waits_for_a_row_is_given_up_by_the_server
    a_lease_that_waited_for_a_row_is_counted_from_the_statements_start
}

fn at(place: Place) -> Table {
    let codec = dialect::codec(TableName::new(place.table()).expect("good"));
    Table::new(mysql_client(place.url()), codec, place)
}

/// The same table on another connection.
fn other(table: &Table) -> Table {
    at(table.place.through(table.place.url()))
}

fn one<T: mysql::prelude::FromRow>(client: &mut Conn, query: &str) -> T {
    client.query_first(query).expect("asked").expect("a row")
}

/// Locks the rows of the table, until the connection that is returned ends its transaction.
fn block(table: &Table) -> Conn {
    let mut blocker = mysql_client(table.place.url());
    blocker.query_drop("BEGIN").expect("begun");
    let lock = format!("SELECT * FROM {} FOR UPDATE", table.place.table());
    blocker.query_drop(lock).expect("locked");
    blocker
}

fn the_time_is_that_of_the_statements_start(kind: Kind) {
    let mut client = mysql_client(kind.place().url());
    let (utc, system): (i64, i64) = one(
        &mut client,
        "SELECT TIMESTAMPDIFF(MICROSECOND, before_it.at, UTC_TIMESTAMP(6)), TIMESTAMPDIFF(MICROSECOND, before_it.now, SYSDATE(6))
           FROM (SELECT UTC_TIMESTAMP(6) AS at, SYSDATE(6) AS now, SLEEP(0.2) AS slept LIMIT 1) AS before_it",
    );
    assert_eq!(utc, 0, "the same at the end of the statement");
    assert!(system >= 0, "{system}");
    let (before, after): (i64, i64) = one(
        &mut client,
        "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), SYSDATE(6)) - TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), NOW(6)) AS early, SLEEP(0.2) + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6)) AS late",
    );
    assert!(before >= 0, "{before}");
    assert!(after >= before + 200_000, "{after}: the clock goes on, the statement's time does not");
}

fn the_time_moves_with_no_time_zone(kind: Kind) {
    let mut client = mysql_client(kind.place().url());
    let now = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
    let before: i64 = one(&mut client, now);
    client.query_drop("SET time_zone = '+05:00'").expect("set");
    let after: i64 = one(&mut client, now);
    assert!((0..10_000_000).contains(&(after - before)), "{before} {after}");
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later");
    let clock = i64::try_from(clock.as_micros()).expect("soon enough");
    assert!((after - clock).abs() < 10_000_000, "it is counted from 1970");
}

fn an_update_that_changes_nothing_counts_no_rows_and_tells_its_number(kind: Kind) {
    let mut table = at(kind.place());
    table.granted("a", 1, LONG).expect("free");
    let name = table.place.table().to_string();
    let same = format!("UPDATE {name} SET fence = fence + 0 * LAST_INSERT_ID(7)");
    table.client.query_drop(same).expect("run");
    assert_eq!((table.client.affected_rows(), table.client.last_insert_id()), (0, 7));
    table
        .client
        .query_drop(format!("UPDATE {name} SET fence = LAST_INSERT_ID(7) WHERE fence = 1"))
        .expect("run");
    assert_eq!((table.client.affected_rows(), table.client.last_insert_id()), (0, 0), "of no row");
    // Hence a renewal that extends nothing is a renewal all the same.
    assert_eq!(table.renew(&["a"], 1, SHORT), [true]);
}

fn a_claim_tells_its_fence_and_a_denied_one_zero(kind: Kind) {
    let mut table = at(kind.place());
    let claim = |table: &mut Table, owner| {
        let command = Request::Acquire {
            session: SessionName::default(),
            claims: claims(&["a"], owner),
            ttl: LONG,
            min_uptime: Duration::ZERO,
            label: "h".into(),
        };
        let exchange = table.codec.encode(&command, lock_core::Instant::default());
        let statement: Statement = exchange.poll_statement().expect("a statement");
        table.client.run(&statement).expect("run");
        Fence::new(table.client.last_insert_id())
    };
    let fence = claim(&mut table, 1);
    assert!(fence.get() > 1_700_000_000_000_000, "a new row's is the time");
    assert_eq!(claim(&mut table, 1), fence, "its owner's is kept");
    assert_eq!(claim(&mut table, 2), Fence::new(0), "denied");
    assert_eq!(table.granted("a", 1, LONG), Some(fence));
    assert_eq!(table.release(&["a"], 1), [true]);
    assert!(claim(&mut table, 2) > fence, "a free row's rises");
}

fn a_column_that_counts_by_itself_would_be_taken_for_a_fence(kind: Kind) {
    let mut client = mysql_client(kind.place().url());
    client
        .query_drop(
            "CREATE TEMPORARY TABLE t (id BIGINT AUTO_INCREMENT UNIQUE, name INT PRIMARY KEY)",
        )
        .expect("made");
    client.query_drop("INSERT INTO t (name) SELECT LAST_INSERT_ID(777)").expect("inserted");
    assert_eq!(client.last_insert_id(), 1, "hence such a table is refused");
}

fn assignments_are_made_from_left_to_right(kind: Kind) {
    let mut client = mysql_client(kind.place().url());
    client.query_drop("CREATE TEMPORARY TABLE t (k INT PRIMARY KEY, a INT, b INT)").expect("made");
    client.query_drop("INSERT INTO t VALUES (1, 1, 1)").expect("inserted");
    client
        .query_drop("INSERT INTO t SELECT 1, 0, 0 ON DUPLICATE KEY UPDATE a = 5, b = a")
        .expect("updated");
    assert_eq!(one::<(i32, i32)>(&mut client, "SELECT a, b FROM t"), (5, 5), "b is the new a");
}

fn an_expired_lease_is_taken_and_not_renewed(kind: Kind) {
    let mut table = at(kind.place());
    let first = table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.granted("a", 2, LONG), None, "not before it expired");
    table.expire("a");
    assert_eq!(table.renew(&["a"], 1, LONG), [false], "though nobody took it");
    assert!(table.granted("a", 2, LONG).expect("expired") > first);
    assert_eq!(table.renew(&["a"], 1, LONG), [false]);
    assert_eq!(table.release(&["a"], 1), [false]);
    assert_eq!(table.granted("a", 3, LONG), None, "the second one's still");
}

fn fences_outlive_releases_and_purges(kind: Kind) {
    let mut table = at(kind.place());
    let first = table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.release(&["a"], 1), [true]);
    assert_eq!(table.release(&["a"], 1), [false], "once");
    let second = table.granted("a", 2, LONG).expect("released");
    assert!(second > first);
    table.place.tamper("DELETE FROM {table}");
    assert!(table.granted("a", 3, LONG).expect("gone") > second);
    table.place.tamper("UPDATE {table} SET owner = NULL, fence = 9000000000000000000");
    let next = Some(Fence::new(9_000_000_000_000_000_001));
    assert_eq!(table.granted("a", 4, LONG), next, "the clock is no limit");
}

fn a_batch_grants_the_free_ones_and_names_the_holders_of_the_others(kind: Kind) {
    let mut table = at(kind.place());
    table.granted("b", 1, LONG).expect("free");
    let entries = table.acquire(&["a", "b", "c"], 2, LONG);
    assert!(matches!(entries[0], Outcome::Granted(_)) && matches!(entries[2], Outcome::Granted(_)));
    let Outcome::Busy(Some(holder)) = &entries[1] else { panic!("{entries:?}") };
    assert_eq!(holder.label, "holder 1");
    assert!(
        holder.expires_in <= LONG && holder.expires_in > LONG / 2 && holder.held_for < LONG / 2
    );
    assert_eq!(table.renew(&["a", "b", "c"], 2, LONG), [true, false, true]);
    assert_eq!(table.release(&["a", "b", "c"], 2), [true, false, true]);
}

fn who_frees_it_knows_whether_somebody_waits(kind: Kind) {
    let mut table = at(kind.place());
    let mut waiter = other(&table);
    let (free, wanted) = (|| Outcome::Done, || Outcome::DoneContended);
    table.granted("a", 1, LONG).expect("free");
    assert_eq!(table.freed(&["a"], 1), [free()]);
    table.granted("a", 2, LONG).expect("free");
    let ticket = waiter.waits(&["a"], 9, None)[0].expect("another has it").ticket;
    assert_eq!(table.freed(&["a"], 2), [wanted()]);
    // When the last that waited has had it, nobody does.
    assert!(matches!(waiter.in_turn("a", 9, Some(ticket)), Outcome::Granted(_)));
    assert_eq!(waiter.freed(&["a"], 9), [free()]);
    table.acquire(&["a", "b"], 3, LONG);
    assert_eq!(table.looks(&["a", "b"], 3), [false, false], "its own are in nobody's way");
    assert_eq!(waiter.looks(&["a", "c"], 9), [true, false]);
    waiter.waits(&["a", "c"], 9, None);
    table.renew(&["a", "b"], 3, LONG);
    assert_eq!(table.granted("a", 3, LONG).map(|_| ()), Some(()), "its own");
    assert_eq!(table.freed(&["a", "b"], 3), [wanted(), free()]);
    assert_eq!(waiter.looks(&["a", "b"], 9), [false, false]);
    // Of several, each gives a ticket.
    table.acquire(&["a", "b"], 4, LONG);
    assert!(waiter.waits(&["a", "b"], 9, None).iter().all(Option::is_some));
    assert_eq!(table.freed(&["a", "b"], 4), [wanted(), wanted()]);
}

/// Neither of the holder's, while its row is locked, nor of an expired lease's.
fn a_look_is_in_nobodys_way(kind: Kind) {
    let mut table = at(kind.place());
    table.granted("a", 1, LONG).expect("free");
    let mut waiter = other(&table);
    let place = waiter.waits(&["a"], 2, None)[0].expect("another has it");
    let mut blocker = block(&table);
    let again = waiter.waits(&["a"], 2, Some(place.ticket));
    assert_eq!(again, [Some(place)], "it waits for no row");
    blocker.query_drop("COMMIT").expect("ended");
    table.expire("a");
    let _blocker = block(&table);
    assert_eq!(waiter.waits(&["a"], 2, Some(place.ticket)), [None], "an expired lease is nobody's");
}

fn a_ticket_that_cannot_be_drawn_takes_nothing_from_what_was_seen(kind: Kind) {
    let mut table = at(kind.place());
    table.granted("a", 1, LONG).expect("free");
    let mut waiter = other(&table);
    let mut blocker = block(&table);
    let began = Instant::now();
    let seen = waiter.sees(&["a", "b"], 2, Turn::Of(None));
    let [Outcome::Busy(Some(holder)), Outcome::Free] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(holder.place, None);
    assert!(began.elapsed() >= Duration::from_millis(900), "it waited for the row");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    blocker.query_drop("COMMIT").expect("ended");
    assert!(waiter.waits(&["a"], 2, None)[0].is_some(), "it is drawn the next time");
    assert_eq!(table.freed(&["a"], 1), [Outcome::DoneContended]);
}

fn of_many_who_want_a_new_name_at_once_one_gets_it(kind: Kind) {
    let table = at(kind.place());
    let mut others: Vec<_> = (0..8).map(|_| other(&table)).collect();
    for round in 0..20 {
        let name = format!("n{round}");
        let granted: usize = std::thread::scope(|scope| {
            let ask = |(at, table): (usize, _)| {
                let (name, table): (&str, &mut Table) = (&name, table);
                scope.spawn(move || usize::from(table.granted(name, at as u128, LONG).is_some()))
            };
            let asked: Vec<_> = others.iter_mut().enumerate().map(ask).collect();
            asked.into_iter().map(|asked| asked.join().expect("no error")).sum()
        });
        assert_eq!(granted, 1);
    }
}

fn batches_of_the_same_names_do_not_deadlock(kind: Kind) {
    let table = at(kind.place());
    let names: Vec<_> = (0..50).map(|n| format!("n{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    std::thread::scope(|scope| {
        for owner in 1..=4 {
            let (mut table, names) = (other(&table), &names);
            // A deadlock, or any other failure, panics in `acquire`.
            scope.spawn(move || {
                for _ in 0..30 {
                    table.acquire(names, owner, SHORT);
                    table.renew(names, owner, SHORT);
                    table.release(names, owner);
                }
            });
        }
    });
}

fn a_deadlock_means_try_again(kind: Kind) {
    let mut table = at(kind.place());
    table.acquire(&["a", "b"], 1, LONG);
    table.release(&["a", "b"], 1);
    let name = table.place.table().to_string();
    let row = |of: &str| format!("SELECT * FROM {name} WHERE name = '{of}' FOR UPDATE");
    // Another locks b and then a; and has changed so much that it is not the one to be ended.
    let mut rival = mysql_client(table.place.url());
    rival.query_drop("BEGIN").expect("begun");
    let many = format!(
        "INSERT INTO {name} WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 200)
         SELECT CONCAT('z', n), NULL, 1, 0, 0, 0, 0, 0, '' FROM seq"
    );
    rival.query_drop(many).expect("inserted");
    rival.query_drop(row("b")).expect("locked");
    std::thread::scope(|scope| {
        let command = Request::Acquire {
            session: SessionName::default(),
            claims: claims(&["a", "b"], 2),
            ttl: LONG,
            min_uptime: Duration::ZERO,
            label: "h".into(),
        };
        let asked = scope.spawn(move || table.try_ask(&command));
        std::thread::sleep(Duration::from_millis(300));
        rival.query_drop(row("a")).expect("the other was ended");
        let answer = asked.join().expect("no panic");
        let Err(Failure::Rejected { retry: true, message, .. }) = &answer else {
            panic!("{answer:?}")
        };
        assert!(message.contains("1213"), "{message}");
        rival.query_drop("ROLLBACK").expect("ended");
    });
}

fn a_claim_that_waits_for_a_row_is_given_up_by_the_server(kind: Kind) {
    let mut table = at(kind.place());
    table.granted("a", 1, LONG).expect("free");
    let _blocker = block(&table);
    let began = Instant::now();
    let command = Request::Acquire {
        session: SessionName::default(),
        claims: claims(&["a"], 1),
        ttl: LONG,
        min_uptime: Duration::ZERO,
        label: "h".into(),
    };
    let answer = table.try_ask(&command);
    assert_eq!(answer, Ok(Reply::Outcomes([Outcome::Delayed].into())));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

fn a_lease_that_waited_for_a_row_is_counted_from_the_statements_start(kind: Kind) {
    let mut table = at(kind.place());
    table.granted("a", 1, LONG).expect("free");
    table.release(&["a"], 1);
    let (name, url) = (table.place.table().to_string(), table.place.url().to_string());
    let waits = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
    // A machine that stands still lets the wait for the row end before the row is free: once more then.
    let mut client = mysql_client(&url);
    for _ in 0..10 {
        let mut blocker = block(&table);
        let (claimed, released) = std::thread::scope(|scope| {
            let command = Request::Acquire {
                session: SessionName::default(),
                claims: claims(&["a"], 2),
                ttl: LONG,
                min_uptime: Duration::ZERO,
                label: "h".into(),
            };
            let table = &mut table;
            let waiting = scope.spawn(move || table.try_ask(&command));
            let waits = format!("{waits} AND trx_query LIKE '%{name}%'");
            // The server looks anew only if nobody has asked for a tenth of a second.
            let seen = || {
                std::thread::sleep(Duration::from_millis(150));
                waiting.is_finished() || one::<i64>(&mut client, &waits) > 0
            };
            assert!(eventually(seen));
            let now = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
            let released: i64 = one(&mut blocker, now);
            blocker.query_drop("COMMIT").expect("ended");
            (waiting.join().expect("no panic"), released)
        });
        if claimed.is_ok() {
            let until: i64 = one(&mut client, &format!("SELECT expires_us FROM {name}"));
            let ttl = i64::try_from(LONG.as_micros()).expect("short");
            assert!(until - ttl < released, "{until} is a whole lease after {released}");
            return;
        }
    }
    panic!("it was never granted");
}

//! Rows that are seldom as they are here: a lease that was renewed since it was seen, a lock whose row was removed.

use lock_core::{Claim, LeaseVersion, Outcome, Reply, Request, SessionName, Turn};
use lock_tests::place::Place;
use lock_tests::raw::Raw;
use lock_tests::table::{AnyTable, claims};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// The lease, as another sees it.
fn seen(table: &mut AnyTable) -> LeaseVersion {
    let seen = table.sees(&["a"], 2, Turn::Any);
    let [Outcome::Busy(Some(holder))] = &seen[..] else { panic!("{seen:?}") };
    holder.watched.expect("leases are watched").0
}

/// Whether a claim ends the lease that was seen, and gets the lock.
fn ends(table: &mut AnyTable, seen: LeaseVersion) -> bool {
    let claims = claims(&["a"], 2).into_iter().map(|claim| Claim { ended: Some(seen), ..claim });
    let request = Request::Acquire {
        session: SessionName::default(),
        claims: claims.collect(),
        ttl: HOUR,
        min_uptime: Duration::ZERO,
        label: "the next".into(),
    };
    match table.try_ask(&request) {
        Ok(Reply::Outcomes(all)) => matches!(all[..], [Outcome::Granted(_)]),
        other => panic!("{other:?}"),
    }
}

/// The holder was slow, and so was who watched it.
fn a_lease_that_was_renewed_since_it_was_seen_is_not_ended(place: Place) {
    let mut table = AnyTable::of(place);
    table.codec = table.codec.watched();
    table.granted("a", 1, HOUR).expect("free");
    let before = seen(&mut table);
    assert_eq!(table.renew(&["a"], 1, HOUR), [true]);
    assert!(!ends(&mut table, before), "it was renewed");
    assert_eq!(table.renew(&["a"], 1, HOUR), [true]);
    let last = seen(&mut table);
    assert!(ends(&mut table, last), "nobody renewed it");
    assert_eq!(table.renew(&["a"], 1, HOUR), [false]);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_lease_that_was_renewed_since_it_was_seen_is_not_ended_in_postgres() {
    a_lease_that_was_renewed_since_it_was_seen_is_not_ended(Place::postgres());
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_lease_that_was_renewed_since_it_was_seen_is_not_ended_in_mysql() {
    a_lease_that_was_renewed_since_it_was_seen_is_not_ended(Place::mysql());
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_lease_that_was_renewed_since_it_was_seen_is_not_ended_in_mariadb() {
    a_lease_that_was_renewed_since_it_was_seen_is_not_ended(Place::mariadb());
}

/// A waiter claims a lock whose row was removed meanwhile. The tickets after that are later ones, or nobody would have a turn.
fn tickets_go_on_after_a_row_was_removed(mut table: AnyTable) {
    let granted = table.in_turn("a", 1, Some(7));
    assert!(matches!(granted, Outcome::Granted(_)), "{granted:?}");
    let waits = table.waits(&["a"], 2, None);
    assert!(matches!(waits[..], [Some(lock_core::Place { ticket: 8, ahead: 0 })]), "{waits:?}");
}

#[test]
fn tickets_go_on_after_a_row_was_removed_in_sqlite() {
    tickets_go_on_after_a_row_was_removed(AnyTable::of(Place::sqlite()));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn tickets_go_on_after_a_row_was_removed_in_postgres() {
    tickets_go_on_after_a_row_was_removed(AnyTable::of(Place::postgres()));
}

/// There, a ticket is drawn in a statement of its own.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn tickets_go_on_after_a_row_was_removed_through_a_pool() {
    let mut table = AnyTable::of(Place::postgres());
    let (mut setup, mut answer) = (table.codec.setup().shared(true), None);
    while let lock_core::sql::Step::Run(statement) = setup.step(answer.take()) {
        answer = Some(table.client.run(&statement));
    }
    table.codec = setup.codec().clone();
    assert!(table.codec.carries());
    tickets_go_on_after_a_row_was_removed(table);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn tickets_go_on_after_a_row_was_removed_in_mysql() {
    tickets_go_on_after_a_row_was_removed(AnyTable::of(Place::mysql()));
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn tickets_go_on_after_a_row_was_removed_in_mariadb() {
    tickets_go_on_after_a_row_was_removed(AnyTable::of(Place::mariadb()));
}

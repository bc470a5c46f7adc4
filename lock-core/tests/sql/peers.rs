//! The table of the npm package `node-distributed-lock`.

use super::{acquire_ab, int};
use lock_core::sql::{Codec, Step, Value, node_distributed_lock, postgres};
use lock_core::{ClaimError, Instant, LockName, Mode, NotPinnable, TableName};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(1200);

fn codec() -> Codec {
    node_distributed_lock::codec(TableName::new("ops.distributed_lock").expect("good"), TTL)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_string())
}

/// What a server answers to the check of a table with these columns.
fn row(columns: &str, own: &str) -> Vec<Vec<Value>> {
    let table = [int(0), int(170_000), text("off"), text("rp"), text(columns), int(1)];
    vec![[&table[..], &[int(0), text("ops"), text("app"), text(own), text("UTF8")]].concat()]
}

#[test]
fn names_are_as_long_as_the_column() {
    let check = |name: &str, mode| codec().check(&LockName::new(name).expect("good"), mode);
    assert_eq!(check(&"é".repeat(36), Mode::Exclusive), Ok(()));
    assert_eq!(check(&"a".repeat(37), Mode::Exclusive), Err(ClaimError::TooLong));
    assert_eq!(check("a", Mode::Shared), Err(ClaimError::NoShared));
}

#[test]
fn nothing_rests_on_the_session_whatever_it_is() {
    for own in ["on", ""] {
        let mut setup = codec().setup();
        setup.step(None);
        let columns = "mutex varchar, node_id varchar, ts timestamptz";
        assert_eq!(setup.step(Some(Ok(row(columns, own)))), Step::Ready);
        assert!(setup.codec().carries() && setup.codec().is_shared_with_peers());
        let claim = setup.codec().encode(&acquire_ab(), Instant::default());
        let claim = claim.poll_statement().expect("a statement");
        assert!(claim.text.contains("synchronous_commit") && !claim.repeated);
        assert!(claim.text.contains("\"ops\".\"distributed_lock\""), "{}", claim.text);
        assert!(
            claim.text.contains("$1::bigint <= 1200000000"),
            "no lease outlasts the fleet's TTL"
        );
    }
}

#[test]
fn no_lock_is_pinned() {
    assert_eq!(codec().check_pins(), Err(NotPinnable::InPeersTable));
}

#[test]
fn another_table_is_refused() {
    let mut setup = codec().setup();
    setup.step(None);
    let Step::Refuse(refusal) = setup.step(Some(Ok(row("name text C, owner text", "on")))) else {
        panic!("not refused")
    };
    let expected = "is not a lock table (expected: mutex varchar, node_id varchar, ts timestamptz, mutex unique;";
    assert!(refusal.to_string().contains(expected), "{refusal}");
}

#[test]
fn a_role_without_rights_is_told_that_releases_delete() {
    let mut setup = codec().setup();
    setup.step(None);
    setup.step(Some(Ok(row("mutex varchar, node_id varchar, ts timestamptz", "on"))));
    let mut exchange = setup.codec().encode(&acquire_ab(), Instant::default());
    exchange.handle_failure(postgres::statement_failed(Some("42501"), "permission denied"));
    let told = exchange.finish().expect_err("denied").to_string();
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON \"ops\".\"distributed_lock\" TO \"app\"";
    assert!(told.ends_with(grant), "{told}");
}

//! What should be so and is not.

use lock_core::sql::{Step, sqlite};
use lock_core::{Failure, TableName};

/// Grants must be on the disk before they are answered: a setup that could not make sure of it
/// must try that again, or fail, and not go on to the check.
#[test]
fn a_setup_does_not_go_on_without_durable_commits() {
    let mut setup = sqlite::codec(TableName::default(), "boot-1").setup();
    let Step::Run(durable) = setup.step(None) else { panic!("nothing to run") };
    assert!(durable.text.contains("synchronous = FULL"));
    let busy = sqlite::statement_failed(Some(5), "database is locked");
    assert!(matches!(busy, Failure::Rejected { retry: true, .. }));
    match setup.step(Some(Err(busy))) {
        Step::Run(next) => assert_eq!(next.text, durable.text),
        Step::Failed(_) => {}
        other => panic!("{other:?}"),
    }
}

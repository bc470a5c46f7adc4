//! Releases that leave locks taken for a while.

use super::*;
use lock_core::sql::{mysql, node_distributed_lock};
use lock_core::{ClaimError, Notification};

const HOUR: Duration = Duration::from_secs(3_600);

fn keep_ab() -> Request {
    Request::Keep { claims: acquire_ab().claims().to_vec(), keep: HOUR }
}

fn all() -> [Codec; 3] {
    let [postgres, sqlite] = codecs();
    [postgres, sqlite, mysql::codec(TableName::default())]
}

#[test]
fn one_statement_names_the_time_and_says_of_each_lease_what_became_of_it() {
    for codec in codecs() {
        let act = statement(&codec.encode(&keep_ab(), NOW));
        assert!(act.params.contains(&int(3_600_000_000)), "{act:?}");
        assert!(act.text.contains(&Owner::KEPT.to_string()), "{act:?}");
        let rows = vec![vec![text("b"), int(1)]];
        let outcomes = vec![Outcome::NotOwner, Outcome::DoneContended];
        assert_eq!(run(&codec, &keep_ab(), &[rows]), Ok(Reply::Outcomes(outcomes)));
    }
    let mysql = mysql::codec(TableName::default());
    let one = Request::Keep { claims: vec![claim("a", 1)], keep: HOUR };
    for (number, outcome) in
        [(0, Outcome::NotOwner), (1, Outcome::Done), (2, Outcome::DoneContended)]
    {
        let reply = run(&mysql, &one, &[vec![vec![int(number)]]]);
        assert_eq!(reply, Ok(Reply::one(outcome)));
    }
}

/// The caller was told until when it is kept, so a grant before must not follow from a crash of the server.
#[test]
fn it_waits_for_the_disk_where_a_release_does_not() {
    let [postgres, _] = codecs();
    let text = statement(&postgres.encode(&keep_ab(), NOW)).text;
    assert!(!text.contains("synchronous_commit"), "{text}");
    let release = statement(&postgres.encode(&release_ab(), NOW)).text;
    assert!(release.contains("synchronous_commit"), "{release}");
}

#[test]
fn waiters_that_cannot_be_told_delay_nothing() {
    let [postgres, _] = codecs();
    let mut exchange = postgres.encode(&keep_ab(), NOW);
    let full = postgres::statement_failed(Some("54000"), "too many notifications");
    exchange.handle_failure(full);
    let untold = statement(&exchange);
    assert!(!untold.text.contains("pg_notify") && untold.params.contains(&int(3_600_000_000)));
    exchange.handle_rows(vec![vec![text("a"), int(1)], vec![text("b"), int(0)]]);
    let outcomes = vec![Outcome::DoneContended, Outcome::Done];
    assert_eq!(exchange.finish(), Ok(Reply::Outcomes(outcomes)));
}

#[test]
fn a_notification_tells_how_long_a_lock_is_kept() {
    let name = || LockName::new("a b").expect("good");
    let kept = Notification::Kept { name: name(), ticket: 5, left: Duration::from_micros(7) };
    assert_eq!(postgres::notification("\u{2}5 7 a b"), Some(kept));
    let freed = Notification::Freed { name: name(), ticket: 5 };
    assert_eq!(postgres::notification("\u{2}5 0 a b"), Some(freed));
    let hostile = [
        "\u{2}",
        "\u{2}5",
        "\u{2}5 7",
        "\u{2}5 -7 a",
        "\u{2}x 7 a",
        "\u{2}5 7 ",
        "\u{2}5 99999999999999999999 a",
        "a",
    ];
    for payload in hostile {
        assert_eq!(postgres::notification(payload), None, "{payload:?}");
    }
}

#[test]
fn a_denial_says_that_the_lock_is_kept() {
    for codec in all() {
        let row =
            |kept| [&[text("a"), text("me")][..], &[1, 1, 0, 0, 7, 0, kept].map(int)].concat();
        let nothing = if codec == all()[2] { vec![vec![int(0)]] } else { vec![] };
        for kept in [false, true] {
            let rows = [nothing.clone(), vec![row(i64::from(kept))]];
            let reply = run(&codec, &acquire(vec![claim("a", 1)]), &rows).expect("answered");
            let Reply::Outcomes(outcomes) = reply else { panic!("{reply:?}") };
            let [Outcome::Busy(Some(holder))] = &outcomes[..] else { panic!("{outcomes:?}") };
            assert_eq!(holder.kept, kept);
        }
    }
}

#[test]
fn a_lock_is_kept_for_a_day_at_most_and_not_in_the_table_of_another_package() {
    let longest = Duration::from_secs(24 * 3_600);
    for codec in all() {
        assert_eq!(codec.check_keep(longest), Ok(()));
        let longer = longest + Duration::from_nanos(1);
        assert_eq!(codec.check_keep(longer), Err(ClaimError::TooLongKept));
    }
    let table = TableName::new(node_distributed_lock::DEFAULT_TABLE).expect("good");
    let fleet = node_distributed_lock::codec(table, HOUR);
    assert_eq!(fleet.check_keep(HOUR), Err(ClaimError::NoKeepInFleet));
    let exchange = fleet.encode(&keep_ab(), NOW);
    assert_eq!(exchange.poll_statement(), None);
    assert!(matches!(exchange.finish(), Err(Failure::Unknown(_))));
}

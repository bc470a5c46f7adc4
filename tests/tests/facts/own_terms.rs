//! Claims in one statement, each with a TTL and a label of its own, and renewals of their leases.

use lock_core::{Claim, Outcome, Owner, Reply, Request, SessionName};
use lock_tests::place::Place;
use lock_tests::table::{AnyTable, claims};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const USUAL: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(60);
/// Longer than any of these statements takes.
const A_WHILE: Duration = Duration::from_secs(30);

/// Each renewal moves the expiry by a microsecond at least.
const MOVED: Duration = Duration::from_millis(1);

/// Awkward for each dialect.
const LABEL: &str = "Größe \"7\" \\ it's ? $1";

fn mixed() -> Vec<Claim> {
    let [a, b, c] = claims(&["a", "b", "c"], 1).try_into().expect("three");
    [
        Claim { ttl: Some(HOUR), ..a },
        Claim { label: Some(LABEL.into()), ..b },
        Claim { ttl: Some(SHORT), label: Some("c's".into()), ..c },
    ]
    .into()
}

/// What others are told: the label, and that the lease ends within these times.
fn sees(table: &mut AnyTable, expected: [(&str, Duration); 3]) {
    let looks = Request::Probe { claims: claims(&["a", "b", "c"], 2) };
    let Ok(Reply::Outcomes(seen)) = table.try_ask(&looks) else { panic!("asked") };
    for (seen, (label, ttl)) in seen.into_iter().zip(expected) {
        let Outcome::Busy(Some(holder)) = seen else { panic!("{seen:?}") };
        assert_eq!(holder.label, label);
        let left = holder.expires_in;
        assert!(left <= ttl + MOVED && left > ttl - A_WHILE, "{label}: {left:?} of {ttl:?}");
    }
}

fn each_lease_has_its_own_ttl_and_label(place: Place) {
    let mut table = AnyTable::of(place);
    let acquire = Request::Acquire {
        session: SessionName::default(),
        claims: mixed(),
        ttl: USUAL,
        min_uptime: Duration::ZERO,
        label: "usual".into(),
    };
    let granted = |reply: &Reply| match reply {
        Reply::Outcomes(all) => {
            all.len() == 3 && all.iter().all(|one| matches!(one, Outcome::Granted(_)))
        }
        _ => false,
    };
    let reply = table.try_ask(&acquire).expect("asked");
    assert!(granted(&reply), "{reply:?}");
    let expected = [("usual", HOUR), (LABEL, USUAL), ("c's", SHORT)];
    sees(&mut table, expected);
    // Repeated, it changes nothing.
    assert_eq!(table.try_ask(&acquire), Ok(reply));
    let renew = Request::Renew { claims: mixed(), ttl: USUAL };
    let done = Reply::Outcomes([const { Outcome::Done }; 3].into());
    assert_eq!(table.try_ask(&renew), Ok(done));
    sees(&mut table, expected);
    // Alone, each renewal and claim is its own, too.
    for claim in mixed() {
        let renew = Request::Renew { claims: [claim].into(), ttl: USUAL };
        assert_eq!(table.try_ask(&renew), Ok(Reply::one(Outcome::Done)));
    }
    sees(&mut table, expected);
    // Another's claims with the same wishes are denied, and renewals of what is not theirs.
    let theirs = || mixed().into_iter().map(|claim| Claim { owner: Owner::new(3), ..claim });
    let renew = Request::Renew { claims: theirs().collect(), ttl: USUAL };
    assert_eq!(table.try_ask(&renew), Ok(Reply::Outcomes([const { Outcome::NotOwner }; 3].into())));
    assert_eq!(table.release(&["a", "b", "c"], 1), [true; 3]);
    for (claim, expected) in theirs().zip(expected) {
        let Request::Acquire { session, ttl, min_uptime, label, .. } = acquire.clone() else {
            unreachable!()
        };
        let claims = [claim].into();
        let alone = Request::Acquire { session, claims, ttl, min_uptime, label };
        let Ok(Reply::Outcomes(all)) = table.try_ask(&alone) else { panic!("{expected:?}") };
        assert!(matches!(all[..], [Outcome::Granted(_)]), "{all:?}");
    }
    sees(&mut table, expected);
}

#[test]
fn each_lease_has_its_own_ttl_and_label_in_sqlite() {
    each_lease_has_its_own_ttl_and_label(Place::sqlite());
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn each_lease_has_its_own_ttl_and_label_in_postgres() {
    each_lease_has_its_own_ttl_and_label(Place::postgres());
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn each_lease_has_its_own_ttl_and_label_in_mysql() {
    each_lease_has_its_own_ttl_and_label(Place::mysql());
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn each_lease_has_its_own_ttl_and_label_in_mariadb() {
    each_lease_has_its_own_ttl_and_label(Place::mariadb());
}

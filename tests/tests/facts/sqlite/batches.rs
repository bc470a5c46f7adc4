//! Requests about many locks.

use super::*;
use lock_core::{Place, Turn};

#[test]
fn the_longest_name_and_a_long_batch_fit() {
    let table = Table::new();
    let claims: Vec<_> =
        (0..512).map(|n| claim(&format!("{n:03}{}", "é".repeat(126)), n)).collect();
    assert_eq!(claims[0].name.as_str().len(), LockName::MAX_BYTES);
    let granted = table.acquire_all(&claims);
    assert!(granted.iter().all(|entry| matches!(entry, Outcome::Granted(_))));
    assert_eq!(
        table.ask(&Request::Release { passed_over: None, session: SessionName::default(), claims }),
        Reply::Outcomes(vec![Outcome::Done; 512])
    );
}

#[test]
fn a_batch_grants_what_is_free_and_names_the_holders_of_the_rest() {
    let mut table = Table::new();
    table.acquire("b", 1);
    table.now += 300;
    table.acquire("d", 2);
    table.now += 100;
    let claims = [claim("a", 3), claim("b", 4), claim("c", 5), claim("d", 6)];
    let holder = |owner, held, left| {
        let label = format!("holder {}", Owner::new(owner));
        let [held, left] = [held, left].map(Duration::from_micros);
        Outcome::Busy(Some(Holder::new(label, held, left)))
    };
    let entries = table.acquire_all(&claims);
    let [Outcome::Granted(_), b, Outcome::Granted(_), d] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!([b, d], [&holder(1, 400, TTL - 400), &holder(2, 100, TTL - 100)]);
    // What was granted has the claim's owner, not its neighbour's.
    assert!(table.renew("a", 3) && table.renew("c", 5) && !table.renew("c", 3));
}

#[test]
fn who_frees_it_knows_whether_somebody_waits() {
    let mut table = Table::new();
    let freed = |table: &Table, leases: &[Claim]| {
        let reply = table.ask(&Request::Release {
            passed_over: None,
            session: SessionName::default(),
            claims: leases.to_vec(),
        });
        let Reply::Outcomes(entries) = reply else { panic!("{reply:?}") };
        entries
    };
    let waits = |table: &Table, claims: &[Claim]| {
        let waits = claims.iter().map(|claim| Claim { turn: Turn::Of(None), ..claim.clone() });
        let reply = table.ask(&Request::Probe { claims: waits.collect() });
        let Reply::Outcomes(entries) = reply else { panic!("{reply:?}") };
        let place = |seen| match seen {
            Outcome::Free => None,
            Outcome::Busy(holder) => holder.and_then(|holder: Holder| holder.place),
            Outcome::Reserved(place) => Some(place),
            other => panic!("{other:?}"),
        };
        entries.into_iter().map(place).collect::<Vec<_>>()
    };
    let place = |ticket, ahead| Some(Place { ticket, ahead });
    let (free, wanted) = (|| Outcome::Done, || Outcome::DoneContended);
    table.acquire("a", 1);
    assert_eq!(freed(&table, &[claim("a", 1)]), [free()]);
    table.acquire("a", 2);
    assert_eq!(waits(&table, &[claim("a", 9)]), [place(1, 0)]);
    assert_eq!(freed(&table, &[claim("a", 2)]), [wanted()]);
    // The waiter is served, and then nobody waits.
    let mine = Claim { turn: Turn::Of(Some(1)), ..claim("a", 9) };
    assert!(matches!(table.acquire_all(&[mine])[..], [Outcome::Granted(_)]));
    assert_eq!(freed(&table, &[claim("a", 9)]), [free()]);
    let [ours, theirs] = [3, 9].map(|owner| [claim("a", owner), claim("b", owner)]);
    table.acquire_all(&ours);
    assert_eq!(waits(&table, &ours), [None, None], "its own are in nobody's way");
    assert_eq!(waits(&table, &theirs[..1]), [place(2, 0)]);
    assert_eq!(waits(&table, &theirs), [place(3, 1), place(1, 0)], "another was first for a");
    assert!(table.acquire("a", 3).is_some() && table.renew("a", 3), "its own");
    assert_eq!(freed(&table, &ours), [wanted(), wanted()]);
    assert_eq!(waits(&table, &theirs), [place(4, 2), place(2, 1)], "they are left to the first");
    // An expired lease is nobody's.
    table.acquire("c", 4);
    table.now += TTL;
    assert_eq!(waits(&table, &[claim("c", 9)]), [None]);
}

#[test]
fn a_batch_renews_and_releases_only_its_own() {
    let table = Table::new();
    let leases = vec![claim("a", 1), claim("b", 2), claim("c", 3)];
    table.acquire_all(&leases);
    table.release("b", 2);
    table.acquire("b", 9);
    let ours = Reply::Outcomes(vec![Outcome::Done, Outcome::NotOwner, Outcome::Done]);
    let ttl = Duration::from_micros(TTL);
    assert_eq!(table.ask(&Request::Renew { claims: leases.clone(), ttl }), ours);
    // A pair of another's name and one's own owner is nobody's.
    let crossed = vec![claim("a", 3), claim("c", 1)];
    let none = Reply::Outcomes(vec![Outcome::NotOwner; 2]);
    assert_eq!(
        table.ask(&Request::Release {
            passed_over: None,
            session: SessionName::default(),
            claims: crossed
        }),
        none
    );
    assert_eq!(
        table.ask(&Request::Release {
            passed_over: None,
            session: SessionName::default(),
            claims: leases
        }),
        Reply::Outcomes(vec![Outcome::Done, Outcome::NotOwner, Outcome::Done])
    );
    assert!(table.renew("b", 9));
}

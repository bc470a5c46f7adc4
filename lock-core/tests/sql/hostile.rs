//! Rows of any kind: nothing is believed that they do not say.

use super::*;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    const KNOWN: &[&str] = &["a", "b", "A", "", "0000000000000000000000000000000a"];
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int),
        (0_i64..5).prop_map(Value::Int),
        prop::sample::select(KNOWN).prop_map(|s| Value::Text(s.into())),
        Just(owner(0xb)),
        any::<String>().prop_map(Value::Text),
        prop::collection::vec(any::<String>(), 0..3).prop_map(Value::Texts),
    ]
}

fn rows() -> impl Strategy<Value = Rows> {
    // Mostly of the right width, so that the right types get a chance.
    let row = prop_oneof![
        4 => prop::collection::vec(value(), 2),
        1 => prop::collection::vec(value(), 3),
        2 => prop::collection::vec(value(), 5),
        2 => (prop::sample::select(&["a", "b"][..]), -2_i64..9)
            .prop_map(|(name, fence)| vec![text(name), int(fence)]),
        1 => prop::collection::vec(value(), 0..6),
    ];
    prop::collection::vec(row, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_rows_nothing_is_believed_that_they_do_not_say(
        first in rows(),
        second in rows(),
        dialect in 0_usize..2,
        request in prop::sample::select(vec![acquire_ab(), renew_ab(), release_ab()]),
    ) {
        let mut exchange = codecs()[dialect].encode(&request, NOW);
        for rows in [&first, &second] {
            if exchange.poll_statement().is_some() {
                exchange.handle_rows(rows.clone());
            }
        }
        let claims = request.claims().iter();
        match exchange.finish() {
            Err(Failure::Unknown(_)) => {}
            Ok(Reply::Outcomes(entries)) => {
                prop_assert_eq!(entries.len(), 2);
                for (claim, entry) in claims.zip(entries) {
                    let (name, owner) = (text(claim.name.as_str()), text(&claim.owner.to_string()));
                    match request {
                        Request::Acquire { .. } => {
                            if let Outcome::Granted(fence) = entry {
                                let fence = i64::try_from(fence.get()).expect("what the row had");
                                prop_assert!(first.contains(&vec![name, int(fence)]));
                            }
                        }
                        Request::Renew { .. } => {
                            let says = first.contains(&vec![name, owner]);
                            prop_assert_eq!(entry == Outcome::Done, says);
                        }
                        _ => {
                            let says = |row: &Vec<Value>| row.first() == Some(&name);
                            prop_assert_eq!(entry != Outcome::NotOwner, first.iter().any(says));
                        }
                    }
                }
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

//! Pins, and claims of rows that are pinned.

use super::*;
use lock_core::sql::mysql;
use lock_core::{NotPinnable, PinParam};

fn mysql() -> Codec {
    mysql::codec(TableName::new("ops.locks").expect("good"))
}

fn name() -> LockName {
    LockName::new("it's ?1 \"a\"").expect("a good name")
}

#[test]
fn a_pin_has_a_name_and_a_fence() {
    let fence = Fence::new(i64::MAX as u64);
    let [pg, sqlite] = codecs();
    for codec in [&pg, &sqlite] {
        let pin = codec.pin(&name(), fence);
        assert_eq!(pin.params, [PinParam::Text(name().to_string()), PinParam::Int(i64::MAX)]);
    }
    let pin = mysql().pin(&name(), fence);
    let bytes = PinParam::Bytes(name().as_str().as_bytes().to_vec());
    let both = [bytes, PinParam::Int(i64::MAX)];
    assert_eq!(pin.params, [both.clone(), both].concat(), "the grant, and what is seen of it");
    assert!(pin.text.contains("`ops`.`locks`"), "{}", pin.text);
    assert!(pg.pin(&name(), fence).text.contains("\"locks\""));
    let other = sqlite.pin_within("my \"db\"", &name(), fence);
    assert!(other.text.contains(r#""my ""db"""."locks""#), "{}", other.text);
}

#[test]
fn a_pin_can_be_sent_as_text() {
    let fence = Fence::new(7);
    let [pg, sqlite] = codecs();
    let hex: String = name().as_str().bytes().map(|byte| format!("{byte:02x}")).collect();
    let text = pg.pin(&name(), fence);
    let inlined = format!("convert_from(decode('{hex}', 'hex'), 'UTF8')");
    assert!(text.inline().contains(&inlined) && !text.inline().contains('$'), "{}", text.inline());
    let text = mysql().pin(&name(), fence);
    assert!(text.inline().contains(&format!("name = _utf8mb4 X'{hex}' AND fence = 7")));
    let text = sqlite.pin(&name(), fence);
    let inlined = "name = 'it''s ?1 \"a\"' AND fence = 7";
    assert!(text.inline().contains(inlined), "{}", text.inline());
}

#[test]
fn a_table_without_the_index_is_told() {
    let Some(NotPinnable::NoIndex { ddl, .. }) = mysql().not_pinnable(1176) else { panic!() };
    assert_eq!(ddl, "ALTER TABLE `ops`.`locks` ADD UNIQUE KEY pin (fence, name)");
    assert_eq!(mysql().not_pinnable(1146), None);
}

/// A row that stays locked for longer than a statement waits: nobody is refused, and nobody is told that another has it.
#[test]
fn a_claim_of_a_pinned_row_is_delayed() {
    let [pg, _] = codecs();
    for (codec, failure) in [
        (pg, postgres::statement_failed(Some("55P03"), "Sperrzeit")),
        (mysql(), mysql::statement_failed(Some(1205), "Lock wait timeout exceeded")),
    ] {
        let mut exchange = codec.encode(&acquire(vec![claim("a", 1)]), NOW);
        exchange.handle_failure(failure.clone());
        // On MySQL, it may be the holder's own transaction.
        if exchange.poll_statement().is_some() {
            assert!(matches!(failure.code(), Some(lock_core::Code::Mysql(_))));
            let mut held = exchange.clone();
            let [name, holder] = ["a", "they"].map(|text| Value::Text(text.to_string()));
            let numbers = [1, 2_000_000, 0, 0, 7, 0, 0].map(Value::Int);
            held.handle_rows(vec![[&[name, holder][..], &numbers].concat()]);
            let Ok(Reply::Outcomes(told)) = held.finish() else { panic!("an answer") };
            assert!(
                matches!(&told[..], [Outcome::Busy(Some(by))] if by.label == "they"),
                "{told:?}"
            );
            let mut unknown = exchange.clone();
            unknown.handle_failure(failure.clone());
            assert_eq!(unknown.finish(), Ok(Reply::one(Outcome::Delayed)));
            exchange.handle_rows(vec![]);
        }
        assert_eq!(exchange.poll_statement(), None);
        assert_eq!(exchange.finish(), Ok(Reply::one(Outcome::Delayed)));
        // Of several, it is not known which.
        let several = [acquire_ab(), renew_ab(), release_ab()];
        for request in several {
            let mut exchange = codec.encode(&request, NOW);
            exchange.handle_failure(failure.clone());
            assert_eq!(exchange.finish(), Err(failure.clone()), "{request:?}");
        }
    }
}

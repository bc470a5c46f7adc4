//! Encodings of names, tried with every input of a kind up to some length, and not with a sample of it.

use lock_core::http::KeyTemplate;
use lock_core::sql::advisory::Key;
use lock_core::{LockName, NameError};
use std::collections::BTreeMap;

/// All texts of up to `longest` of these parts.
fn texts(parts: &[&str], longest: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..longest {
        let end = all.len();
        for at in from..end {
            for part in parts {
                all.push(format!("{}{part}", all[at]));
            }
        }
        from = end;
    }
    all
}

fn every_character() -> impl Iterator<Item = char> {
    '\0'..=char::MAX
}

#[test]
fn a_name_may_have_every_character_that_does_not_control() {
    for c in every_character() {
        for (text, at) in [(format!("{c}"), 0), (format!("é{c}"), 2), (format!("{c}x"), 0)] {
            match LockName::new(&text) {
                Ok(name) => assert!(!c.is_control() && name.as_str() == text, "{text:?}"),
                Err(error) => {
                    assert!(c.is_control() && error == NameError::Control { at }, "{text:?}");
                }
            }
        }
    }
}

#[test]
fn a_name_has_1_to_255_bytes_whatever_its_characters_take() {
    for c in ['a', 'é', '日', '🔒'] {
        for count in 0..=256 {
            let text = c.to_string().repeat(count);
            let expected = match text.len() {
                0 => Err(NameError::Empty),
                1..=255 => Ok(text.as_str()),
                bytes => Err(NameError::TooLong { bytes }),
            };
            let name = LockName::new(&text);
            assert_eq!(name.as_ref().map(LockName::as_str), expected.as_ref().copied());
            // A permit's name has five more, for any number of permits.
            let Ok(name) = name else { continue };
            let permits = name.permits(1);
            assert_eq!(permits.is_ok(), text.len() + 5 <= 255, "{}", text.len());
            if text.len() + 5 > 255 {
                assert_eq!(permits, Err(NameError::NoRoom { most: 250 }));
            }
        }
    }
}

#[test]
fn every_permit_is_read_back_and_nothing_else_is_one() {
    let of = LockName::new("of").expect("good");
    for count in 0..=LockName::MAX_PERMITS {
        let permits = of.permits(count).expect("room for it");
        assert_eq!(permits.len(), count.max(1) as usize);
        assert_eq!(permits.last().and_then(LockName::as_permit), Some(("of", count.max(1))));
    }
    assert!(of.permits(LockName::MAX_PERMITS + 1).is_err());
    for number in texts(&["0", "1", "9", "+", "-", " ", "x", "\u{1f}"], 5) {
        let plain = number.parse().is_ok_and(|parsed: u32| {
            (1..=LockName::MAX_PERMITS).contains(&parsed) && parsed.to_string() == number
        });
        let stored = format!("of\u{1f}{number}");
        assert_eq!(LockName::permit_of(&stored).is_some(), plain, "{stored:?}");
    }
}

#[test]
fn every_character_makes_a_key_of_its_own_in_consul() {
    let keys = KeyTemplate::default();
    for c in every_character() {
        for text in [format!("{c}"), format!("a{c}"), format!("{c}a"), format!("/{c}")] {
            let Ok(name) = LockName::new(&text) else { continue };
            let key = keys.key(&name);
            assert!(key.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{key:?}");
            assert_eq!(keys.name(&key), Some(name), "{key:?}");
        }
    }
}

#[test]
fn every_name_of_awkward_parts_makes_a_key_of_its_own_in_consul() {
    let keys = KeyTemplate::new("{name}").expect("good");
    let mut seen = BTreeMap::new();
    for text in texts(&["/", ".", "=", "%", " ", "2E", "a", "é"], 5) {
        let Ok(name) = LockName::new(&text) else { continue };
        let key = keys.key(&name);
        assert_eq!(keys.name(&key), Some(name), "{key:?}");
        let parts = || key.split('/');
        assert_eq!(key.trim(), key);
        assert!(parts().all(|part| !matches!(part, "" | "." | "..")), "{text:?}: {key:?}");
        // Parts join to the same text in two ways: "2E" is one of them.
        let other = seen.insert(key, text.clone());
        assert!(other.as_ref().is_none_or(|other| *other == text), "{other:?} and {text:?}");
    }
}

#[test]
fn every_text_that_is_a_key_in_consul_is_that_of_its_name() {
    let keys = KeyTemplate::default();
    for inner in texts(&["/", ".", "=", "2", "E", " ", "a", "é"], 5) {
        let key = format!("locks/{inner}/lock");
        if let Some(name) = keys.name(&key) {
            assert_eq!(keys.key(&name), key);
        }
    }
}

#[test]
fn a_number_has_one_name() {
    for text in texts(&["0", "1", "9", "-", "+", " ", "e", "."], 5) {
        let Ok(name) = LockName::new(&text) else { continue };
        let plain = text.parse().is_ok_and(|number: i64| number.to_string() == text);
        assert_eq!(Key::Int.of(&name).ok(), plain.then_some(text));
    }
    for bits in 0..=63 {
        for number in [-1, 0, 1].map(|off| (1_i128 << bits) + off) {
            for number in [number, -number] {
                let name = LockName::new(&number.to_string()).expect("good");
                let fits = i64::try_from(number).is_ok();
                assert_eq!(Key::Int.of(&name).is_ok(), fits, "{number}");
                let half = i32::try_from(number).is_ok();
                for pair in [format!("{number},0"), format!("0,{number}")] {
                    let name = LockName::new(&pair).expect("good");
                    assert_eq!(Key::Pair.of(&name).ok(), half.then_some(pair));
                }
            }
        }
    }
}

#[test]
fn a_pair_of_numbers_has_one_name() {
    for text in texts(&["0", "1", "-", "+", ",", " "], 6) {
        let Ok(name) = LockName::new(&text) else { continue };
        let plain = |half: &str| half.parse().is_ok_and(|n: i32| n.to_string() == half);
        let pair = text.split_once(',').is_some_and(|(one, two)| plain(one) && plain(two));
        assert_eq!(Key::Pair.of(&name).ok(), pair.then_some(text));
    }
}

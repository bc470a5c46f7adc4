//! What the rows of a statement mean. Both dialects read them alike.

mod failures;
mod hostile;
mod keep;
mod look;
mod news;
mod peers;
mod pin;
mod watched;

use lock_core::sql::{Codec, Exchange, Rows, Statement, Value, postgres, sqlite};
use lock_core::{
    Claim, Failure, Fence, Holder, Instant, LockName, Mode, Outcome, Owner, Reply, Request,
    SessionName, TableName,
};
use std::time::Duration;

const NOW: Instant = Instant::from_nanos(5_000_000_999);

fn codecs() -> [Codec; 2] {
    [postgres::codec(TableName::default()), sqlite::codec(TableName::default(), "boot-1")]
}

fn claim(name: &str, owner: u128) -> Claim {
    Claim::new(LockName::new(name).expect("a good name"), Owner::new(owner))
}

fn acquire(claims: Vec<Claim>) -> Request {
    Request::Acquire {
        session: SessionName::default(),
        claims,
        ttl: Duration::from_secs(30),
        min_uptime: Duration::ZERO,
        label: "me".into(),
    }
}

fn acquire_ab() -> Request {
    acquire(vec![claim("a", 0xa), claim("b", 0xb)])
}

fn renew_ab() -> Request {
    Request::Renew { claims: acquire_ab().claims().to_vec(), ttl: Duration::from_secs(30) }
}

fn release_ab() -> Request {
    Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: acquire_ab().claims().to_vec(),
    }
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn owner(number: u128) -> Value {
    text(&Owner::new(number).to_string())
}

fn statement(exchange: &Exchange) -> Statement {
    exchange.poll_statement().expect("a statement is due")
}

/// Hands `answers` to the statements of `request`, all of which must be used.
fn run(codec: &Codec, request: &Request, answers: &[Rows]) -> Result<Reply, Failure> {
    let mut exchange = codec.encode(request, NOW);
    for rows in answers {
        statement(&exchange);
        exchange.handle_rows(rows.clone());
    }
    assert_eq!(exchange.poll_statement(), None, "more is asked");
    exchange.finish()
}

#[test]
fn what_is_granted_takes_one_statement() {
    for codec in codecs() {
        // In any order.
        let rows = vec![vec![text("b"), int(8)], vec![text("a"), int(i64::MAX)]];
        let granted = [i64::MAX as u64, 8].map(|fence| Outcome::Granted(Fence::new(fence)));
        assert_eq!(run(&codec, &acquire_ab(), &[rows]), Ok(Reply::Outcomes(granted.into())));
    }
}

#[test]
fn only_a_fence_must_be_on_the_disk_where_a_power_cut_ends_all_leases() {
    let [postgres, sqlite] = codecs();
    for (request, fence) in [(acquire_ab(), true), (renew_ab(), false), (release_ab(), false)] {
        assert_eq!(statement(&sqlite.encode(&request, NOW)).durable, fence, "{request:?}");
        // Its text says where a commit need not wait.
        assert!(statement(&postgres.encode(&request, NOW)).durable);
    }
}

#[test]
fn for_what_is_denied_a_second_statement_asks_who_has_it() {
    for codec in codecs() {
        let mut exchange = codec.encode(&acquire_ab(), NOW);
        let first = statement(&exchange);
        exchange.handle_rows(vec![vec![text("a"), int(7)]]);
        let second = statement(&exchange);
        assert_ne!(first.text, second.text);
        let asked = second.params.iter().find_map(|param| match param {
            Value::Texts(names) => Some(names.join(",")),
            Value::Text(text) if text.contains('b') && text != "boot-1" => Some(text.clone()),
            _ => None,
        });
        let asked = asked.expect("names");
        assert!(asked.contains('b') && !asked.contains("a\""), "only of that: {asked}");
        let row =
            [&[text("b"), text("host 1")][..], &[2_000_000, 3, 0, 0, 7, 0, 0].map(int)].concat();
        exchange.handle_rows(vec![row]);
        let holder = Holder::new("host 1", Duration::from_secs(2), Duration::from_micros(3));
        let reply = vec![Outcome::Granted(Fence::new(7)), Outcome::Busy(Some(holder))];
        assert_eq!(exchange.finish(), Ok(Reply::Outcomes(reply)));
    }
}

#[test]
fn a_holder_that_is_gone_by_then_is_not_named() {
    for codec in codecs() {
        let rows = vec![vec![
            text("c"),
            text("of no concern"),
            int(1),
            int(1),
            int(0),
            int(0),
            int(7),
            int(0),
            int(0),
        ]];
        for rows in [vec![], rows] {
            let reply = Reply::Outcomes(vec![Outcome::Busy(None); 2]);
            assert_eq!(run(&codec, &acquire_ab(), &[vec![], rows]), Ok(reply));
        }
    }
}

#[test]
fn a_holders_negative_times_count_as_none() {
    for codec in codecs() {
        let rows = vec![vec![
            text("a"),
            text(""),
            int(-1),
            int(i64::MIN),
            int(-1),
            int(-1),
            int(-7),
            int(0),
            int(0),
        ]];
        let request = acquire(vec![claim("a", 1)]);
        let holder = Holder::new("", Duration::ZERO, Duration::ZERO);
        let reply = Reply::Outcomes(vec![Outcome::Busy(Some(holder))]);
        assert_eq!(run(&codec, &request, &[vec![], rows]), Ok(reply));
    }
}

#[test]
fn what_a_renewal_changed_is_matched_by_name_and_owner() {
    let mine = || vec![text("b"), owner(0xb)];
    let another = || vec![text("a"), owner(0xb)];
    let renewed = |ours| if ours { Outcome::Done } else { Outcome::NotOwner };
    let cases = || {
        [
            (vec![mine(), vec![text("a"), owner(0xa)]], [true, true]),
            (vec![mine()], [false, true]),
            (vec![another(), mine(), mine()], [false, true]),
            (vec![vec![text("A"), owner(0xa)], vec![text("a"), text("a")]], [false, false]),
            (vec![], [false, false]),
        ]
    };
    for codec in codecs() {
        for (rows, ours) in cases() {
            assert_eq!(
                run(&codec, &renew_ab(), &[rows]),
                Ok(Reply::Outcomes(ours.map(renewed).into()))
            );
        }
    }
}

#[test]
fn what_was_freed_is_matched_by_name_and_tells_who_waits() {
    let row = |name, wanted| vec![text(name), int(wanted)];
    use Outcome::{Done, DoneContended, NotOwner};
    let cases = || {
        [
            (vec![row("b", 1), row("a", 0)], [Done, DoneContended]),
            (vec![row("b", 0)], [NotOwner, Done]),
            (vec![row("A", 1)], [NotOwner, NotOwner]),
            (vec![], [NotOwner, NotOwner]),
        ]
    };
    for codec in codecs() {
        for (rows, freed) in cases() {
            assert_eq!(run(&codec, &release_ab(), &[rows]), Ok(Reply::Outcomes(freed.into())));
        }
        for rows in [
            vec![vec![text("a"), owner(0xa)]],
            vec![vec![text("a"), int(1), int(1)]],
            vec![vec![int(1), int(1)]],
        ] {
            assert!(matches!(run(&codec, &release_ab(), &[rows]), Err(Failure::Unknown(_))));
        }
    }
}

#[test]
fn rows_that_no_statement_returns_are_never_a_grant() {
    let hostile: [Rows; 14] = [
        vec![vec![]],
        vec![vec![text("a")]],
        vec![vec![text("a"), int(1), int(1)]],
        vec![vec![text("a"), int(-1)]],
        vec![vec![text("a"), int(i64::MIN)]],
        vec![vec![text("a"), text("1")]],
        vec![vec![text("a"), Value::Null]],
        vec![vec![Value::Null, int(1)]],
        vec![vec![Value::Null, Value::Null]],
        vec![vec![int(1), int(1)]],
        vec![vec![int(1), text("a")]],
        vec![vec![Value::Texts(vec!["a".into()]), int(1)]],
        // One good row does not make up for a bad one.
        vec![vec![text("a"), int(1)], vec![text("b"), Value::Null]],
        vec![vec![text("a"), int(1)], vec![text("b")]],
    ];
    for codec in codecs() {
        for rows in &hostile {
            let result = run(&codec, &acquire_ab(), std::slice::from_ref(rows));
            assert!(matches!(result, Err(Failure::Unknown(_))), "{rows:?}: {result:?}");
        }
    }
}

#[test]
fn rows_that_no_statement_returns_are_never_a_renewal_or_a_release() {
    let a = || text("a");
    let hostile: [Rows; 7] = [
        vec![vec![]],
        vec![vec![a()]],
        vec![vec![a(), int(10)]],
        vec![vec![a(), Value::Null]],
        vec![vec![Value::Null, owner(0xa)]],
        vec![vec![a(), owner(0xa), owner(0xa)]],
        vec![vec![a(), owner(0xa)], vec![text("b"), Value::Null]],
    ];
    for codec in codecs() {
        for request in [renew_ab(), release_ab()] {
            for rows in &hostile {
                let result = run(&codec, &request, std::slice::from_ref(rows));
                assert!(matches!(result, Err(Failure::Unknown(_))), "{rows:?}: {result:?}");
            }
        }
    }
}

#[test]
fn names_never_asked_for_grant_nothing() {
    for codec in codecs() {
        let rows = vec![vec![text("c"), int(1)], vec![text("A"), int(2)], vec![text("a "), int(3)]];
        let reply = Reply::Outcomes(vec![Outcome::Busy(None); 2]);
        assert_eq!(run(&codec, &acquire_ab(), &[rows, vec![]]), Ok(reply));
    }
}

#[test]
fn hostile_rows_about_holders_are_not_believed() {
    let row = || [&[text("a"), text("x")][..], &[1, 1, 0, 0, 7, 0, 0].map(int)].concat();
    let [mut null, mut no_number] = [row(), row()];
    null[1] = Value::Null;
    no_number[4] = text("1");
    let more = [row(), vec![int(1)]].concat();
    for codec in codecs() {
        for rows in [
            vec![row()[..4].to_vec()],
            vec![row(), null.clone()],
            vec![vec![int(1); 7]],
            vec![no_number.clone()],
            vec![more.clone()],
        ] {
            let result = run(&codec, &acquire_ab(), &[vec![], rows]);
            assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
        }
    }
}

#[test]
fn an_exchange_without_all_its_rows_has_no_reply() {
    for codec in codecs() {
        for request in [acquire_ab(), renew_ab(), release_ab()] {
            let mut exchange = codec.encode(&request, NOW);
            assert!(matches!(exchange.clone().finish(), Err(Failure::Unknown(_))));
            if let Request::Acquire { .. } = request {
                exchange.handle_rows(vec![vec![text("a"), int(7)]]);
                assert!(matches!(exchange.clone().finish(), Err(Failure::Unknown(_))), "half");
                exchange.handle_rows(vec![]);
            } else {
                exchange.handle_rows(vec![]);
            }
            assert!(exchange.clone().finish().is_ok());
            exchange.handle_rows(vec![vec![text("a"), int(7)], vec![text("b"), int(7)]]);
            assert!(matches!(exchange.finish(), Err(Failure::Unknown(_))), "rows unasked for");
        }
    }
}

#[test]
fn a_statement_that_fails_fails_its_command_unless_it_only_asked() {
    let gone = || Failure::Unknown("gone".into());
    for codec in codecs() {
        for request in [acquire_ab(), renew_ab(), release_ab()] {
            let mut exchange = codec.encode(&request, NOW);
            exchange.handle_failure(gone());
            assert_eq!(exchange.poll_statement(), None);
            assert_eq!(exchange.finish(), Err(gone()));
        }
        // What was granted is granted; only who has the rest stays unknown.
        let mut exchange = codec.encode(&acquire_ab(), NOW);
        exchange.handle_rows(vec![vec![text("a"), int(7)]]);
        exchange.handle_failure(gone());
        assert_eq!(exchange.poll_statement(), None);
        let reply = vec![Outcome::Granted(Fence::new(7)), Outcome::Busy(None)];
        assert_eq!(exchange.finish(), Ok(Reply::Outcomes(reply)));
    }
}

#[test]
fn parameters_carry_the_claims_the_clock_and_the_ttl() {
    let [postgres, sqlite] = codecs();
    let awkward = acquire(vec![claim(r#"it's "a" \ 🔒"#, 1)]);
    let micros = int(30_000_000);
    let one = Owner::new(1).to_string();
    let name = text(r#"it's "a" \ 🔒"#);
    assert_eq!(
        statement(&postgres.encode(&awkward, NOW)).params,
        [micros.clone(), text("me"), name.clone(), text(&one), int(0)]
    );
    let release = Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: awkward.claims().to_vec(),
    };
    assert_eq!(statement(&postgres.encode(&release, NOW)).params, [name.clone(), text(&one)]);
    let [names, owners] =
        [["a", "b"], [&Owner::new(0xa).to_string(), &Owner::new(0xb).to_string()]]
            .map(|texts| Value::Texts(texts.map(String::from).into()));
    assert_eq!(
        statement(&postgres.encode(&acquire_ab(), NOW)).params,
        [
            micros.clone(),
            text("me"),
            names,
            owners,
            Value::Texts(vec![]),
            Value::Texts(vec![]),
            Value::Texts(vec!["0".into(), "0".into()]),
        ]
    );
    let clock = [int(5_000_000), text("boot-1")];
    let pair = [name.clone(), text(&one)];
    let params = |request: &Request| statement(&sqlite.encode(request, NOW)).params;
    let leases = awkward.claims().to_vec();
    let release = Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: leases.clone(),
    };
    assert_eq!(params(&release), [&clock[..], &pair].concat());
    let terms = [micros.clone(), text("me")];
    assert_eq!(params(&awkward), [&clock[..], &terms, &pair, &[int(0)]].concat());
    let json = text(&format!(r#"[["it's \"a\" \\ 🔒","{one}"]]"#));
    let renew = Request::Renew { claims: leases, ttl: Duration::from_secs(30) };
    assert_eq!(params(&renew), [&clock[..], &[micros, json]].concat());
    let both = format!(r#"[["a","{}"],["b","{}"]]"#, Owner::new(0xa), Owner::new(0xb));
    assert_eq!(params(&release_ab()), [&clock[..], &[text(&both)]].concat());
}

#[test]
fn a_statements_text_is_the_same_for_every_command_of_its_kind() {
    for codec in codecs() {
        let of = |claims| statement(&codec.encode(&acquire(claims), NOW)).text;
        let other = of(vec![claim("else.", 9), claim("other.", 9)]);
        assert_eq!(of(acquire_ab().claims().to_vec()), other);
        assert_eq!(of(vec![claim("a", 1)]), of(vec![claim("else.", 9)]));
        assert!(other.contains(r#""locks" "#) && !other.contains("else."), "{other}");
    }
}

#[test]
fn extreme_times_do_not_overflow() {
    for codec in codecs() {
        let claims = vec![claim("a", 1)];
        let request = Request::Acquire {
            session: SessionName::default(),
            claims,
            ttl: Duration::MAX,
            min_uptime: Duration::ZERO,
            label: "".into(),
        };
        let exchange = codec.encode(&request, Instant::from_nanos(u64::MAX));
        assert!(statement(&exchange).params.contains(&int(i64::MAX)));
    }
}

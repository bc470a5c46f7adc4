//! MySQL's and MariaDB's statements: what their numbers and rows mean, and what is refused.

mod setup;

use lock_core::admin::AdminRequest;
use lock_core::sql::{Codec, Refusal, Rows, Setup, Statement, Step, Value, mysql};
use lock_core::{
    Claim, Code, Failure, Fence, Instant, LockName, Outcome, Owner, Reply, Request, SessionName,
    TableName,
};
use std::time::Duration;

const COLUMNS: &str = "acquired_us bigint, expires_us bigint, fence bigint, holder varchar(255) utf8mb4, name varbinary(255), owner binary(16), queue bigint, served bigint, ttl_us bigint";
const TTL: Duration = Duration::from_secs(30);

fn codec() -> Codec {
    mysql::codec(TableName::default())
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// What a statement without rows returns.
fn number(number: i64) -> Rows {
    vec![vec![int(number)]]
}

fn claims(names: &[&str]) -> Vec<Claim> {
    let claim = |name: &&str| Claim::new(LockName::new(name).expect("good"), Owner::new(0xa));
    names.iter().map(claim).collect()
}

fn acquire(names: &[&str]) -> Request {
    Request::Acquire {
        session: SessionName::default(),
        claims: claims(names),
        ttl: TTL,
        min_uptime: Duration::ZERO,
        label: "me".into(),
    }
}

fn renew(names: &[&str]) -> Request {
    Request::Renew { claims: claims(names), ttl: TTL }
}

fn release(names: &[&str]) -> Request {
    Request::Release { passed_over: None, session: SessionName::default(), claims: claims(names) }
}

/// A row of those that are their owner's.
fn mine(name: &str, owner: u128, fence: i64) -> Vec<Value> {
    vec![text(name), text(&Owner::new(owner).to_string()), int(fence), int(0)]
}

fn granted(fence: u64) -> Outcome {
    Outcome::Granted(Fence::new(fence))
}

/// Hands `answers` to the statements of `request`, all of which must be used.
fn run(request: &Request, answers: &[Rows]) -> Result<Reply, Failure> {
    let mut exchange = codec().encode(request, Instant::default());
    for rows in answers {
        exchange.poll_statement().expect("a statement is due");
        exchange.handle_rows(rows.clone());
    }
    assert_eq!(exchange.poll_statement(), None, "more is asked");
    exchange.finish()
}

/// At the answer to its check.
fn checked(codec: &Codec) -> (Setup, Statement) {
    let mut setup = codec.setup();
    let mut next = |answer| match setup.step(answer) {
        Step::Run(statement) => statement,
        other => panic!("nothing to run: {other:?}"),
    };
    assert_eq!(&*next(None).text, "ROLLBACK AND NO CHAIN NO RELEASE");
    let session = next(Some(Ok(number(0)))).text;
    assert!(session.contains("STRICT_TRANS_TABLES") && session.contains("'READ-COMMITTED'"));
    let check = next(Some(Ok(number(0))));
    (setup, check)
}

#[test]
fn one_claim_is_answered_by_one_number() {
    assert_eq!(run(&acquire(&["a"]), &[number(7)]), Ok(Reply::Outcomes(vec![granted(7)])));
    let busy = Ok(Reply::Outcomes(vec![Outcome::Busy(None)]));
    assert_eq!(run(&acquire(&["a"]), &[number(0), vec![]]), busy);
    assert_eq!(run(&renew(&["a"]), &[number(1)]), Ok(Reply::Outcomes(vec![Outcome::Done])));
    assert_eq!(run(&renew(&["a"]), &[number(0)]), Ok(Reply::Outcomes(vec![Outcome::NotOwner])));
    for (told, freed) in [(0, Outcome::NotOwner), (1, Outcome::Done), (2, Outcome::DoneContended)] {
        assert_eq!(run(&release(&["a"]), &[number(told)]), Ok(Reply::Outcomes(vec![freed])));
    }
}

#[test]
fn what_became_of_several_claims_is_read() {
    let rows = vec![mine("b", 0xa, 8), mine("a", 0xa, 7)];
    let both = Ok(Reply::Outcomes(vec![granted(7), granted(8)]));
    // The number is that of any claim, granted or not.
    for last in [0, 8] {
        assert_eq!(run(&acquire(&["a", "b"]), &[number(last), rows.clone()]), both);
    }
    let one = Ok(Reply::Outcomes(vec![granted(7), Outcome::Busy(None)]));
    let rows = vec![mine("a", 0xa, 7), mine("b", 0xb, 9)];
    assert_eq!(run(&acquire(&["a", "b"]), &[number(0), rows, vec![]]), one, "b is another's");
}

/// They may be its owner's all the same, by a claim that was not answered: for how long still is not known.
#[test]
fn claims_that_wrote_nothing_are_not_granted() {
    let request = acquire(&["a", "b"]);
    let claim = codec().encode(&request, Instant::default()).poll_statement().expect("a claim");
    assert_eq!(mysql::answer(&claim, 0, 0), number(-1));
    assert_eq!(mysql::answer(&claim, 0, 1), number(0), "the last one was denied");
    assert_eq!(mysql::answer(&claim, 8, 2), number(8));
    let none = Ok(Reply::Outcomes(vec![Outcome::Busy(None); 2]));
    assert_eq!(run(&request, &[number(-1), vec![]]), none);
    assert_eq!(run(&acquire(&["a"]), &[number(-1), vec![]]), Ok(Reply::one(Outcome::Busy(None))));
}

#[test]
fn several_leases_are_renewed_if_they_end_as_late_as_they_must() {
    let mut exchange = codec().encode(&renew(&["a", "b"]), Instant::default());
    exchange.handle_rows(number(1_000));
    let check = exchange.poll_statement().expect("it reads which");
    let owner = "0000000000000000000000000000000a";
    let each = format!(r#"[["61","{owner}",30000000,""],["62","{owner}",30000000,""]]"#);
    assert_eq!(check.params, [int(1_000), text(&each)], "each a TTL after they were renewed");
    assert!(check.text.contains("? + COALESCE(j.ttl, 0) AS since"));
    assert!(check.text.contains("LOCK IN SHARE MODE"), "a replica may not know of it yet");
    exchange.handle_rows(vec![mine("b", 0xa, 8)]);
    assert_eq!(exchange.finish(), Ok(Reply::Outcomes(vec![Outcome::NotOwner, Outcome::Done])));
    assert_eq!(
        run(&renew(&["a", "b"]), &[number(0)]),
        Ok(Reply::Outcomes(vec![Outcome::NotOwner; 2]))
    );
}

#[test]
fn whose_several_leases_are_is_read_before_they_are_released() {
    let request = release(&["a", "b"]);
    let look = codec().encode(&request, Instant::default()).poll_statement().expect("it reads");
    assert!(look.text.contains("LOCK IN SHARE MODE"), "a replica may not know of it yet");
    let none = Ok(Reply::Outcomes(vec![Outcome::NotOwner; 2]));
    assert_eq!(run(&request, &[vec![]]), none, "nothing is left to release");
    let replied = run(&request, &[vec![mine("b", 0xa, 8), mine("a", 0xb, 7)], number(1)]);
    assert_eq!(replied, Ok(Reply::Outcomes(vec![Outcome::NotOwner, Outcome::Done])));
    let mut wanted = mine("b", 0xa, 8);
    wanted[3] = int(1);
    let replied = run(&request, &[vec![wanted], number(1)]);
    assert_eq!(replied, Ok(Reply::Outcomes(vec![Outcome::NotOwner, Outcome::DoneContended])));
}

#[test]
fn what_is_no_number_is_never_a_grant() {
    let hostile = [
        vec![],
        vec![vec![]],
        number(-2),
        vec![vec![text("7")]],
        vec![vec![Value::Null]],
        vec![vec![int(7), int(7)]],
        vec![vec![int(7)], vec![int(7)]],
        vec![vec![text("a"), int(7)]],
    ];
    for request in [acquire(&["a"]), acquire(&["a", "b"]), renew(&["a"]), release(&["a"])] {
        for rows in &hostile {
            let result = run(&request, std::slice::from_ref(rows));
            assert!(matches!(result, Err(Failure::Unknown(_))), "{rows:?}: {result:?}");
        }
    }
    for request in [renew(&["a"]), renew(&["a", "b"]), release(&["a"])] {
        let result = run(&request, &[number(-1)]);
        assert!(
            matches!(result, Err(Failure::Unknown(_))),
            "claims alone write nothing: {result:?}"
        );
    }
    let fit = mine("a", 0xa, 7);
    for row in [fit[..2].to_vec(), mine("a", 0xa, -1), [fit, vec![int(1)]].concat()] {
        for request in [acquire(&["a", "b"]), renew(&["a", "b"])] {
            let result = run(&request, &[number(7), vec![row.clone()]]);
            assert!(matches!(result, Err(Failure::Unknown(_))), "{row:?}: {result:?}");
        }
        let result = run(&release(&["a", "b"]), &[vec![row]]);
        assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
    }
}

#[test]
fn what_was_done_and_could_not_be_read_is_unknown() {
    let deadlock = || mysql::statement_failed(Some(1213), "deadlock");
    for request in [acquire(&["a", "b"]), renew(&["a", "b"])] {
        let mut exchange = codec().encode(&request, Instant::default());
        exchange.handle_rows(number(7));
        exchange.handle_failure(deadlock());
        assert_eq!(exchange.finish(), Err(Failure::Unknown("deadlock (error 1213)".into())));
    }
    // Before it was done, it was not done.
    let mut exchange = codec().encode(&release(&["a", "b"]), Instant::default());
    exchange.handle_failure(deadlock());
    assert_eq!(exchange.finish(), Err(deadlock()));
}

#[test]
fn parameters_are_put_in_and_mean_nothing_else() {
    let inline = |params: Vec<Value>| mysql::inline(&Statement::new("SELECT ?, ? FROM t", params));
    assert_eq!(
        inline(vec![int(i64::MIN), Value::Null]),
        "SELECT -9223372036854775808, NULL FROM t"
    );
    assert_eq!(inline(vec![text("ab-1 (x)"), text("")]), "SELECT 'ab-1 (x)', '' FROM t");
    assert_eq!(
        inline(vec![text("it's"), text("?\\")]),
        "SELECT _utf8mb4 X'69742773', _utf8mb4 X'3f5c' FROM t"
    );
    assert_eq!(inline(vec![text("é"), int(1)]), "SELECT _utf8mb4 X'c3a9', 1 FROM t");
    assert_eq!(inline(vec![int(1)]), "SELECT 1, NULL FROM t", "never a question mark");

    let awkward = r#"it's "a" \ 🔒?"#;
    let [name, owner] = ["6974277320226122205c20f09f94923f", "0000000000000000000000000000000a"];
    let one = format!(
        "UNHEX('{name}') AS its_name, UNHEX('{owner}') AS claimant, CAST(0 AS SIGNED) AS turn)"
    );
    let terms_of_each = r#"30000000,"6d65",0"#;
    let several =
        format!(r#"'[["61","{owner}",{terms_of_each}],["{name}","{owner}",{terms_of_each}]]'"#);
    let terms = "CAST(30000000 AS SIGNED) AS ttl, 'me' AS label";
    let own = "COALESCE(j.ttl, CAST(30000000 AS SIGNED)) AS ttl, COALESCE(CONVERT(UNHEX(j.label) USING utf8mb4), 'me') AS label";
    for (names, claims, sets) in [(vec![awkward], one, terms), (vec!["a", awkward], several, own)] {
        let exchange = codec().encode(&acquire(&names), Instant::default());
        let sent = mysql::inline(&exchange.poll_statement().expect("a statement"));
        assert!(sent.contains(&claims) && sent.contains(sets), "{sent}");
        assert!(!sent.contains('?'));
    }
}

#[test]
fn what_is_about_one_claim_is_repeated_and_nothing_else() {
    let look = |names: &[&str]| Request::Probe { claims: claims(names) };
    let repeated = |request: &Request, rows: Option<Rows>| {
        let mut exchange = codec().encode(request, Instant::default());
        if let Some(rows) = rows {
            exchange.handle_rows(rows);
        }
        exchange.poll_statement().expect("a statement").repeated
    };
    for names in [&["a"][..], &["a", "b"]] {
        let one = names.len() == 1;
        for request in [acquire(names), release(names), look(names)] {
            assert_eq!(repeated(&request, None), one, "{request:?}");
        }
        assert_eq!(repeated(&acquire(names), Some(number(0))), one, "what became of it");
        assert!(!repeated(&renew(names), None));
    }
    assert!(!checked(&codec()).1.repeated);
}

#[test]
fn a_columns_bytes_are_digits_or_a_text_or_a_surprise() {
    assert_eq!(mysql::value(b"-7".to_vec(), true), int(-7));
    assert_eq!(mysql::value(b"7".to_vec(), false), text("7"));
    for bytes in [&b""[..], b"7x", b"9223372036854775808", b"\xff"] {
        assert_eq!(mysql::value(bytes.to_vec(), true), Value::Null, "{bytes:?}");
    }
    assert_eq!(mysql::value(b"\xff".to_vec(), false), Value::Null);
}

#[test]
fn what_a_server_error_says() {
    let told = |code| format!("a lock b (error {code})");
    let fails = |code| mysql::statement_failed(Some(code), " a lock\nb\n");
    for code in [1053, 1077, 1079, 1152, 1158, 1161, 1180, 1184, 1927, 2006, 2013, 3169, 4031] {
        assert_eq!(fails(code), Failure::Unknown(told(code)));
    }
    for code in [
        1213, 1205, 1020, 3101, 3572, 1317, 1969, 3024, 1021, 1041, 1047, 1114, 1135, 1290, 1792,
        1836, 3032,
    ] {
        let again = Failure::not_now(told(code)).with_code(Some(Code::Mysql(code)));
        assert_eq!(fails(code), again);
    }
    for code in [1044, 1142, 1146, 1054, 1062, 1227, 1406, 1665, 1690, 0] {
        let refused = Failure::refused(told(code)).with_code(Some(Code::Mysql(code)));
        assert_eq!(fails(code), refused);
    }
    assert_eq!(mysql::statement_failed(None, "gone\n"), Failure::Unknown("gone".into()));
    for code in [1040, 1043, 1053, 1203, 1226, 2003, 3032] {
        let failure = mysql::connect_failed(Some(code), "a lock\nb");
        assert_eq!(failure, Failure::NotSent(told(code)));
    }
    for code in [1044, 1045, 1049, 1130, 1251, 3118] {
        let refused = Failure::refused(told(code)).with_code(Some(Code::Mysql(code)));
        assert_eq!(mysql::connect_failed(Some(code), "a lock\nb"), refused);
    }
    assert_eq!(mysql::connect_failed(None, "no route"), Failure::NotSent("no route".into()));
}

//! MySQL's and MariaDB's statements: what their numbers and rows mean, and what is refused.

use lock_core::admin::AdminRequest;
use lock_core::sql::{Codec, Refusal, Rows, Setup, Statement, Step, Value, mysql};
use lock_core::{
    Claim, Code, Failure, Fence, Instant, LockName, Mode, Outcome, Owner, Reply, Request,
    SessionName, TableName,
};
use std::time::Duration;

const COLUMNS: &str = "acquired_us bigint, contended tinyint(1), expires_us bigint, fence bigint, holder varchar(255) utf8mb4, name varbinary(255), owner binary(16), ttl_us bigint";
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
    let claim = |name: &&str| Claim {
        name: LockName::new(name).expect("good"),
        owner: Owner::new(0xa),
        mode: Mode::Exclusive,
    };
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
    Request::Release { session: SessionName::default(), claims: claims(names), times_overtaken: 0 }
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

#[test]
fn several_leases_are_renewed_if_they_end_as_late_as_they_must() {
    let mut exchange = codec().encode(&renew(&["a", "b"]), Instant::default());
    exchange.handle_rows(number(1_000));
    let check = exchange.poll_statement().expect("it reads which");
    assert_eq!(check.params[0], int(30_001_000));
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
        number(-1),
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
    let one = format!("UNHEX('{name}') AS its_name, UNHEX('{owner}') AS claimant)");
    let several = format!(r#"'[["61","{owner}"],["{name}","{owner}"]]'"#);
    for (names, claims) in [(vec![awkward], one), (vec!["a", awkward], several)] {
        let exchange = codec().encode(&acquire(&names), Instant::default());
        let sent = mysql::inline(&exchange.poll_statement().expect("a statement"));
        let sets = "CAST(30000000 AS SIGNED) AS ttl, 'me' AS label";
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
        let held =
            |name: &&str| vec![text(name), text("me"), int(1), int(1), int(0), int(7), int(0)];
        let holders = names.iter().map(held).collect();
        assert_eq!(repeated(&look(names), Some(holders)), one, "the mark");
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
        1836,
    ] {
        let again = Failure::not_now(told(code)).with_code(Some(Code::Mysql(code)));
        assert_eq!(fails(code), again);
    }
    for code in [1044, 1142, 1146, 1054, 1062, 1227, 1406, 1665, 1690, 0] {
        let refused = Failure::refused(told(code)).with_code(Some(Code::Mysql(code)));
        assert_eq!(fails(code), refused);
    }
    assert_eq!(mysql::statement_failed(None, "gone\n"), Failure::Unknown("gone".into()));
    for code in [1040, 1043, 1053, 1203, 1226, 2003] {
        let failure = mysql::connect_failed(Some(code), "a lock\nb");
        assert_eq!(failure, Failure::NotSent(told(code)));
    }
    for code in [1044, 1045, 1049, 1130, 1251, 3118] {
        let refused = Failure::refused(told(code)).with_code(Some(Code::Mysql(code)));
        assert_eq!(mysql::connect_failed(Some(code), "a lock\nb"), refused);
    }
    assert_eq!(mysql::connect_failed(None, "no route"), Failure::NotSent("no route".into()));
}

/// A row of the check: version, read-only, flush, unsynced binary log, engine, columns, keys, whether
/// statements commit, database, account, triggers.
fn row() -> Vec<Value> {
    let [version, read_only, engine, columns] = ["8.4.3", "0", "InnoDB", COLUMNS].map(text);
    let table = [version, read_only, int(1), int(0), engine, columns, int(1), int(1)];
    [&table[..], &[int(1), Value::Null, text("app@%"), int(0)]].concat()
}

fn row_with(column: usize, value: Value) -> Rows {
    let mut row = row();
    row[column] = value;
    vec![row]
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

/// What becomes of a server that always gives this answer to its check.
fn judged(rows: Rows) -> Step {
    let (mut setup, check) = checked(&codec());
    for _ in 0..9 {
        match setup.step(Some(Ok(rows.clone()))) {
            Step::Run(again) if again == check => {}
            other => return other,
        }
    }
    panic!("it is checked again and again");
}

#[test]
fn a_table_whose_key_is_not_shown_yet_is_looked_at_again() {
    let (mut setup, check) = checked(&codec());
    let without = row_with(6, int(0));
    assert_eq!(setup.step(Some(Ok(without))), Step::Run(check));
    assert_eq!(setup.step(Some(Ok(vec![row()]))), Step::Ready);
}

fn refused(column: usize, value: Value) -> Refusal {
    match judged(row_with(column, value)) {
        Step::Refuse(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_server_and_table_that_are_fit_need_nothing_but_the_check() {
    assert_eq!(judged(vec![row()]), Step::Ready);
    let good =
        ["8.0.11", "9.7.4-2", "10.6.0-MariaDB", "10.11.14-MariaDB-0+deb12u2", "11.8.1-MariaDB"];
    for version in good {
        assert_eq!(judged(row_with(0, text(version))), Step::Ready, "{version}");
    }
    assert_eq!(judged(row_with(1, text("OFF"))), Step::Ready);
    let check = checked(&codec()).1;
    assert_eq!(check.params[..2], [Value::Null, text("locks")]);
    let check = checked(&mysql::codec(TableName::new("ops.locks").expect("good"))).1;
    let name = [text("ops"), text("locks")];
    assert_eq!(check.params[4..], [&name[..1], &name, &name].concat());
}

#[test]
fn servers_that_cannot_keep_locks_are_refused() {
    for version in ["5.7.44", "10.5.29-MariaDB", "5.5.5", "", "x"] {
        assert_eq!(refused(0, text(version)), Refusal::UnsupportedVersion, "{version}");
    }
    for read_only in ["1", "ON", "", "NO_LOCK_NO_ADMIN"] {
        assert_eq!(refused(1, text(read_only)), Refusal::ReadOnly, "{read_only}");
    }
    for flush in [int(0), int(2), Value::Null, text("1")] {
        let told = refused(2, flush).to_string();
        assert!(told.contains("have innodb_flush_log_at_trx_commit set to 1"), "{told}");
    }
    for unsynced in [int(1), Value::Null] {
        let told = refused(3, unsynced).to_string();
        assert!(told.contains("have sync_binlog set to 1"), "{told}");
    }
    assert_eq!(refused(0, int(8)), Refusal::UnexpectedResponse);
    for rows in [vec![], vec![vec![]], number(0)] {
        assert_eq!(judged(rows), Step::Refuse(Refusal::UnexpectedResponse));
    }
}

#[test]
fn tables_that_cannot_hold_locks_are_refused() {
    let told = refused(4, text("MyISAM")).to_string();
    assert_eq!(told, "`locks` is no InnoDB table but MyISAM: ALTER TABLE `locks` ENGINE = InnoDB");
    let told = refused(11, int(1)).to_string();
    assert!(told.starts_with("`locks` has triggers"), "{told}");
    let counting = format!("{COLUMNS}, zid bigint");
    let others = [
        (4, text("VIEW")),
        (5, Value::Null),
        (5, text("name int")),
        (5, text(&counting)),
        (6, int(0)),
        (6, int(2)),
        (7, int(0)),
    ];
    for (column, value) in others {
        let told = refused(column, value.clone()).to_string();
        assert!(
            told.starts_with("`locks` is not a lock table (expected: acq"),
            "{value:?}: {told}"
        );
    }
}

#[test]
fn a_table_that_is_missing_is_created_and_checked() {
    let codec = mysql::codec(TableName::new("ops.locks").expect("good"));
    let mut setup = checked(&codec).0;
    let create = setup.step(Some(Ok(row_with(4, Value::Null))));
    let Step::Run(create) = create else { panic!("{create:?}") };
    assert!(create.text.contains("`ops`.`locks`") && *create.text == codec.create_table());
    assert!(matches!(setup.step(Some(Ok(number(0)))), Step::Run(_)), "the check");
    assert_eq!(setup.step(Some(Ok(vec![row()]))), Step::Ready);
}

#[test]
fn a_table_that_may_not_be_created_is_told_with_its_statement() {
    let denied = || Some(Err(mysql::statement_failed(Some(1142), "CREATE request denied")));
    let mut setup = checked(&codec()).0;
    let mut step = setup.step(Some(Ok(row_with(4, Value::Null))));
    for _ in 0..20 {
        let Step::Run(statement) = &step else { break };
        let create = statement.text.starts_with("CREATE");
        step = setup.step(if create { denied() } else { Some(Ok(row_with(4, Value::Null))) });
    }
    let Step::Refuse(refusal @ Refusal::NoTable { .. }) = step else { panic!("{step:?}") };
    let told = refusal.to_string();
    assert!(told.contains("CREATE request denied (error 1142)") && !told.contains('\n'), "{told}");
    assert!(told.ends_with(") ENGINE = InnoDB") && !told.contains("--"), "{told}");
}

#[test]
fn statements_that_do_not_commit_are_refused() {
    assert_eq!(refused(8, int(0)), Refusal::NoAutocommit);
}

#[test]
fn the_database_that_was_chosen_is_the_tables_from_then_on() {
    let (mut setup, _) = checked(&codec());
    assert_eq!(setup.step(Some(Ok(row_with(9, text("my-app"))))), Step::Ready);
    assert_eq!(setup.codec().table().to_string(), "my-app.locks");
    let claim = setup.codec().encode(&acquire(&["a"]), Instant::default());
    let claim = claim.poll_statement().expect("a statement").text;
    assert!(claim.contains("INSERT INTO `my-app`.`locks`"), "{claim}");
}

#[test]
fn a_connection_that_was_handed_over_inside_a_transaction_is_refused() {
    let asked = || {
        let mut setup = codec().setup().handed(true);
        let Step::Run(statement) = setup.step(None) else { panic!("nothing is asked") };
        assert!(statement.text.starts_with("SET TRANSACTION"));
        setup
    };
    let inside = mysql::statement_failed(Some(1568), "in progress");
    assert_eq!(asked().step(Some(Err(inside))), Step::Refuse(Refusal::InTransaction));
    let mut outside = asked();
    let Step::Run(session) = outside.step(Some(Ok(number(0)))) else { panic!("refused") };
    assert!(session.text.contains("autocommit = 1"), "and nothing is rolled back");
}

#[test]
fn what_the_account_may_not_do_is_told_with_the_statement_that_lets_it() {
    let (mut setup, _) = checked(&codec());
    assert_eq!(setup.step(Some(Ok(row_with(9, text("app"))))), Step::Ready);
    for code in [1142, 1143, 1227] {
        let mut exchange = setup.codec().encode(&acquire(&["a"]), Instant::default());
        exchange.handle_failure(mysql::statement_failed(Some(code), "denied"));
        let told = exchange.finish().expect_err("denied").to_string();
        let grant = "GRANT SELECT, INSERT, UPDATE ON `app`.`locks` TO 'app'@'%'";
        assert!(told.ends_with(grant), "{told}");
    } // Operators need other rights.
    let mut exchange =
        setup.codec().encode_admin(&AdminRequest::List { after: None }, Instant::default());
    exchange.handle_failure(mysql::statement_failed(Some(1142), "denied"));
    let told = exchange.finish().expect_err("denied").to_string();
    assert!(told.ends_with("GRANT SELECT ON `app`.`locks` TO 'app'@'%'"), "{told}");
}

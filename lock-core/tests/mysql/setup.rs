//! What the checks of a connection refuse.

use super::*;

/// A row of the check: version, read-only, flush, unsynced binary log, engine, columns, keys, whether
/// statements commit, database, account, triggers, whether it is a node of a Galera cluster.
fn row() -> Vec<Value> {
    let [version, read_only, engine, columns] = ["8.4.3", "0", "InnoDB", COLUMNS].map(text);
    let table = [version, read_only, int(1), int(0), engine, columns, int(1), int(1)];
    [&table[..], &[int(1), Value::Null, text("app@%"), int(0), text("OFF")]].concat()
}

fn row_with(column: usize, value: Value) -> Rows {
    let mut row = row();
    row[column] = value;
    vec![row]
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
fn a_node_of_a_cluster_is_told_to_wait_for_the_others() {
    let (mut setup, _) = checked(&codec());
    let Step::Run(set) = setup.step(Some(Ok(row_with(12, text("ON"))))) else { panic!("nothing") };
    assert_eq!(&*set.text, "SET SESSION wsrep_sync_wait = 7");
    assert_eq!(setup.step(Some(Ok(number(0)))), Step::Ready);
    // A session that may be anybody's is left as it is.
    let mut setup = codec().setup().shared(true);
    setup.step(None);
    setup.step(Some(Ok(vec![])));
    assert_eq!(setup.step(Some(Ok(row_with(12, text("ON"))))), Step::Ready);
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
    for codec in [codec().relaxed(), codec().look_only()] {
        for (column, value) in [(2, int(2)), (3, int(1)), (2, int(0))] {
            let mut setup = checked(&codec).0;
            assert_eq!(setup.step(Some(Ok(row_with(column, value)))), Step::Ready);
        }
    }
    assert_eq!(refused(0, int(8)), Refusal::UnexpectedResponse);
    for rows in [vec![], vec![vec![]], number(0)] {
        assert_eq!(judged(rows), Step::Refuse(Refusal::UnexpectedResponse));
    }
}

/// The greeting came from another connection: there is a proxy in between.
#[test]
fn a_session_that_may_be_anybodys_is_left_as_it_is() {
    let mut setup = codec().setup().numbered(Some(7));
    let mut next = |answer| match setup.step(answer) {
        Step::Run(statement) => statement.text.to_string(),
        other => panic!("nothing to run: {other:?}"),
    };
    assert!(next(None).starts_with("ROLLBACK"));
    assert!(next(Some(Ok(number(0)))).contains("CONNECTION_ID()"));
    assert!(next(Some(Ok(number(8)))).contains("information_schema"), "nothing is set");
    assert_eq!(setup.step(Some(Ok(vec![row()]))), Step::Ready);
    let codec = setup.codec();
    assert!(codec.carries());
    for request in [acquire(&["a"]), acquire(&["a", "b"]), renew(&["a"]), renew(&["a", "b"])] {
        let exchange = codec.encode(&request, Instant::default());
        let statement = exchange.poll_statement().expect("a statement");
        assert!(statement.text.contains("@@SESSION.autocommit = 1") && !statement.repeated);
    }
    // The next one may be the server's own.
    for number_at_server in [7, (1 << 32) + 7] {
        let mut setup = codec.setup().numbered(Some(7));
        setup.step(None);
        setup.step(Some(Ok(number(0))));
        let Step::Run(session) = setup.step(Some(Ok(number(number_at_server)))) else {
            panic!("nothing to run")
        };
        assert!(session.text.starts_with("SET "));
        assert!(!setup.codec().carries());
    }
    for rows in [vec![], vec![vec![]], vec![vec![text("7")]]] {
        let mut setup = codec.setup().numbered(Some(7));
        setup.step(None);
        setup.step(Some(Ok(number(0))));
        assert_eq!(setup.step(Some(Ok(rows))), Step::Refuse(Refusal::UnexpectedResponse));
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
fn a_session_whose_assignments_are_not_made_in_order_is_refused() {
    assert_eq!(refused(8, int(2)), Refusal::SimultaneousAssignment);
}

/// Its leases would end by that. Where only some may set a session's time, putting it back is refused, and it was not set.
#[test]
fn a_session_whose_time_is_set_goes_by_the_servers_clock_or_is_refused() {
    for answer in [Ok(vec![]), Err(Failure::refused("no".to_string()))] {
        let (mut setup, check) = checked(&codec());
        let mut next = |answer| match setup.step(answer) {
            Step::Run(statement) => Ok(statement.text.to_string()),
            other => Err(other),
        };
        let back = next(Some(Ok(row_with(8, int(3)))));
        assert_eq!(back, Ok("SET SESSION timestamp = DEFAULT".to_string()));
        assert_eq!(next(Some(answer)).as_ref(), Ok(&check.text.to_string()), "and again");
        let refused = next(Some(Ok(row_with(8, int(3)))));
        assert_eq!(refused, Err(Step::Refuse(Refusal::SetTime)));
    }
    assert_eq!(refused(8, int(4)), Refusal::ReadOnlyTransactions);
    assert_eq!(refused(8, int(5)), Refusal::SafeUpdates);
    assert_eq!(refused(8, int(6)), Refusal::NotUtf8);
}

/// Of a session that was handed over, of a pool, and of one behind a proxy: what it is asked before the check.
#[test]
fn a_temporary_table_of_the_locks_name_is_refused_in_a_session_of_the_callers() {
    let shown = |made: &str| Some(Ok(vec![vec![text("locks"), text(made)]]));
    let done = || Some(Ok(number(0)));
    let handed = (codec().setup().handed(true), vec![done(), done(), done()]);
    let pooled = (codec().setup().shared(true), vec![]);
    let id = Some(Ok(vec![vec![int(8)]]));
    let proxied = (codec().setup().handed(true).numbered(Some(7)), vec![done(), id]);
    for (mut setup, before) in [handed, pooled, proxied] {
        let mut step = setup.step(None);
        for answer in before {
            step = setup.step(answer);
        }
        let Step::Run(shows) = step else { panic!("{step:?}") };
        assert_eq!(&*shows.text, "SHOW CREATE TABLE `locks`");
        assert!(mysql::returns_rows(&shows));
        let hidden = setup.clone().step(shown("CREATE TEMPORARY TABLE `locks` (\n"));
        assert_eq!(hidden, Step::Refuse(Refusal::Temporary("`locks`".into())));
        let missing = Some(Err(mysql::statement_failed(Some(1146), "no such table")));
        for answer in [shown("CREATE TABLE `locks` (\n"), missing] {
            let Step::Run(check) = setup.clone().step(answer) else { panic!("no check") };
            assert!(check.text.trim_start().starts_with("SELECT VERSION()"), "{}", check.text);
        }
    }
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

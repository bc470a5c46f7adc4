//! What a new connection goes through: what is asked, and what is refused.

mod carried;
mod sessions;

use lock_core::sql::{Codec, Refusal, Rows, Setup, Statement, Step, Value, postgres, sqlite};
use lock_core::{Failure, TableName};

const PG_COLUMNS: &str = "acquired_at timestamptz, expires_at timestamptz, fence int8, holder text, name text C, owner text, queue int8, served int8, ttl_us int8";
const SQLITE_COLUMNS: &str = "acquired_us INTEGER, boot TEXT, expires_us INTEGER, fence INTEGER, holder TEXT, name TEXT pk BINARY, owner TEXT, queue INTEGER, served INTEGER";

fn pg() -> Codec {
    postgres::codec(TableName::default())
}

fn lite() -> Codec {
    sqlite::codec(TableName::default(), "boot-1")
}

/// The statement for people, with the database that a connection means.
fn lite_create() -> String {
    lite().create_table().replace(r#""locks""#, r#""main"."locks""#)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// A row of PostgreSQL's check: standby, version, commit, kind, columns, unique indexes, read-only, schema,
/// role, our settings, character set.
fn pg_row() -> Vec<Value> {
    let [commit, kind, columns, role] = ["on", "rp", PG_COLUMNS, "app"].map(text);
    let table = [Value::Int(0), Value::Int(150_000), commit, kind, columns, Value::Int(1)];
    [&table[..], &[Value::Int(0), Value::Null, role, text("on"), text("UTF8")]].concat()
}

fn pg_row_with(column: usize, value: Value) -> Rows {
    let mut row = pg_row();
    row[column] = value;
    vec![row]
}

fn pg_missing() -> Rows {
    let mut row = pg_row();
    row.splice(3..6, [Value::Null, Value::Null, Value::Int(0)]);
    vec![row]
}

fn lite_row(value: Value) -> Rows {
    vec![vec![value]]
}

fn denied(message: &str) -> Failure {
    Failure::refused(message.into())
}

/// What it runs, its last answer first given.
fn runs(setup: &mut Setup, answer: Option<Result<Rows, Failure>>) -> Statement {
    match setup.step(answer) {
        Step::Run(statement) => statement,
        other => panic!("nothing to run: {other:?}"),
    }
}

fn refusal(setup: &mut Setup, rows: Rows) -> Refusal {
    match setup.step(Some(Ok(rows))) {
        Step::Refuse(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// At the answer to its check.
fn pg_checked() -> Setup {
    let mut setup = pg().setup();
    let check = runs(&mut setup, None);
    assert_eq!(check.params, [text(r#""locks""#)]);
    setup
}

fn lite_checked() -> Setup {
    let mut setup = lite().setup();
    assert!(runs(&mut setup, None).text.contains("synchronous = FULL"));
    let check = runs(&mut setup, Some(Ok(vec![])));
    assert_eq!(check.params, [text("locks"), text("main")]);
    setup
}

#[test]
fn a_table_that_is_there_needs_nothing_but_the_check() {
    assert_eq!(pg_checked().step(Some(Ok(vec![pg_row()]))), Step::Ready);
    assert_eq!(lite_checked().step(Some(Ok(lite_row(text(SQLITE_COLUMNS))))), Step::Ready);
}

#[test]
fn a_table_that_is_missing_is_created_and_checked() {
    let mut setup = pg_checked();
    assert_eq!(*runs(&mut setup, Some(Ok(pg_missing()))).text, pg().create_table());
    runs(&mut setup, Some(Ok(vec![])));
    assert_eq!(setup.step(Some(Ok(vec![pg_row()]))), Step::Ready);

    let mut setup = lite_checked();
    let journal = runs(&mut setup, Some(Ok(lite_row(Value::Null))));
    assert!(journal.text.contains("journal_mode = WAL"));
    assert_eq!(*runs(&mut setup, Some(Ok(lite_row(text("wal"))))).text, lite_create());
    runs(&mut setup, Some(Ok(vec![])));
    assert_eq!(setup.step(Some(Ok(lite_row(text(SQLITE_COLUMNS))))), Step::Ready);
}

#[test]
fn a_table_that_somebody_else_creates_meanwhile_is_as_good() {
    let mut setup = pg_checked();
    runs(&mut setup, Some(Ok(pg_missing())));
    let already = postgres::statement_failed(Some("42P07"), "relation exists");
    runs(&mut setup, Some(Err(already)));
    assert_eq!(setup.step(Some(Ok(vec![pg_row()]))), Step::Ready);

    let mut setup = lite_checked();
    runs(&mut setup, Some(Ok(lite_row(Value::Null))));
    runs(&mut setup, Some(Ok(lite_row(text("wal")))));
    let already = sqlite::statement_failed(Some(1), "table already exists");
    runs(&mut setup, Some(Err(already)));
    assert_eq!(setup.step(Some(Ok(lite_row(text(SQLITE_COLUMNS))))), Step::Ready);
}

/// Answers `missing` to every check and `create` to everything else, to the end.
fn never_there(mut setup: Setup, missing: Rows, create: Result<Rows, Failure>) -> Refusal {
    let mut step = setup.step(Some(Ok(missing.clone())));
    for _ in 0..20 {
        let Step::Run(statement) = step else { break };
        let answer = match statement.text.trim_start() {
            text if text.starts_with("SELECT") => Ok(missing.clone()),
            text if text.starts_with("CREATE") => create.clone(),
            _ => Ok(vec![]),
        };
        step = setup.step(Some(answer));
    }
    match step {
        Step::Refuse(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_table_that_may_not_be_created_is_told_in_one_line_that_creates_it() {
    let cases = [
        (pg_checked(), pg_missing(), pg(), "BIGINT"),
        (lite_checked(), lite_row(Value::Null), lite(), "INTEGER"),
    ];
    for (setup, missing, codec, integer) in cases {
        let refusal = never_there(setup, missing, Err(denied("permission denied")));
        let line = refusal.to_string();
        assert!(line.contains("permission denied"), "{line}");
        assert!(line.lines().count() == 1 && !line.contains("--"), "{line}");
        let Refusal::NoTable { table, ddl, .. } = refusal else { panic!("{refusal:?}") };
        assert_eq!(table, r#""locks""#);
        assert!(line.ends_with(&ddl) && ddl.starts_with("CREATE TABLE IF NOT EXISTS \"locks\" ("));
        assert!(ddl.to_uppercase().contains(&format!("FENCE {integer} NOT NULL, ")), "{ddl}");
        // The same statement, but for comments and spaces.
        let bare = codec.create_table();
        let bare = bare.lines().map(|line| line.split("--").next().unwrap_or_default());
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(words(&bare.collect::<Vec<_>>().join(" ")), words(&ddl));
    }
}

#[test]
fn why_a_table_may_not_be_created_is_told_also_if_something_else_failed_before() {
    let busy = || Some(Err(Failure::not_now("busy".into())));
    for failures in 0..4 {
        let mut setup = pg_checked();
        for _ in 0..failures {
            runs(&mut setup, busy());
        }
        let refusal = never_there(setup, pg_missing(), Err(denied("permission denied")));
        let Refusal::NoTable { reason, .. } = refusal else { panic!("{refusal:?}") };
        assert_eq!(reason, "permission denied", "after {failures}");
    }
}

#[test]
fn a_table_that_vanishes_whenever_it_is_created_is_not_created_for_ever() {
    for (setup, missing) in [(pg_checked(), pg_missing()), (lite_checked(), lite_row(Value::Null))]
    {
        let refusal = never_there(setup, missing, Ok(vec![]));
        assert!(matches!(refusal, Refusal::NoTable { .. }), "{refusal:?}");
    }
}

#[test]
fn a_table_of_another_shape_is_refused() {
    let other =
        [text("id int8"), Value::Null, text(&PG_COLUMNS.replace("name text C", "name text"))];
    for columns in other {
        let refusal = refusal(&mut pg_checked(), pg_row_with(4, columns.clone()));
        let Refusal::WrongShape { expected, .. } = &refusal else { panic!("{refusal:?}") };
        assert!(expected.contains(PG_COLUMNS));
        let found = if let Value::Text(found) = &columns { found } else { "none of them" };
        assert!(refusal.to_string().contains(&format!("found: {found})")), "{refusal}");
        assert_eq!(refusal.to_string().lines().count(), 1);
    }
    let case_blind = text(&PG_COLUMNS.replace("name text C", "name text default"));
    let not_unique = (5, Value::Int(0));
    let views = ["vp", "mp", "fp"].map(|kind| (3, text(kind)));
    for (column, value) in [(4, case_blind), not_unique].into_iter().chain(views) {
        let refusal = refusal(&mut pg_checked(), pg_row_with(column, value));
        assert!(matches!(refusal, Refusal::WrongShape { .. }), "{refusal:?}");
    }
    let other = SQLITE_COLUMNS.replace(" pk BINARY", "");
    for (columns, told) in
        [(text(&other), &*other), (text(""), "none of them"), (Value::Int(1), "none of them")]
    {
        let refusal = refusal(&mut lite_checked(), lite_row(columns));
        let Refusal::WrongShape { found, .. } = &refusal else { panic!("{refusal:?}") };
        assert_eq!(found, told);
    }
}

#[test]
fn a_server_where_locks_would_not_be_safe_is_refused() {
    let refused = refusal(&mut pg_checked(), pg_row_with(3, text("rt")));
    assert_eq!(refused, Refusal::Temporary(r#""locks""#.into()));
    for kind in ["ru", "pu"] {
        let refusal = refusal(&mut pg_checked(), pg_row_with(3, text(kind)));
        assert_eq!(refusal, Refusal::NotDurable(r#""locks""#.into()), "{kind}");
    }
    for (codec, kind, fits) in [
        (pg().relaxed(), "ru", true),
        (pg().relaxed(), "rt", false),
        (pg().look_only(), "ru", true),
        (pg().look_only(), "rt", false),
    ] {
        let mut setup = codec.setup();
        setup.step(None);
        let mut row = pg_row();
        (row[2], row[3]) = (text("off"), text(kind));
        let step = setup.step(Some(Ok(vec![row])));
        assert_eq!(step == Step::Ready, fits, "{kind}");
    }
    let standby = pg_row_with(0, Value::Int(1));
    assert_eq!(refusal(&mut pg_checked(), standby), Refusal::Standby);
    let old = pg_row_with(1, Value::Int(119_999));
    assert_eq!(refusal(&mut pg_checked(), old), Refusal::UnsupportedVersion);
    let mut missing_on_standby = pg_missing();
    missing_on_standby[0][0] = Value::Int(1);
    assert_eq!(refusal(&mut pg_checked(), missing_on_standby), Refusal::Standby);

    assert_eq!(pg_checked().step(Some(Ok(pg_row_with(1, Value::Int(120_000))))), Step::Ready);
    assert_eq!(pg_checked().step(Some(Ok(pg_row_with(3, text("pp"))))), Step::Ready);
}

#[test]
fn commits_that_do_not_wait_for_the_disk_are_made_to() {
    let check = |codec: Codec| runs(&mut codec.setup(), None).text;
    assert!(check(pg()).contains("set_config('synchronous_commit'"));
    assert!(!check(pg().relaxed()).contains("set_config('synchronous_commit'"));
    for waits in ["on", "local", "remote_write", "remote_apply"] {
        assert_eq!(pg_checked().step(Some(Ok(pg_row_with(2, text(waits))))), Step::Ready);
    }
}

#[test]
fn an_answer_without_sense_is_refused() {
    let mut long = pg_row();
    long.push(Value::Null);
    let nonsense = [vec![], vec![vec![]], vec![pg_row()[..5].to_vec()], vec![long]];
    let wrong_types = [0, 1, 2].map(|column| pg_row_with(column, Value::Null));
    for rows in nonsense.into_iter().chain(wrong_types) {
        assert_eq!(refusal(&mut pg_checked(), rows), Refusal::UnexpectedResponse);
    }
    for rows in [vec![], vec![vec![]]] {
        assert_eq!(refusal(&mut lite_checked(), rows), Refusal::UnexpectedResponse);
    }
}

#[test]
fn a_server_that_cannot_be_asked_is_not_refused() {
    for failure in [Failure::NotSent("no route".into()), Failure::Unknown("gone".into())] {
        for mut setup in [pg_checked(), lite_checked()] {
            assert_eq!(setup.step(Some(Err(failure.clone()))), Step::Failed(failure.clone()));
        }
        let mut creating = pg_checked();
        runs(&mut creating, Some(Ok(pg_missing())));
        assert_eq!(creating.step(Some(Err(failure.clone()))), Step::Failed(failure));
    }
    // No right to look is nothing that creating a table would help with.
    assert_eq!(pg_checked().step(Some(Err(denied("no")))), Step::Failed(denied("no")));
}

#[test]
fn what_may_pass_is_tried_again_but_not_for_ever() {
    for mut setup in [pg_checked(), lite_checked()] {
        let busy = Failure::not_now("busy".into());
        let mut turns = 0;
        let end = loop {
            match setup.step(Some(Err(busy.clone()))) {
                Step::Run(statement) => {
                    let again = ["pg_is_in_recovery", "synchronous = FULL"];
                    assert!(
                        again.iter().any(|first| statement.text.contains(first)),
                        "from the start"
                    );
                }
                end => break end,
            }
            turns += 1;
        };
        assert_eq!(end, Step::Failed(busy));
        assert!((1..10).contains(&turns));
    }
    // Once it has passed, it goes on.
    let mut setup = pg_checked();
    runs(&mut setup, Some(Err(Failure::not_now("busy".into()))));
    assert_eq!(setup.step(Some(Ok(vec![pg_row()]))), Step::Ready);
}

#[test]
fn no_setup_goes_on_without_durable_commits() {
    let mut setup = lite().setup();
    let durable = runs(&mut setup, None);
    let busy = sqlite::statement_failed(Some(5), "database is locked");
    assert_eq!(runs(&mut setup, Some(Err(busy))).text, durable.text);
}

#[test]
fn a_journal_that_cannot_be_changed_just_now_is_no_obstacle() {
    let mut setup = lite_checked();
    runs(&mut setup, Some(Ok(lite_row(Value::Null))));
    let busy = sqlite::statement_failed(Some(5), "database is locked");
    assert_eq!(*runs(&mut setup, Some(Err(busy))).text, lite_create());
}

/// SQLite would take a temporary table for what has no database in its name.
#[test]
fn each_statement_on_sqlite_names_the_database() {
    for (table, named) in [("locks", r#""main"."locks""#), ("ops.locks", r#""ops"."locks""#)] {
        let codec = sqlite::codec(TableName::new(table).expect("good"), "boot-1");
        let mut setup = codec.setup();
        let durable = runs(&mut setup, None);
        runs(&mut setup, Some(Ok(vec![])));
        let journal = runs(&mut setup, Some(Ok(lite_row(Value::Null))));
        let schema = named.split('.').next().expect("a schema");
        for pragma in [durable, journal] {
            assert!(pragma.text.starts_with(&format!("PRAGMA {schema}.")), "{pragma:?}");
        }
        let create = runs(&mut setup, Some(Ok(vec![])));
        assert!(create.text.contains(&format!("EXISTS {named} (")), "{create:?}");
    }
    for table in ["temp.locks", "TEMP.locks"] {
        let mut setup = sqlite::codec(TableName::new(table).expect("good"), "boot-1").setup();
        let Step::Refuse(refusal) = setup.step(None) else { panic!("{table} is not refused") };
        assert!(matches!(refusal, Refusal::Temporary(_)), "{refusal:?}");
    }
}

#[test]
fn a_table_in_a_schema_is_quoted_part_by_part() {
    let table = TableName::new("Ops.locks").expect("a good name");
    let codec = postgres::codec(table);
    assert!(codec.create_table().starts_with(r#"CREATE TABLE IF NOT EXISTS "Ops"."locks" ("#));
    let mut setup = codec.setup();
    assert_eq!(runs(&mut setup, None).params, [text(r#""Ops"."locks""#)]);
}

#[test]
fn the_schema_that_the_server_has_it_in_is_the_tables_from_then_on() {
    let mut setup = pg_checked();
    let create = runs(&mut setup, Some(Ok(in_schema(pg_missing(), "team a"))));
    assert!(create.text.contains(r#""team a"."locks""#), "{}", create.text);
    let check = runs(&mut setup, Some(Ok(vec![])));
    assert_eq!(check.params, [text(r#""team a"."locks""#)]);
    assert_eq!(setup.step(Some(Ok(in_schema(vec![pg_row()], "team a")))), Step::Ready);
    assert_eq!(setup.codec().table().to_string(), "team a.locks");
    let listens = format!("{:?}", setup.codec());
    assert!(listens.contains(r#"'\"team a\".\"locks\"'::regclass"#), "{listens}");
    // A session with another search_path finds that one.
    let mut another = setup.codec().setup();
    assert_eq!(runs(&mut another, None).params, check.params);
    assert_eq!(another.step(Some(Ok(in_schema(vec![pg_row()], "public")))), Step::Ready);
    assert_eq!(another.codec().table().to_string(), "team a.locks");
}

fn in_schema(mut rows: Rows, schema: &str) -> Rows {
    rows[0][7] = text(schema);
    rows
}

#[test]
fn a_schema_that_would_have_to_be_escaped_is_refused() {
    for odd in ["a'b", "a\"b", "a\\b", "$$", "a?b", "{table}", "a`b", "a\nb"] {
        let refusal = refusal(&mut pg_checked(), in_schema(vec![pg_row()], odd));
        assert_eq!(refusal, Refusal::OddSchema(odd.into()));
        assert!(!refusal.to_string().contains('\n'), "{refusal}");
    }
}

//! The statements for advisory locks.

use super::{check_file, claims, text};
use lock_core::sql::{Rows, Statement, Step, Value, advisory};
use lock_core::{Claim, Failure, LockName, Request, SessionName};
use std::time::Duration;

/// A setup's statements, each with its answer, and the connection that comes of it.
fn advisory_setup(
    codec: &advisory::Codec,
    steps: Vec<(&'static str, Rows)>,
) -> (Vec<(&'static str, String)>, advisory::Session) {
    let mut setup = codec.setup(Duration::from_secs(30), Some(7));
    let mut answer = None;
    let mut texts = Vec::new();
    for (what, rows) in steps {
        match setup.step(answer) {
            Step::Run(Statement { text, .. }) => texts.push((what, text.to_string())),
            other => panic!("nothing to run: {other:?}"),
        }
        answer = Some(Ok(rows));
    }
    assert_eq!(setup.step(answer), Step::Ready);
    (texts, setup.session().expect("it is ready").clone())
}

fn advisory_commands(
    codec: &advisory::Codec,
    session: &advisory::Session,
    name: &str,
) -> Vec<(&'static str, String)> {
    let text = |command: Request, failure: Option<Failure>| {
        let mut exchange = codec.encode(&command, session);
        if let Some(failure) = failure {
            exchange.handle_failure(failure);
        }
        exchange.poll_statement().expect("a statement").text.to_string()
    };
    let grace = Duration::ZERO;
    let claim = || Claim { name: LockName::new(name).expect("good"), ..claims().remove(0) };
    let [one, several] = [vec![claim()], vec![claim(), claim()]];
    let attempt = |claims: &[Claim]| Request::Acquire {
        session: SessionName::default(),
        claims: claims.to_vec(),
        ttl: Duration::from_secs(30),
        min_uptime: grace,
        label: "".into(),
    };
    let unlock = |leases: &[Claim]| Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: leases.to_vec(),
    };
    let wait = Request::Wait {
        behind: None,
        session: SessionName::default(),
        claim: claim(),
        since: 0,
        up_to: grace,
        min_uptime: grace,
    };
    let failed = Failure::not_now(String::new());
    let look = text(attempt(&several), Some(failed));
    vec![
        ("try: take one if it is free", text(attempt(&one), None)),
        ("try: take what is free", text(attempt(&several), None)),
        ("wait for a lock", text(wait, None)),
        ("try and wait, if it failed: what was taken all the same", look),
        ("unlock one", text(unlock(&one), None)),
        ("unlock", text(unlock(&several), None)),
        (
            "keep: is it still this connection",
            text(Request::KeepAlive { session: SessionName::default() }, None),
        ),
    ]
}

#[test]
fn advisory_statements_on_postgres_are_those_agreed_on() {
    let codec = advisory::postgres::codec(advisory::Key::Hash);
    let (setup, session) = advisory_setup(
        &codec,
        vec![
            (
                "setup: what kind of server is this, and since when",
                vec![vec![Value::Int(140_000), Value::Int(0), Value::Int(0), text(""), text("on")]],
            ),
            (
                "setup: idle connections are ended, and this one is marked",
                vec![vec![Value::Int(7), text("mark")]],
            ),
            ("setup: is it the same connection", vec![vec![Value::Int(7), text("mark")]]),
            ("setup, where it works: waits end with their client", vec![]),
        ],
    );
    let commands = advisory_commands(&codec, &session, "a");
    check_file("advisory_postgres.sql", setup.into_iter().chain(commands).collect());
    // Keys that are numbers go into the same functions.
    let of = |key, name| advisory_commands(&advisory::postgres::codec(key), &session, name);
    let hash = of(advisory::Key::Hash, "a");
    assert_eq!(of(advisory::Key::Pair, "1,2"), hash);
    for ((_, int), (_, pair)) in of(advisory::Key::Int, "7").into_iter().zip(hash) {
        let int = int.replace("(c.key)", "(c.one::int, c.two::int)");
        let int = (4..=6).fold(int, |int, one| {
            let two = one + 1;
            let [key, keys] = [format!("${one}"), format!("${one}::bigint, ${two}")];
            let claim =
                |keys: &str, names| format!("{keys}::bigint, 1::bigint)) AS c (mode, {names},");
            let int = int.replace(&claim(&key, "key"), &claim(&keys, "one, two"));
            let keys = format!("${one}::bigint[], ${two}");
            let claims = |keys: &str, names| {
                format!("{keys}::bigint[]) WITH ORDINALITY AS c (mode, {names},")
            };
            int.replace(&claims(&key, "key"), &claims(&keys, "one, two"))
        });
        assert_eq!(int, pair);
    }
}

#[test]
fn advisory_statements_on_mysql_are_those_agreed_on() {
    let codec = advisory::mysql::codec(advisory::Prefix::default());
    let find = |version: &str| {
        let more = [text(version), text("0"), Value::Int(0), Value::Int(1_000)];
        vec![[vec![Value::Int(7), text("mark")], more.into()].concat()]
    };
    let steps = |version: &str| {
        vec![
            ("setup: what the server's settings have begun is no concern of ours", vec![]),
            ("setup: idle connections are ended, and this one is marked", vec![]),
            ("setup: for how long has the server run", vec![vec![text("Uptime"), text("1")]]),
            ("setup: what kind of server is this, and is it the same connection", find(version)),
            ("setup: is it a node of a Galera cluster", vec![]),
            ("setup: is it one of several primaries", vec![]),
        ]
    };
    for version in ["8.0.11", "10.6.1-MariaDB"] {
        let (setup, session) = advisory_setup(&codec, steps(version));
        let commands = advisory_commands(&codec, &session, "a");
        check_file("advisory_mysql.sql", setup.into_iter().chain(commands).collect());
    }
}

/// A request's statements, as long as the answers are these.
fn row_commands(
    codec: &advisory::Codec,
    session: &advisory::Session,
    request: &Request,
    answers: Vec<Rows>,
) -> Vec<String> {
    let mut exchange = codec.encode(request, session);
    let mut texts = Vec::new();
    for rows in answers {
        texts.push(exchange.poll_statement().expect("a statement").text.to_string());
        exchange.handle_rows(rows);
    }
    assert_eq!(exchange.poll_statement(), None);
    texts
}

#[test]
fn row_lock_statements_on_mysql_are_those_agreed_on() {
    let codec = advisory::sql_lock::codec();
    let (session, min_uptime, ttl) =
        (SessionName::default(), Duration::ZERO, Duration::from_secs(30));
    let claims = || vec![claims().remove(0)];
    let attempt = Request::Acquire {
        session: session.clone(),
        claims: claims(),
        ttl,
        min_uptime,
        label: "".into(),
    };
    let (claim, up_to) = (claims().remove(0), Duration::from_secs(7));
    let wait = Request::Wait {
        behind: None,
        session: session.clone(),
        claim,
        since: 0,
        up_to,
        min_uptime,
    };
    let release =
        Request::Release { passed_over: None, session: session.clone(), claims: claims() };
    let keep = Request::KeepAlive { session };
    for version in ["8.0.11", "10.6.1-MariaDB"] {
        let more = [text(version), text("0"), Value::Int(0), Value::Int(1_000)];
        let found = vec![[vec![Value::Int(7), text("mark")], more.into()].concat()];
        let none = vec![vec![Value::Null, Value::Null, Value::Null]];
        let table = vec![vec![text("InnoDB"), text("createdAt, id, updatedAt"), Value::Int(1)]];
        let (mut all, session) = advisory_setup(
            &codec,
            vec![
                ("setup: what the server's settings have begun is no concern of ours", vec![]),
                ("setup: idle connections are ended, and this one is marked", vec![]),
                ("setup: for how long has the server run", vec![vec![text("Uptime"), text("1")]]),
                ("setup: what kind of server is this, and is it the same connection", found),
                ("setup: is it a node of a Galera cluster", vec![]),
                ("setup: is it one of several primaries", vec![]),
                ("setup: is the table the package's", none),
                ("setup, if there is none: make it", vec![]),
                ("setup: is it now", table),
                ("setup: what is locked stays locked until a COMMIT", vec![]),
            ],
        );
        let yes = || vec![vec![Value::Int(1)]];
        let granted = || vec![vec![Value::Int(1), Value::Int(9)]];
        let run = |request, answers| row_commands(&codec, &session, request, answers);
        let names = [
            "try: lock the row, if nobody has",
            "wait, and try where there is no row: for how long",
            "wait, and try where there is no row: make it, or wait for it",
            "wait, and try where there is no row: its fence",
        ];
        let tried = run(&attempt, vec![vec![], yes(), yes(), granted()]);
        assert_eq!(run(&wait, vec![yes(), yes(), granted()]), tried[1..]);
        all.extend(names.into_iter().zip(tried));
        let freed = run(&release, vec![yes(), yes()]);
        all.extend(
            ["release: is it this connection", "release, and after a denial"]
                .into_iter()
                .zip(freed),
        );
        all.extend(["keep: is it still this connection"].into_iter().zip(run(&keep, vec![yes()])));
        check_file("sql_lock.sql", all);
    }
}

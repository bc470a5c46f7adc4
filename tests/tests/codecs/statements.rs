//! Every statement that is ever sent, next to what was agreed on.
//!
//! `UPDATE_STATEMENTS=1 cargo test -p lock-tests --test codecs statements` writes the files anew; then
//! read the difference.

mod advisory;

use lock_core::admin::{AdminRequest, PAGE, SHORTEST};
use lock_core::sql::{
    Codec, Rows, Setup, Statement, Step, Value, mysql, node_distributed_lock, postgres, sqlite,
};
use lock_core::{
    Claim, Fence, Instant, LeaseVersion, LockName, Owner, Request, SessionName, TableName, Turn,
};
use std::time::Duration;

fn claims() -> Vec<Claim> {
    vec![Claim::new(LockName::new("a").expect("a good name"), Owner::new(1))]
}

fn waiting() -> Vec<Claim> {
    claims().into_iter().map(|claim| Claim { turn: Turn::Of(None), ..claim }).collect()
}

fn acquire(claims: Vec<Claim>) -> Request {
    Request::Acquire {
        session: SessionName::default(),
        claims,
        ttl: Duration::from_secs(30),
        min_uptime: Duration::ZERO,
        label: "".into(),
    }
}

fn look(claims: Vec<Claim>) -> Request {
    Request::Probe { claims }
}

/// The statement of `command`, or the one that follows when its first one returned `rows`.
fn statement(codec: &Codec, command: &Request, rows: Option<Rows>) -> String {
    let mut exchange = codec.encode(command, Instant::default());
    if let Some(rows) = rows {
        exchange.handle_rows(rows);
    }
    exchange.poll_statement().expect("a statement").text.to_string()
}

fn several() -> Vec<Claim> {
    [claims(), claims()].concat()
}

/// The statements for commands. Those that take names return `denied` if they took none.
fn commands(codec: &Codec, denied: Rows) -> Vec<(&'static str, String)> {
    let ttl = Duration::from_secs(30);
    let renew = |leases| Request::Renew { claims: leases, ttl };
    let [release_one, release] = [claims(), several()].map(|leases| Request::Release {
        passed_over: None,
        session: SessionName::default(),
        claims: leases,
    });
    // MySQL reads first which of several are ours.
    let owner = text(&claims()[0].owner.to_string());
    let mine = Some(vec![vec![text("a"), owner, Value::Int(1), Value::Int(0)]])
        .filter(|_| codec.create_table().contains("InnoDB"));
    assert_eq!(statement(codec, &renew(claims()), None), statement(codec, &renew(several()), None));
    let take = [
        ("acquire: take the name if it is free", statement(codec, &acquire(claims()), None)),
        ("acquire: take the names that are free", statement(codec, &acquire(several()), None)),
    ];
    let asked = statement(codec, &acquire(claims()), Some(denied));
    let first = statement(codec, &look(claims()), None);
    assert_eq!(asked, first, "who waits asks the same again");
    let held = [vec![text("a"), text("")], [1, 1, 0, 0, 1, 0, 0].map(Value::Int).to_vec()].concat();
    let draw = || statement(codec, &look(waiting()), Some(vec![held.clone()]));
    let mut ask = vec![("acquire and look: who has it", asked)];
    if !codec.create_table().contains("timestamptz") {
        ask.push(("acquire and look: who has them", statement(codec, &look(several()), None)));
    }
    if ask.len() > 1 || (codec.carries() && !codec.is_shared_with_peers()) {
        ask.push(("acquire and look: who waits for it draws a ticket", draw()));
    }
    let others = [
        ("renew", statement(codec, &renew(claims()), None)),
        ("release one", statement(codec, &release_one, None)),
        ("release", statement(codec, &release, mine)),
    ];
    let keep = Request::Keep { claims: claims(), keep: ttl };
    let keep = codec.encode(&keep, Instant::default()).poll_statement();
    let keep =
        keep.map(|statement| ("release, but leave taken for a while", statement.text.to_string()));
    let correct =
        correction(codec).map(|text| ("acquire and look: it ends later than it can", text));
    take.into_iter().chain(ask).chain(correct).chain(others).chain(keep).collect()
}

/// What follows when a lease is seen that ends later than it can.
fn correction(codec: &Codec) -> Option<String> {
    let mut exchange = codec.encode(&acquire(claims()), Instant::default());
    let nothing = matches!(codec.create_table(), text if text.contains("InnoDB"));
    exchange.handle_rows(if nothing { vec![vec![Value::Int(0)]] } else { vec![] });
    let late = [1, 1, 1, 1, 9, 0].map(Value::Int).to_vec();
    exchange.handle_rows(vec![[vec![text("a"), text("")], late].concat()]);
    exchange.poll_statement().map(|statement| statement.text.to_string())
}

/// The statements for operators.
fn admin(codec: &Codec) -> Vec<(&'static str, String)> {
    let name = LockName::new("a").expect("good");
    [
        ("look: which locks are held", AdminRequest::List { after: None }),
        ("look: one lock", AdminRequest::Status { name: name.clone() }),
        ("break", AdminRequest::Break { name, fence: Fence::new(1) }),
        ("purge", AdminRequest::purge(SHORTEST).expect("long enough")),
    ]
    .into_iter()
    .flat_map(|(what, request)| {
        let mut exchange = codec.encode_admin(&request, Instant::default());
        let statements = std::iter::from_fn(|| {
            let statement = exchange.poll_statement();
            exchange.handle_rows(vec![]);
            statement
        });
        let texts: Vec<_> = statements.map(|one| (what, one.text.to_string())).collect();
        texts
    })
    .inspect(|(_, text)| {
        assert!(!text.contains("LIMIT") || text.contains(&format!("LIMIT {PAGE}")), "{text}");
    })
    .collect()
}

fn step(setup: &mut Setup, answer: Option<Rows>) -> String {
    match setup.step(answer.map(Ok)) {
        Step::Run(Statement { text, .. }) => text.to_string(),
        other => panic!("nothing to run: {other:?}"),
    }
}

fn check_file(dialect: &str, statements: Vec<(&str, String)>) {
    let mut text = String::new();
    for (what, statement) in statements {
        text += &format!("-- {what}\n{};\n\n", statement.trim());
    }
    text.pop();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("statements").join(dialect);
    if std::env::var_os("UPDATE_STATEMENTS").is_some() {
        std::fs::write(&file, &text).expect("the file can be written");
    }
    let agreed = std::fs::read_to_string(&file).expect("the file is there");
    assert!(agreed == text, "{dialect} has changed, to:\n{text}");
}

/// The statement for a user's transaction.
fn pin(codec: &Codec) -> (&'static str, String) {
    let pin = codec.pin(&LockName::new("a").expect("good"), Fence::new(1));
    ("pin, in a transaction of the user's", pin.text.to_string())
}

/// The statements that follow when waiters cannot be notified.
fn untold(codec: &Codec) -> Vec<(&'static str, String)> {
    let full = postgres::statement_failed(Some("54000"), "full");
    let mut all = Vec::new();
    for (what, leases) in [
        ("release one, if the queue of notifications is full", claims()),
        ("release, if the queue of notifications is full", several()),
    ] {
        let mut exchange = codec.encode(
            &Request::Release {
                passed_over: None,
                session: SessionName::default(),
                claims: leases,
            },
            Instant::default(),
        );
        exchange.handle_failure(full.clone());
        all.push((what, exchange.poll_statement().expect("a statement").text.to_string()));
    }
    let request =
        AdminRequest::Break { name: LockName::new("a").expect("good"), fence: Fence::new(1) };
    let mut exchange = codec.encode_admin(&request, Instant::default());
    exchange.handle_failure(full);
    let text = exchange.poll_statement().expect("a statement").text.to_string();
    all.push(("break, if the queue of notifications is full", text));
    all
}

#[test]
fn postgres_statements_are_those_agreed_on() {
    let codec = postgres::codec(TableName::default());
    let row = |commit: &str, kind: Value| {
        let columns = "acquired_at timestamptz, expires_at timestamptz, fence int8, holder text, name text C, owner text, queue int8, served int8, ttl_us int8";
        let [commit, columns] = [commit, columns].map(|text| Value::Text(text.into()));
        let table = [Value::Int(0), Value::Int(170_000), commit, kind, columns, Value::Int(1)];
        vec![
            [&table[..], &[Value::Int(0), Value::Null, text("app"), text("on"), text("UTF8")]]
                .concat(),
        ]
    };
    let mut setup = codec.setup();
    let check = step(&mut setup, None);
    let create = step(&mut setup, Some(row("on", Value::Null)));
    assert_eq!(create, codec.create_table());
    assert_eq!(step(&mut setup, Some(vec![])), check, "and again");
    let inside = step(&mut codec.setup().handed(true), None);
    let setup = [
        ("setup of a connection that was handed over: fails unless it is in a transaction", inside),
        ("setup: what kind of server and table is this", check),
        ("setup, if there is no such table", create),
    ];
    let listen = Request::Subscribe { up_to: Duration::from_secs(1) };
    let listen = ("listen, on a connection of its own", statement(&codec, &listen, None));
    let quiet = ("listen no more", statement(&codec, &Request::Unsubscribe, None));
    let probe = statement(&codec, &Request::Ping { number: 1 }, None);
    let probe = ("see whether what is told is heard", probe);
    let untold = untold(&codec);
    let commands = commands(&codec, vec![]).into_iter().chain(untold).chain([listen, quiet, probe]);
    let commands = commands.chain(admin(&codec)).chain([pin(&codec)]);
    check_file("postgres.sql", setup.into_iter().chain(commands).collect());
}

/// Through a pooler, and on a client that was brought: the session has none of our settings.
#[test]
fn postgres_statements_that_carry_their_settings_are_those_agreed_on() {
    let mut setup = postgres::codec(TableName::default()).setup();
    step(&mut setup, None);
    let [commit, kind, role] = ["on", "none", "app"].map(text);
    let table = [Value::Int(0), Value::Int(170_000), commit, kind, Value::Null, Value::Int(1)];
    let row = [&table[..], &[Value::Int(0), Value::Null, role, text(""), text("UTF8")]].concat();
    assert!(matches!(setup.step(Some(Ok(vec![row]))), Step::Refuse(_)), "another table");
    let codec = setup.codec();
    assert!(codec.carries());
    let commands = commands(codec, vec![]).into_iter().chain(untold(codec)).chain(admin(codec));
    check_file("postgres_carried.sql", commands.collect());
}

/// In the table of the npm package.
#[test]
fn statements_beside_node_distributed_lock_are_those_agreed_on() {
    let table = TableName::new(node_distributed_lock::DEFAULT_TABLE).expect("good");
    let codec = node_distributed_lock::codec(table, node_distributed_lock::DEFAULT_TTL);
    assert!(codec.carries());
    let mut setup = codec.setup();
    let check = step(&mut setup, None);
    let table =
        [Value::Int(0), Value::Int(170_000), text("off"), Value::Null, Value::Null, Value::Int(0)];
    let row =
        [&table[..], &[Value::Int(0), Value::Null, text("app"), text("on"), text("UTF8")]].concat();
    let create = step(&mut setup, Some(vec![row]));
    let setup = [
        ("setup: what kind of server and table is this", check),
        ("setup, if there is no such table", create),
    ];
    let commands = setup.into_iter().chain(commands(&codec, vec![])).chain(admin(&codec));
    check_file("postgres_node_distributed_lock.sql", commands.collect());
}

/// Where no lease ends by the server's clock.
#[test]
fn statements_about_watched_leases_are_those_agreed_on() {
    let ended = LeaseVersion { fence: Fence::new(1), expiry: 1 };
    let claims = claims().into_iter().map(|claim| Claim { ended: Some(ended), ..claim }).collect();
    let end = acquire(claims);
    for (file, codec, denied) in [
        ("postgres_observed.sql", postgres::codec(TableName::default()).watched(), vec![]),
        (
            "mysql_observed.sql",
            mysql::codec(TableName::default()).watched(),
            vec![vec![Value::Int(0)]],
        ),
    ] {
        let end = ("a lease that has not changed is ended", statement(&codec, &end, None));
        check_file(file, commands(&codec, denied).into_iter().chain([end]).collect());
    }
}

#[test]
fn sqlite_statements_are_those_agreed_on() {
    let codec = sqlite::codec(TableName::default(), "");
    let mut setup = codec.setup();
    let durable = step(&mut setup, None);
    let check = step(&mut setup, Some(vec![]));
    let journal = step(&mut setup, Some(vec![vec![Value::Null]]));
    let create = step(&mut setup, Some(vec![]));
    let named = codec.create_table().replace(r#""locks""#, r#""main"."locks""#);
    assert_eq!(create, named);
    assert_eq!(step(&mut setup, Some(vec![])), check, "and again");
    let setup = [
        ("setup: a commit waits for the disk", durable),
        ("setup: what table is this", check),
        ("setup, if there is no such table: readers do not block the writer", journal),
        ("setup, if there is no such table", create),
    ];
    let statements = setup.into_iter().chain(commands(&codec, vec![])).chain(admin(&codec));
    check_file("sqlite.sql", statements.chain([pin(&codec)]).collect());
}

#[test]
fn mysql_statements_are_those_agreed_on() {
    let codec = mysql::codec(TableName::default());
    let number = || vec![vec![Value::Int(0)]];
    let mut setup = codec.setup().numbered(Some(7));
    let rollback = step(&mut setup, None);
    let known = step(&mut setup, Some(number()));
    let carried = carried_on_mysql(&codec);
    let session = step(&mut setup, Some(vec![vec![Value::Int(7)]]));
    let inside = step(&mut codec.setup().handed(true), None);
    let check = step(&mut setup, Some(number()));
    let mut set_back = setup.clone();
    let [version, read_only] = ["8.0.11", "0"].map(|text| Value::Text(text.into()));
    let mut missing = vec![version, read_only, Value::Int(1), Value::Int(0)];
    missing.extend([Value::Null, Value::Null, Value::Int(0), Value::Int(0)]);
    missing.extend([Value::Int(1), Value::Null, text("app@%"), Value::Int(0), text("ON")]);
    const COLUMNS: &str = "acquired_us bigint, expires_us bigint, fence bigint, holder varchar(255) utf8mb4, name varbinary(255), owner binary(16), queue bigint, served bigint, ttl_us bigint";
    let mut found = missing.clone();
    found.splice(4..8, [text("InnoDB"), text(COLUMNS), Value::Int(1), Value::Int(1)]);
    let mut set = found.clone();
    set[8] = Value::Int(3);
    let clock = step(&mut set_back, Some(vec![set]));
    let create = step(&mut setup, Some(vec![missing]));
    assert_eq!(create, codec.create_table());
    assert_eq!(step(&mut setup, Some(number())), check, "and again");
    let synced = step(&mut setup, Some(vec![found]));
    let setup = [
        ("setup: what the server's settings have begun is no concern of ours", rollback),
        ("setup of a connection that was handed over, instead: fails in a transaction", inside),
        ("setup: is it the connection that was made", known),
        ("setup: what the session goes by", session),
        (
            "setup of a connection that was handed over, or whose time is set: the server's clock",
            clock,
        ),
        ("setup: what kind of server and table is this", check),
        ("setup, if there is no such table", create),
        ("setup, on a node of a Galera cluster: see what was committed at the others", synced),
    ];
    let mine = [(
        "several claims: which are their owner's (after acquire and renew, before release)",
        statement(&codec, &acquire(several()), Some(number())),
    )];
    let all = setup.into_iter().chain(commands(&codec, number())).chain(mine).chain(carried);
    check_file("mysql.sql", all.chain(admin(&codec)).chain([pin(&codec)]).collect());
}

/// The statements that differ where the session may be anybody's.
fn carried_on_mysql(codec: &Codec) -> Vec<(&'static str, String)> {
    let mut setup = codec.setup().numbered(Some(7));
    step(&mut setup, None);
    step(&mut setup, Some(vec![vec![Value::Int(0)]]));
    step(&mut setup, Some(vec![vec![Value::Int(8)]]));
    let renew = Request::Renew { claims: claims(), ttl: Duration::from_secs(30) };
    let of = |request: &Request| statement(setup.codec(), request, None);
    vec![
        ("through a proxy: take the name if it is free", of(&acquire(claims()))),
        ("through a proxy: take the names that are free", of(&acquire(several()))),
        ("through a proxy: renew", of(&renew)),
    ]
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

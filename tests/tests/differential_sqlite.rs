//! SQLite against the table that the model checker believes in: random commands, the same replies.

use lock_core::sim::table::FakeTable;
use lock_core::sim::{Connection as Client, Server};
use lock_core::sql::{Codec, Rows, Statement, Step, Value, sqlite};
use lock_core::table::{Acquired, Command, Reply};
use lock_core::{Claim, Instant, Lane, LockName, Mode, Owner, TableName};
use proptest::prelude::*;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};
use std::collections::BTreeMap;
use std::time::Duration;

fn bind(value: &Value) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Int(number) => ValueRef::Integer(*number),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Texts(_) => panic!("SQLite has no arrays"),
    })
}

fn run(db: &Connection, statement: &Statement) -> Rows {
    let mut prepared = db.prepare_cached(&statement.text).expect("a statement");
    let width = prepared.column_count();
    let mut rows = prepared
        .query(params_from_iter(statement.params.iter().map(bind)))
        .expect("parameters that fit");
    let mut all = Rows::new();
    while let Some(row) = rows.next().expect("a row") {
        let value = |column| match row.get_ref(column).expect("a column") {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Int(number),
            ValueRef::Text(text) => Value::Text(std::str::from_utf8(text).expect("UTF-8").into()),
            other => panic!("a surprise: {other:?}"),
        };
        all.push((0..width).map(value).collect());
    }
    all
}

fn database(codec: &Codec) -> Connection {
    let db = Connection::open_in_memory().expect("a database");
    let mut setup = codec.setup();
    let mut answer = None;
    loop {
        match setup.step(answer) {
            Step::Run(statement) => answer = Some(Ok(run(&db, &statement))),
            Step::Ready => return db,
            other => panic!("{other:?}"),
        }
    }
}

fn ask(db: &Connection, codec: &Codec, command: &Command, micros: u64) -> Reply {
    let mut exchange = codec.encode(command, Instant::from_nanos(micros * 1_000));
    while let Some(statement) = exchange.poll_statement() {
        exchange.handle_rows(run(db, &statement));
    }
    exchange.finish().expect("rows as they should be")
}

#[derive(Clone, Debug)]
enum Turn {
    /// With a clock that was read so many µs before.
    Do(Command, u64),
    Pass(u64),
    Reboot,
}

/// So short that scripts often hit an expiry to the microsecond.
const TTLS: &[u64] = &[2, 3, 10];

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let names = prop::sample::subsequence(vec!["a", "b", "\"", "\\"], 1..=3);
    (names, prop::collection::vec(1_u128..4, 3)).prop_map(|(mut names, owners)| {
        names.sort_unstable();
        let claim = |(name, owner): (&str, u128)| Claim {
            name: LockName::new(name).expect("a good name"),
            owner: Owner::new(owner),
            mode: Mode::Exclusive,
        };
        names.into_iter().zip(owners).map(claim).collect()
    })
}

/// A command may be overtaken by another between reading the clock and its effect.
fn late() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => 1_u64..4]
}

fn turn() -> impl Strategy<Value = Turn> {
    let ttl = || prop::sample::select(TTLS).prop_map(Duration::from_micros);
    let label = prop::sample::select(&["one", "two"][..]);
    prop_oneof![
        6 => (claims(), ttl(), label, late()).prop_map(|(claims, ttl, label, late)| {
            Turn::Do(Command::Acquire { claims, ttl, holder: label.into() }, late)
        }),
        4 => (claims(), ttl(), late())
            .prop_map(|(leases, ttl, late)| Turn::Do(Command::Renew { leases, ttl }, late)),
        3 => claims().prop_map(|leases| Turn::Do(Command::Release { leases }, 0)),
        4 => (1_u64..4).prop_map(Turn::Pass),
        1 => Just(Turn::Reboot),
    ]
}

/// What is known of the fences of each name: the fake's last, and the real ones.
type Fences = BTreeMap<LockName, (u64, Vec<u64>)>;

/// The replies are the same but for the fences, and those have the same order.
fn agree(command: &Command, ideal: Reply, real: Reply, fences: &mut Fences) {
    let (Reply::Acquired(ideal), Reply::Acquired(real)) = (&ideal, &real) else {
        assert_eq!(ideal, real, "{command:?}");
        return;
    };
    assert_eq!(ideal.len(), real.len());
    for ((claim, ideal), real) in command.claims().iter().zip(ideal).zip(real) {
        let (Acquired::Granted(ideal), Acquired::Granted(real)) = (ideal, real) else {
            assert_eq!(ideal, real, "{claim:?} of {command:?}");
            continue;
        };
        let (last, reals) = fences.entry(claim.name.clone()).or_default();
        if *last == ideal.get() && !reals.is_empty() {
            assert_eq!(reals.last(), Some(&real.get()), "the same hold, another fence");
        } else {
            assert!(reals.last().is_none_or(|last| *last < real.get()), "a fence that went back");
            *last = ideal.get();
            reals.push(real.get());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_the_table_should(script in prop::collection::vec(turn(), 1..60)) {
        let mut boot = 0;
        let codec = |boot: u32| sqlite::codec(TableName::default(), &format!("boot-{boot}"));
        let db = database(&codec(boot));
        let mut fake = FakeTable::new();
        let client = Client { client: 0, number: 0, lane: Lane::HOME };
        let mut fences = Fences::new();
        let mut now: u64 = 1_000;
        for turn in script {
            match turn {
                Turn::Do(command, late) => {
                    let micros = now.saturating_sub(late).max(1);
                    let real = ask(&db, &codec(boot), &command, micros);
                    let ideal = fake.apply(Instant::from_nanos(micros * 1_000), client, &command);
                    agree(&command, ideal, real, &mut fences);
                }
                Turn::Pass(micros) => now += micros,
                Turn::Reboot => {
                    boot += 1;
                    // No holder of an earlier boot is alive: as if all leases had run out.
                    for row in fake.rows_mut().values_mut() {
                        row.expires = Instant::from_nanos(0);
                    }
                    // The clock of a boot begins anywhere, before or after what rows say.
                    now = [1, 995, 2_000][boot as usize % 3];
                }
            }
        }
    }
}

//! What the fuzz targets do with their bytes. Ordinary tests replay the committed inputs through the
//! same functions.

mod advisory;

use lock_core::sql::{Codec, Rows, Value, mysql, postgres, sqlite};
use lock_core::table::{Acquired, Command, Reply};
use lock_core::{Claim, Fence, Instant, LockName, Mode, Owner, TableName};
use std::time::Duration;

pub use advisory::advisory_rows;

/// A fuzz target: its name, which is also its corpus's, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 5] = [
    ("sql_rows", sql_rows),
    ("advisory_rows", advisory_rows),
    ("names", names),
    ("urls", urls),
    ("schedules", schedules),
];

/// Whatever rows a server returns: no panic, and no grant that they do not say.
pub fn sql_rows(bytes: &[u8]) {
    let mut input = Input(bytes);
    let codec = |pick: u8| -> Codec {
        let table = TableName::default();
        match pick & 9 {
            0 => postgres::codec(table),
            1 => sqlite::codec(table, "boot"),
            _ => mysql::codec(table),
        }
    };
    let pick = input.byte();
    let names = if pick & 16 == 0 { &["a", "b"][..] } else { &["a"] };
    let claim = |name: &&str| Claim {
        name: LockName::new(name).expect("good"),
        owner: Owner::new(1),
        mode: Mode::Exclusive,
    };
    let claims: Vec<_> = names.iter().map(claim).collect();
    let ttl = Duration::from_secs(30);
    let command = match pick >> 1 & 3 {
        0 | 1 => Command::Acquire { claims, ttl, holder: "h".into() },
        2 => Command::Renew { leases: claims, ttl },
        _ => Command::Release { leases: claims },
    };
    let mut exchange = codec(pick).encode(&command, Instant::from_nanos(1));
    let mut told = Rows::new();
    while exchange.poll_statement().is_some() {
        let rows = input.rows();
        told.extend(rows.clone());
        exchange.handle_rows(rows);
    }
    match exchange.finish() {
        Ok(Reply::Acquired(entries)) => {
            for (claim, entry) in command.claims().iter().zip(entries) {
                if let Acquired::Granted(fence) = entry {
                    assert!(says(&told, claim, Some(fence)), "{told:?}");
                }
            }
        }
        Ok(Reply::Changed(entries)) => {
            for (claim, ours) in command.claims().iter().zip(entries) {
                assert!(!ours || says(&told, claim, None), "{told:?}");
            }
        }
        Err(_) => {}
    }
    let mut setup = codec(pick).setup();
    let mut answer = None;
    for _ in 0..50 {
        let lock_core::sql::Step::Run(_) = setup.step(answer.take()) else { return };
        answer = Some(Ok(input.rows()));
    }
    panic!("a setup that does not end");
}

/// Whether a row speaks of the claim. A number alone speaks of the only claim there is.
fn says(rows: &Rows, claim: &Claim, fence: Option<Fence>) -> bool {
    let name = Value::Text(claim.name.to_string());
    let owner = Value::Text(claim.owner.to_string());
    let is_it = |value: &Value| match (value, fence) {
        (Value::Int(number), Some(fence)) => u64::try_from(*number) == Ok(fence.get()),
        (Value::Int(number), None) => *number != 0,
        _ => false,
    };
    rows.iter().any(|row| match &row[..] {
        [number] => is_it(number),
        [of, number] if fence.is_some() => *of == name && is_it(number),
        [of, by] => *of == name && *by == owner,
        [of, by, number] => *of == name && *by == owner && (fence.is_none() || is_it(number)),
        _ => false,
    })
}

/// Whatever text: a name is what it was made from, or an error.
pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(name) = LockName::new(&text) {
        assert_eq!(name.as_str(), text);
        assert!(!text.is_empty() && text.len() <= 255 && !text.contains(char::is_control));
    }
    if let Ok(table) = TableName::new(&text) {
        assert!(
            table
                .quoted()
                .trim_matches('"')
                .replace("\".\"", "")
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        );
    }
}

/// Whatever URL: no panic, and no secret in the error.
pub fn urls(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let url = format!("postgres://app:hunter2{text}");
    for url in [text.as_ref(), &url] {
        if let Err(error) = url.parse::<lock_sync::Config>() {
            let message = error.to_string();
            assert!(!message.contains("hunter2"), "{message}");
            assert!(!message.contains('\n') && message.len() < 1000, "{message}");
        }
    }
}

/// Whatever schedule of the model-checked table protocol: no promise is broken.
pub fn schedules(bytes: &[u8]) {
    use lock_core::sim::{World, random, table::FakeTable};
    let world = |scope: lock_core::sim::Scope| {
        World::new(
            FakeTable::new(),
            lock_core::table::Table::new(scope.timing.ttl(), "somebody"),
            scope,
        )
    };
    let walked = random::walk(world, bytes);
    assert!(walked.violation.is_none(), "{}", random::describe(world, bytes));
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn rows(&mut self) -> Rows {
        (0..self.byte() % 4).map(|_| (0..self.byte() % 8).map(|_| self.value()).collect()).collect()
    }

    fn value(&mut self) -> Value {
        let choice = self.byte();
        match choice % 8 {
            0 => Value::Null,
            1 => Value::Int(i64::from(self.byte())),
            2 => Value::Int(i64::MIN + i64::from(self.byte())),
            3 => Value::Text("a".into()),
            4 => Value::Text("b".into()),
            5 => Value::Text(Owner::new(1).to_string()),
            6 => Value::Texts(vec!["a".into()]),
            _ => Value::Text(char::from(self.byte()).to_string()),
        }
    }
}

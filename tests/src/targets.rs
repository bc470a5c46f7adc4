//! The code of the fuzz targets. Ordinary tests replay the committed inputs through the same functions.

mod advisory;

use crate::table::claims;
use lock_core::admin::{AdminRequest, AdminResponse, SHORTEST};
use lock_core::http::{self, Response};
use lock_core::sim::{Scope, Server, Wish, World, random};
use lock_core::sql::{Codec, Rows, Value, mysql, postgres, sqlite};
use lock_core::{
    Capabilities, Claim, Fence, Instant, LockName, Outcome, Owner, Reply, Request, SessionName,
    TableName, advisory as locks, consul, table,
};
use std::time::Duration;

pub use advisory::advisory_rows;

/// A fuzz target: its name, which is also its corpus's, and its code.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 8] = [
    ("sql_rows", sql_rows),
    ("consul_bodies", consul_bodies),
    ("advisory_rows", advisory_rows),
    ("names", names),
    ("urls", urls),
    ("schedules", schedules),
    ("schedules_advisory", schedules_advisory),
    ("schedules_consul", schedules_consul),
];

/// Decodes any rows that a server may return. There must be no panic, and no grant that the rows do not
/// contain.
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
    let claims = claims(names, 1);
    let ttl = Duration::from_secs(30);
    let (session, min_uptime, label) = (SessionName::default(), Duration::ZERO, "h".into());
    let request = match pick >> 1 & 3 {
        0 | 1 => Request::Acquire { session, claims, ttl, min_uptime, label },
        2 => Request::Renew { claims, ttl },
        _ if pick & 32 != 0 => Request::Keep { claims, keep: ttl },
        _ => Request::Release { passed_over: None, session, claims },
    };
    let mut exchange = codec(pick).encode(&request, Instant::from_nanos(1));
    let mut told = Rows::new();
    while exchange.poll_statement().is_some() {
        let rows = input.rows();
        told.extend(rows.clone());
        exchange.handle_rows(rows);
    }
    match exchange.finish() {
        Ok(Reply::Outcomes(entries)) => {
            for (claim, entry) in request.claims().iter().zip(entries) {
                let fence = match entry {
                    Outcome::Granted(fence) => Some(fence),
                    Outcome::Done | Outcome::DoneContended => None,
                    _ => continue,
                };
                assert!(says(&told, claim, fence), "{told:?}");
            }
        }
        Ok(other) => panic!("nobody asked for {other:?}"),
        Err(_) => {}
    }
    for request in admin_requests() {
        let rows = input.rows();
        let mut exchange = codec(pick).encode_admin(&request, Instant::from_nanos(1));
        while exchange.poll_statement().is_some() {
            exchange.handle_rows(rows.clone());
        }
        if let Ok(AdminResponse::Broken(Some(fence))) = exchange.finish() {
            assert_eq!(rows[0][0], Value::Int(fence.get().try_into().expect("it was one")));
        }
    }
    let mut setup = codec(pick).setup();
    let mut answer = None;
    for _ in 0..50 {
        let lock_core::sql::Step::Run(_) = setup.step(answer.take()) else { return };
        answer = Some(Ok(input.rows()));
    }
    panic!("a setup that does not end");
}

/// One request of each kind.
fn admin_requests() -> [AdminRequest; 4] {
    let name = LockName::new("a").expect("good");
    [
        AdminRequest::List { after: None },
        AdminRequest::Status { name: name.clone() },
        AdminRequest::Break { name, fence: Fence::new(1) },
        AdminRequest::purge(SHORTEST).expect("long enough"),
    ]
}

/// True if a row says that the claim was granted with `fence`. Without `fence`, true if a row says that the
/// lease was renewed or released. A number alone speaks of the only claim.
fn says(rows: &Rows, claim: &Claim, fence: Option<Fence>) -> bool {
    let name = Value::Text(claim.name.to_string());
    let owner = Value::Text(claim.owner.to_string());
    let is_it = |value: &Value| match (value, fence) {
        (Value::Int(number), Some(fence)) => u64::try_from(*number) == Ok(fence.get()),
        (Value::Int(number), None) => *number != 0,
        _ => false,
    };
    let flag = |value: &Value| matches!(value, Value::Int(0 | 1));
    rows.iter().any(|row| match &row[..] {
        [number] => is_it(number),
        [of, number] if fence.is_some() => *of == name && is_it(number),
        // A renewal's rows are (name, owner), a release's (name, whether somebody waits).
        [of, by] => *of == name && (*by == owner || flag(by)),
        [of, by, number] => *of == name && *by == owner && (fence.is_none() || is_it(number)),
        [of, by, number, _] => *of == name && *by == owner && (fence.is_none() || is_it(number)),
        _ => false,
    })
}

/// Decodes any answer of Consul's. There must be no panic, no grant that the answer does not contain, and no
/// error that cannot be shown.
///
/// The first byte is the request, the second the status, then a line with the index; the rest is
/// the body.
pub fn consul_bodies(bytes: &[u8]) {
    const STATUS: [u16; 8] = [200, 409, 404, 200, 403, 500, 301, 429];
    const ID: &str = "00000000-0000-0000-0000-000000000001";
    let mut input = Input(bytes);
    let claim = Claim::new(LockName::new("a").expect("good"), Owner::new(1));
    let session = SessionName::from(ID);
    let ttl = Duration::from_secs(30);
    let (claims, since, up_to) = (Vec::from([claim.clone()]), 1, ttl);
    let (min_uptime, label) = (Duration::ZERO, "h".into());
    let request = match input.byte() % 6 {
        0 => Request::Acquire { session, claims, ttl, min_uptime, label },
        1 => Request::Release { passed_over: None, session, claims },
        2 => Request::Wait { behind: None, session, claim, since, up_to, min_uptime },
        3 => Request::KeepAlive { session },
        4 => Request::Open { owner: Owner::new(1), ttl },
        _ => Request::Close { session },
    };
    let status = STATUS[usize::from(input.byte()) % STATUS.len()];
    let end = input.0.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (header, body) = input.0.split_at(end);
    let index = std::str::from_utf8(header).ok().filter(|text| !text.is_empty());
    let text = String::from_utf8_lossy(body);
    let codec = http::consul::Codec::default();
    match codec.decode(&request, &Response { status, index, body }) {
        Ok(Reply::Opened(session)) => {
            assert!(session.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            assert!(!session.as_str().is_empty());
        }
        Ok(reply) => {
            let outcomes = reply.outcomes(request.action(), 1).expect("they fit the request");
            match (&request, &outcomes[0]) {
                (_, Outcome::Granted(fence)) => {
                    assert!(status == 200 && text.contains(&fence.to_string()), "{text}");
                    assert!(fence.get() > 0 && i64::try_from(fence.get()).is_ok());
                }
                (Request::Acquire { .. }, _) => assert_eq!(status, 409),
                (_, Outcome::Unchanged { index }) => assert!(*index > 0),
                (Request::Close { .. }, Outcome::Done) => assert_eq!(text.trim(), "true"),
                (_, Outcome::Done) => assert_eq!(status, 200),
                (_, Outcome::NotOwner | Outcome::NoSession) => assert_ne!(status, 200),
                _ => {}
            }
        }
        Err(failure) => {
            let text = failure.to_string();
            assert!(!text.contains(char::is_control) && text.len() < 2000, "{text:?}");
        }
    }
}

/// Makes a name of any text. The name must be equal to the text, or an error.
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

/// Reads any URL, and any variables that complete one. There must be no panic, and no secret in the error.
pub fn urls(bytes: &[u8]) {
    use lock_sync::Config;
    let text = String::from_utf8_lossy(bytes);
    let url = format!("postgres://app:hunter2{text}");
    let alone = [text.as_ref(), &url].map(Config::from_url);
    let secret = format!("hunter2{text}");
    // No variable that names a file, which would be read.
    let variable = |name: &str| {
        let value =
            if name.contains("PASSWORD") || name.contains("TOKEN") { &*secret } else { &text };
        (!name.ends_with("FILE") && name != "HOME").then(|| value.into())
    };
    let completed = ["postgres://", "mysql:///d", "consul://", &text];
    let completed = completed.map(|url| Config::from_url_with(url, variable));
    for config in alone.into_iter().chain(completed) {
        if let Err(error) = config {
            let message = error.to_string();
            assert!(!message.contains("hunter2"), "{message}");
            assert!(!message.contains('\n') && message.len() < 1000, "{message}");
        }
    }
}

/// Runs any schedule of the model-checked table protocol. It must break no promise.
pub fn schedules(bytes: &[u8]) {
    use lock_core::sim::table::FakeTable;
    unbroken(bytes, &FakeTable::new(), &table::capabilities("somebody", false));
}

/// Runs any schedule with advisory locks.
pub fn schedules_advisory(bytes: &[u8]) {
    use lock_core::sim::advisory::FakeAdvisory;
    unbroken(bytes, &FakeAdvisory::new(), &locks::capabilities(locks::WAITING, None));
}

/// Runs any schedule with Consul.
pub fn schedules_consul(bytes: &[u8]) {
    use lock_core::sim::consul::FakeConsul;
    unbroken(bytes, &FakeConsul::new(), &consul::capabilities("somebody"));
}

fn unbroken<S: Server>(bytes: &[u8], server: &S, capabilities: &Capabilities) {
    let world = |mut scope: Scope| {
        if S::CONNECTIONS {
            scope.wishes.push(Wish::WAIT.shared());
        }
        World::new(server.clone(), capabilities.clone(), scope)
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

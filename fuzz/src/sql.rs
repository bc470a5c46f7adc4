//! Rows of lock tables.

use crate::Input;
use lock_core::admin::{AdminRequest, AdminResponse, SHORTEST};
use lock_core::sql::{Codec, Rows, Step, Value, mysql, postgres, sqlite};
use lock_core::{
    Claim, Fence, Instant, LockName, Outcome, Owner, Reply, Request, SessionName, TableName,
};
use std::time::Duration;

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
    let claim = |name: &&str| Claim::new(LockName::new(name).expect("good"), Owner::new(1));
    let claims = names.iter().map(claim).collect();
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
        let Step::Run(_) = setup.step(answer.take()) else { return };
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

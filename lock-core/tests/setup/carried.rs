//! Connections whose session may be anybody's.

use super::{pg, pg_checked, pg_row, pg_row_with, runs, text};
use lock_core::sql::{Statement, Step, Value, mysql};
use lock_core::{Claim, Failure, Instant, LockName, Owner, Request, SessionName, TableName, Turn};
use std::time::Duration;

/// Through a pooler, and on a client that was brought.
#[test]
fn where_the_session_is_not_ours_statements_carry_the_settings() {
    let anybodys = |commit| {
        let mut row = pg_row();
        (row[2], row[9]) = (text(commit), text(""));
        vec![row]
    };
    for commit in ["on", "off"] {
        let mut setup = pg_checked();
        let step = setup.step(Some(Ok(anybodys(commit))));
        assert_eq!(step, Step::Ready, "nothing is set in a session that may be another's tomorrow");
        assert!(setup.codec().carries());
        // The next connection may be one to the server itself.
        let mut next = setup.codec().setup();
        next.step(None);
        assert_eq!(next.step(Some(Ok(vec![pg_row()]))), Step::Ready);
        assert!(!next.codec().carries());
    }
    let mut schema = anybodys("on");
    schema[0][7] = text("jobs");
    let mut setup = pg().look_only().within(Duration::from_millis(700)).setup();
    setup.step(None);
    assert_eq!(setup.step(Some(Ok(schema))), Step::Ready);
    let (codec, claim) = (setup.codec(), claim());
    let statement = |request: &Request| {
        codec.encode(request, Instant::default()).poll_statement().expect("one statement")
    };
    let claim = Claim { turn: Turn::Of(None), ..claim };
    let (ttl, claims) = (Duration::from_secs(30), vec![claim]);
    let (session, label) = (SessionName::default(), "me".into());
    let acquire = Request::Acquire {
        session: session.clone(),
        claims: claims.clone(),
        ttl,
        min_uptime: Duration::ZERO,
        label,
    };
    let renew = Request::Renew { claims: claims.clone(), ttl };
    let release = Request::Release { passed_over: None, session, claims: claims.clone() };
    let keep = Request::Keep { claims: claims.clone(), keep: ttl };
    let probe = Request::Probe { claims };
    let requests = [(acquire, true), (renew, true), (release, false), (keep, true)];
    let mut statements = requests.map(|(request, durable)| (statement(&request), durable)).to_vec();
    let mut look = codec.encode(&probe, Instant::default());
    let Statement { text: looks, repeated, .. } = look.poll_statement().expect("a look");
    assert!(!repeated && !looks.contains("UPDATE") && !looks.contains("set_config"), "{looks}");
    let held = [1, 1, 0, 0, 1, 0, 0].map(Value::Int);
    look.handle_rows(vec![[vec![text("a"), text("they")], held.into()].concat()]);
    statements.push((look.poll_statement().expect("it draws a ticket"), false));
    for (Statement { text, repeated, .. }, waits_for_the_disk) in statements {
        assert!(text.contains("set_config('lock_timeout', '350', true)"), "{text}");
        assert!(text.contains(r#""jobs"."locks""#) && !repeated, "{text}");
        let durable = text.contains("WHEN 'off' THEN 'on'");
        assert_eq!(durable, waits_for_the_disk, "{text}");
        assert!(!text.contains('{'), "{text}");
    }
    for request in [Request::Subscribe { up_to: ttl }, Request::Ping { number: 1 }] {
        let exchange = codec.encode(&request, Instant::default());
        assert!(exchange.poll_statement().is_none(), "a subscription would stay there");
        assert!(matches!(exchange.finish(), Err(Failure::NotSent(_))));
    }
    assert_eq!(
        codec.create_table(),
        pg().create_table().replace(r#""locks""#, r#""jobs"."locks""#)
    );
}

fn claim() -> Claim {
    let name = LockName::new("a").expect("good");
    Claim::new(name, Owner::new(1))
}

/// A pool's connection, another one for each statement: nothing is set on it, whatever it says of itself.
#[test]
fn nothing_is_set_on_a_connection_that_is_shared() {
    let mut setup = pg().setup().shared(true);
    runs(&mut setup, None);
    // With our own settings, and without commits that wait for the disk: a setting of its own would stay.
    assert_eq!(setup.step(Some(Ok(pg_row_with(2, text("off"))))), Step::Ready);
    assert!(setup.codec().carries());
    let mut setup = mysql::codec(TableName::default()).setup().shared(true).numbered(Some(7));
    assert_eq!(&*runs(&mut setup, None).text, "SHOW CREATE TABLE `locks`");
    assert!(runs(&mut setup, Some(Ok(vec![]))).text.trim_start().starts_with("SELECT VERSION()"));
}

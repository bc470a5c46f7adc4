//! Leases that are watched: their end does not go by the server's clock.

use super::*;
use lock_core::LeaseVersion;
use lock_core::sql::mysql;

fn codecs() -> [Codec; 2] {
    let table = TableName::default;
    [postgres::codec(table()).watched(), mysql::codec(table()).watched()]
}

fn seen(expiry: i64) -> LeaseVersion {
    LeaseVersion { fence: Fence::new(8), expiry }
}

/// a, whose lease has not changed since it was seen, and b.
fn claims() -> Vec<Claim> {
    vec![Claim { ended: Some(seen(4_000)), ..claim("a", 1) }, claim("b", 1)]
}

/// A row of the statement that asks who has a lock: the TTL in place of what is left, and the expiry.
fn row(name: &str, expiry: i64) -> Vec<Value> {
    let numbers = [5, 30_000_000, 0, 0, 8, expiry, 0];
    [&[text(name), text("me")][..], &numbers.map(int)].concat()
}

fn renew() -> Request {
    Request::Renew { claims: vec![claim("a", 1)], ttl: Duration::from_secs(30) }
}

/// Without the conditions on locks that nobody has, for they are kept, or were freed.
fn about_leases(sql: &str) -> String {
    let kept = Owner::KEPT;
    let late = "s.expires_at > clock_timestamp() + (s.ttl_us + 1000000) * interval '1 microsecond'";
    let mut sql = sql.replace(&format!("(s.owner <> '{kept}' OR {late})"), "kept");
    for of in ["l", "o", "s"] {
        let lives = format!("({of}.owner <> '{kept}' OR {of}.expires_at > clock_timestamp())");
        let freed = format!("{of}.queue > {of}.served AND {of}.expires_at <= clock_timestamp()");
        let freed_us = format!("{of}.queue > {of}.served AND {of}.expires_us <= c.now");
        for condition in [lives, freed, freed_us] {
            sql = sql.replace(&condition, "nobody's");
        }
    }
    // A claim's own row has no other name.
    sql.replace("queue > served AND expires_us <= c.now", "nobody's")
}

#[test]
fn no_statement_compares_an_expiry_with_the_servers_clock() {
    let look = Request::Probe { claims: vec![claim("a", 1)] };
    let looks = Request::Probe { claims: vec![claim("a", 1), claim("b", 1)] };
    for (codec, by_clock) in codecs().iter().zip(["expires_at > clock", "expires_us > c.now"]) {
        for request in
            [acquire(vec![claim("a", 1)]), acquire_ab(), renew(), look.clone(), looks.clone()]
        {
            let sql = about_leases(&statement(&codec.encode(&request, NOW)).text);
            for clock in [
                by_clock,
                "expires_at <= clock",
                "expires_us <= c.now",
                "expires_us > TIMESTAMPDIFF",
            ] {
                assert!(!sql.contains(clock), "{sql}");
            }
            assert!(!sql.contains('{'), "{sql}");
        }
    }
    let sqlite = sqlite::codec(TableName::default(), "boot");
    assert_eq!(
        statement(&sqlite.watched().encode(&renew(), NOW)),
        statement(&sqlite.encode(&renew(), NOW)),
        "its clock is never set"
    );
}

#[test]
fn a_lease_that_has_ended_is_ended_by_its_version_before_the_claim() {
    for codec in codecs() {
        for request in [acquire(claims()), Request::Probe { claims: claims() }] {
            let mut exchange = codec.encode(&request, NOW);
            let end = statement(&exchange);
            assert_eq!(end.params, [text("a"), int(8), int(4_000)]);
            assert!(
                end.text.contains("SET owner = NULL") && end.text.contains("fence ="),
                "{}",
                end.text
            );
            assert!(end.durable && !end.repeated);
            // Whether it was still there, the next statement tells.
            exchange.handle_rows(vec![vec![int(0)]]);
            let plain = claims().into_iter().map(|claim| Claim { ended: None, ..claim }).collect();
            let plain = match request {
                Request::Probe { .. } => Request::Probe { claims: plain },
                _ => acquire(plain),
            };
            assert_eq!(statement(&exchange), statement(&codec.encode(&plain, NOW)));
        }
        let mut exchange = codec.encode(&acquire(claims()), NOW);
        exchange.handle_failure(Failure::Unknown("gone".into()));
        assert!(exchange.finish().is_err(), "nothing was claimed");
    }
}

#[test]
fn who_is_denied_is_told_the_version_and_the_ttl() {
    for codec in codecs() {
        let mut exchange = codec.encode(&Request::Probe { claims: vec![claim("a", 1)] }, NOW);
        exchange.handle_rows(vec![row("a", 4_000)]);
        assert!(exchange.poll_statement().is_none(), "nothing is corrected");
        let Ok(Reply::Outcomes(outcomes)) = exchange.finish() else { panic!("no outcomes") };
        let [Outcome::Busy(Some(holder))] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(holder.watched, Some((seen(4_000), Duration::from_secs(30))));
    }
}

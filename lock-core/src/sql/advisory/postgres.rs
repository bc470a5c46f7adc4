//! PostgreSQL, from version 14: it must end idle connections.
//!
//! * The server counts how often a connection took a lock, and in which mode. It does not tell how
//!   often.
//! * `CASE` evaluates its conditions in order and what follows one only if it is true: the clock is
//!   read when the lock is there.
//! * A wait ends by `lock_timeout`, set for the statement alone. The lock may have been granted in
//!   the last moment: then the connection has it, though the statement failed.

use super::key::Digest;
use super::{Codec, Dialect, Key};
use crate::error::{Code, Failure};
use crate::request::{Claim, Mode};
use crate::sql::{Text, Value};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

/// The codec for locks that are called as `key` says.
pub fn codec(key: Key) -> Codec {
    let [call, claims, claim] = match key {
        Key::Int => ["c.key", CLAIMS_OF_BIGINT, CLAIM_OF_BIGINT],
        Key::Hash | Key::Pair => ["c.one::int, c.two::int", CLAIMS_OF_INTS, CLAIM_OF_INTS],
    };
    let text =
        |text: &str| text.replace("{call}", call).replace("{same}", SAME).replace("{now}", NOW);
    // The number of its first parameter about the claims, by the statement.
    let claims = |of: &str, first: u32| {
        let with = |claims: &str, once: &str| {
            let numbered = (0..3).fold(claims.to_string(), |claims, at| {
                claims.replace(&format!("{{{at}}}"), &format!("${}", first + at))
            });
            text(&of.replace("{claims}", &numbered).replace("{once}", once))
        };
        // A subquery is evaluated once, and not for each claim. For one claim it would be more work.
        let (any, one) = (with(claims, "SELECT {same}"), with(claim, "{same}"));
        Text { any: any.into(), one: Some(one.into()) }
    };
    let by_claim = [claims(TRY, 4), claims(UNLOCK, 3)];
    let wait = claims(WAIT, 5).one.unwrap_or_default();
    let texts = [wait.to_string(), text(HELD), text(KEEP)];
    Codec::new(Dialect::Postgres(key), by_claim, texts)
}

/// Which of the claims are to be shared, and the one or two numbers of each one's key.
pub(super) fn claims(key: Key, claims: &[Claim]) -> impl Iterator<Item = Value> + use<> {
    let mut columns = [const { Vec::new() }; 3];
    for of in claims {
        let (one, two) = key.numbers(&of.name).unwrap_or_default();
        columns[0].push(shared(of));
        columns[1].push(one);
        columns[2].extend(two);
    }
    let width = if key == Key::Int { 2 } else { 3 };
    columns.into_iter().take(width).map(Value::Ints)
}

/// Whether one claim is to be shared, and the one or two numbers of its key.
pub(super) fn claim(
    key: Key,
    claim: &Claim,
    known: Option<Digest>,
) -> impl Iterator<Item = Value> + use<> {
    let (one, two) = key.numbers_by(&claim.name, known).unwrap_or_default();
    let numbers = [Some(one), two].into_iter().flatten().map(Value::Int);
    core::iter::once(Value::Int(shared(claim))).chain(numbers)
}

fn shared(claim: &Claim) -> i64 {
    i64::from(claim.mode == Mode::Shared)
}

/// The claims' locks as `pg_locks` shows them, and their modes.
pub(super) fn entries(key: Key, claims: &[Claim]) -> [Value; 2] {
    let entry = |claim: &Claim| key.entry(&claim.name).unwrap_or_default();
    let modes = claims.iter().map(|claim| mode(claim).to_string()).collect();
    [Value::Texts(claims.iter().map(entry).collect()), Value::Texts(modes)]
}

/// As `pg_locks` calls it.
fn mode(claim: &Claim) -> &'static str {
    match claim.mode {
        Mode::Exclusive => "ExclusiveLock",
        Mode::Shared => "ShareLock",
    }
}

/// Whether a wait failed only because it was over, by what
/// [`statement_failed`](crate::sql::postgres::statement_failed) made of the error.
pub(super) fn wait_ended(failure: &Failure) -> bool {
    failure.code() == Some(Code::SqlState(*b"55P03"))
}

/// The oldest server version that is accepted, as `server_version_num`.
pub(super) const OLDEST: i64 = 140_000;

/// One row: version, standby?, since when there have been locks, the mark if there is one (no client has marked
/// a connection that is new), and whether the session has [our settings](crate::sql::postgres::session_options).
///
/// When a server process dies, all others are ended and the locks forgotten, but the server does not
/// count that as a start. Its statistics begin anew then.
pub(super) const CHECK: &str = r#"
SELECT current_setting('server_version_num')::bigint,
       pg_is_in_recovery()::int::bigint,
       (extract(epoch FROM greatest(pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time())) * 1000000)::bigint,
       coalesce(current_setting('withlock.session', true), ''),
       coalesce(current_setting('withlock.own', true), '')"#;

/// `$1` TTL in ms, `$2` to `$3` a third and a ninth of it in s. The server's number for the
/// connection, and the mark. It is idleness that ends a connection for certain; probes may not be
/// sent while something is not acknowledged, and only help. A limit for transactions, which servers have from 17 on, would
/// end the connection of a wait that is one statement.
pub(super) const SESSION: &str = r#"
SELECT pg_backend_pid()::bigint,
       set_config('withlock.session', gen_random_uuid()::text, false),
       set_config('idle_session_timeout', $1::bigint::text, false),
       set_config('statement_timeout', $1::bigint::text, false),
       CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN set_config('transaction_timeout', '0', false) END,
       set_config('lock_timeout', $1::bigint::text, false),
       set_config('tcp_user_timeout', $1::bigint::text, false),
       set_config('tcp_keepalives_idle', $2::bigint::text, false),
       set_config('tcp_keepalives_interval', $3::bigint::text, false),
       set_config('tcp_keepalives_count', '3', false)"#;

/// The same two, to be found again.
pub(super) const FIND: &str =
    "SELECT pg_backend_pid()::bigint, current_setting('withlock.session', true)";

/// `$1` ms. Makes a connection that waits notice that its client is gone, where the system can.
pub(super) const PROBE: &str =
    "SELECT set_config('client_connection_check_interval', $1::bigint::text, false)";

const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

const SAME: &str = "pg_backend_pid() = $1::bigint AND current_setting('withlock.session', true) IS NOT DISTINCT FROM $2::text";

/// Any number of claims: 1 for each lock that is to be shared, and their keys.
const CLAIMS_OF_BIGINT: &str =
    "unnest({0}::bigint[], {1}::bigint[]) WITH ORDINALITY AS c (mode, key, place)";
const CLAIMS_OF_INTS: &str = "unnest({0}::bigint[], {1}::bigint[], {2}::bigint[]) WITH ORDINALITY AS c (mode, one, two, place)";
/// The same of one claim.
const CLAIM_OF_BIGINT: &str =
    "(VALUES ({0}::bigint, {1}::bigint, 1::bigint)) AS c (mode, key, place)";
const CLAIM_OF_INTS: &str =
    "(VALUES ({0}::bigint, {1}::bigint, {2}::bigint, 1::bigint)) AS c (mode, one, two, place)";

/// `$1` and `$2` the session, `$3` the time before which nothing is granted, claims. Place and fence, or why there is none.
const TRY: &str = r#"
WITH server AS MATERIALIZED (
  SELECT CASE WHEN NOT ({same}) THEN -3
              WHEN pg_is_in_recovery() THEN -2
              WHEN {now} < $3::bigint THEN -1
              ELSE 0 END AS says
)
SELECT c.place,
       CASE WHEN s.says < 0 THEN s.says
            WHEN CASE c.mode WHEN 1 THEN pg_try_advisory_lock_shared({call})
                             ELSE pg_try_advisory_lock({call}) END
            THEN {now}
            ELSE 0 END
  FROM server AS s, {claims}"#;

/// `$1` and `$2` the session, `$3` the time before which nothing is granted, `$4` how long to wait, in ms, and a claim.
/// Place and fence, or why there is none.
const WAIT: &str = r#"
WITH server AS MATERIALIZED (
  SELECT CASE WHEN NOT ({same}) THEN -3
              WHEN pg_is_in_recovery() THEN -2
              WHEN {now} < $3::bigint THEN -1
              ELSE 0 END AS says,
         set_config('lock_timeout', $4::bigint::text, true) AS up_to
)
SELECT c.place,
       CASE WHEN s.says < 0 THEN s.says
            WHEN s.up_to IS NULL THEN NULL
            WHEN CASE c.mode WHEN 1 THEN pg_advisory_lock_shared({call}) IS NOT NULL
                             ELSE pg_advisory_lock({call}) IS NOT NULL END
            THEN {now} END
  FROM server AS s, {claims}"#;

/// `$1` and `$2` the session, `$3` locks as `pg_locks` shows them, `$4` modes. Place and a fence, 0 for
/// what the connection does not have.
const HELD: &str = r#"
WITH ours AS MATERIALIZED (
  SELECT format('%s %s %s', l.classid, l.objid, l.objsubid) AS entry, l.mode
    FROM pg_locks AS l
   WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.granted
)
SELECT c.place,
       CASE WHEN NOT ({same}) THEN -3
            WHEN (c.entry, c.mode) IN (SELECT o.entry, o.mode FROM ours AS o) THEN {now}
            ELSE 0 END
  FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS c (entry, mode, place)"#;

/// `$1` and `$2` the session, claims. Place and whether the connection had it.
const UNLOCK: &str = r#"
SELECT c.place,
       CASE WHEN NOT ({once}) THEN -3::bigint
            WHEN CASE c.mode WHEN 1 THEN pg_advisory_unlock_shared({call})
                             ELSE pg_advisory_unlock({call}) END
            THEN 1
            ELSE 0 END
  FROM {claims}"#;

/// `$1` and `$2` the session. Whether it is that connection.
const KEEP: &str = "SELECT ({same} AND NOT pg_is_in_recovery())::int::bigint";

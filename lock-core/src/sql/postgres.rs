//! PostgreSQL, from version 12.
//!
//! * The time is `clock_timestamp()`, the server's, read while the statement runs. A statement that
//!   waited for a row lock may read it earlier than it could; that errs on the safe side, for a
//!   taker sees another's lease end later, never earlier.
//! * Each statement must commit by itself, at READ COMMITTED: under stricter isolation two takers
//!   at once get serialization errors, which are retried but cost time.
//! * A claim never shortens its own owner's lease: one that was delayed on its way may be carried out
//!   after a later one of the same owner.
//! * Rows are locked in the order of their names, so that two clients' batches cannot deadlock.
//! * A claim looks before it leaps: `ON CONFLICT` locks the row even if it then changes nothing, and
//!   the commit of a row lock is written to the disk; those that are denied would stand in line for
//!   that, and the release behind them. What decides is still the row as it is locked.
//! * A release does not wait for the disk: losing a release is safe, the TTL frees the lock. A
//!   grant or a renewal does.
//! * Each renewal moves the expiry, by a microsecond at least: where the clock was set back, an expiry that
//!   has not moved is that of a lease that was not renewed. See [`Exchange`](super::Exchange).
//! * No statement waits for a row for longer than a second: a row may be pinned for long, and the connection has
//!   other requests to make.
//! * `name` is compared as bytes (`COLLATE "C"`).
//! * Whoever is denied draws a ticket from the row, once, and the release of a row that tickets wait for tells
//!   all that listen (`NOTIFY`) whose turn it is. The ticket is drawn, or seen, while the row is somebody's, so its
//!   release comes later and finds it.

mod inline;
mod look;
mod release;

use super::{Codec, Dialect, Terms};
use crate::error::{Code, Failure};
use crate::name::{LockName, Owner, TableName};
use crate::outcome::Notification;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

pub use inline::inline;
use look::{BEHIND, DRAW, GOOD, HOLDERS, LOOK, LOOK_TICKET, SEEN, TICKET};
pub(super) use release::could_not_tell;
use release::{KEEP, RELEASE, RELEASE_ONE, TELL, TELL_KEPT};

/// The oldest server version that is accepted, as `server_version_num`.
pub(super) const OLDEST: i64 = 120_000;

/// The codec for a table.
pub fn codec(table: TableName) -> Codec {
    make(table, Terms::default())
}

/// The same on these terms. Where the session may be anybody's, the statements carry the settings that matter; relaxed, a
/// commit waits for the disk only where the server has it so.
pub(super) fn make(table: TableName, terms: Terms) -> Codec {
    let Terms { watched, carries, .. } = terms;
    let none = Dialect::Postgres { listen: "".into(), unlisten: "".into(), ping: "".into() };
    let [listen, unlisten, ping] =
        [LISTEN, UNLISTEN, PING].map(|text| none.text(text, &table).into());
    let [renewable, lives, late] = if watched { WATCHED } else { BY_CLOCK };
    let kept = Owner::KEPT.to_string();
    let carry = |text: &str| {
        with_conditions(&carried(text, terms), lives)
            .replace("{renewable}", renewable)
            .replace("{late}", late)
            .replace("{late}", LATE)
            .replace("{kept}", &kept)
    };
    let [any, one] = [(CLAIMS, ITS_OWN), (CLAIM_OF_ONE, ["$1::bigint", "$2::text"])];
    let [any, one] = [any, one].map(|(claims, [ttl, label])| {
        let text = CLAIM.replace("{claims}", claims).replace("{label}", label);
        carry(&text.replace("{ttl}", ttl))
    });
    let (look, ticket) = if carries { (LOOK, LOOK_TICKET) } else { (HOLDERS, TICKET) };
    let holders = carry(&look.replace("{seen}", SEEN).replace("{ticket}", ticket));
    let [release, release_one] = [RELEASE, RELEASE_ONE].map(carry);
    let keep = carry(KEEP);
    let [told, told_one] = [&release, &release_one].map(|text| text.replace("{tell}", TELL));
    let codec = Codec::new(
        Dialect::Postgres { listen, unlisten, ping },
        table,
        [&any, &carry(RENEW), &told, &holders],
    )
    .with_untold([release, release_one].map(|text| text.replace("{tell}", "1")))
    .with_one(&one, &told_one)
    .with_keep([&keep.replace("{tell}", TELL_KEPT), &keep.replace("{tell}", "1")])
    .with_correction(&carry(CORRECT));
    let codec = if carries { codec.with_draw(&carry(DRAW)) } else { codec };
    if watched { codec.with_end(&carry(END)) } else { codec }
}

/// `text` with the conditions on rows in their places: for `{lives o}`, that the lease of the row `o` lives.
fn with_conditions(text: &str, lives: &str) -> String {
    let mut text = text.to_string();
    for (name, condition) in [("lives", lives), ("good", GOOD), ("behind", BEHIND)] {
        for row in ["l", "o", "s"] {
            let its = condition.replace("l.", &format!("{row}."));
            text = text.replace(&format!("{{{name} {row}}}"), &its);
        }
    }
    text
}

/// Whether a lease may be renewed, whether it lives, and whether its end is not told by the clock: it is [late](LATE), or
/// watched. Where leases are watched, only what is kept ends by the server's clock, for nobody has it.
const BY_CLOCK: [&str; 3] = [
    " AND l.expires_at > clock_timestamp()",
    "(l.owner IS NOT NULL AND l.expires_at > clock_timestamp())",
    LATE,
];

const WATCHED: [&str; 3] = [
    "",
    "(l.owner IS NOT NULL AND (l.owner <> '{kept}' OR l.expires_at > clock_timestamp()))",
    "(s.owner <> '{kept}' OR {late})",
];

/// The content of a notification on the connection that listens; [`None`] if it is not one of ours.
pub fn notification(payload: &str) -> Option<Notification> {
    if let Some(number) = payload.strip_prefix(PROBES) {
        return u128::from_str_radix(number, 16).ok().map(Notification::Ping);
    }
    let (ticket, rest) = payload.strip_prefix(FREED)?.split_once(' ')?;
    let (left, name) = rest.split_once(' ')?;
    let (ticket, left) = (ticket.parse().ok()?, left.parse().ok()?);
    // Nobody waits for a text that is no lock's name.
    let name = LockName::stored(name)?;
    Some(match left {
        0 => Notification::Freed { name, ticket },
        left => Notification::Kept { name, ticket, left: Duration::from_micros(left) },
    })
}

/// The payload of a ping.
pub(super) fn ping(number: u128) -> String {
    format!("{PROBES}{number:032x}")
}

/// The first character of a ping's payload: no lock's name has a control character.
const PROBES: char = '\u{1}';
/// The first character of the payload about a lock that was released: then the ticket whose turn it is, a space, the time in
/// µs for which the lock is kept, 0 if it is free, a space, and the name.
const FREED: char = '\u{2}';

/// The failure that the server's error stands for. `code` is the SQLSTATE, absent
/// when the connection broke.
///
/// | SQLSTATE | meaning | failure |
/// |---|---|---|
/// | none, 08*, 25P03, 25P04, 40003, 57P* | the connection or the server ended meanwhile | unknown |
/// | 40001, 40P01, 55P03, 57014, 53*, 58* | serialization, deadlock, lock or statement timeout, out of something, a disk | rejected, try again |
/// | 25006 | [read-only](Failure::is_read_only) | rejected, try again |
/// | any other | the server will not do it | rejected |
pub fn statement_failed(code: Option<&str>, message: &str) -> Failure {
    let Some(code) = code else { return Failure::Unknown(one_line(message)) };
    let message = format!("{} (SQLSTATE {code})", one_line(message));
    let failure = match code {
        _ if code.starts_with("08") => Failure::Unknown(message),
        _ if code.starts_with("57P") => Failure::Unknown(message),
        "25P03" | "25P04" | "40003" => Failure::Unknown(message),
        "25006" | "40001" | "40P01" | "55P03" | "57014" => Failure::not_now(message),
        _ if code.starts_with("53") || code.starts_with("58") => Failure::not_now(message),
        _ => Failure::refused(message),
    };
    failure.with_code(Code::sql_state(code))
}

/// The failure of an attempt to connect: nothing was sent, and unless the server said that it
/// will not have us, it may work later.
///
/// | SQLSTATE | meaning | failure |
/// |---|---|---|
/// | 08P01 about a startup parameter, 0A000 | a pooler [refuses](refuses_settings) what we or the URL ask for | rejected |
/// | none, 08*, 53*, 57P* | unreachable, full, starting or stopping; a pooler whose server is | not sent |
/// | any other | wrong password, no such database, … | rejected |
pub fn connect_failed(code: Option<&str>, message: &str) -> Failure {
    let Some(code) = code else { return Failure::NotSent(one_line(message)) };
    let told = format!("{} (SQLSTATE {code})", one_line(message));
    if code == "0A000" || (code == "08P01" && message.contains("startup parameter")) {
        // The server itself has nothing to say against how our clients begin.
        let advice = "the pooler before the server refuses a parameter: leave it out of the URL, or connect to the server itself";
        let refused = Failure::refused(format!("{advice}: {told}"));
        return refused.with_code(Code::sql_state(code));
    }
    let passing = ["08", "53", "57P"].iter().any(|class| code.starts_with(class));
    if passing {
        return Failure::NotSent(told);
    }
    Failure::refused(told).with_code(Code::sql_state(code))
}

fn one_line(message: &str) -> String {
    message.trim().replace(char::is_control, " ").to_string()
}

/// Settings for every session, as the startup parameter `options`. A pooler refuses the parameter or drops it, because
/// its connections belong to many clients. Then [statements carry](super::Codec::carries) what matters of them.
///
/// A statement that waits at the server (for a row lock, for the disk) is ended there when we have
/// given it up, and not before, whatever the role's own settings are. Plans are made once: these statements are always carried out in the same way, and
/// planning them costs more than that. They may be made while the table is small, and so are not to read all of
/// it: rows are found by the index.
pub fn session_options(statement_timeout: Duration) -> String {
    format!(
        "{OWN} -c statement_timeout={} -c lock_timeout={} -c default_transaction_isolation=read\\ committed \
         -c plan_cache_mode=force_generic_plan \
         -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off",
        statement_timeout.as_millis().max(1),
        for_a_row(statement_timeout)
    )
}

/// The mark of a session that has our [settings](session_options).
const OWN: &str = "-c withlock.own=on";

/// The part of a session's options that is not [ours](session_options).
pub fn without_session_options(options: &str) -> &str {
    options.split(OWN).next().unwrap_or_default().trim_end()
}

/// Whether the way to the server has something against our [settings](session_options), by the failure to connect.
/// Then connect without them.
pub fn refuses_settings(failure: &Failure) -> bool {
    matches!(failure, Failure::Rejected { retry: false, .. })
        && matches!(failure.code(), Some(Code::SqlState(state)) if matches!(&state, b"08P01" | b"0A000"))
}

/// `text` with the settings that it carries on these terms in their places: those of statements that are [limited], and of those
/// that are [durable], too.
pub(super) fn carried(text: &str, terms: Terms) -> String {
    let carried = terms.carries.then_some(terms.request);
    let durable = if terms.relaxed { limited } else { durable };
    let [limited, durable] = [limited, durable].map(|text| carried.map(text).unwrap_or_default());
    text.replace("{limited}", &limited).replace("{durable}", &durable)
}

/// The settings that a statement carries where the session may be anybody's: it ends when we have given it up, if it
/// waits for a row.
fn limited(request: Duration) -> String {
    format!("\n   AND set_config('lock_timeout', '{}', true) IS NOT NULL", for_a_row(request))
}

/// How long a statement waits for a row at most. MySQL knows whole seconds only, and has the same.
const ROW: Duration = Duration::from_secs(1);

/// The same in milliseconds, where a request may take so long: the answer is to come in time.
fn for_a_row(request: Duration) -> u128 {
    ROW.min(request / 2).as_millis().max(1)
}

/// The same, and its commit waits for the disk, whatever another client has set.
fn durable(request: Duration) -> String {
    limited(request) + COMMITS
}

const COMMITS: &str = r#"
   AND set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) IS NOT NULL"#;

/// The setting by which commits wait for the disk. A session of ours keeps it from then on, and `on` instead of `off`: else it
/// would follow the server's configuration, which may change. That of others is not changed, and [statements](durable)
/// carry theirs.
pub(super) fn commit(relaxed: bool) -> &'static str {
    if relaxed {
        return "current_setting('synchronous_commit')";
    }
    "CASE WHEN current_setting('withlock.own', true) = 'on'
            THEN set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                                  WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
            ELSE current_setting('synchronous_commit') END"
}

pub(super) const CREATE: &str = r#"
CREATE TABLE IF NOT EXISTS {table} (
  name text COLLATE "C" PRIMARY KEY,
  owner text, -- NULL: the lock is free; the row stays, for its fence
  fence bigint NOT NULL,
  expires_at timestamptz NOT NULL,
  acquired_at timestamptz NOT NULL,
  ttl_us bigint NOT NULL DEFAULT 86400000000, -- of the lease; the longest there is, where it is not known
  queue bigint NOT NULL DEFAULT 0, -- the last ticket that a waiter has drawn
  served bigint NOT NULL DEFAULT 0, -- the last ticket that had its turn
  holder text NOT NULL -- for people: host, process, label
) WITH (fillfactor = 50)"#;

// A row is written anew by each request. With room on its page, the index need not be.

/// The columns that [`CREATE`] makes, as [`CHECK`] reports them. Others are nobody's business.
pub(super) const COLUMNS: &str = "acquired_at timestamptz, expires_at timestamptz, fence int8, holder text, name text C, owner text, queue int8, served int8, ttl_us int8";

/// One row: standby?, version, [`synchronous_commit`](commit), kind and persistence of the table, its columns,
/// whether it has a unique index on the name alone, whether transactions are read-only, the table's schema or
/// that in which it would be created, the role, the mark of our own sessions, the client's character set. `$1`: the table's quoted name.
pub(super) const CHECK: &str = r#"
SELECT pg_is_in_recovery()::int::bigint,
       current_setting('server_version_num')::bigint,
       {commit},
       (SELECT c.relkind::text || c.relpersistence::text FROM pg_class AS c WHERE c.oid = to_regclass($1)),
       (SELECT string_agg(a.attname::text || ' ' || t.typname::text
                 || CASE WHEN a.attname = 'name' THEN ' ' || l.collname::text ELSE '' END, ', ' ORDER BY a.attname)
          FROM pg_attribute AS a
          JOIN pg_type AS t ON t.oid = a.atttypid
          LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
         WHERE a.attrelid = to_regclass($1) AND NOT a.attisdropped
           AND a.attname IN ('name', 'owner', 'fence', 'expires_at', 'acquired_at', 'ttl_us', 'queue', 'served', 'holder')),
       (SELECT count(*)
          FROM pg_index AS i
          JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid
           AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'name'),
       (current_setting('transaction_read_only') = 'on')::int::bigint,
       coalesce((SELECT n.nspname
                   FROM pg_class AS c
                   JOIN pg_namespace AS n ON n.oid = c.relnamespace
                  WHERE c.oid = to_regclass($1)), current_schema())::text,
       current_user::text,
       coalesce(current_setting('withlock.own', true), ''),
       current_setting('client_encoding')"#;

/// Fails with 25P01 unless the connection is inside a transaction.
pub(super) const INSIDE: &str = "SAVEPOINT withlock";

/// Whether [`INSIDE`] failed as it should.
pub(super) fn is_outside(failure: &Failure) -> bool {
    failure.code() == Some(Code::SqlState(*b"25P01"))
}

/// Whether [`INSIDE`] failed because a transaction has failed before.
pub(super) fn has_failed(failure: &Failure) -> bool {
    failure.code() == Some(Code::SqlState(*b"25P02"))
}

/// The role, where a check was denied.
pub(super) const WHO: &str = "SELECT current_user::text";

/// TTLs and labels are empty unless a claim has one of its own.
pub(super) const CLAIMS: &str = "unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS c (name, owner, ttl, label, turn)";
pub(super) const CLAIM_OF_ONE: &str =
    "(VALUES ($3::text, $4::text, $5::bigint)) AS c (name, owner, turn)";
const ITS_OWN: [&str; 2] = ["coalesce(c.ttl::bigint, $1::bigint)", "coalesce(c.label, $2::text)"];

/// `$1` the TTL in µs, `$2` the holder's text, `$3` names and `$4` their owners, `$5` TTLs and `$6` texts of their own, `$7`
/// their turns; or one name, owner and turn.
///
/// **The name is set to itself, and must be.** How strongly the row is locked follows the columns that the statement names,
/// not their values: with the key among them, the claim waits for a transaction that has [pinned](crate::PinStatement)
/// the row (`FOR KEY SHARE`). Without it, the claim would pass. It costs nothing: the index stays as it is.
///
/// Whose turn it is decides the row as it was before it is locked, for nothing that must be safe rests on that.
const CLAIM: &str = r#"
INSERT INTO {table} AS l (name, owner, fence, expires_at, acquired_at, ttl_us, served, holder)
SELECT c.name, c.owner,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       clock_timestamp() + {ttl} * interval '1 microsecond',
       clock_timestamp(), {ttl}, abs(c.turn::bigint) % 9007199254740991, {label}
  FROM {claims}
 WHERE NOT EXISTS (SELECT FROM {table} AS o
                    WHERE o.name = c.name AND o.owner IS DISTINCT FROM c.owner AND ({lives o} OR {behind o})){durable}
 ORDER BY c.name COLLATE "C"
ON CONFLICT (name) DO UPDATE
   SET name = excluded.name, owner = excluded.owner,
       fence = CASE WHEN l.owner = excluded.owner THEN l.fence
                    ELSE greatest(l.fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) END,
       expires_at = greatest(CASE WHEN l.owner = excluded.owner THEN l.expires_at + interval '1 microsecond' END,
                             clock_timestamp() + excluded.ttl_us * interval '1 microsecond'),
       acquired_at = CASE WHEN l.owner = excluded.owner THEN l.acquired_at ELSE clock_timestamp() END,
       ttl_us = greatest(CASE WHEN l.owner = excluded.owner THEN l.ttl_us END, excluded.ttl_us),
       served = greatest(l.served, least(excluded.served, l.queue)),
       holder = excluded.holder
 WHERE NOT {lives l} OR l.owner = excluded.owner
RETURNING name, fence"#;

/// `$1` the TTL in µs, `$2` names, `$3` their owners, `$4` TTLs of their own, or none.
const RENEW: &str = r#"
WITH ours AS MATERIALIZED (
  SELECT l.name, l.owner, coalesce(c.ttl::bigint, $1::bigint) AS ttl
    FROM {table} AS l
    JOIN unnest($2::text[], $3::text[], $4::text[]) AS c (name, owner, ttl) ON l.name = c.name AND l.owner = c.owner{durable}
   ORDER BY l.name
     FOR NO KEY UPDATE OF l
)
UPDATE {table} AS l
   SET expires_at = greatest(l.expires_at + interval '1 microsecond', clock_timestamp() + ours.ttl * interval '1 microsecond'),
       ttl_us = greatest(l.ttl_us, ours.ttl)
  FROM ours
 WHERE l.name = ours.name AND l.owner = ours.owner{renewable}
RETURNING l.name, l.owner"#;

/// A lease ends later than its TTL allows: the clock was set back. A second is no sign of that, for the
/// statement may have taken it.
pub(super) const LATE: &str =
    "s.expires_at > clock_timestamp() + (s.ttl_us + 1000000) * interval '1 microsecond'";

/// `$1` a name, `$2` its fence, `$3` its expiry as it was seen, in µs.
const CORRECT: &str = r#"
UPDATE {table} AS l
   SET expires_at = clock_timestamp() + l.ttl_us * interval '1 microsecond',
       acquired_at = least(l.acquired_at, clock_timestamp())
 WHERE l.name = $1::text AND l.fence = $2::bigint AND l.owner IS NOT NULL
   AND (extract(epoch FROM l.expires_at) * 1000000)::bigint = $3::bigint
   AND l.expires_at > clock_timestamp() + l.ttl_us * interval '1 microsecond'{limited}"#;

/// `$1` a name, `$2` the fence and `$3` the expiry in µs of a lease that has ended.
const END: &str = r#"
UPDATE {table} AS l
   SET owner = NULL, expires_at = least(l.expires_at, clock_timestamp())
 WHERE l.name = $1::text AND l.fence = $2::bigint AND l.owner IS NOT NULL
   AND (extract(epoch FROM l.expires_at) * 1000000)::bigint = $3::bigint{limited}"#;

/// On which waiters are notified. It has the table's number, so that it does not matter how the table was named, and not that
/// of a partition, which a row would tell.
pub(super) const CHANNEL: &str = "'withlock_' || '{table}'::regclass::oid::text";

/// Releases of rows that tickets wait for are told to this connection from now on.
const LISTEN: &str = r#"
DO $$ BEGIN EXECUTE format('LISTEN %I', {channel}); END $$"#;

/// They are told to it no more.
const UNLISTEN: &str = r#"
DO $$ BEGIN EXECUTE format('UNLISTEN %I', {channel}); END $$"#;

/// `$1` a payload, which is told to all that listen. Waiting for the disk would be for nothing.
const PING: &str = r#"
SELECT (pg_notify({channel}, $1::text) IS NOT NULL)::int::bigint
 WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL"#;

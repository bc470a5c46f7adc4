//! Those who acquire and free locks.

use super::Setting;
use super::etcd::Etcd;
use super::peer::Peer;
use crate::ours::{advisory_lock, any, queued_lock, rows};
use lock_core::TableName;
use lock_core::sql::{Statement, Value, advisory, postgres as table};
use lock_tests::advisory::{LONG, open};
use lock_tests::place::{client, with_settings};
use postgres::types::ToSql;
use rslock::LockManager;
use sqlx::postgres::{PgAdvisoryLock, PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than any wait.
const TTL: Duration = Duration::from_secs(30);

/// Someone with a connection. Clones share it.
#[derive(Clone)]
pub(crate) enum Locker {
    Raw(Arc<Raw>),
    Ours(lock_async::Locks),
    /// With a lock for each name, which is made of a hash.
    Sqlx(PgPool, Arc<BTreeMap<String, PgAdvisoryLock>>),
    Rslock(LockManager),
    Etcd(Etcd),
    /// Blocks its thread.
    Postgres(Arc<Mutex<Blocking>>),
    /// Blocks its thread.
    Sync(lock_sync::Locks),
}

/// A connection of `tokio-postgres`, the two statements, and their parameters for each name.
pub(crate) struct Raw {
    client: tokio_postgres::Client,
    statements: [tokio_postgres::Statement; 2],
    params: BTreeMap<String, [Vec<Value>; 2]>,
}

/// The same of `postgres`.
pub(crate) struct Blocking {
    client: postgres::Client,
    statements: [postgres::Statement; 2],
    params: BTreeMap<String, [Vec<Value>; 2]>,
}

impl Locker {
    /// Connects. `names` is what may be locked, and so many at once.
    pub(crate) fn connect(peer: Peer, setting: &Setting, names: &[String]) -> Self {
        let ours = |url: &str| setting.runtime.block_on(lock_async::Locks::connect(url));
        match peer {
            Peer::RawAdvisory | Peer::QueuedRaw | Peer::RawTable => {
                Self::Raw(Arc::new(Raw::connect(peer, setting, names)))
            }
            Peer::Advisory => Self::Ours(ours(&setting.queue()).expect("connected")),
            Peer::Table => Self::Ours(ours(&setting.rows()).expect("connected")),
            Peer::Sqlx | Peer::PingingSqlx => {
                let pings = peer == Peer::PingingSqlx;
                let pool = setting.runtime.block_on(pool(&setting.postgres, names.len(), pings));
                let locks = names.iter().map(|name| (name.clone(), PgAdvisoryLock::new(name)));
                Self::Sqlx(pool, Arc::new(locks.collect()))
            }
            Peer::Rslock | Peer::EagerRslock => {
                let mut manager = LockManager::new(vec![setting.valkey.as_str()]);
                if peer == Peer::EagerRslock {
                    manager.set_retry(u32::MAX, Duration::from_millis(2));
                }
                Self::Rslock(manager)
            }
            Peer::Etcd => Self::Etcd(setting.runtime.block_on(Etcd::connect(&setting.etcd))),
            Peer::BlockingRawAdvisory | Peer::BlockingRawTable => {
                let mut client = client(&with_settings(&setting.postgres));
                let (texts, params) = pairs(peer, &mut client, names);
                let statements = texts.map(|text| client.prepare(&text).expect("prepared"));
                Self::Postgres(Arc::new(Mutex::new(Blocking { client, statements, params })))
            }
            Peer::BlockingAdvisory => {
                Self::Sync(lock_sync::Locks::connect(&setting.queue()).expect("connected"))
            }
            Peer::BlockingTable => {
                Self::Sync(lock_sync::Locks::connect(&setting.rows()).expect("connected"))
            }
        }
    }

    /// Whether it blocks the thread that it runs on.
    pub(crate) fn blocks(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::Sync(_))
    }

    /// Acquires a lock and frees it, on this thread.
    pub(crate) fn pair(&self, name: &str) {
        match self {
            Self::Sync(locks) => locks.lock(name).expect("granted").release().expect("freed"),
            Self::Postgres(raw) => {
                let raw = &mut *raw.lock().expect("no panic");
                for (statement, params) in raw.statements.iter().zip(&raw.params[name]) {
                    let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(any).collect();
                    assert_eq!(raw.client.query(statement, &params).expect("done").len(), 1);
                }
            }
            _ => unreachable!("it does not block"),
        }
    }

    /// Acquires a lock, and frees it after `hold`.
    pub(crate) async fn during(&self, name: &str, hold: impl Future<Output = ()>) {
        match self {
            Self::Raw(raw) => {
                raw.run(0, name).await;
                hold.await;
                raw.run(1, name).await;
            }
            Self::Ours(locks) => {
                let guard = locks.lock(name).await.expect("granted");
                hold.await;
                guard.release().await.expect("freed");
            }
            Self::Sqlx(pool, locks) => {
                let connection = pool.acquire().await.expect("a connection");
                let guard = locks[name].acquire(connection).await.expect("granted");
                hold.await;
                guard.release_now().await.expect("freed");
            }
            Self::Rslock(manager) => {
                let guard = manager.acquire(name, TTL).await.expect("granted");
                hold.await;
                guard.release().await;
            }
            Self::Etcd(etcd) => {
                let key = etcd.lock(name).await;
                hold.await;
                etcd.unlock(key).await;
            }
            Self::Postgres(_) | Self::Sync(_) => unreachable!("it blocks"),
        }
    }
}

impl Raw {
    fn connect(peer: Peer, setting: &Setting, names: &[String]) -> Self {
        let runtime = &setting.runtime;
        let url = with_settings(&setting.postgres);
        let connecting = tokio_postgres::connect(&url, tokio_postgres::NoTls);
        let (client, connection) = runtime.block_on(connecting).expect("connected");
        runtime.spawn(connection);
        let mut line = (runtime.handle().clone(), client);
        let ([acquire, release], params) = pairs(peer, &mut line, names);
        let (_, client) = line;
        let prepared = [client.prepare(&acquire), client.prepare(&release)];
        let statements = prepared.map(|text| runtime.block_on(text).expect("prepared"));
        Self { client, statements, params }
    }

    async fn run(&self, which: usize, name: &str) {
        let params: Vec<&(dyn ToSql + Sync)> = self.params[name][which].iter().map(any).collect();
        let rows = self.client.query(&self.statements[which], &params).await;
        assert_eq!(rows.expect("done").len(), 1);
    }
}

/// The texts of what acquires and frees a lock, and the parameters for each name.
fn pairs(
    peer: Peer,
    client: &mut dyn lock_tests::raw::Raw,
    names: &[String],
) -> ([String; 2], BTreeMap<String, [Vec<Value>; 2]>) {
    let pairs: Vec<[Statement; 2]> = if matches!(peer, Peer::RawTable | Peer::BlockingRawTable) {
        let codec = table::codec(TableName::new("bench_raw").expect("a good name"));
        names.iter().map(|name| rows(client, &codec, name)).collect()
    } else {
        let codec = advisory::postgres::codec(advisory::Key::default());
        let session = open(client, &codec, LONG, None).expect("fit for locks");
        let pair = if peer == Peer::QueuedRaw { queued_lock } else { advisory_lock };
        names.iter().map(|name| pair(&codec, &session, name)).collect()
    };
    let texts = pairs[0].each_ref().map(|statement| statement.text.to_string());
    let params = pairs.into_iter().map(|pair| pair.map(|statement| statement.params));
    (texts, names.iter().cloned().zip(params).collect())
}

/// A pool, with a connection for each lock that is held at a time.
async fn pool(url: &str, locks: usize, pings: bool) -> PgPool {
    let options: PgConnectOptions = url.parse().expect("a URL");
    let options = options.ssl_mode(PgSslMode::Disable);
    let pool = PgPoolOptions::new().max_connections(locks as u32).test_before_acquire(pings);
    pool.connect_with(options).await.expect("connected")
}

//! The table protocol, request by request, without a driver in between.

use crate::place::{Place, client, mysql_client, with_settings};
use crate::raw::Raw;
use lock_core::sql::{Codec, mysql, postgres, sqlite};
use lock_core::{
    Claim, Failure, Fence, Instant, LockName, Outcome, Owner, Reply, Request, SessionName,
    TableName, Turn,
};
use std::time::Duration;

/// A lock table, on a connection of the test's own.
pub struct Table<R> {
    /// The connection.
    pub client: R,
    /// The codec that makes the statements.
    pub codec: Codec,
    /// The place of the table.
    pub place: Place,
}

/// A lock table in any database.
pub type AnyTable = Table<Box<dyn Raw + Send>>;

impl AnyTable {
    /// The table at `place`, on a connection with the settings of the drivers' own.
    pub fn of(place: Place) -> Self {
        let table = TableName::new(place.table()).expect("good");
        let url = place.url();
        if let Some(path) = url.strip_prefix("sqlite:") {
            let connection = rusqlite::Connection::open(path).expect("opened");
            connection.busy_timeout(Duration::from_secs(60)).expect("set");
            return Self::new(Box::new(connection), sqlite::codec(table, "boot"), place);
        }
        if url.starts_with("postgres") {
            let client = client(&with_settings(url));
            return Self::new(Box::new(client), postgres::codec(table), place);
        }
        Self::new(Box::new(mysql_client(url)), mysql::codec(table), place)
    }

    /// The same table on another connection.
    #[must_use]
    pub fn other(&self) -> Self {
        Self::of(self.place.through(self.place.url()))
    }

    /// The statement that pins a lock in this table, as text.
    pub fn pin(&self, name: &str, fence: Fence) -> String {
        let pin = self.codec.pin(&LockName::new(name).expect("good"), fence);
        pin.inline().to_string()
    }
}

impl<R: Raw> Table<R> {
    /// The table at `place` that `codec` names. Creates it if it is missing.
    pub fn new(mut client: R, codec: Codec, place: Place) -> Self {
        client.set_up(&codec).expect("fit for locks");
        Self { client, codec, place }
    }

    /// Carries out a request.
    ///
    /// # Errors
    /// The first failure of a statement, or what the core says of the rows.
    pub fn try_ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        self.client.ask(&self.codec, request, Instant::from_nanos(0))
    }

    /// Claims `names`.
    pub fn acquire(&mut self, names: &[&str], owner: u128, ttl: Duration) -> Vec<Outcome> {
        let claims = claims(names, owner);
        let holder = format!("holder {owner}").into();
        match self
            .try_ask(&Request::Acquire {
                session: SessionName::default(),
                claims,
                ttl,
                min_uptime: Duration::ZERO,
                label: holder,
            })
            .expect("it is asked")
        {
            Reply::Outcomes(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Claims one name. Returns its fence if it was granted.
    pub fn granted(&mut self, name: &str, owner: u128, ttl: Duration) -> Option<Fence> {
        match self.acquire(&[name], owner, ttl)[..] {
            [Outcome::Granted(fence)] => Some(fence),
            [Outcome::Busy(_)] => None,
            _ => panic!("one claim, one entry"),
        }
    }

    /// Ends the lease of a name, as time would. So no test races the server's clock.
    pub fn expire(&self, name: &str) {
        let past = if self.place.url().starts_with('p') {
            "expires_at = clock_timestamp() - interval '1 ms'"
        } else {
            "expires_us = 1"
        };
        self.place.tamper(&format!("UPDATE {{table}} SET {past} WHERE name = '{name}'"));
    }

    /// Renews leases.
    pub fn renew(&mut self, names: &[&str], owner: u128, ttl: Duration) -> Vec<bool> {
        match self.try_ask(&Request::Renew { claims: claims(names, owner), ttl }) {
            Ok(Reply::Outcomes(entries)) => {
                entries.iter().map(|entry| *entry == Outcome::Done).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Releases leases.
    pub fn release(&mut self, names: &[&str], owner: u128) -> Vec<bool> {
        self.freed(names, owner).iter().map(|freed| *freed != Outcome::NotOwner).collect()
    }

    /// Releases leases. Says of each whether someone waits for it.
    pub fn freed(&mut self, names: &[&str], owner: u128) -> Vec<Outcome> {
        match self.try_ask(&Request::Release {
            passed_over: None,
            session: SessionName::default(),
            claims: claims(names, owner),
        }) {
            Ok(Reply::Outcomes(entries)) => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Looks at names. Says of each whether someone else holds it.
    pub fn looks(&mut self, names: &[&str], owner: u128) -> Vec<bool> {
        self.sees(names, owner, Turn::Any)
            .iter()
            .map(|seen| !matches!(seen, Outcome::Free))
            .collect()
    }

    /// Waits for names without a ticket, or with this one. Its place for each that is not free for it.
    pub fn waits(
        &mut self,
        names: &[&str],
        owner: u128,
        ticket: Option<u64>,
    ) -> Vec<Option<lock_core::Place>> {
        self.sees(names, owner, Turn::Of(ticket))
            .iter()
            .map(|seen| match seen {
                Outcome::Free => None,
                Outcome::Busy(Some(holder)) => holder.place,
                Outcome::Reserved(place) => Some(*place),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Looks at names, as one whose turn it is then.
    pub fn sees(&mut self, names: &[&str], owner: u128, turn: Turn) -> Vec<Outcome> {
        let claims = claims(names, owner).into_iter().map(|claim| Claim { turn, ..claim });
        match self.try_ask(&Request::Probe { claims: claims.collect() }) {
            Ok(Reply::Outcomes(entries)) => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Tries to acquire a lock in its turn.
    pub fn in_turn(&mut self, name: &str, owner: u128, ticket: Option<u64>) -> Outcome {
        let claims = claims(&[name], owner).into_iter();
        let claims = claims.map(|claim| Claim { turn: Turn::Of(ticket), ..claim });
        let request = Request::Acquire {
            session: SessionName::default(),
            claims: claims.collect(),
            ttl: Duration::from_secs(60),
            min_uptime: Duration::ZERO,
            label: "in turn".into(),
        };
        match self.try_ask(&request) {
            Ok(Reply::Outcomes(entries)) => entries.into_iter().next().expect("one"),
            other => panic!("{other:?}"),
        }
    }
}

/// Claims of `names` by one owner.
pub fn claims(names: &[&str], owner: u128) -> Vec<Claim> {
    let claim = |name: &&str| Claim::new(LockName::new(name).expect("good"), Owner::new(owner));
    names.iter().map(claim).collect()
}

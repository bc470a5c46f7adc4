//! PostgreSQL: a primary and a standby.

use lock_sync::{Error, LostReason, Refusal};
use lock_tests::drivers::{Driven, Driver, Guard, connect};
use lock_tests::fail_over::{Cluster, kills, run};
use lock_tests::place::{Place, client};
use lock_tests::proxy::{Mode, Proxy, server_of};
use lock_tests::servers::Server;
use lock_tests::withlock::eventually;
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(5);
/// Longer than a promotion takes on a busy machine.
const LONG: Duration = Duration::from_secs(15);

/// A primary, and a standby that streams from it through a proxy.
struct Pair {
    servers: [Server; 2],
    primary: usize,
    synchronous: bool,
    proxy: Proxy,
}

impl Pair {
    fn new(synchronous: bool) -> Self {
        let primary = Server::postgres();
        let proxy = Proxy::start(&server_of(primary.url()));
        let standby = Server::following("postgres", &server_of(&proxy.url(primary.url())), &[]);
        let pair = Self { servers: [primary, standby], primary: 0, synchronous, proxy };
        pair.joined();
        pair
    }

    fn primary(&self) -> &Server {
        &self.servers[self.primary]
    }

    fn standby(&self) -> &Server {
        &self.servers[1 - self.primary]
    }

    /// Waits until the standby streams. Then, if it is to be synchronous, commits wait for it.
    fn joined(&self) {
        let mut primary = client(self.primary().url());
        if self.synchronous {
            let set = "ALTER SYSTEM SET synchronous_standby_names = '*'";
            primary.batch_execute(set).expect("set");
            primary.batch_execute("SELECT pg_reload_conf()").expect("reloaded");
        }
        let state = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND (sync_state = 'sync') = $1";
        eventually("a standby", || {
            primary.query_one(state, &[&self.synchronous]).expect("asked").get::<_, i64>(0) == 1
        });
        // Commits wait once the checkpointer knows the setting, which it reads before it does this.
        primary.batch_execute("CHECKPOINT").expect("done");
    }
}

impl Cluster for Pair {
    fn place(&self) -> Place {
        let [one, two] = [0, 1].map(|at| server_of(self.servers[at].url()));
        // The first in the URL is the standby.
        let url = self.servers[0].url().replace(&one, &format!("{two},{one}"));
        Place::at(&format!("{url}?target_session_attrs=primary"))
    }

    fn part(&mut self) {
        if !self.synchronous {
            self.proxy.set(Mode::Hole);
        }
    }

    fn kill(&mut self) {
        self.primary().kill();
    }

    fn promote(&mut self) {
        self.proxy.cut(false);
        client(self.standby().url()).batch_execute("SELECT pg_promote()").expect("promoted");
        self.primary = 1 - self.primary;
    }

    fn repair(&mut self) {
        self.proxy = Proxy::start(&server_of(self.primary().url()));
        let through = server_of(&self.proxy.url(self.primary().url()));
        self.servers[1 - self.primary].follow(&through);
        self.joined();
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_synchronous_standby_keeps_every_lock() {
    let report = run(&mut Pair::new(true), TTL, kills(2));
    println!("PostgreSQL, synchronous: {report}");
    assert_eq!((report.overlaps, report.fallen, report.forgotten), (0, 0, 0));
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn an_asynchronous_standby_forgets_locks_and_the_fence_shows_it() {
    let report = run(&mut Pair::new(false), TTL, kills(1));
    println!("PostgreSQL, asynchronous: {report}");
    assert_eq!((report.fallen, report.hidden), (0, 0));
    assert!(report.forgotten > 0, "the standby lacks the last commits");
}

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_primary_that_turns_read_only_is_left_at_once() {
    let mut pair = Pair::new(true);
    let all = DRIVERS.map(|driver| Driven::new(driver, pair.place()).locks(LONG));
    let guards = all.each_ref().map(|locks| locks.lock(&format!("{:p}", locks)).expect("taken"));
    let mut old = client(pair.primary().url());
    let read_only = "ALTER SYSTEM SET default_transaction_read_only = on";
    old.batch_execute(read_only).expect("set");
    old.batch_execute("SELECT pg_reload_conf()").expect("reloaded");
    pair.promote();
    for locks in &all {
        let began = Instant::now();
        locks.lock("a").expect("at the new primary").release().expect("released");
        assert!(began.elapsed() < LONG / 4, "{:?}", began.elapsed());
    }
    std::thread::sleep(LONG / 2);
    let lost = guards.each_ref().map(Guard::lost_reason);
    assert_eq!(lost, [None, None], "they are renewed there");
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn advisory_locks_end_with_the_primary_and_their_holders_are_told() {
    let mut pair = Pair::new(false);
    let [primary, standby] = [pair.primary(), pair.standby()].map(|one| server_of(one.url()));
    let url = format!(
        "postgres://postgres@{standby},{primary}/postgres?protocol=advisory&ttl=5s&longest_ttl=5s"
    );
    let all = DRIVERS.map(|driver| (format!("{driver:?}"), connect(driver, &url).expect("both")));
    let guards = all.each_ref().map(|(name, locks)| locks.lock(name).expect("taken"));
    pair.kill();
    for guard in &guards {
        let lost = guard.wait_lost(TTL);
        assert!(matches!(lost, Some(LostReason::Disconnected { .. })), "{lost:?}");
    }
    pair.promote();
    for (name, locks) in &all {
        let again = locks.try_lock_for(name, LONG * 2).expect("at the new primary");
        assert!(again.is_some_and(|again| again.is_held()));
    }
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn standbys_alone_are_no_place_for_locks() {
    let pair = Pair::new(false);
    let [primary, standby] = [pair.primary(), pair.standby()].map(|one| server_of(one.url()));
    for driver in DRIVERS {
        let open = |hosts: &str| connect(driver, &format!("postgres://postgres@{hosts}/postgres"));
        assert_eq!(open(&standby).err(), Some(Error::UnsafeServer(Refusal::Standby)));
        let told = open(&format!("{standby},127.0.0.1:1")).err();
        // It may be promoted, and the other may come back.
        let Some(Error::Unavailable(told)) = told else { panic!("{told:?}") };
        let begins = format!(
            "none of the hosts can be used: {standby}: it takes no writes: it is a standby, or its transactions are read-only; 127.0.0.1:1: "
        );
        assert!(told.starts_with(&begins), "{told}");
        open(&format!("127.0.0.1:1,{standby},{primary}")).expect("by the third");
    }
}

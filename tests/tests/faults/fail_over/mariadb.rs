//! MariaDB: a primary and a semi-synchronous replica.

use lock_sync::Error;
use lock_tests::drivers::{Driven, Driver, Guard, connect};
use lock_tests::fail_over::{Cluster, kills, run};
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::server_of;
use lock_tests::servers::Server;
use lock_tests::withlock::eventually;
use mysql::prelude::Queryable;
use mysql::{Row, Value};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(5);
/// Longer than a promotion takes on a busy machine.
const LONG: Duration = Duration::from_secs(15);

/// A primary and its replica. A commit is answered once the replica has it.
struct Pair {
    servers: [Server; 2],
    primary: usize,
}

/// A replica logs what it applies, so that it can be followed in its turn.
const OPTIONS: [(&str, &str); 1] = [(
    "LOCK_SERVERS_MYSQLD",
    "--log-bin=bin --log-slave-updates --sync-binlog=1 --rpl-semi-sync-slave-enabled=1 --rpl-semi-sync-master-wait-point=AFTER_SYNC --rpl-semi-sync-master-timeout=3600000",
)];

impl Pair {
    fn new() -> Self {
        let primary = Server::with("mariadb", &OPTIONS);
        let replica = Server::following("mariadb", &server_of(primary.url()), &OPTIONS);
        let pair = Self { servers: [primary, replica], primary: 0 };
        pair.joined();
        pair
    }

    fn primary(&self) -> &Server {
        &self.servers[self.primary]
    }

    fn replica(&self) -> &Server {
        &self.servers[1 - self.primary]
    }

    /// Waits until the replica has everything, and makes commits wait for it.
    fn joined(&self) {
        let mut primary = mysql_client(self.primary().url());
        primary.query_drop("SET GLOBAL rpl_semi_sync_master_enabled = 1").expect("set");
        eventually("a replica", || {
            let clients: Option<(String, u64)> = primary
                .query_first("SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'")
                .expect("asked");
            clients.is_some_and(|(_, clients)| clients == 1)
        });
        let at: String =
            primary.query_first("SELECT @@gtid_binlog_pos").expect("asked").expect("a row");
        let wait = format!("SELECT MASTER_GTID_WAIT('{at}', 60)");
        let waited: Option<i64> =
            mysql_client(self.replica().url()).query_first(wait).expect("asked");
        assert_eq!(waited, Some(0), "the replica has it");
    }

    fn url(&self) -> String {
        let [one, two] = [0, 1].map(|at| server_of(self.servers[at].url()));
        // The first in the URL is the replica.
        let url = self.servers[0].url().replacen("root:hunter2", "app:secret", 1);
        url.replace(&one, &format!("{two},{one}"))
    }
}

impl Cluster for Pair {
    fn place(&self) -> Place {
        Place::at(&self.url())
    }

    fn kill(&mut self) {
        self.primary().kill();
    }

    fn promote(&mut self) {
        let mut replica = mysql_client(self.replica().url());
        replica.query_drop("STOP SLAVE IO_THREAD").expect("stopped");
        eventually("all that it got is applied", || {
            let row: Row = replica.query_first("SHOW SLAVE STATUS").expect("asked").expect("a row");
            let text = |name: &str| match row.get::<Value, _>(name) {
                Some(Value::Bytes(bytes)) => String::from_utf8(bytes).expect("text"),
                other => panic!("{name}: {other:?}"),
            };
            let applied: String =
                replica.query_first("SELECT @@gtid_slave_pos").expect("asked").expect("a row");
            applied == text("Gtid_IO_Pos")
        });
        replica.query_drop("STOP SLAVE").expect("stopped");
        replica.query_drop("RESET SLAVE ALL").expect("forgotten");
        replica.query_drop("SET GLOBAL read_only = 0").expect("set");
        self.primary = 1 - self.primary;
    }

    fn repair(&mut self) {
        let primary = server_of(self.primary().url());
        self.servers[1 - self.primary].follow(&primary);
        self.joined();
    }
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_semi_synchronous_replica_keeps_every_lock() {
    let report = run(&mut Pair::new(), TTL, kills(1));
    println!("MariaDB, semi-synchronous: {report}");
    assert_eq!((report.overlaps, report.fallen, report.forgotten), (0, 0, 0));
}

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_primary_that_turns_read_only_is_left_at_once() {
    let mut pair = Pair::new();
    let url = pair.url();
    let all = DRIVERS.map(|driver| Driven::new(driver, pair.place()).locks(LONG));
    let guards = all.each_ref().map(|locks| locks.lock(&format!("{locks:p}")).expect("taken"));
    mysql_client(pair.primary().url()).query_drop("SET GLOBAL read_only = 1").expect("set");
    for driver in DRIVERS {
        let told = connect(driver, &url).err();
        let Some(Error::Unavailable(told)) = told else { panic!("{told:?}") };
        assert!(told.ends_with("it takes no writes: it is a replica, or read-only"), "{told}");
    }
    pair.promote();
    for locks in &all {
        let began = Instant::now();
        locks.lock("a").expect("at the new primary").release().expect("released");
        assert!(began.elapsed() < LONG / 4, "{:?}", began.elapsed());
    }
    std::thread::sleep(LONG / 2);
    let lost = guards.each_ref().map(Guard::lost);
    assert_eq!(lost, [None, None], "they are renewed there");
}

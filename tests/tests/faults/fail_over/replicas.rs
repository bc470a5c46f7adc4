//! MySQL and MariaDB: a primary and a semi-synchronous replica.

use ::mysql::Row;
use ::mysql::prelude::Queryable;
use lock_sync::Error;
use lock_tests::drivers::{Driven, Driver, Guard, connect};
use lock_tests::fail_over::{Cluster, kills, run};
use lock_tests::place::{Place, mysql_client};
use lock_tests::proxy::server_of;
use lock_tests::servers::Server;
use lock_tests::withlock::eventually;
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(5);
/// Longer than a promotion takes on a busy machine.
const LONG: Duration = Duration::from_secs(15);

/// A primary and its replica. A commit is answered once the replica has it.
struct Pair {
    servers: [Server; 2],
    primary: usize,
    words: &'static Words,
}

/// How a server is told what both can do.
struct Words {
    name: &'static str,
    /// A replica logs what it applies, so that it can be followed in its turn.
    options: [(&'static str, &'static str); 1],
    semi_synchronous: &'static str,
    clients: &'static str,
    logged: &'static str,
    /// Waits until all of `{}` is applied; 0.
    wait: &'static str,
    stop_receiving: &'static str,
    /// The row that says what was received, and its column.
    received: (&'static str, &'static str),
    promote: &'static [&'static str],
}

const MARIADB: Words = Words {
    name: "mariadb",
    options: [(
        "LOCK_SERVERS_MYSQLD",
        "--log-bin=bin --log-slave-updates --sync-binlog=1 --rpl-semi-sync-slave-enabled=1 --rpl-semi-sync-master-wait-point=AFTER_SYNC --rpl-semi-sync-master-timeout=3600000",
    )],
    semi_synchronous: "SET GLOBAL rpl_semi_sync_master_enabled = 1",
    clients: "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'",
    logged: "SELECT @@gtid_binlog_pos",
    wait: "SELECT MASTER_GTID_WAIT('{}', 60)",
    stop_receiving: "STOP SLAVE IO_THREAD",
    received: ("SHOW SLAVE STATUS", "Gtid_IO_Pos"),
    promote: &["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"],
};

const MYSQL: Words = Words {
    name: "mysql",
    options: [(
        "LOCK_SERVERS_MYSQLD",
        "--log-bin=bin --sync-binlog=1 --gtid-mode=ON --enforce-gtid-consistency=ON --plugin-load-add=semisync_source.so --plugin-load-add=semisync_replica.so --loose-rpl-semi-sync-replica-enabled=1 --loose-rpl-semi-sync-source-timeout=3600000",
    )],
    semi_synchronous: "SET GLOBAL rpl_semi_sync_source_enabled = 1",
    clients: "SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'",
    logged: "SELECT @@GLOBAL.gtid_executed",
    wait: "SELECT WAIT_FOR_EXECUTED_GTID_SET('{}', 60)",
    stop_receiving: "STOP REPLICA IO_THREAD",
    received: ("SHOW REPLICA STATUS", "Retrieved_Gtid_Set"),
    promote: &[
        "STOP REPLICA",
        "RESET REPLICA ALL",
        "SET GLOBAL super_read_only = 0",
        "SET GLOBAL read_only = 0",
    ],
};

impl Pair {
    fn new(words: &'static Words) -> Self {
        let primary = Server::with(words.name, &words.options);
        let replica = Server::following(words.name, &server_of(primary.url()), &words.options);
        let pair = Self { servers: [primary, replica], primary: 0, words };
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
        primary.query_drop(self.words.semi_synchronous).expect("set");
        eventually("a replica", || {
            let clients: Option<(String, u64)> =
                primary.query_first(self.words.clients).expect("asked");
            clients.is_some_and(|(_, clients)| clients == 1)
        });
        let logged: String = primary.query_first(self.words.logged).expect("asked").expect("a row");
        // The replica begins with the first transaction of all, which takes long if each is flushed.
        let mut replica = mysql_client(self.replica().url());
        let flush = |client: &mut ::mysql::Conn, flush: u8| {
            let set = format!(
                "SET GLOBAL sync_binlog = {flush}, GLOBAL innodb_flush_log_at_trx_commit = {flush}"
            );
            client.query_drop(set).expect("set");
        };
        flush(&mut replica, 0);
        self.applied(&logged);
        flush(&mut replica, 1);
    }

    /// Waits until the replica has applied these transactions.
    fn applied(&self, transactions: &str) {
        let wait = self.words.wait.replace("{}", transactions);
        let waited = mysql_client(self.replica().url()).query_first::<i64, _>(wait);
        assert_eq!(waited.expect("asked"), Some(0), "{transactions}");
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
        replica.query_drop(self.words.stop_receiving).expect("stopped");
        let (status, column) = self.words.received;
        let row: Row = replica.query_first(status).expect("asked").expect("a row");
        let received: String = row.get(column).expect("a text");
        self.applied(&received);
        for statement in self.words.promote {
            replica.query_drop(statement).expect("promoted");
        }
        self.primary = 1 - self.primary;
    }

    fn repair(&mut self) {
        let primary = server_of(self.primary().url());
        self.servers[1 - self.primary].follow(&primary);
        self.joined();
    }
}

fn a_semi_synchronous_replica_keeps_every_lock(words: &'static Words) {
    let report = run(&mut Pair::new(words), TTL, kills(1));
    println!("{}, semi-synchronous: {report}", words.name);
    assert_eq!((report.overlaps, report.fallen, report.forgotten), (0, 0, 0));
}

const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

fn a_primary_that_turns_read_only_is_left_at_once(words: &'static Words) {
    let mut pair = Pair::new(words);
    let url = pair.url();
    let all = DRIVERS.map(|driver| Driven::new(driver, pair.place()).locks(LONG));
    let guards = all.each_ref().map(|locks| locks.lock(&format!("{locks:p}")).expect("taken"));
    mysql_client(pair.primary().url()).query_drop("SET GLOBAL read_only = 1").expect("set");
    for driver in DRIVERS {
        let told = connect(driver, &url).err();
        let Some(Error::Unavailable(told)) = told else { panic!("{told:?}") };
        assert!(told.contains("it takes no writes: it is a replica, read-only, or"), "{told}");
    }
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

mod mysql {
    #[test]
    #[ignore = "needs a MySQL server: tests/run starts one"]
    fn a_semi_synchronous_replica_keeps_every_lock() {
        super::a_semi_synchronous_replica_keeps_every_lock(&super::MYSQL);
    }

    #[test]
    #[ignore = "needs a MySQL server: tests/run starts one"]
    fn a_primary_that_turns_read_only_is_left_at_once() {
        super::a_primary_that_turns_read_only_is_left_at_once(&super::MYSQL);
    }
}

mod mariadb {
    #[test]
    #[ignore = "needs a MariaDB server: tests/run starts one"]
    fn a_semi_synchronous_replica_keeps_every_lock() {
        super::a_semi_synchronous_replica_keeps_every_lock(&super::MARIADB);
    }

    #[test]
    #[ignore = "needs a MariaDB server: tests/run starts one"]
    fn a_primary_that_turns_read_only_is_left_at_once() {
        super::a_primary_that_turns_read_only_is_left_at_once(&super::MARIADB);
    }
}

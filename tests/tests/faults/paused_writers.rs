//! Holders that are paused in the middle of a transaction for longer than their lease, while others wait for the lock: a
//! pin keeps their writes in the order of their fences, and a check before the write does not.
//!
//! `LOCK_TEST_PINS=10000` runs so many transactions of each kind on each server.

use lock_core::{Fence, Outcome, Request, SessionName};
use lock_core::{Instant as Moment, Reply};
use lock_tests::place::Place;
use lock_tests::raw::Raw;
use lock_tests::table::{AnyTable, claims};
use lock_tests::user::User;
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The shortest lease with which some transactions end in time. A lease of the drivers lasts a second at least.
const TTL: Duration = Duration::from_millis(20);
/// Locks, each with data of its own.
const LANES: usize = 8;
/// Writers that contend for each.
const WRITERS: usize = 3;

/// How a writer makes sure that the lock is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Pin,
    /// It reads the fence in its lock's row, and then writes.
    Check,
}

/// Where each lane has its locks and its data.
struct Lane {
    place: Place,
    by: By,
    /// Transactions that are still to begin, in all lanes.
    left: &'static AtomicUsize,
    counts: Counts,
}

/// Transactions.
#[derive(Default)]
struct Counts {
    committed: AtomicU64,
    /// Committed after the lease had ended.
    late: AtomicU64,
    /// Rolled back, because the lock was lost.
    lost: AtomicU64,
    /// Ended by the server: a deadlock, say.
    failed: AtomicU64,
}

#[derive(Default)]
struct Report {
    committed: u64,
    late: u64,
    lost: u64,
    failed: u64,
    /// Committed writes of a holder after a write of a later one.
    wrong: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { committed, late, lost, failed, wrong } = self;
        write!(
            f,
            "{committed} committed, {late} of them after their lease had ended; {lost} rolled back as lost, {failed} by the server; {wrong} wrote after a later holder"
        )
    }
}

fn now() -> Moment {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Moment::from_nanos(1 + u64::try_from(BEGAN.elapsed().as_nanos()).expect("no century"))
}

/// A few numbers, the same at each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// Most pauses are short, and some are much longer than a lease.
    fn pause(&mut self) {
        let longest = if self.below(3) == 0 { 60_000 } else { 4_000 };
        std::thread::sleep(Duration::from_micros(self.below(longest)));
    }
}

impl Lane {
    /// Claims the lock until it is granted.
    fn acquire(table: &mut AnyTable, owner: u128, dice: &mut Dice) -> Fence {
        loop {
            let request = Request::Acquire {
                session: SessionName::default(),
                claims: claims(&["a"], owner),
                ttl: TTL,
                min_uptime: Duration::ZERO,
                label: "h".into(),
            };
            match table.client.ask(&table.codec, &request, now()) {
                Ok(Reply::Outcomes(told)) if matches!(told[..], [Outcome::Granted(_)]) => {
                    if let [Outcome::Granted(fence)] = told[..] {
                        return fence;
                    }
                }
                // Another has it, or a deadlock was resolved.
                _ => std::thread::sleep(Duration::from_micros(500 + dice.below(3_000))),
            }
        }
    }

    /// One transaction. False if the lock is lost.
    fn write(
        &self,
        table: &AnyTable,
        user: &mut User,
        fence: Fence,
        dice: &mut Dice,
    ) -> Result<bool, String> {
        let file = matches!(user, User::Sqlite(_));
        let check = match self.by {
            By::Pin => table.pin("a", fence),
            By::Check => format!(
                "SELECT fence FROM {} WHERE name = 'a' AND fence = {fence} AND owner IS NOT NULL",
                self.place.table()
            ),
        };
        // In a file, a transaction that has checked would keep others from claiming the lock.
        let begins_late = file && self.by == By::Check;
        if !begins_late {
            user.run("BEGIN")?;
        }
        if user.run(&check)?.is_empty() {
            if !begins_late {
                user.run("ROLLBACK")?;
            }
            return Ok(false);
        }
        dice.pause();
        if begins_late {
            user.begin();
        }
        let data = format!("{}_data", self.place.table());
        // The later holder's fence is there if it has written before.
        user.run(&format!(
            "UPDATE {data} SET wrong = wrong + CASE WHEN fence > {fence} THEN 1 ELSE 0 END, \
             fence = CASE WHEN fence > {fence} THEN fence ELSE {fence} END"
        ))?;
        dice.pause();
        user.run("COMMIT")?;
        Ok(true)
    }

    fn run(&self, writer: u64) {
        let mut table = AnyTable::of(self.place.through(self.place.url()));
        let mut user = User::of(&self.place);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (writer << 32));
        let counts = &self.counts;
        let take = |left: usize| left.checked_sub(1);
        let mut owner = u128::from(writer) << 64;
        while self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            owner += 1;
            let began = Instant::now();
            let fence = Self::acquire(&mut table, owner, &mut dice);
            let granted = Instant::now();
            assert!(granted >= began);
            let count = match self.write(&table, &mut user, fence, &mut dice) {
                Ok(true) => {
                    if granted.elapsed() > TTL {
                        counts.late.fetch_add(1, Ordering::SeqCst);
                    }
                    &counts.committed
                }
                Ok(false) => &counts.lost,
                Err(_) => {
                    let _ = user.run("ROLLBACK");
                    &counts.failed
                }
            };
            count.fetch_add(1, Ordering::SeqCst);
            if dice.below(2) == 0 {
                table.release(&["a"], owner);
            }
        }
    }
}

fn transactions() -> usize {
    let wanted = std::env::var("LOCK_TEST_PINS");
    wanted.map_or(300, |number| number.parse().expect("a number"))
}

fn all(place: fn() -> Place, by: By) -> Report {
    let left: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(transactions())));
    let lane = |_| {
        let lane = Lane { place: place(), by, left, counts: Counts::default() };
        drop(AnyTable::of(lane.place.through(lane.place.url())));
        lane.place.tamper("CREATE TABLE {table}_data (fence BIGINT, wrong BIGINT)");
        lane.place.tamper("INSERT INTO {table}_data VALUES (0, 0)");
        lane
    };
    let lanes: Vec<Lane> = (0..LANES).map(lane).collect();
    std::thread::scope(|scope| {
        for (at, lane) in lanes.iter().enumerate() {
            for writer in 0..WRITERS {
                scope.spawn(move || lane.run((at * WRITERS + writer + 1) as u64));
            }
        }
    });
    let mut report = Report::default();
    for lane in &lanes {
        let counted = |count: &AtomicU64| count.load(Ordering::SeqCst);
        report.committed += counted(&lane.counts.committed);
        report.late += counted(&lane.counts.late);
        report.lost += counted(&lane.counts.lost);
        report.failed += counted(&lane.counts.failed);
        let wrong = format!("SELECT wrong FROM {}_data", lane.place.table());
        report.wrong += User::of(&lane.place).does(&wrong)[0] as u64;
        lane.place.tamper("DROP TABLE {table}_data");
    }
    report
}

fn a_pin_keeps_the_order_and_a_check_does_not(place: fn() -> Place) {
    let pinned = all(place, By::Pin);
    println!("pinned:  {pinned}");
    let checked = all(place, By::Check);
    println!("checked: {checked}");
    assert_eq!(pinned.wrong, 0, "{pinned}");
    assert!(pinned.late > pinned.committed / 20, "{pinned}");
    assert!(checked.wrong > 0, "{checked}");
}

#[test]
fn a_pin_keeps_the_order_in_a_file() {
    a_pin_keeps_the_order_and_a_check_does_not(Place::sqlite);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_pin_keeps_the_order_on_postgres() {
    a_pin_keeps_the_order_and_a_check_does_not(Place::postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_pin_keeps_the_order_on_mysql() {
    a_pin_keeps_the_order_and_a_check_does_not(Place::mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_pin_keeps_the_order_on_mariadb() {
    a_pin_keeps_the_order_and_a_check_does_not(Place::mariadb);
}

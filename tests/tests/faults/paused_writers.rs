//! Holders that are stopped in the middle of a transaction for longer than their lease, while others wait for the lock: a
//! pin keeps their writes in the order of their fences, and a check before the write does not.
//!
//! Each holder is a process. The trial stops it by SIGSTOP, after the check or after the write, and lets it go on later.
//! `LOCK_TEST_PINS=10000` runs so many transactions of each kind on each server.

mod holder;

use holder::Writer;
use lock_tests::place::Place;
use lock_tests::table::AnyTable;
use lock_tests::user::User;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

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
    /// The test that starts its writers.
    test: &'static str,
    place: Place,
    by: By,
    /// Transactions that are still to begin, in all lanes.
    left: &'static AtomicUsize,
    counts: Counts,
}

/// Transactions.
#[derive(Default)]
struct Counts {
    /// In which the holder was stopped for longer than its lease.
    stopped: AtomicU64,
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
    stopped: u64,
    committed: u64,
    late: u64,
    lost: u64,
    failed: u64,
    /// Committed writes of a holder after a write of a later one.
    wrong: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stopped, committed, late, lost, failed, wrong } = self;
        write!(
            f,
            "{stopped} stopped for longer than their lease; {committed} committed, {late} of them after their lease had ended; {lost} rolled back as lost, {failed} by the server; {wrong} wrote after a later holder"
        )
    }
}

/// A few numbers, the same at each run.
struct Dice(u64);

impl Dice {
    fn of(writer: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (writer << 32))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pause(&mut self, longest: Duration) -> Duration {
        let pause = Duration::from_micros(self.below(longest.as_micros() as u64));
        std::thread::sleep(pause);
        pause
    }
}

/// A writer's process. It is killed with the trial.
struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn start(lane: &Lane, number: u64) -> Self {
        let this = std::env::current_exe().expect("known");
        let test = format!("paused_writers::{}", lane.test);
        let writer = Writer { place: lane.place.through(lane.place.url()), by: lane.by, number };
        let mut child = Command::new(this)
            .args(["--exact", &test, "--include-ignored", "--test-threads=1", "--nocapture"])
            .env(holder::WRITER, writer.to_text())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { input: child.stdin.take(), child, output }
    }

    /// Its next words.
    fn says(&mut self) -> String {
        loop {
            let line = self.output.next().expect("it goes on").expect("text");
            if let Some((_, word)) = line.split_once(holder::SAYS) {
                return word.to_string();
            }
        }
    }

    fn goes_on(&mut self) {
        writeln!(self.input.as_mut().expect("open"), "on").expect("it listens");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    /// Is stopped from here on, and would go on at once if it were not. Returns for how long.
    fn is_stopped(&mut self, dice: &mut Dice) -> Duration {
        self.signal(Signal::STOP);
        self.goes_on();
        let stopped = dice.pause(TTL * 3);
        self.signal(Signal::CONT);
        stopped
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.input = None;
        if std::thread::panicking() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Lane {
    fn run(&self, number: u64) {
        let mut holder = Holder::start(self, number);
        let mut dice = Dice::of(number);
        let counts = &self.counts;
        let add = |count: &AtomicU64| count.fetch_add(1, Ordering::SeqCst);
        let take = |left: usize| left.checked_sub(1);
        while self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            holder.goes_on();
            let mut longest = Duration::ZERO;
            loop {
                match holder.says().as_str() {
                    "gate" if dice.below(2) == 0 => {
                        longest = longest.max(holder.is_stopped(&mut dice));
                        continue;
                    }
                    "gate" => {
                        holder.goes_on();
                        continue;
                    }
                    "committed" => add(&counts.committed),
                    "late" => {
                        add(&counts.late);
                        add(&counts.committed)
                    }
                    "lost" => add(&counts.lost),
                    "failed" => add(&counts.failed),
                    other => panic!("{other}"),
                };
                break;
            }
            if longest > TTL {
                add(&counts.stopped);
            }
        }
    }
}

fn transactions() -> usize {
    let wanted = std::env::var("LOCK_TEST_PINS");
    wanted.map_or(300, |number| number.parse().expect("a number"))
}

fn all(test: &'static str, place: fn() -> Place, by: By) -> Report {
    let left: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(transactions())));
    let lane = |_| {
        let lane = Lane { test, place: place(), by, left, counts: Counts::default() };
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
        report.stopped += counted(&lane.counts.stopped);
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

/// `test` is the test's own name: its process runs it again as each of the holders.
fn a_pin_keeps_the_order_and_a_check_does_not(test: &'static str, place: fn() -> Place) {
    if let Some(writer) = Writer::of_this_process() {
        return writer.run();
    }
    let pinned = all(test, place, By::Pin);
    println!("pinned:  {pinned}");
    let checked = all(test, place, By::Check);
    println!("checked: {checked}");
    assert_eq!(pinned.wrong, 0, "{pinned}");
    // That what is to be seen did happen. How often depends on the machine: a busy one loses most locks before the write.
    assert!(pinned.stopped > 0 && pinned.late > 0, "{pinned}");
    assert!(checked.wrong > 0, "{checked}");
}

#[test]
fn a_pin_keeps_the_order_in_a_file() {
    a_pin_keeps_the_order_and_a_check_does_not("a_pin_keeps_the_order_in_a_file", Place::sqlite);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn a_pin_keeps_the_order_on_postgres() {
    let test = "a_pin_keeps_the_order_on_postgres";
    a_pin_keeps_the_order_and_a_check_does_not(test, Place::postgres);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_pin_keeps_the_order_on_mysql() {
    a_pin_keeps_the_order_and_a_check_does_not("a_pin_keeps_the_order_on_mysql", Place::mysql);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn a_pin_keeps_the_order_on_mariadb() {
    a_pin_keeps_the_order_and_a_check_does_not("a_pin_keeps_the_order_on_mariadb", Place::mariadb);
}

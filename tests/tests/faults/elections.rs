//! Elections whose leader is killed, stopped or cut off again and again: there are never two terms at once, terms rise, and
//! somebody leads again.
//!
//! `LOCK_TEST_KILLS=200` does so as often in each test. `RUST_TEST_NOCAPTURE=1` shows the time to the next leader.

mod member;
mod record;

use lock_tests::fail_over::kills;
use lock_tests::place::{Keeps, Place};
use lock_tests::proxy::{Mode, Proxy, server_of};
use lock_tests::withlock::eventually;
use member::{Kind, Member};
use record::{Record, now};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Child;
use std::time::Duration;

const KINDS: [Kind; 4] = [Kind::Blocking, Kind::Tokio, Kind::Withlock, Kind::Blocking];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// `kill -9`. It is started again.
    Killed,
    /// `kill -STOP` until the next term, then `kill -CONT`.
    Stopped,
    /// Its network swallows everything until the next term.
    CutOff,
}

/// A member, and what is done to it.
struct Running {
    member: Member,
    process: Child,
    proxy: Option<Proxy>,
    test: &'static str,
}

impl Running {
    fn start(place: &Place, number: usize, record: &std::path::Path, test: &'static str) -> Self {
        let is_file = place.url().starts_with("sqlite");
        let proxy = (!is_file).then(|| Proxy::start(&server_of(place.url())));
        let through = proxy.as_ref().map(|proxy| place.through(&proxy.url(place.url())));
        let url = through.as_ref().unwrap_or(place).whole_url();
        let mark = if url.contains('?') { '&' } else { '?' };
        // The shortest that there is.
        let ttl = if place.keeps() == Keeps::Keys { 10 } else { 1 };
        let url = format!("{url}{mark}ttl={ttl}s");
        let member = Member { kind: KINDS[number], number, url, record: record.to_path_buf() };
        let process = member.start(test);
        Self { member, process, proxy, test }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it is there");
    }

    fn suffers(&self, fault: Fault) {
        match (fault, &self.proxy) {
            (Fault::Killed, _) => self.signal(Signal::KILL),
            (Fault::Stopped, _) => self.signal(Signal::STOP),
            (Fault::CutOff, Some(proxy)) => proxy.set(Mode::Unplugged),
            (Fault::CutOff, None) => panic!("a file has no network"),
        }
    }

    fn recovers(&mut self, fault: Fault) {
        match (fault, &self.proxy) {
            (Fault::Killed, _) => {
                self.process.wait().expect("it was killed");
                self.process = self.member.start(self.test);
            }
            (Fault::Stopped, _) => self.signal(Signal::CONT),
            (Fault::CutOff, proxy) => {
                if let Some(proxy) = proxy {
                    proxy.set(Mode::Pass);
                    proxy.cut(false);
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `test` is the test's own name: its process runs it again as each of the members.
fn terms_never_overlap(test: &'static str, place: fn() -> Place, few: usize) {
    Member::of_this_process();
    let place = place();
    let faults = match place.url().starts_with("sqlite") {
        true => &[Fault::Killed, Fault::Stopped][..],
        false => &[Fault::Killed, Fault::Stopped, Fault::CutOff],
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("record");
    let mut record = Record::new(&path);
    // The table is there before its members.
    drop(place.locks(Duration::from_secs(30)));
    let mut members: Vec<Running> =
        (0..KINDS.len()).map(|number| Running::start(&place, number, &path, test)).collect();
    let mut times: Vec<(Fault, Duration)> = Vec::new();
    let mut struck = [0; KINDS.len()];
    let mut round = 0;
    let mut last = 0;
    while times.len() < kills(few) {
        eventually("somebody leads", || record.latest().is_some_and(|(term, _)| term > last));
        round += 1;
        // Not always in the same moment of a lease.
        std::thread::sleep(Duration::from_millis(round * 37 % 401));
        let (term, leader) = record.latest().expect("there");
        let fault = faults[times.len() % faults.len()];
        let at = now();
        if fault == Fault::Killed
            && KINDS[leader.member] == Kind::Withlock
            && place.keeps() == Keeps::Advisory
        {
            // Its lock is free in the moment in which the system begins to end its command: this is not promised.
            record.ended(term, at);
        }
        members[leader.member].suffers(fault);
        eventually("somebody leads again", || record.latest().is_some_and(|(next, _)| next > term));
        members[leader.member].recovers(fault);
        let (_, next) = record.latest().expect("there");
        last = term;
        // Otherwise it had lost the lock before.
        if next.from > at {
            times.push((fault, Duration::from_nanos(next.from - at)));
            struck[leader.member] += 1;
        }
    }
    drop(members);
    let terms = record.check();
    println!("{terms} terms; leaders of {KINDS:?} struck: {struck:?}");
    for fault in faults {
        let of_it = times.iter().filter(|(of, _)| of == fault).map(|(_, time)| time.as_millis());
        let mut of_it: Vec<u128> = of_it.collect();
        of_it.sort_unstable();
        let Some(max) = of_it.last() else { continue };
        let (many, p50) = (of_it.len(), of_it[of_it.len() / 2]);
        println!("{fault:?}: {many} times, next leader after p50 {p50} ms, max {max} ms");
    }
}

#[test]
fn terms_never_overlap_in_a_file() {
    terms_never_overlap("terms_never_overlap_in_a_file", Place::sqlite, 6);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn terms_never_overlap_on_postgres() {
    terms_never_overlap("terms_never_overlap_on_postgres", Place::postgres, 9);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn terms_never_overlap_on_mysql() {
    terms_never_overlap("terms_never_overlap_on_mysql", Place::mysql, 6);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn terms_never_overlap_on_mariadb() {
    terms_never_overlap("terms_never_overlap_on_mariadb", Place::mariadb, 6);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn terms_never_overlap_in_consul() {
    terms_never_overlap("terms_never_overlap_in_consul", Place::consul, 2);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn terms_never_overlap_with_postgres_advisory_locks() {
    let test = "terms_never_overlap_with_postgres_advisory_locks";
    terms_never_overlap(test, Place::postgres_advisory, 3);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn terms_never_overlap_with_mysql_advisory_locks() {
    let test = "terms_never_overlap_with_mysql_advisory_locks";
    terms_never_overlap(test, Place::mysql_advisory, 3);
}

#[test]
#[ignore = "needs a MariaDB server: tests/run starts one"]
fn terms_never_overlap_with_mariadb_advisory_locks() {
    let test = "terms_never_overlap_with_mariadb_advisory_locks";
    terms_never_overlap(test, Place::mariadb_advisory, 3);
}

//! `--leader`: a standby that takes over, and runs the command again after a loss.

use lock_tests::place::Place;
use lock_tests::proxy::{Proxy, server_of};
use lock_tests::withlock::{
    Run, Sandbox, binary, copy_binary, eventually, is_alive, pid, state, url,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use std::thread::sleep;
use std::time::Duration;

/// Writes down its term and its process, and stays.
const LEAD: &str = "echo $WITHLOCK_FENCE $$ >>terms; exec sleep 600";
/// Time in which something that must not happen would have happened.
const A_WHILE: Duration = Duration::from_millis(700);

/// Candidates for one office.
struct Office {
    sandbox: Sandbox,
    url: String,
}

impl Office {
    fn new(url: String) -> Self {
        Self { sandbox: Sandbox::new(), url }
    }

    fn candidate(&self, options: &[&str], script: &str) -> Run {
        let line = [&["--leader", "--ttl", "2s"], options, &["n", "--", "sh", "-c", script]];
        self.sandbox.start(&mut self.sandbox.withlock(&self.url, &line.concat()))
    }

    /// The terms so far, each with the process that led.
    fn terms(&self) -> Vec<(u64, Pid)> {
        let text = self.sandbox.read("terms");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let term = |line: &str| {
            let (fence, process) = line.split_once(' ').expect("two words");
            (fence.parse().expect("a fence"), pid(process))
        };
        whole.lines().map(term).collect()
    }

    /// Waits for the term with this number, from 1. Returns its process. Fences rise.
    fn term(&self, number: usize) -> Pid {
        eventually("a term", || self.terms().len() >= number);
        let terms = self.terms();
        assert_eq!(terms.len(), number, "{terms:?}");
        assert!(terms.is_sorted_by(|a, b| a.0 < b.0), "terms rise: {terms:?}");
        terms[number - 1].1
    }
}

/// Ends a leader by a signal to it. Its command has nothing to say to that. On a busy machine, a request of a standby may have
/// had no answer in time, which it told.
fn end(leader: Run) -> String {
    leader.signal(Signal::TERM);
    let told = leader.end().expect(143).stderr;
    told.split_inclusive('\n').filter(|line| !line.ends_with("trying again\n")).collect()
}

fn a_killed_leader_takes_its_command_along_and_a_standby_leads(place: &Place) {
    let office = Office::new(url(place));
    let first = office.candidate(&[], LEAD);
    let command = office.term(1);
    let second = office.candidate(&[], LEAD);
    sleep(A_WHILE);
    office.term(1);
    first.signal(Signal::KILL);
    first.end().expect(137);
    office.term(2);
    if office.url.contains("protocol=advisory") {
        // The server frees the lock in the moment in which the kernel ends the command.
        eventually("the command is ended", || !is_alive(command));
    }
    assert!(!is_alive(command), "two commands at once");
    assert_eq!(end(second), "");
}

fn a_stopped_leader_is_followed_and_stands_by_when_it_wakes_up(place: &Place) {
    let office = Office::new(url(place));
    let first = office.candidate(&[], LEAD);
    let command = office.term(1);
    let mut second = office.candidate(&[], LEAD);
    first.signal(Signal::STOP);
    eventually("it is stopped", || state(first.pid()) == Some('T'));
    office.term(2);
    assert!(!is_alive(command), "two commands at once");
    first.signal(Signal::CONT);
    sleep(A_WHILE);
    office.term(2);
    assert!(!second.has_ended());
    assert_eq!(end(second), "");
    office.term(3);
    let told = end(first);
    assert!(told.contains("so withlock stopped the command"), "{told}");
    assert!(told.contains("; it stands by again\n"), "{told}");
}

fn a_leader_whose_lock_was_taken_stands_by_and_leads_again(place: &Place) {
    let office = Office::new(url(place));
    let leader = office.candidate(&[], LEAD);
    let command = office.term(1);
    place.rob("n");
    eventually("the command is ended", || !is_alive(command));
    office.term(2);
    let told = end(leader);
    let lost = |line: &&str| line.contains("was lost, so withlock stopped the command");
    assert_eq!(told.lines().filter(lost).count(), 1, "{told}");
    // The lock is free at once: its lease is not waited for.
    let free = ["-w", "1s", "n", "--", "true"];
    office.sandbox.run(&office.url, &free).expect(0);
}

macro_rules! on {
    ($($place:ident $(, $server:literal)?;)*) => {$(
        mod $place {
            use super::*;

            #[test]
            $(#[ignore = $server])?
            fn a_killed_leader_takes_its_command_along_and_a_standby_leads() {
                super::a_killed_leader_takes_its_command_along_and_a_standby_leads(&Place::$place());
            }

            #[test]
            $(#[ignore = $server])?
            fn a_stopped_leader_is_followed_and_stands_by_when_it_wakes_up() {
                super::a_stopped_leader_is_followed_and_stands_by_when_it_wakes_up(&Place::$place());
            }

            #[test]
            $(#[ignore = $server])?
            fn a_leader_whose_lock_was_taken_stands_by_and_leads_again() {
                super::a_leader_whose_lock_was_taken_stands_by_and_leads_again(&Place::$place());
            }
        }
    )*};
}

on! {
    sqlite;
    postgres, "needs a PostgreSQL server: tests/run starts one";
    postgres_advisory, "needs a PostgreSQL server: tests/run starts one";
    mysql, "needs a MySQL server: tests/run starts one";
    mysql_advisory, "needs a MySQL server: tests/run starts one";
    mariadb, "needs a MariaDB server: tests/run starts one";
    mariadb_advisory, "needs a MariaDB server: tests/run starts one";
    consul, "needs a Consul server: tests/run starts one";
}

#[test]
fn a_command_that_ends_by_itself_ends_withlock_and_a_standby_leads() {
    let office = Office::new(String::new());
    let stay = "until [ -e over ]; do sleep 0.02; done";
    let script = format!("echo $WITHLOCK_FENCE $$ >>terms; {stay}; exit 7");
    let first = office.candidate(&[], &script);
    office.term(1);
    let second = office.candidate(&[], LEAD);
    std::fs::write(office.sandbox.path("over"), "").expect("written");
    assert_eq!(first.end().expect(7).stderr, "");
    office.term(2);
    end(second);
    for (script, code) in [("exit 0", 0), ("exec /nowhere", 127)] {
        office.candidate(&[], script).end().expect(code);
    }
    office.sandbox.run(&office.url, &["--leader", "n", "--", "/nowhere"]).expect(127);
}

#[test]
fn a_broken_hold_makes_way_for_a_standby() {
    let office = Office::new(String::new());
    let first = office.candidate(&[], LEAD);
    let command = office.term(1);
    let second = office.candidate(&[], LEAD);
    sleep(A_WHILE);
    office.sandbox.run(&office.url, &["--break", "--yes", "n"]).expect(0);
    eventually("the command is ended", || !is_alive(command));
    office.term(2);
    // Whichever leads now, the other stands by, and leads after it.
    let [leader, standby] = match office.sandbox.run(&office.url, &["--status", "n"]).stdout {
        held if held.contains(&format!("pid {} ", first.pid())) => [first, second],
        _ => [second, first],
    };
    end(leader);
    office.term(3);
    end(standby);
}

#[test]
fn a_break_alone_starts_the_command_again() {
    let office = Office::new(String::new());
    let leader = office.candidate(&[], LEAD);
    for term in 1..=3 {
        let command = office.term(term);
        assert!(is_alive(command));
        office.sandbox.run(&office.url, &["--break", "--yes", "n"]).expect(0);
        eventually("the command is ended", || !is_alive(command));
    }
    office.term(4);
    let told = end(leader);
    assert_eq!(told.matches("; it stands by again\n").count(), 3, "{told}");
}

/// A leader runs for months, and meanwhile a package brings a new program.
#[test]
fn a_leader_whose_program_was_removed_leads_again() {
    let office = Office::new(String::new());
    let program = office.sandbox.path("program");
    copy_binary(&program);
    let mut command = office.sandbox.command(&program);
    command.args(["--leader", "--ttl", "2s", "n", "--", "sh", "-c", LEAD]);
    let leader = office.sandbox.start(&mut command);
    office.term(1);
    std::fs::remove_file(&program).expect("removed");
    office.sandbox.run(&office.url, &["--break", "--yes", "n"]).expect(0);
    office.term(2);
    end(leader);
}

/// Arguments and environment may be as long as a quarter of the stack's limit, and 128 KiB at least.
#[test]
fn a_command_line_that_is_too_long_for_the_system_cannot_be_executed() {
    let office = Office::new(String::new());
    let long = "x".repeat(100_000);
    let mut command = office.sandbox.command(binary());
    command.args(["--leader", "--ttl", "2s", "n", "--", "sh", "-c", LEAD, &long, &long]);
    let leader = office.sandbox.start(&mut command);
    office.term(1);
    let limit = Rlimit { current: Some(512 << 10), ..getrlimit(Resource::Stack) };
    prlimit(Some(leader.pid()), Resource::Stack, limit).expect("lowered");
    office.sandbox.run(&office.url, &["--break", "--yes", "n"]).expect(0);
    let ended = leader.end().expect(126);
    let told = ended.stderr.lines().last().unwrap_or_default();
    assert!(told.starts_with("withlock: sh: Argument list too long"), "{told}");
    office.term(1);
}

#[test]
fn a_signal_ends_a_standby_and_one_that_stands_by_again() {
    for (signal, code) in
        [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)]
    {
        let office = Office::new(String::new());
        let first = office.candidate(&[], LEAD);
        office.term(1);
        let standby = office.candidate(&[], LEAD);
        sleep(A_WHILE);
        standby.signal(signal);
        assert_eq!(standby.end().expect(code).stdout, "");
        first.signal(Signal::STOP);
        let second = office.candidate(&[], LEAD);
        office.term(2);
        first.signal(Signal::CONT);
        sleep(A_WHILE);
        first.signal(signal);
        first.end().expect(code);
        end(second);
        office.term(2);
    }
}

/// After TERM, a loss is no reason to begin again. After HUP it is: to many commands, that means to read their files again.
#[test]
fn a_signal_to_end_is_remembered_until_the_end() {
    for (signal, again) in
        [(Signal::TERM, false), (Signal::INT, false), (Signal::QUIT, false), (Signal::HUP, true)]
    {
        let office = Office::new(String::new());
        let script = format!("trap 'echo >>got' INT TERM QUIT HUP; {LEAD}").replace("exec ", "");
        let script = script.replace("sleep 600", "while :; do sleep 0.02; done");
        let leader = office.candidate(&[], &script);
        let command = office.term(1);
        leader.signal(signal);
        eventually("it is told", || !office.sandbox.read("got").is_empty());
        assert!(is_alive(command));
        office.sandbox.run(&office.url, &["--break", "--yes", "n"]).expect(0);
        eventually("the command is ended", || !is_alive(command));
        if again {
            office.term(2);
            leader.signal(Signal::KILL);
            leader.end().expect(137);
        } else {
            let told = leader.end().expect(123).stderr;
            assert!(!told.contains("stands by"), "{told}");
            office.term(1);
        }
    }
}

#[test]
fn a_term_has_a_longest_time() {
    let office = Office::new(String::new());
    let leader = office.candidate(&["--max-hold", "1s"], LEAD);
    let command = office.term(1);
    office.term(2);
    assert!(!is_alive(command), "two commands at once");
    let told = end(leader);
    assert!(
        told.contains("for --max-hold, so withlock stopped it; it stands by again\n"),
        "{told}"
    );
}

#[test]
fn as_many_lead_as_there_are_permits() {
    let office = Office::new(String::new());
    let script = "echo $WITHLOCK_PERMIT >>permits; exec sleep 600";
    let [first, second, third] = [0; 3].map(|_| office.candidate(&["--permits", "2"], script));
    let permits = || office.sandbox.read("permits").lines().count();
    eventually("two lead", || permits() == 2);
    sleep(A_WHILE);
    assert_eq!(permits(), 2);
    for leader in [&first, &second, &third] {
        leader.signal(Signal::KILL);
    }
    let codes = [first, second, third].map(|candidate| candidate.end().code);
    assert_eq!(codes, [137; 3]);
}

/// In a switch-over, a client may meet a server that does not know its password.
#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn a_standby_goes_on_after_a_wrong_password_and_ends_for_want_of_a_right() {
    let place = Place::mysql();
    let office = Office::new(url(&place));
    let leader = office.candidate(&[], LEAD);
    office.term(1);
    let user = place.table().replacen("locks_", "u_", 1);
    place.tamper(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret'"));
    place.tamper(&format!("GRANT SELECT, INSERT, UPDATE ON {{table}} TO '{user}'@'%'"));
    let proxy = Proxy::start(&server_of(place.url()));
    let root = proxy.url(place.url());
    let (_, server) = root.split_once('@').expect("a user");
    let theirs = place.through(&format!("mysql://{user}:secret@{server}"));
    let second = Office { sandbox: office.sandbox, url: url(&theirs) };
    let mut standby = second.candidate(&["-v"], LEAD);
    eventually("it stands by", || standby.output()[1].contains("waiting"));
    place.tamper(&format!("ALTER USER '{user}'@'%' IDENTIFIED BY 'another'"));
    proxy.cut(false);
    eventually("it is told", || standby.output()[1].contains("Access denied"));
    eventually("it tries again", || standby.output()[1].contains("trying again"));
    assert!(!standby.has_ended());
    place.tamper(&format!("REVOKE UPDATE ON {{table}} FROM '{user}'@'%'"));
    place.tamper(&format!("ALTER USER '{user}'@'%' IDENTIFIED BY 'secret'"));
    // To look at the lock takes no such right, to claim it does.
    end(leader);
    let ended = standby.end().expect(125);
    assert!(ended.stderr.contains("GRANT"), "{ended:?}");
    second.term(1);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_first_connect_and_outages_are_waited_out() {
    let place = Place::postgres();
    let proxy = Proxy::start(&server_of(place.url()));
    proxy.cut(true);
    let office = Office::new(url(&place.through(&proxy.url(place.url()))));
    let mut leader = office.candidate(&[], LEAD);
    sleep(A_WHILE);
    assert!(!leader.has_ended() && office.terms().is_empty());
    proxy.cut(false);
    for term in 1..=2 {
        let command = office.term(term);
        proxy.cut(true);
        eventually("the command is ended", || !is_alive(command));
        sleep(A_WHILE);
        assert!(!leader.has_ended());
        proxy.cut(false);
    }
    office.term(3);
    end(leader);
    // A signal ends the first connect, too.
    proxy.cut(true);
    let standby = office.candidate(&[], LEAD);
    sleep(A_WHILE);
    end(standby);
    office.term(3);
}

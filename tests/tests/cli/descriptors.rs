//! A process that may open few files says so, in a line.

use lock_tests::place::Place;
use lock_tests::withlock::{Ended, Sandbox, binary};

/// Enough for everything: where the tests end.
const ENOUGH: usize = 40;

fn with_limit(sandbox: &Sandbox, url: &str, files: usize, wait: &str) -> Ended {
    let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    let mut command = sandbox.command("sh");
    command.args(["-c", &script]).arg(binary());
    command.args(["n", "--db", url, wait, "--", "true"]);
    sandbox.start(&mut command).end()
}

/// Below four, no program that is linked dynamically starts.
fn few_descriptors(url: &str, waits: &[&str]) {
    let sandbox = Sandbox::new();
    for wait in waits {
        let mut done = false;
        for files in 4..=ENOUGH {
            let ended = with_limit(&sandbox, url, files, wait);
            let code = ended.status.code();
            done = code == Some(0);
            if done {
                break;
            }
            assert_eq!(code, Some(125), "{wait}, {files} files: {ended:?}");
            let good =
                |line: &str| line.starts_with("withlock: ") && !line.contains("RUST_BACKTRACE");
            assert!(ended.stderr.lines().all(good), "{files}: {ended:?}");
            let is_wait = |line: &&str| line.starts_with("withlock: waiting for ");
            let failures = ended.stderr.lines().filter(|line| !is_wait(line)).count();
            assert_eq!(failures, 1, "{wait}, {files} files: {ended:?}");
        }
        assert!(done, "{ENOUGH} are not enough");
    }
}

#[test]
fn few_descriptors_are_told_of_on_sqlite() {
    let sandbox = Sandbox::new();
    few_descriptors(&sandbox.url(), &["-n", "-w300ms"]);
}

#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn few_descriptors_are_told_of_on_postgres() {
    few_descriptors(Place::postgres().url(), &["-n", "-w300ms"]);
}

#[test]
#[ignore = "needs a MySQL server: tests/run starts one"]
fn few_descriptors_are_told_of_on_mysql() {
    few_descriptors(Place::mysql().url(), &["-n", "-w300ms"]);
}

#[test]
#[ignore = "needs a Consul server: tests/run starts one"]
fn few_descriptors_are_told_of_on_consul() {
    few_descriptors(Place::consul().url(), &["-n", "-w300ms"]);
}

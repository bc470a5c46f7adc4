//! `--max-hold`: a command that hangs is ended.

use lock_tests::withlock::{Sandbox, eventually, is_alive, pid};
use std::time::Duration;

#[test]
fn a_command_that_hangs_is_ended_by_max_hold() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    for script in ["trap 'echo term; exit 0' TERM; sleep 600 & wait", "trap '' TERM; sleep 600"] {
        let ended = sandbox.run(&url, &["--max-hold", "2s", "a", "--", "sh", "-c", script]);
        assert_eq!(ended.code, 123, "{ended:?}");
        assert!(ended.stderr.contains("--max-hold"), "{ended:?}");
        assert!(!ended.stderr.contains("lost"), "{ended:?}");
        assert_eq!(ended.stdout, if script.contains("echo") { "term\n" } else { "" });
        sandbox.run(&url, &["-n", "a", "--", "true"]).expect(0);
    }
}

#[test]
fn a_command_that_ends_in_time_is_left_alone() {
    let sandbox = Sandbox::new();
    for least in [&[][..], &["--min-hold", "0.1s"], &["--min-hold", "1h"]] {
        let line = [least, &["--max-hold", "1h", "a", "--", "sh", "-c", "exit 3"]].concat();
        let ended = Sandbox::new().run(&sandbox.url(), &line).expect(3);
        assert_eq!(ended.stderr, "");
        sandbox.run(&sandbox.url(), &["--break", "--yes", "a"]);
    }
}

/// The shell that started it ends at once.
#[test]
fn what_a_command_started_has_the_grace_to_clean_up() {
    let sandbox = Sandbox::new();
    let child = "trap 'sleep 0.9; touch cleaned; exit 0' TERM; while :; do sleep 0.02; done";
    let script = format!("sh -c \"{child}\"; echo after");
    let args = ["--max-hold", "10s", "--grace", "5s", "a", "--", "sh", "-c", &script];
    let ended = sandbox.run(&sandbox.url(), &args).expect(123);
    assert!(sandbox.path("cleaned").exists(), "{ended:?}");
    assert!(ended.stderr.contains("so withlock stopped it"), "{ended:?}");
    sandbox.run(&sandbox.url(), &["-n", "a", "--", "true"]).expect(0);
}

#[test]
fn what_a_command_started_does_not_outlive_the_grace() {
    let sandbox = Sandbox::new();
    let child = "trap '' TERM; echo $$ >pid; while :; do sleep 0.02; done";
    let script = format!("sh -c \"{}\"; echo after", child.replace('$', "\\$"));
    let args = ["--max-hold", "4s", "--grace", "1s", "a", "--", "sh", "-c", &script];
    sandbox.run(&sandbox.url(), &args).expect(123);
    assert!(!is_alive(pid(&sandbox.read("pid"))));
    sandbox.run(&sandbox.url(), &["-n", "a", "--", "true"]).expect(0);
}

/// The lock was not lost: a second job must not run although the first one hung.
#[test]
fn a_command_that_is_ended_leaves_the_lock_kept() {
    let sandbox = Sandbox::new();
    let args = ["-v", "--min-hold", "8s", "--max-hold", "8s", "--grace", "4s", "a", "--"];
    let ended = sandbox.run(&sandbox.url(), &[&args[..], &["sleep", "600"]].concat()).expect(123);
    assert!(ended.stderr.contains("; the table keeps \"a\" for "), "{ended:?}");
    assert!(ended.stderr.contains("had \"a\" for --max-hold, so withlock stopped it"), "{ended:?}");
}

#[test]
fn the_longest_hold_begins_with_the_grant_and_not_with_the_wait() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let holder = sandbox.hold(&url, &["a"], "while [ ! -e go ]; do sleep 0.02; done");
    let args = ["-v", "--min-hold", "5s", "--max-hold", "5s", "--on-lost", "kill", "a", "--"];
    let args = [&args[..], &["sh", "-c", "exit 3"]].concat();
    let waiter = sandbox.start(&mut sandbox.withlock(&url, &args));
    eventually("it waits", || waiter.waits());
    std::thread::sleep(Duration::from_millis(5_100));
    std::fs::write(sandbox.path("go"), "").expect("written");
    holder.end().expect(0);
    let ended = waiter.end().expect(3);
    // So does the least.
    assert!(ended.stderr.contains("; the table keeps \"a\" for "), "{ended:?}");
}

#[test]
fn a_time_that_leaves_no_room_is_an_error() {
    let sandbox = Sandbox::new();
    for (line, says) in [
        (&["--max-hold", "2s", "--grace", "2s", "a", "--", "true"][..], "--grace"),
        (&["--max-hold", "2s", "--min-hold", "3s", "a", "--", "true"], "--min-hold"),
        (&["--max-hold", "2s", "--on-lost", "ignore", "a", "--", "true"], "--on-lost"),
        (&["--max-hold", "0", "a", "--", "true"], "--max-hold needs a time"),
    ] {
        let ended = sandbox.run(&sandbox.url(), line).expect(125);
        assert!(ended.stderr.contains(says), "{ended:?}");
    }
}

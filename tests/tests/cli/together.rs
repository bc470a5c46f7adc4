//! `--permits` and `--and`.

use lock_tests::withlock::{Sandbox, eventually};
use std::time::Duration;

/// At most two are inside at a time, and each knows its permit; a third is turned away.
#[test]
fn as_many_commands_run_as_there_are_permits() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let stay = "echo \"$WITHLOCK_PERMIT\" >>permits; while [ ! -e over ]; do sleep 0.05; done";
    std::fs::write(sandbox.path("stay"), stay).expect("written");
    let holders = [0; 2].map(|_| {
        sandbox.start(&mut sandbox.withlock(&url, &["--permits", "2", "a", "--", "sh", "stay"]))
    });
    let permits = || std::fs::read_to_string(sandbox.path("permits")).unwrap_or_default();
    eventually("both are inside", || permits().lines().count() == 2);
    let mut numbers: Vec<String> = permits().lines().map(str::to_string).collect();
    numbers.sort();
    assert_eq!(numbers, ["1", "2"]);
    let third = sandbox.run(&url, &["-n", "--permits", "2", "a", "--", "true"]);
    assert_eq!(third.code, 75, "{third:?}");
    let listed = sandbox.run(&url, &["--list"]).expect(0).stdout;
    assert!(listed.contains("a (permit 1)") && listed.contains("a (permit 2)"), "{listed}");
    let json = sandbox.run(&url, &["--list", "--json"]).expect(0).stdout;
    assert!(json.contains(r#""name":"a","permit":1"#), "{json}");
    // A permit is looked at under the name that is listed.
    let status = sandbox.run(&url, &["--status", "a (permit 2)"]).expect(75).stdout;
    assert!(status.starts_with("\"a (permit 2)\" is held by "), "{status}");
    let free = sandbox.run(&url, &["--status", "a (permit 3)"]).expect(0).stdout;
    assert_eq!(free, "\"a (permit 3)\" is free, and there is no record of it\n");
    // One more permit counts at once, and the lock of the same name is another.
    let number = "echo $WITHLOCK_PERMIT";
    let more = ["-n", "-v", "--permits", "3", "a", "--", "sh", "-c", number];
    let more = sandbox.run(&url, &more).expect(0);
    assert_eq!(more.stdout, "3\n");
    assert!(more.stderr.contains("holding \"a\", permit 3, with fence "), "{more:?}");
    let other = sandbox.run(&url, &["-n", "a", "--", "sh", "-c", "echo \"<$WITHLOCK_PERMIT>\""]);
    assert_eq!(other.expect(0).stdout, "<>\n");
    std::fs::write(sandbox.path("over"), "").expect("written");
    for holder in holders {
        holder.end_within(Duration::from_secs(60)).expect(0);
    }
}

/// One that hangs is freed like any lock.
#[test]
fn a_permit_is_taken_from_its_holder() {
    let sandbox = Sandbox::new();
    let url = format!("{}?ttl=3s", sandbox.url());
    let holder = sandbox.hold(&url, &["--permits", "1", "a"], "exec sleep 600");
    let broken = sandbox.run(&url, &["--break", "--yes", "a (permit 1)"]).expect(0);
    assert!(broken.stderr.contains("took \"a (permit 1)\" from its holder"), "{broken:?}");
    holder.end().expect(123);
    sandbox.run(&url, &["-n", "--permits", "1", "a", "--", "true"]).expect(0);
}

/// A job's runner, or a withlock around this one, may have a permit of its own.
#[test]
fn a_permit_that_was_inherited_is_not_passed_on() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let script = "echo \"<${WITHLOCK_PERMIT-none}>\"";
    let mut plain = sandbox.withlock(&url, &["a", "--", "sh", "-c", script]);
    let ended = sandbox.start(plain.env("WITHLOCK_PERMIT", "7")).end().expect(0);
    assert_eq!(ended.stdout, "<none>\n");
    let both = format!("{script}; \"$W\" b -- sh -c '{script}'");
    let around = ["--permits", "2", "a", "--", "sh", "-c", &both];
    let ended = sandbox.run(&url, &around).expect(0);
    assert!(["<1>\n<none>\n", "<2>\n<none>\n"].contains(&&*ended.stdout), "{ended:?}");
}

#[test]
fn several_locks_are_held_all_or_none() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let inside = "for lock in a b c; do \"$W\" -n $lock -- true; echo $?; done";
    let held = sandbox.run(&url, &["b", "--and", "a", "--", "sh", "-c", inside]).expect(0);
    assert_eq!(held.stdout, "75\n75\n0\n", "{held:?}");
    let script = "\"$W\" -n a --and c --and b -- true; echo $?; \"$W\" -n a -- echo free; \"$W\" -n c -- echo free";
    let none = sandbox.run(&url, &["b", "--", "sh", "-c", script]).expect(0);
    assert_eq!(none.stdout, "75\nfree\nfree\n", "{none:?}");
}

#[test]
fn of_several_locks_the_one_that_someone_else_holds_is_named() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    for (options, code) in [("-n", 75), ("--wait=2s", 124)] {
        let script = format!("\"$W\" {options} -v a --and c --and b -- true");
        let ended = sandbox.run(&url, &["b", "--", "sh", "-c", &script]).expect(code);
        assert!(ended.stderr.contains("withlock: someone else holds \"b\": "), "{ended:?}");
        let waits = ended.stderr.contains("withlock: waiting for \"b\" (held by ");
        assert_eq!(waits, code == 124, "{ended:?}");
        assert!(!ended.stderr.contains("\"a\""), "{ended:?}");
    }
    // What was lost is one of them.
    let script = "\"$W\" --break --yes b; exec sleep 600";
    let lost =
        sandbox.run(&format!("{url}?ttl=3s"), &["a", "--and", "b", "--", "sh", "-c", script]);
    let told =
        "withlock: one of the locks \"a\", \"b\" was lost, so withlock stopped the command: ";
    assert!(lost.expect(123).stderr.contains(told));
}

#[test]
fn the_fence_of_several_locks_is_that_of_the_name_that_sorts_first() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let run = || {
        let args = ["b", "--and", "c", "--and", "a", "--", "printenv", "WITHLOCK_FENCE"];
        sandbox.run(&url, &args).expect(0).stdout
    };
    run();
    let file = rusqlite::Connection::open(sandbox.path("locks.db")).expect("opened");
    // Beyond any time of this machine's, so that the next one is greater by 1.
    file.execute_batch(
        "UPDATE locks SET fence = 8000000000000000 + 10 * unicode(name) WHERE name IN ('a', 'b', 'c')",
    )
    .expect("set");
    assert_eq!(run(), "8000000000000971\n");
}

#[test]
fn what_cannot_be_combined_is_an_error() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    for line in [
        &["--permits", "2", "--and", "b", "a", "--", "true"][..],
        &["--permits", "0", "a", "--", "true"],
        &["--permits", "1001", "a", "--", "true"],
        &["--shared", "--and", "b", "a", "--", "true"],
        &["--and", "", "a", "--", "true"],
    ] {
        let ended = sandbox.run(&url, line);
        assert_eq!(ended.code, 125, "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}

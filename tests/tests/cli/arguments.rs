//! Where the command begins, and options that contradict each other.

use lock_tests::withlock::Sandbox;

#[test]
fn a_command_needs_no_dashes() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let run = |args: &[&str]| sandbox.run(&url, args).expect(0).stdout;
    assert_eq!(run(&["deploy", "printf", "%s,", "-j4", "--try", "x"]), "-j4,--try,x,");
    assert_eq!(
        run(&["-n", "deploy", "--ttl", "4s", "-v", "printenv", "WITHLOCK_NAME"]),
        "deploy\n"
    );
    assert_eq!(run(&["--name", "-x", "printenv", "WITHLOCK_NAME"]), "-x\n");
    assert_eq!(run(&["deploy", "printf", "%s", "--help"]), "--help");
    sandbox.run(&url, &["deploy", "sh", "-c", "exit 7"]).expect(7);
    let mut by_option = sandbox.command(lock_tests::withlock::binary());
    by_option.args(["--db", &url, "deploy", "echo", "ran"]);
    assert_eq!(sandbox.start(&mut by_option).end().expect(0).stdout, "ran\n");
}

/// As npm's package advisory-lock documents them.
#[test]
fn the_forms_of_advisory_lock_go_on_working() {
    let sandbox = Sandbox::new();
    let url = sandbox.url();
    let mut command = sandbox.command(lock_tests::withlock::binary());
    command.args(["migrate", "--db", &url, "--", "echo", "a", "--", "b"]);
    assert_eq!(sandbox.start(&mut command).end().expect(0).stdout, "a -- b\n");
    let mut command = sandbox.command(lock_tests::withlock::binary());
    command.env("PG_CONNECTION_STRING", &url).args(["migrate", "--", "echo", "ran"]);
    assert_eq!(sandbox.start(&mut command).end().expect(0).stdout, "ran\n");
}

#[test]
fn what_can_be_read_in_two_ways_is_not_run() {
    let sandbox = Sandbox::new();
    for args in [
        &["my", "lock", "--", "touch", "ran"][..],
        &["deploy", "touch", "ran", "--", "x"],
        &["-w", "1h", "30m", "touch", "ran"],
        &["deploy", "-x", "touch", "ran"],
        &["touch", "-a", "ran"],
    ] {
        let ended = sandbox.run(&sandbox.url(), args).expect(125);
        assert!(ended.stderr.contains("--") && ended.stderr.lines().count() == 1, "{ended:?}");
        assert!(ended.stderr.contains("before"), "it says where the -- is missing: {ended:?}");
        assert!(!sandbox.path("ran").exists(), "{ended:?}");
    }
}

#[test]
fn a_mistyped_option_is_told_the_right_one() {
    let sandbox = Sandbox::new();
    for args in
        [&["deploy", "--trry", "--", "touch", "ran"][..], &["--trry", "deploy", "touch", "ran"]]
    {
        let ended = sandbox.run(&sandbox.url(), args).expect(125);
        let line = "withlock: unexpected argument '--trry' found; did you mean --try?; see 'withlock --help'\n";
        assert_eq!(ended.stderr, line);
    }
    assert!(!sandbox.path("ran").exists());
}

/// None is silently ignored.
#[test]
fn options_that_contradict_each_other_are_refused() {
    let sandbox = Sandbox::new();
    for (line, says) in [
        ("--skip -E 3 n -- touch ran", "exits with 0"),
        ("--grace 1s --on-lost kill n -- touch ran", "--on-lost kill"),
        ("--grace 1s --on-lost ignore n -- touch ran", "--on-lost ignore"),
        ("-w 5s --try n -- touch ran", "--wait"),
        ("--json n -- touch ran", "--list"),
        ("--yes n -- touch ran", "--break"),
        ("--min-hold 99999999999999 n -- touch ran", "too long"),
        ("--status --ttl 4s n", "--ttl"),
        ("--list --shared", "--shared"),
        ("--list -w 5s", "--wait"),
        ("--break --yes --label x n", "--label"),
        ("--purge -E 3", "--conflict-exit-code"),
        ("-E a n -- touch ran", "an exit code is a number from 0 to 255"),
        ("-E 256 n -- touch ran", "an exit code is a number from 0 to 255"),
        ("--purge=1s", "1h"),
        ("--purge=59m", "1h"),
        ("--ddl n", "NAME"),
        ("--list --status n", "--status"),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let ended = sandbox.run(&sandbox.url(), &args).expect(125);
        assert!(ended.stderr.contains(says) && ended.stderr.lines().count() == 1, "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    assert!(!sandbox.path("ran").exists() && !sandbox.path("locks.db").exists());
}

//! The system's limits for files and memory, and a `/proc` that is missing or another namespace's.

use lock_tests::withlock::{Ended, Run, Sandbox, copy_binary, eventually};
use std::fs::{File, Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

/// Starts `withlock` from a script of bash, whose limits for files count in KiB. In the script, it is `"$W"`.
fn start(sandbox: &Sandbox, script: &str) -> Run {
    let mut command = sandbox.command("bash");
    command.args(["-c", script]).env("WITHLOCK_URL", sandbox.url());
    sandbox.start(&mut command)
}

fn run(sandbox: &Sandbox, script: &str) -> Ended {
    start(sandbox, script).end()
}

/// The limit is more than the locks' own file needs.
#[test]
fn a_log_at_the_limit_for_files_changes_no_exit_code() {
    const LIMIT: u64 = 400;
    let sandbox = Sandbox::new();
    File::create(sandbox.path("log")).and_then(|log| log.set_len(LIMIT << 10)).expect("made");
    let lose = "sh -c '\"$W\" --break --yes n >/dev/null; exec sleep 600'";
    for (args, code) in [
        ("-v n -- touch ran", 0),
        ("-v n -- sh -c 'exit 7'", 7),
        ("-v n -- /nowhere", 127),
        ("-v n -- /", 126),
        ("--nope", 125),
        (&format!("--ttl 6s n -- {lose}"), 123),
        // What it writes itself is its own business.
        ("n -- sh -c 'echo >>log'", 153),
        ("n -- head -c 500000 /dev/zero >big", 153),
    ] {
        let script = format!("ulimit -f {LIMIT}; exec \"$W\" {args} 2>>log");
        let ended = run(&sandbox, &script);
        assert_eq!(ended.code, code, "{args}: {ended:?}");
    }
    assert!(sandbox.path("ran").exists());
    assert_eq!(sandbox.path("log").metadata().expect("there").len(), LIMIT << 10);
    let ignores = "trap '' XFSZ; exec \"$W\" n -- grep SigIgn /proc/self/status";
    let mask = run(&sandbox, ignores).expect(0).stdout;
    let mask = mask.trim().strip_prefix("SigIgn:").expect("a mask").trim();
    assert_ne!(u64::from_str_radix(mask, 16).expect("a mask") & (1 << 24), 0, "it stays ignored");
}

/// As on a full disk. Others, who may write more, make the log longer than this process may.
#[test]
fn a_file_of_locks_that_may_not_grow_is_told_and_the_loss_comes_in_order() {
    let sandbox = Sandbox::new();
    let script = "trap 'echo TERM >got; exit 5' TERM; touch up; while :; do sleep 0.05; done";
    sandbox.run(&sandbox.url(), &["n", "--", "true"]).expect(0);
    let holder =
        start(&sandbox, &format!("ulimit -f 100; exec \"$W\" --ttl 6s n -- sh -c \"{script}\""));
    eventually("it holds the lock", || sandbox.path("up").exists());
    let log = sandbox.path("locks.db-wal");
    while log.metadata().expect("there").len() < 100 << 10 {
        sandbox.run(&sandbox.url(), &["other", "--", "true"]).expect(0);
    }
    let ended = holder.end().expect(123);
    assert_eq!(sandbox.read("got"), "TERM\n");
    let says = "no file may exceed 102400 bytes here (ulimit -f)";
    assert!(ended.stderr.contains("so withlock stopped the command"), "{ended:?}");
    assert!(ended.stderr.contains(says), "{ended:?}");
    // Nor does a command begin.
    let ended = run(&sandbox, "ulimit -f 100; exec \"$W\" -n n -- touch ran").expect(125);
    assert!(ended.stderr.contains(says) && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

/// Standard error is a pipe there, because no file takes the line.
#[test]
fn without_any_room_for_the_url_withlock_says_so() {
    let sandbox = Sandbox::new();
    let script = "(ulimit -f 0; exec \"$W\" n -- touch ran) 2>&1 | cat; exit ${PIPESTATUS[0]}";
    let ended = run(&sandbox, script).expect(125);
    assert!(ended.stdout.contains("the limit for files (ulimit -f) is too low"), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

/// It is no limit of processes. withlock and the guardian both lack the memory, and one of them says so.
#[test]
fn without_memory_for_a_thread_withlock_says_so_in_a_line() {
    let sandbox = Sandbox::new();
    let mut told = 0;
    for most in (1_000..16_000).step_by(500) {
        let script = format!("ulimit -d {most}; exec \"$W\" -n n -- \"$W\" --ddl");
        let ended = run(&sandbox, &script);
        // The loader, the allocator and the command's own start have codes of their own.
        if ended.code != 125 {
            continue;
        }
        assert_eq!(ended.stderr.lines().count(), 1, "{most}: {ended:?}");
        told += usize::from(ended.stderr.contains("no memory for a thread"));
    }
    assert!(told > 0, "it never lacked any");
}

/// The kernel does not let its processes open each other's files then.
#[test]
fn a_program_that_may_be_executed_and_not_read_is_told() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can become another user
    }
    let sandbox = Sandbox::new();
    let own = sandbox.path("withlock");
    copy_binary(&own);
    set_permissions(&own, Permissions::from_mode(0o711)).expect("set");
    set_permissions(sandbox.path(""), Permissions::from_mode(0o777)).expect("set");
    let mut command = sandbox.command("setpriv");
    command.args(["--reuid", "64001", "--regid", "64001", "--clear-groups"]).arg(&own);
    command.args(["n", "--", "touch", "ran"]).env("WITHLOCK_URL", sandbox.url());
    let ended = sandbox.start(&mut command).end().expect(125);
    assert!(ended.stderr.contains("chmod +r"), "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

fn isolated(sandbox: &Sandbox, options: &[&str], script: &str) -> Ended {
    let mut command = sandbox.command("unshare");
    command.args(["--user", "--map-root-user"]).args(options).args(["sh", "-c", script]);
    sandbox.start(command.env("WITHLOCK_URL", sandbox.url())).end()
}

/// There, another process has its number.
#[test]
#[ignore = "needs a PID namespace of its own, as root or in a user's namespace: tests/run"]
fn the_proc_of_another_pid_namespace_is_told() {
    let sandbox = Sandbox::new();
    let script = "\"$W\" n -- touch ran";
    let ended = isolated(&sandbox, &["--pid", "--fork"], script).expect(125);
    assert!(ended.stderr.contains("unshare --mount-proc"), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

#[test]
#[ignore = "needs mounts of its own, as root or in a user's namespace: tests/run"]
fn a_missing_proc_is_told() {
    let sandbox = Sandbox::new();
    let script = "mount -t tmpfs none /proc && \"$W\" n -- touch ran";
    let ended = isolated(&sandbox, &["--mount"], script).expect(125);
    assert!(ended.stderr.contains("/proc, which withlock needs, is not there"), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    let own = ["--mount", "--pid", "--fork", "--mount-proc"];
    isolated(&sandbox, &own, "\"$W\" n -- touch ran").expect(0);
    assert!(sandbox.path("ran").exists());
}

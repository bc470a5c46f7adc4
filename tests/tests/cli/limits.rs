//! The system's limits for memory.

use lock_tests::withlock::{Ended, Sandbox};

/// Runs `withlock` from a script of bash, in which it is `"$W"`.
fn run(sandbox: &Sandbox, script: &str) -> Ended {
    let mut command = sandbox.command("bash");
    command.args(["-c", script]).env("WITHLOCK_URL", sandbox.url());
    sandbox.start(&mut command).end()
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

//! Users who share an SQLite file. Only root may become others.

use lock_tests::withlock::{Run, Sandbox, copy_binary, eventually};
use std::fs::{Permissions, create_dir, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

/// They have this group in common.
const TEAM: u32 = 64_100;
const USERS: [u32; 2] = [64_001, 64_002];
/// In no group but its own.
const STRANGER: u32 = 64_003;

/// A folder that is shared, in one that all may enter.
struct Shared {
    sandbox: Sandbox,
    umask: u32,
}

impl Shared {
    fn new(mode: u32, umask: u32) -> Self {
        let sandbox = Sandbox::new();
        set_permissions(sandbox.path(""), Permissions::from_mode(0o755)).expect("set");
        // Where it was built, others may not be.
        copy_binary(&sandbox.path("withlock"));
        create_dir(sandbox.path("shared")).expect("made");
        chown(sandbox.path("shared"), None, Some(TEAM)).expect("given");
        set_permissions(sandbox.path("shared"), Permissions::from_mode(mode)).expect("set");
        Self { sandbox, umask }
    }

    /// `withlock` on the shared file, as this user.
    fn withlock(&self, user: u32, args: &[&str]) -> Command {
        let mut command = self.sandbox.command("setpriv");
        let id = user.to_string();
        command.args(["--reuid", &id, "--regid", &id]);
        if USERS.contains(&user) {
            command.args(["--groups", &TEAM.to_string()]);
        } else {
            command.arg("--clear-groups");
        }
        let script = format!("umask {:o}; exec ./withlock \"$@\"", self.umask);
        command.args(["sh", "-c", &script, "withlock"]).args(args);
        let url = format!("sqlite:{}", self.sandbox.path("shared/locks.db").display());
        command.env("WITHLOCK_URL", url);
        command
    }

    /// It holds the lock until its standard input ends.
    fn holds(&self, user: u32, args: &[&str]) -> Run {
        let args = [args, &["n", "--", "sh", "-c", "echo up; read line"]].concat();
        let mut command = self.withlock(user, &args);
        let mut run = self.sandbox.start(command.stdin(std::process::Stdio::piped()));
        eventually("it holds the lock", || {
            let ended = run.has_ended();
            assert!(!ended, "{user}, umask {:o}: {:?}", self.umask, run.output());
            run.output()[0].contains("up")
        });
        run
    }

    fn tries(&self, user: u32, code: i32) {
        let mut command = self.withlock(user, &["--try", "n", "--", "true"]);
        self.sandbox.start(&mut command).end().expect(code);
    }
}

/// Each of them holds it and waits for it, with the journals that the others have left.
fn they_take_turns(mode: u32, umask: u32, users: [u32; 3]) {
    let shared = Shared::new(mode, umask);
    for turn in 0..4 {
        let [one, other] = [users[turn % 3], users[(turn + 1) % 3]];
        let mut holder = shared.holds(one, &["--ttl", "10m"]);
        shared.tries(other, 75);
        let mut command = shared.withlock(other, &["-v", "-w", "50s", "n", "--", "true"]);
        let waiter = shared.sandbox.start(&mut command);
        eventually("it waits", || waiter.output()[1].contains("waiting"));
        holder.type_in("\n");
        holder.end().expect(0);
        waiter.end().expect(0);
        shared.tries(one, 0);
    }
}

#[test]
#[ignore = "needs to be root: tests/run, then"]
fn users_who_share_a_folder_share_the_locks_in_it() {
    let [one, other] = USERS;
    std::thread::scope(|scope| {
        for mode in [0o1777, 0o2770, 0o770] {
            for umask in [0o077, 0o022] {
                scope.spawn(move || {
                    for users in [[one, other, 0], [0, one, other]] {
                        they_take_turns(mode, umask, users);
                    }
                });
            }
        }
    });
}

/// A file that root, or somebody by hand, has made is not for others. The error says so, and what to do.
#[test]
#[ignore = "needs to be root: tests/run, then"]
fn who_may_not_use_the_file_is_told_so() {
    let [one, _] = USERS;
    let refused = |shared: &Shared, user: u32, says: &[&str]| {
        let mut command = shared.withlock(user, &["--try", "n", "--", "touch", "ran"]);
        let ended = shared.sandbox.start(&mut command).end().expect(125);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        for says in says {
            assert!(ended.stderr.contains(says), "{says}: {ended:?}");
        }
    };
    // Not in the group.
    let shared = Shared::new(0o2770, 0o077);
    refused(&shared, STRANGER, &["shared/locks.db", "may not be entered", "choose another"]);
    shared.holds(one, &[]).end_with_line();
    refused(&shared, STRANGER, &["shared/locks.db", "may not be entered", "choose another"]);
    // May look, not write.
    let shared = Shared::new(0o2775, 0o077);
    refused(&shared, STRANGER, &["shared/locks.db", "folder may not be written to"]);
    shared.holds(one, &[]).end_with_line();
    refused(&shared, STRANGER, &["shared/locks.db", "check its permissions", "user 64001"]);
    // One user's own.
    let shared = Shared::new(0o755, 0o022);
    shared.holds(0, &[]).end_with_line();
    refused(&shared, one, &["shared/locks.db", "check its permissions", "user 0"]);
    // The file is for all, its folder is one user's: SQLite makes journals beside it.
    let file = shared.sandbox.path("shared/locks.db");
    set_permissions(file, Permissions::from_mode(0o666)).expect("set");
    refused(&shared, one, &["shared/locks.db", "folder"]);
    // Its log was left by root.
    let shared = Shared::new(0o755, 0o022);
    chown(shared.sandbox.path("shared"), Some(one), None).expect("given");
    shared.holds(one, &[]).end_with_line();
    let log = shared.sandbox.path("shared/locks.db-wal");
    chown(&log, Some(0), Some(0)).expect("taken");
    set_permissions(&log, Permissions::from_mode(0o600)).expect("set");
    refused(&shared, one, &["shared/locks.db-wal", "check its permissions", "user 0"]);
}

trait End {
    fn end_with_line(self);
}

impl End for Run {
    fn end_with_line(mut self) {
        self.type_in("\n");
        self.end().expect(0);
    }
}

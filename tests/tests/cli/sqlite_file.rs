//! `withlock` on an SQLite file: which names it takes, what becomes of a command whose file is gone,
//! and users who share one.

use lock_tests::withlock::{Run, Sandbox, binary};
use std::fs::{copy, create_dir, read_dir, remove_file, rename, write};
use std::process::Command;

// -- its name ---------------------------------------------------------------------------------------------

/// Paths that SQLite would read as something else than a plain file, and the error for each.
const NO_FILES: [(&str, &str); 9] = [
    ("sqlite:file::memory:", "SQLite's own URIs"),
    ("sqlite:file:a.db?mode=memory", ""),
    ("sqlite:file:a.db%3Fmode=memory%26cache=shared", "SQLite's own URIs"),
    ("sqlite://file:a.db%3Fvfs=memdb", "SQLite's own URIs"),
    ("sqlite:file%3Aa.db%3Fvfs=unix-none", "SQLite's own URIs"),
    ("sqlite::memory:", "in memory"),
    ("sqlite:%3Amemory%3A", "in memory"),
    ("sqlite:", "names no file"),
    ("sqlite://", "names no file"),
];

#[test]
fn what_sqlite_reads_as_something_else_is_refused_wherever_it_is_named() {
    for (url, says) in NO_FILES {
        let sandbox = Sandbox::new();
        write(sandbox.path("url"), format!("{url}\n")).expect("written");
        let with = |place: &dyn Fn(&mut Command)| {
            let mut command = sandbox.command(binary());
            command.args(["--try", "a"]);
            place(&mut command);
            command.args(["--", "touch", "ran"]);
            let ended = sandbox.start(&mut command).end().expect(125);
            assert_eq!(ended.stderr.lines().count(), 1, "{url}: {ended:?}");
            assert!(ended.stderr.contains(says), "{url}: {ended:?}");
            assert!(!sandbox.path("ran").exists(), "{url}");
        };
        with(&|command| {
            let _ = command.args(["--db", url]);
        });
        with(&|command| {
            let _ = command.env("WITHLOCK_URL", url);
        });
        with(&|command| {
            let _ = command.env("WITHLOCK_URL_FILE", sandbox.path("url"));
        });
        with(&|command| {
            let _ = command.env("PG_CONNECTION_STRING", url);
        });
        rename(sandbox.path("url"), sandbox.path("withlock-url")).expect("renamed");
        with(&|command| {
            let _ = command.env("CREDENTIALS_DIRECTORY", sandbox.path(""));
        });
        create_dir(sandbox.path("config")).expect("made");
        create_dir(sandbox.path("config/withlock")).expect("made");
        rename(sandbox.path("withlock-url"), sandbox.path("config/withlock/url")).expect("renamed");
        with(&|_| ());
        for look in [&["--status", "a"][..], &["--list"], &["--break", "a"], &["--purge=1h"]] {
            sandbox.start(sandbox.command(binary()).args(look)).end().expect(125);
        }
        let names = read_dir(sandbox.path("")).expect("read").map(|name| name.expect("one"));
        let names: Vec<_> =
            names.map(|name| name.file_name().into_string().expect("text")).collect();
        assert!(
            !names.iter().any(|name| name.contains("a.db") || name.contains("mem")),
            "{names:?}"
        );
    }
}

/// The words are the same in each place that opens a file, and where the default file is used nobody has named it before.
#[test]
fn a_file_that_is_no_database_is_named() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("notes.txt");
    write(&file, "remember the milk. ".repeat(40)).expect("written");
    let url = format!("sqlite:{}", file.display());
    for args in [&["--try", "a", "--", "touch", "ran"][..], &["--status", "a"], &["--list"]] {
        let ended = sandbox.start(sandbox.command(binary()).args(["--db", &url]).args(args)).end();
        let ended = ended.expect(125);
        let says = format!("the SQLite file {}: it is no SQLite database", file.display());
        assert!(ended.stderr.contains(&says) && ended.stderr.lines().count() == 1, "{ended:?}");
    }
    assert!(!sandbox.path("ran").exists());
}

// -- a file that is gone ----------------------------------------------------------------------------------

/// The accidents of a file, by name.
type Mishap = (&'static str, fn(&Sandbox));

const MISHAPS: [Mishap; 4] = [
    ("deleted", |sandbox| remove_file(sandbox.path("locks.db")).expect("removed")),
    ("deleted with its log", |sandbox| {
        for end in ["", "-wal", "-shm"] {
            remove_file(sandbox.path(&format!("locks.db{end}"))).expect("removed");
        }
    }),
    ("replaced", |sandbox| {
        copy(sandbox.path("locks.db"), sandbox.path("copy")).expect("copied");
        rename(sandbox.path("copy"), sandbox.path("locks.db")).expect("renamed");
    }),
    ("renamed", |sandbox| {
        rename(sandbox.path("locks.db"), sandbox.path("old.db")).expect("renamed");
    }),
];

/// Somebody else may have the lock in the new file: the command has no time to end by itself.
#[test]
fn a_command_whose_file_is_gone_is_killed_and_the_file_is_named() {
    let started: Vec<(&str, Sandbox, Run)> = MISHAPS
        .into_iter()
        .map(|(what, happens)| {
            let sandbox = Sandbox::new();
            let script = "trap 'echo term >>told' TERM; while [ ! -e go ]; do sleep 0.05; done";
            let run = sandbox.hold(&sandbox.url(), &["n", "--ttl", "18s"], script);
            happens(&sandbox);
            // In the new file it is free.
            sandbox.run(&sandbox.url(), &["-w", "30s", "n", "--", "touch", "rival"]).expect(0);
            (what, sandbox, run)
        })
        .collect();
    for (what, sandbox, run) in started {
        let ended = run.end().expect(123);
        assert!(!sandbox.path("told").exists(), "{what}: it was given time");
        let file = sandbox.path("locks.db").display().to_string();
        assert_eq!(ended.stderr.lines().count(), 1, "{what}: {ended:?}");
        let says =
            ["the lock \"n\" was lost", &file, "deleted or replaced", "stopped", "keep it in"];
        for part in says {
            assert!(ended.stderr.contains(part), "{what}, {part}: {ended:?}");
        }
    }
}

/// The command has ended before anybody looked.
#[test]
fn a_file_that_is_found_to_be_gone_at_the_end_is_a_loss_too() {
    for (what, happens) in MISHAPS {
        let sandbox = Sandbox::new();
        let script = "while [ ! -e go ]; do sleep 0.02; done";
        let run = sandbox.hold(&sandbox.url(), &["n", "--ttl", "10m"], script);
        happens(&sandbox);
        write(sandbox.path("go"), "").expect("written");
        let ended = run.end().expect(123);
        let file = sandbox.path("locks.db").display().to_string();
        assert!(ended.stderr.contains(&file), "{what}: {ended:?}");
        assert!(ended.stderr.contains("the command had ended before"), "{what}: {ended:?}");
    }
}

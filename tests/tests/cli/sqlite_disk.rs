//! An SQLite file on a disk that is full, or mounted under two names; in a mount namespace of the test's own.

use lock_tests::withlock::{Ended, Sandbox};

/// Runs a shell script that may mount what it likes. Where that is forbidden, the test fails.
fn with_mounts(script: &str) -> Ended {
    let sandbox = Sandbox::new();
    let root = rustix::process::geteuid().is_root();
    let own: &[&str] = if root { &["--mount"] } else { &["--mount", "--map-root-user"] };
    let mut unshare = sandbox.command("unshare");
    sandbox.start(unshare.args(own).args(["sh", "-euc", script])).end().expect(0)
}

/// A disk of 200 kB, with the folder's `mode`, gets full: before a lock is taken; while one is held and waited for.
fn the_disk_is_full(mode: &str) {
    let script = r#"
        mkdir disk; mount -t tmpfs -o size=200k,mode=MODE none disk
        export WITHLOCK_URL="sqlite:$PWD/disk/l.db"
        fill() { dd if=/dev/zero of=disk/fill bs=1k count=400 2>/dev/null || :; }
        fill
        "$W" -n n -- echo never || echo "first $?"
        rm disk/fill
        ("$W" --ttl 3s n -- sh -c 'touch held; exec sleep 300' 2>holder || echo "holder $?") & holder=$!
        until [ -e held ]; do sleep 0.05; done
        "$W" --ttl 3s -v n -- echo "the waiter" 2>waiter & waiter=$!
        ("$W" --ttl 3s -v -w 9s n -- echo never 2>short || echo "short $?") & short=$!
        until grep -q "held by" waiter && grep -q "held by" short; do sleep 0.05; done
        fill
        wait $holder $short
        rm disk/fill
        wait $waiter
        "$W" -n n -- echo "and it is free"
        for who in holder waiter short; do sed "s/^/$who /" $who >&2; done
    "#;
    let ended = with_mounts(&script.replace("MODE", mode));
    let told = "first 125\nholder 123\nshort 125\nthe waiter\nand it is free\n";
    assert_eq!(ended.stdout, told, "{ended:?}");
    let of = |who: &str| -> Vec<&str> {
        ended.stderr.lines().filter_map(|line| line.strip_prefix(who)).collect()
    };
    let [lost] = of("holder ")[..] else { panic!("{ended:?}") };
    assert!(lost.contains("was lost") && lost.contains("disk is full"), "{ended:?}");
    // Once the disk is full, nobody is named who may have gone long ago.
    for lines in [of("waiter withlock: waiting"), of("short withlock: ")] {
        let full = lines.iter().position(|line| line.contains("disk is full")).expect("told");
        assert!(!lines[full..].iter().any(|line| line.contains("held by")), "{ended:?}");
        assert!(!lines[full..].iter().any(|line| line.contains("someone else")), "{ended:?}");
    }
}

#[test]
#[ignore = "needs mounts of its own, as root or in a user's namespace: tests/run"]
fn a_full_disk_is_told_of_and_waited_for() {
    the_disk_is_full("0700");
}

/// There, no log is kept beside the file.
#[test]
#[ignore = "needs mounts of its own, as root or in a user's namespace: tests/run"]
fn a_full_disk_is_told_of_and_waited_for_in_a_shared_folder() {
    the_disk_is_full("1777");
}

#[test]
#[ignore = "needs mounts of its own, as root or in a user's namespace: tests/run"]
fn a_file_that_is_mounted_by_itself_is_refused_and_a_mounted_folder_is_the_same_place() {
    let ended = with_mounts(
        r#"
        mkdir a b c; touch a/l.db b/other.db
        mount --bind a/l.db b/other.db; mount --bind a c
        "$W" --db "sqlite:$PWD/a/l.db" n -- sh -c 'touch held; until [ -e go ]; do sleep 0.05; done' &
        until [ -e held ]; do sleep 0.05; done
        "$W" --db "sqlite:$PWD/b/other.db" -n n -- echo never || echo "file $?"
        "$W" --db "sqlite:$PWD/c/l.db" -n n -- echo never || echo "folder $?"
        touch go; wait
        "$W" --db "sqlite:$PWD/c/l.db" -n n -- echo free
        "#,
    );
    assert_eq!(ended.stdout, "file 125\nfolder 75\nfree\n", "{ended:?}");
    assert!(ended.stderr.contains("mount its folder instead"), "{ended:?}");
}

//! What a child process has of its parent's locks: nothing.
#![cfg(feature = "sqlite")]

use fork::{Fork, fork};
use lock_sync::{Error, Locks, LostReason};

/// The only test of its program: a fork has no other test's threads to miss.
#[test]
fn a_forked_child_holds_nothing_and_frees_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("locks.db");
    let url = format!("sqlite:{}", file.display());
    let locks = Locks::connect(&url).expect("connected");
    let guard = locks.lock("a").expect("free");
    match fork().expect("forked") {
        Fork::Child => {
            let told = guard.lost_reason() == Some(LostReason::Forked) && !guard.is_held();
            let refused = matches!(locks.try_lock("b"), Err(Error::Forked));
            // SQLite in this process relies on the locks of the parent.
            let opens = Locks::connect(&url).is_ok();
            let own = rusqlite::Connection::open(&file).expect("opened");
            let config = url.parse().expect("a good URL");
            let hands_over = Locks::with_sqlite(own, config).is_ok();
            drop((guard, locks));
            let wrong = [!told, !refused, opens, hands_over];
            std::process::exit(wrong.iter().rev().fold(0, |code, one| 2 * code + i32::from(*one)));
        }
        Fork::Parent(child) => {
            let child = rustix::process::Pid::from_raw(child).expect("a pid");
            let ended =
                rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
            let (_, status) = ended.expect("waited for").expect("ended");
            assert_eq!(
                status.exit_status(),
                Some(0),
                "1: it thinks it holds; 2: its call is sent; 4: it opens the file; 8: it hands a connection over"
            );
        }
    }
    assert!(guard.is_held());
    let others = Locks::connect(&url).expect("connected");
    assert!(others.try_lock("a").expect("asked").is_none(), "the child's drop freed nothing");
    guard.release().expect("still ours");
}

//! An SQLite file is one file: which paths may name it, and what becomes of locks in a file that is
//! deleted, replaced, or has two names. Both drivers.

use lock_sync::{Config, Error, LostReason, ReleaseError};
use lock_tests::drivers::{Driver, Locks, connect, wait};
use rusqlite::{Connection, OpenFlags};
use std::fs::{create_dir, hard_link, read_dir, remove_file, rename, write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const DRIVERS: [Driver; 2] = [Driver::Blocking, Driver::Tokio];

/// For what comes at once; generous, as the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn locks(&self, driver: Driver, name: &str) -> Result<Locks, Error> {
        connect(driver, &format!("sqlite:{}?ttl=10m", self.path(name).display()))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = read_dir(self.0.path()).expect("read");
        names.map(|one| one.expect("one").file_name().into_string().expect("UTF-8")).collect()
    }
}

fn at(driver: Driver, path: &Path) -> Result<(), Error> {
    match driver {
        Driver::Tokio => wait(lock_async::Locks::open(Config::sqlite(path))).map(drop),
        _ => lock_sync::Locks::open(Config::sqlite(path)).map(drop),
    }
}

fn hand_over(driver: Driver, connection: Connection) -> Result<Locks, Error> {
    match driver {
        Driver::Tokio => {
            wait(lock_async::Locks::with_sqlite(connection, Config::new())).map(Locks::Tokio)
        }
        _ => lock_sync::Locks::with_sqlite(connection, Config::new()).map(Locks::Blocking),
    }
}

#[track_caller]
fn refused(result: Result<impl Sized, Error>, why: &str) {
    let Err(error) = result else { panic!("not refused ({why})") };
    let line = error.to_string();
    assert!(line.contains(why) && !line.contains('\n'), "{line}");
    assert!(!error.is_transient(), "{error:?}");
}

/// The loss names the file.
#[track_caller]
fn is_gone(released: Result<(), ReleaseError>, what: &str) {
    let Err(ReleaseError::Lost(reason @ LostReason::Gone { .. })) = released else {
        panic!("{what}: {released:?}")
    };
    let line = reason.to_string();
    assert!(line.contains(".db: it was deleted or replaced") && !line.contains('\n'), "{line}");
}

// -- the path -----------------------------------------------------------------------------------------

#[test]
fn what_sqlite_would_read_as_something_else_is_refused() {
    for driver in DRIVERS {
        for url in [
            "sqlite:file::memory:",
            "sqlite:file:a.db",
            "sqlite://file:a.db",
            "sqlite:file%3Aa.db%3Fvfs=memdb",
            "sqlite:file%3A%2Fa%3Fvfs=memdb",
            "sqlite::memory:",
            "sqlite:%3Amemory%3A",
            "sqlite:",
            "sqlite://",
            "sqlite:a%00b",
            "sqlite:a/",
        ] {
            refused(connect(driver, url), "");
        }
        for path in ["file::memory:", "file:a.db", ":memory:", "", "a\0b", "a/"] {
            refused(at(driver, Path::new(path)), "");
        }
    }
}

#[test]
fn any_other_name_is_a_plain_files() {
    for driver in DRIVERS {
        let folder = Folder::new();
        for (name, file) in [
            ("file::memory:", "file::memory:"),
            ("file:b%3Fmode=memory", "file:b?mode=memory"),
            (":memory:", ":memory:"),
            ("c%3Fvfs=memdb", "c?vfs=memdb"),
            ("d%23e%20f%25", "d#e f%"),
        ] {
            let (one, other) = (folder.locks(driver, name), folder.locks(driver, name));
            let (one, other) = (one.expect("connected"), other.expect("connected"));
            let guard = one.lock("a").expect("taken");
            assert!(other.try_lock("a").expect("asked").is_none(), "{name}: two are inside");
            guard.release().expect("released");
            assert!(folder.names().contains(&file.to_string()), "{file}: {:?}", folder.names());
        }
    }
}

#[test]
fn what_is_no_plain_file_is_refused_with_the_reason() {
    for driver in DRIVERS {
        let folder = Folder::new();
        create_dir(folder.path("folder")).expect("made");
        symlink("nothing", folder.path("dangling")).expect("made");
        refused(folder.locks(driver, "folder"), "folder: name a file in it");
        refused(folder.locks(driver, "dangling"), "which does not exist: create it first");
        assert_eq!(folder.names().len(), 2, "nothing is left behind: {:?}", folder.names());
        refused(at(driver, Path::new("/dev/null")), "a device");
        refused(at(driver, Path::new("/proc/self/fd")), "it is ");
    }
}

/// Both drivers say the same, and make nothing on the way.
#[test]
fn what_cannot_be_used_is_refused_alike() {
    let folder = Folder::new();
    let text = "this is no database, but some text that is long enough to be one";
    std::fs::write(folder.path("text"), text).expect("written");
    let other = Connection::open(folder.path("other")).expect("opened");
    other.execute_batch("CREATE TABLE locks (id INTEGER PRIMARY KEY)").expect("made");
    for name in ["none/a.db", "text/a.db", "text", "other"] {
        let lines = DRIVERS.map(|driver| folder.locks(driver, name).map(drop).expect_err(name));
        assert_eq!(lines[0], lines[1], "{name}");
    }
    assert!(!folder.path("none").exists());
}

// -- a connection that is handed over -------------------------------------------------------------------

#[test]
fn a_connection_whose_locks_nobody_else_sees_is_refused() {
    let uri = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI;
    for driver in DRIVERS {
        let folder = Folder::new();
        let file = folder.path("a.db").display().to_string();
        Connection::open(&file).expect("opened").execute_batch("VACUUM").expect("made");
        let open = |name: String| Connection::open_with_flags(name, uri).expect("opened");
        hard_link(&file, folder.path("b.db")).expect("linked");
        refused(hand_over(driver, Connection::open(&file).expect("opened")), "another name");
        remove_file(folder.path("b.db")).expect("removed");
        refused(hand_over(driver, Connection::open_in_memory().expect("opened")), "in memory");
        refused(hand_over(driver, Connection::open("").expect("opened")), "in memory");
        refused(hand_over(driver, open("file:/x?vfs=memdb".into())), "");
        refused(hand_over(driver, open("file:x?mode=memory&cache=shared".into())), "in memory");
        for parameters in ["nolock=1", "vfs=unix-none", "vfs=unix-dotfile"] {
            let connection = open(format!("file:{file}?{parameters}"));
            refused(hand_over(driver, connection), "does not lock the file");
        }
        refused(hand_over(driver, open(format!("file:{file}?mode=ro"))), "only read");
        let connection = open(file.clone());
        connection.execute_batch("BEGIN").expect("begun");
        refused(hand_over(driver, connection), "transaction");
        let connection = open(file.clone());
        remove_file(&file).expect("removed");
        refused(hand_over(driver, connection), "no longer the file that was opened");
        // And one that will do, though it was not told to wait for others.
        let connection = open(file);
        connection.busy_timeout(Duration::ZERO).expect("set");
        let guard = hand_over(driver, connection).expect("connected").lock("a").expect("taken");
        let other = folder.locks(driver, "a.db").expect("connected");
        assert!(other.try_lock("a").expect("asked").is_none());
        guard.release().expect("released");
    }
}

#[test]
fn a_connection_that_was_handed_over_ends_with_its_file() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let connection = Connection::open(folder.path("a.db")).expect("opened");
        let locks = hand_over(driver, connection).expect("connected");
        let guard = locks.lock("a").expect("taken");
        remove_file(folder.path("a.db")).expect("removed");
        is_gone(guard.release(), "");
        let error = locks.try_lock("a").map(drop).expect_err("no way to another");
        assert!(error.to_string().contains("deleted or replaced"), "{error}");
    }
}

// -- deleted, replaced ----------------------------------------------------------------------------------

/// What happens to the file, by a name.
type Mishap = (&'static str, fn(&Folder));

/// What may happen to a file behind its users' backs.
const MISHAPS: [Mishap; 7] = [
    ("deleted", |folder| remove_file(folder.path("a.db")).expect("removed")),
    ("deleted with all that is beside it", |folder| {
        for name in folder.names() {
            remove_file(folder.path(&name)).expect("removed");
        }
    }),
    ("made anew", |folder| {
        remove_file(folder.path("a.db")).expect("removed");
        write(folder.path("a.db"), "").expect("written");
    }),
    ("replaced by a copy", |folder| {
        std::fs::copy(folder.path("a.db"), folder.path("copy")).expect("copied");
        rename(folder.path("copy"), folder.path("a.db")).expect("renamed");
    }),
    ("renamed", |folder| rename(folder.path("a.db"), folder.path("b.db")).expect("renamed")),
    ("without its log", |folder| remove_file(folder.path("a.db-wal")).expect("removed")),
    ("without its log's index", |folder| remove_file(folder.path("a.db-shm")).expect("removed")),
];

#[test]
fn all_holders_in_a_file_that_is_gone_are_told_at_the_next_sign_of_life() {
    for driver in DRIVERS {
        for (what, happens) in MISHAPS {
            let folder = Folder::new();
            let locks = folder.locks(driver, "a.db").expect("connected");
            let [a, b] = ["a", "b"].map(|name| locks.lock(name).expect("taken"));
            happens(&folder);
            assert!(a.is_held() && b.is_held(), "{what}: nobody knows yet");
            // Any other command of this process's finds it.
            let other = locks.try_lock_for("other", SOON).expect(what).expect("nobody has it");
            for guard in [a, b] {
                is_gone(
                    guard.wait_lost(SOON).map_or(Ok(()), |reason| Err(ReleaseError::Lost(reason))),
                    what,
                );
                assert!(!guard.is_held());
                is_gone(guard.release(), what);
            }
            // It goes on where others are now.
            let theirs = folder.locks(driver, "a.db").expect("connected");
            assert!(theirs.try_lock("other").expect("asked").is_none(), "{what}: two are inside");
            other.release().expect("still there");
            assert!(theirs.try_lock("other").expect("asked").is_some());
        }
    }
}

#[test]
fn a_release_in_a_file_that_is_gone_says_that_the_lock_was_lost() {
    for driver in DRIVERS {
        for (what, happens) in MISHAPS {
            let folder = Folder::new();
            let locks = folder.locks(driver, "a.db").expect("connected");
            let guard = locks.lock("a").expect("taken");
            happens(&folder);
            is_gone(guard.release(), what);
        }
    }
}

#[test]
fn a_renewal_finds_it_without_anybody_asking() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let url = format!("sqlite:{}?ttl=20s", folder.path("a.db").display());
        let guard = connect(driver, &url).expect("connected").lock("a").expect("taken");
        remove_file(folder.path("a.db")).expect("removed");
        let reason = guard.wait_lost(SOON).expect("lost");
        assert!(matches!(reason, LostReason::Gone { .. }), "{reason}");
    }
}

#[test]
fn a_waiter_gets_the_lock_in_the_new_file() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let holder = folder.locks(driver, "a.db").expect("connected").lock("a").expect("taken");
        let waiter = folder.locks(driver, "a.db").expect("connected");
        let waiting = std::thread::spawn(move || waiter.acquire("a").timeout(SOON).wait());
        std::thread::sleep(Duration::from_millis(200));
        remove_file(folder.path("a.db")).expect("removed");
        let guard = waiting.join().expect("no panic").expect("nobody has it in the new file");
        assert!(guard.is_held());
        is_gone(holder.release(), "");
        assert!(guard.is_held(), "the old file's release is nothing to the new one");
        guard.release().expect("still ours");
    }
}

/// The claim waits for another's transaction meanwhile, and is carried out in the file that was opened.
#[test]
fn a_grant_counts_only_in_the_file_that_others_find_by_then() {
    for driver in DRIVERS {
        for &(what, happens) in &MISHAPS[..5] {
            let folder = Folder::new();
            let locks = folder.locks(driver, "a.db").expect("connected");
            locks.lock("a").expect("taken").release().expect("ours");
            let other = Connection::open(folder.path("a.db")).expect("opened");
            other.execute_batch("BEGIN IMMEDIATE").expect("begun");
            let waiting = std::thread::spawn(move || locks.try_lock_for("a", SOON));
            std::thread::sleep(Duration::from_millis(200));
            happens(&folder);
            other.execute_batch("ROLLBACK").expect("ended");
            let guard = waiting.join().expect("no panic").expect(what).expect("nobody has it");
            let theirs = folder.locks(driver, "a.db").expect("connected");
            assert!(theirs.try_lock("a").expect("asked").is_none(), "{what}: two are inside");
            guard.release().expect("still there");
        }
    }
}

#[test]
fn a_folder_that_is_moved_away_takes_its_locks_along() {
    for driver in DRIVERS {
        let folder = Folder::new();
        create_dir(folder.path("sub")).expect("made");
        let locks = folder.locks(driver, "sub/a.db").expect("connected");
        let guard = locks.lock("a").expect("taken");
        rename(folder.path("sub"), folder.path("old")).expect("renamed");
        is_gone(guard.release(), "");
        // There may be another soon.
        let error = locks.try_lock_for("a", Duration::from_millis(100)).map(drop);
        let error = error.expect_err("no folder");
        assert!(error.is_transient() && error.to_string().contains("folder"), "{error:?}");
        create_dir(folder.path("sub")).expect("made");
        assert!(locks.try_lock_for("a", SOON).expect("asked").is_some());
    }
}

// -- two names --------------------------------------------------------------------------------------------

#[test]
fn a_file_with_two_names_is_refused_by_either() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let guard = folder.locks(driver, "a.db").expect("connected").lock("a").expect("taken");
        hard_link(folder.path("a.db"), folder.path("b.db")).expect("linked");
        for name in ["a.db", "b.db"] {
            refused(folder.locks(driver, name), "another name");
        }
        assert!(guard.is_held());
        remove_file(folder.path("b.db")).expect("removed");
        let theirs = folder.locks(driver, "a.db").expect("one name again");
        assert!(theirs.try_lock("a").expect("asked").is_none());
        guard.release().expect("never lost");
        // Renamed by way of a second name, which is not the one that its users know.
        let guard = theirs.lock("a").expect("taken");
        hard_link(folder.path("a.db"), folder.path("b.db")).expect("linked");
        remove_file(folder.path("a.db")).expect("removed");
        is_gone(guard.release(), "");
    }
}

#[test]
fn a_symbolic_link_leads_to_the_same_locks_for_as_long_as_it_does() {
    for driver in DRIVERS {
        let folder = Folder::new();
        create_dir(folder.path("data")).expect("made");
        let real = folder.locks(driver, "data/a.db").expect("connected");
        symlink("data/a.db", folder.path("link.db")).expect("linked");
        symlink("data", folder.path("link")).expect("linked");
        let linked = ["link.db", "link/a.db"].map(|name| folder.locks(driver, name));
        let [by_file, by_folder] = linked.map(|locks| locks.expect("connected"));
        let guard = by_file.lock("a").expect("taken");
        for other in [&real, &by_folder] {
            assert!(other.try_lock("a").expect("asked").is_none());
        }
        let names = folder.names();
        assert!(!names.iter().any(|name| name.ends_with("-wal")), "one log: {names:?}");
        // Who comes by that name now comes to another file.
        symlink("data/b.db", folder.path("new.db")).expect("linked");
        write(folder.path("data/b.db"), "").expect("written");
        rename(folder.path("new.db"), folder.path("link.db")).expect("renamed");
        is_gone(guard.release(), "");
        drop(real.lock("b").expect("nothing happened to it"));
    }
}

// -- permissions ------------------------------------------------------------------------------------------

#[test]
fn many_who_come_first_make_one_file() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let folder = &folder;
        std::thread::scope(|scope| {
            let come =
                || drop(folder.locks(driver, "a.db").expect("connected").lock("a").expect("x"));
            for _ in 0..8 {
                scope.spawn(come);
            }
        });
        let names = folder.names();
        assert!(names.iter().all(|name| name.starts_with("a.db")), "{names:?}");
    }
}

//! SQLite's files in folders that several users share.

use crate::sqlite_file::{DRIVERS, Folder};
use std::fs::metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

#[test]
fn a_new_file_follows_a_shared_folder_and_no_other() {
    for driver in DRIVERS {
        for (mode, file, log) in [
            (0o1777, 0o666, false),
            (0o2770, 0o660, true),
            (0o3770, 0o660, false),
            (0o777, 0o666, true),
            (0o770, 0o666, true),
        ] {
            let folder = Folder::new();
            // Only root may give it to any group.
            let _ = chown(folder.0.path(), None, Some(64_100));
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.0.path(), permissions).expect("set");
            let locks = folder.locks(driver, "a.db").expect("connected");
            let guard = locks.lock("a").expect("taken");
            let of =
                |name: &str| metadata(folder.path(name)).map(|m| m.permissions().mode() & 0o777);
            assert_eq!(of("a.db").ok(), Some(file), "{mode:o}");
            let group = |path: &Path| metadata(path).expect("there").gid();
            assert_eq!(group(&folder.path("a.db")), group(folder.0.path()), "{mode:o}");
            let beside = ["a.db-wal", "a.db-shm"].map(|name| of(name).ok());
            assert_eq!(beside, [log.then_some(file); 2], "{mode:o}");
            guard.release().expect("released");
            let names = folder.names();
            assert!(!names.iter().any(|name| name.ends_with(".new")), "{names:?}");
        }
        for mode in [0o700, 0o755, 0o1755] {
            let folder = Folder::new();
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.0.path(), permissions).expect("set");
            drop(folder.locks(driver, "a.db").expect("connected"));
            let found = metadata(folder.path("a.db")).expect("there").permissions().mode();
            assert_eq!(found & 0o022, 0, "{mode:o}");
        }
    }
}

/// Others could not use a log that one of them has made.
#[test]
fn in_a_folder_that_became_shared_a_file_has_no_log_any_more() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let locks = folder.locks(driver, "a.db").expect("connected");
        locks.lock("a").expect("taken").release().expect("released");
        // While somebody has the file open, its log stays.
        assert_eq!(locks.shutdown(), Ok(()));
        drop(locks);
        assert!(folder.path("a.db-wal").exists());
        let shared = std::fs::Permissions::from_mode(0o1777);
        std::fs::set_permissions(folder.0.path(), shared).expect("set");
        let locks = folder.locks(driver, "a.db").expect("connected");
        let guard = locks.lock("a").expect("taken");
        assert!(!folder.path("a.db-wal").exists(), "{:?}", folder.names());
        guard.release().expect("released");
    }
}

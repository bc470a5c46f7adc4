//! The file that locks are kept in: which path may name it, what it must be, and when it is another.
//!
//! SQLite finds a file's journals by the file's name. So whoever comes to it by another name sees other
//! journals, and neither the locks nor the rows of those who use the first. One file must have one name,
//! and a connection outlives its file: who holds a lock in a file that was deleted or replaced has to
//! notice it.

/// Names a file as long as somebody has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// The kind of thing that a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A device, a pipe or a socket.
    Other,
}

/// A file's properties before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Which it is.
    pub identity: Identity,
    /// Its kind.
    pub kind: Kind,
    /// How many names it has.
    pub links: u64,
    /// It is mounted, by itself: where it comes from it has another name.
    pub mounted: bool,
}

impl Found {
    /// Why no locks can be kept there, and what to do.
    ///
    /// # Errors
    /// A sentence that goes on after the file's name and a colon.
    pub fn check(&self) -> Result<(), &'static str> {
        match self {
            Found { kind: Kind::Folder, .. } => Err("it is a folder: name a file in it"),
            Found { kind: Kind::Other, .. } => {
                Err("it is a device, a pipe or a socket: name a plain file")
            }
            Found { mounted: true, .. } => Err(
                "it is mounted as a single file, and its journals would stay behind: mount its folder instead",
            ),
            Found { links, .. } if *links != 1 => Err(
                "it has another name (a hard link), by which others would not see these locks: remove one of the names, or choose another file",
            ),
            _ => Ok(()),
        }
    }
}

/// Whether a path can name a plain file, to SQLite and to people.
///
/// # Errors
/// A sentence that goes on after the file's name and a colon.
pub fn check_name(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        Err("it names no file: give a path, as in sqlite:path/to/locks.db")
    } else if path == ":memory:" {
        Err("a database in memory is nobody else's: give a path, as in sqlite:path/to/locks.db")
    } else if path.starts_with("file:") {
        Err(
            "SQLite's own URIs are not understood: give the path alone (a file of that name is sqlite:./file:…)",
        )
    } else if path.contains('\0') {
        Err("its name has a NUL in it: leave it out")
    } else if path.ends_with('/') {
        Err("it is the name of a folder: name a file in it")
    } else {
        Ok(())
    }
}

/// The files of a database: those that were found, or not, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Files {
    /// The target of the path that the user named.
    pub named: Option<Identity>,
    /// The target of the path that SQLite goes by: the same without symbolic links.
    pub real: Option<Identity>,
    /// The write-ahead log.
    pub log: Option<Identity>,
    /// The log's index.
    pub index: Option<Identity>,
}

impl Files {
    /// Whether a connection that has used `self` is still on the database that now consists of `now`;
    /// then that is what it uses. A log comes with the first use, and goes with the last connection.
    pub fn still(&mut self, now: Files) -> bool {
        let kept = |before: Option<Identity>, now| before.is_none() || before == now;
        let same = self.named == now.named
            && self.real == now.real
            && now.named == now.real
            && kept(self.log, now.log)
            && kept(self.index, now.index);
        if same {
            *self = now;
        }
        same
    }
}

/// The permissions of a new file in a folder with the permissions `folder`, if that is one in which
/// others may write, too: who may put files there may use those that are there.
///
/// What SQLite puts beside the file gets the file's permissions, and the group of its maker unless the
/// folder is set-group-ID. So in a folder without that bit that none but a group may enter, the group's
/// members are let in as others.
pub fn shared_mode(folder: u32) -> Option<u32> {
    let all = |bits| folder & bits == bits;
    let (group, others) = (all(0o030), all(0o003));
    if !group && !others {
        return None;
    }
    let by_folder = group && folder & (SET_GROUP_ID | 0o001) == 0;
    let group_bits = if group { 0o060 } else { 0 };
    let other_bits = if others || by_folder { 0o006 } else { 0 };
    Some(0o600 | group_bits | other_bits)
}

/// Whether each user of a shared folder can change no files but their own there. A log that stays, and
/// that all write to, is not to be had in it: where the kernel guards such folders (`fs.protected_regular`),
/// nobody could open the log that another made.
pub fn no_shared_log(folder: u32) -> bool {
    shared_mode(folder).is_some() && folder & STICKY != 0
}

/// New files in such a folder belong to the folder's group.
pub const SET_GROUP_ID: u32 = 0o2000;

const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<Identity> = Some(Identity { device: 1, inode: 1 });
    const B: Option<Identity> = Some(Identity { device: 1, inode: 2 });
    const ELSEWHERE: Option<Identity> = Some(Identity { device: 2, inode: 1 });

    #[test]
    fn a_name_that_is_no_plain_path_is_refused() {
        for bad in ["", ":memory:", "file:a.db", "file::memory:", "file:", "a\0b", "a/", "/"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "./file:a", "/a/file:", "x:memory:", "FILE:a", "a?vfs=memdb", "a#b", "%"]
        {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn only_a_file_with_one_name_will_do() {
        let identity = Identity { device: 1, inode: 1 };
        let good = Found { identity, kind: Kind::File, links: 1, mounted: false };
        assert_eq!(good.check(), Ok(()));
        for bad in [
            Found { kind: Kind::Folder, ..good },
            Found { kind: Kind::Other, ..good },
            Found { links: 2, ..good },
            Found { links: 0, ..good },
            Found { mounted: true, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_database_is_another_when_any_of_its_files_is() {
        let bound = Files { named: A, real: A, log: B, index: B };
        for other in [None, B, ELSEWHERE] {
            for now in [
                Files { named: other, ..bound },
                Files { real: other, ..bound },
                Files { named: other, real: other, ..bound },
            ] {
                assert!(!bound.clone().still(now), "{now:?}");
            }
        }
        for other in [None, A, ELSEWHERE] {
            assert!(!bound.clone().still(Files { log: other, ..bound }));
            assert!(!bound.clone().still(Files { index: other, ..bound }));
        }
        assert!(bound.clone().still(bound));
    }

    #[test]
    fn a_log_that_came_later_is_remembered() {
        let mut bound = Files { named: A, real: A, log: None, index: None };
        let with_log = Files { log: B, index: B, ..bound };
        assert!(bound.still(with_log));
        assert!(!bound.still(Files { log: None, ..with_log }));
        assert_eq!(bound, with_log);
    }

    #[test]
    fn a_shared_folder_has_files_for_all_who_may_write_there() {
        for (folder, mode) in [
            (0o700, None),
            (0o755, None),
            (0o1755, None),
            (0o720, None), // may not enter
            (0o777, Some(0o666)),
            (0o1777, Some(0o666)),
            (0o2770, Some(0o660)),
            (0o3770, Some(0o660)),
            (0o2775, Some(0o660)),
            (0o775, Some(0o660)),
            (0o770, Some(0o666)),
            (0o1770, Some(0o666)),
        ] {
            assert_eq!(shared_mode(folder), mode, "{folder:o}");
        }
        let without = [0o700, 0o1700, 0o777, 0o2770, 0o1777, 0o3770].map(no_shared_log);
        assert_eq!(without, [false, false, false, false, true, true]);
    }
}

//! The system's information about files and the machine.

use lock_core::config::ConfigError;
use lock_core::sql::sqlite::file::{Found, Identity, Kind};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The identity of the file that a path leads to. `None` if there is no file.
pub(super) fn identity(path: &Path) -> Result<Option<Identity>, Error> {
    Ok(metadata(path)?.map(|about| Identity { device: about.dev(), inode: about.ino() }))
}

/// The identity of a file, and its properties that must be known before it is opened.
pub(super) fn stat(path: &Path) -> Result<Option<Found>, Error> {
    let found = |about: std::fs::Metadata| Found {
        identity: Identity { device: about.dev(), inode: about.ino() },
        kind: match about.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Folder,
            _ => Kind::Other,
        },
        links: about.nlink(),
        mounted: is_mounted(path),
    };
    Ok(metadata(path)?.map(found))
}

fn metadata(path: &Path) -> Result<Option<std::fs::Metadata>, Error> {
    match std::fs::metadata(path) {
        Ok(about) => Ok(Some(about)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// True if the file itself is a mount point. False if the kernel does not say.
#[cfg(target_os = "linux")]
fn is_mounted(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|about| about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
fn is_mounted(_path: &Path) -> bool {
    false
}

/// Gives a new file its name, unless something has that name.
#[cfg(target_os = "linux")]
pub(super) fn rename_new(new: &Path, path: &Path) -> Result<(), Error> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, new, CWD, path, RenameFlags::NOREPLACE)?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn rename_new(new: &Path, path: &Path) -> Result<(), Error> {
    std::fs::hard_link(new, path)?;
    std::fs::remove_file(new)
}

/// The kind of network file system that `folder` is on, if it is known to be one. The numbers are
/// those of statfs(2).
#[cfg(target_os = "linux")]
pub(super) fn network_file_system(folder: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(folder).ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    network(found.f_type as u32)
}

#[cfg(target_os = "linux")]
fn network(number: u32) -> Option<&'static str> {
    Some(match number {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9P",
        0x5346_414f => "AFS",
        0x00c3_6400 => "CephFS",
        0x0bd0_0bd0 => "Lustre",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn network_file_system(_folder: &Path) -> Option<&'static str> {
    None
}

/// Names the running kernel: the lease times in the file are of its clock.
#[cfg(target_os = "linux")]
pub fn boot() -> Result<String, ConfigError> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(|error| {
        ConfigError::System(format!("/proc/sys/kernel/random/boot_id: {error}"))
    })?;
    // A time namespace has a clock of its own, which the file's other users do not share.
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let shifted = |line: &str| {
        line.starts_with("boottime") && line.split_whitespace().skip(1).any(|n| n != "0")
    };
    if offsets.lines().any(shifted) {
        return Err(ConfigError::System(
            "this process runs in a time namespace, so its clock is not the machine's: use a database server".to_string(),
        ));
    }
    Ok(id.trim().to_string())
}

/// Names the running kernel: the lease times in the file are of its clock.
#[cfg(not(target_os = "linux"))]
pub fn boot() -> Result<String, ConfigError> {
    Err(ConfigError::System("SQLite locks need Linux for now: use a database server".to_string()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn file_systems_that_other_machines_may_use_are_known_by_their_numbers() {
        for (number, name) in [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xff53_4d42, "SMB"),
            (0xfe53_4d42, "SMB"),
            (0x0102_1997, "9P"),
            (0x5346_414f, "AFS"),
            (0x00c3_6400, "CephFS"),
            (0x0bd0_0bd0, "Lustre"),
            (0x0116_1970, "GFS2"),
            (0x7461_636f, "OCFS2"),
            (0x6573_5546, "FUSE"),
        ] {
            assert_eq!(network(number), Some(name));
        }
        // ext4, XFS, Btrfs, tmpfs, overlay, ZFS.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(network(local), None);
        }
    }
}

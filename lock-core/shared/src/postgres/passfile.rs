//! The file of passwords that libpq reads: `~/.pgpass`.
//!
//! A line is `HOST:PORT:DATABASE:USER:PASSWORD`. A field may be `*`, which fits anything. A backslash escapes a
//! colon or a backslash. The first line that fits counts.

use super::env::SOCKETS;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio_postgres::config::Host;

/// Longest content that is read, in bytes.
const MOST: u64 = 1 << 20;

/// The lines of a file of passwords.
#[derive(Default)]
pub(super) struct Passfile(Vec<u8>);

impl Passfile {
    /// Reads the file. It is ignored if other users may read it, and if it is no plain file. Without a file,
    /// there are no passwords.
    ///
    /// # Errors
    /// The file is ignored, and why. Also if it does not exist, but was `named`.
    pub(super) fn read(path: &Path, named: bool) -> Result<Self, String> {
        let ignored =
            |why: String| format!("the password file {} is ignored: {why}", path.display());
        // A pipe would have to be waited for.
        let about = match path.metadata() {
            Ok(about) => about,
            Err(error) if error.kind() == ErrorKind::NotFound && !named => {
                return Ok(Self::default());
            }
            Err(error) => return Err(ignored(error.to_string())),
        };
        if !about.is_file() {
            return Err(ignored("it is no plain file".to_string()));
        }
        if about.mode() & 0o077 != 0 {
            return Err(ignored(
                "its group or other users have rights to it (chmod 600)".to_string(),
            ));
        }
        let mut content = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut content));
        read.map_err(|error| ignored(error.to_string()))?;
        Ok(Self(content))
    }

    /// The password of a user at a host.
    pub(super) fn find(
        &self,
        host: &Host,
        port: u16,
        database: &str,
        user: &str,
    ) -> Option<Vec<u8>> {
        let port = port.to_string();
        names(host)
            .iter()
            .find_map(|host| {
                let wanted = [host, &*port, database, user];
                let mut lines = self.0.split(|byte| *byte == b'\n');
                lines.find_map(|line| password(line, wanted))
            })
            .filter(|password| !password.is_empty())
    }
}

/// The password of a user at a host, in a file with this `content`. Without a file, for tests.
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub fn password_in(
    content: &[u8],
    host: &Host,
    port: u16,
    database: &str,
    user: &str,
) -> Option<Vec<u8>> {
    Passfile(content.to_vec()).find(host, port, database, user)
}

/// The names of a host in the file. A Unix socket is also `localhost`, and in the default folder, first of all.
fn names(host: &Host) -> Vec<String> {
    match host {
        Host::Tcp(name) => vec![name.clone()],
        Host::Unix(folder) => {
            let name = folder.to_string_lossy().into_owned();
            let here = "localhost".to_string();
            let default = name == SOCKETS || name == SOCKETS.trim_start_matches("/var");
            if default { vec![here, name] } else { vec![name, here] }
        }
    }
}

/// The password in a line that fits.
fn password(line: &[u8], wanted: [&str; 4]) -> Option<Vec<u8>> {
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    if rest.starts_with(b"#") {
        return None;
    }
    for text in wanted {
        let (field, after) = field(rest)?;
        rest = after;
        if field != b"*" && unescaped(field) != text.as_bytes() {
            return None;
        }
    }
    Some(unescaped(rest))
}

/// The field before the next colon, and what follows that.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        match line.get(at)? {
            b':' => return Some((&line[..at], &line[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = field.iter();
    let mut text = Vec::with_capacity(field.len());
    while let Some(byte) = bytes.next() {
        text.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    const FILE: &str = "\
# db:5432:app:me:comment
db:5432:app:me:one
db:5433:*:me:two
c\\:\\\\:*:*:*:pass\\:with\\\\all:of it
*:*:*:you:
[::1]:*:*:*:never
::1:*:*:*:never
\\:\\:1:*:*:*:six
short:*:*
localhost:*:*:me:here\r
/run/other:*:*:me:there
*:6000:*:*:any
";

    fn find(host: Host, port: u16, database: &str, user: &str) -> Option<String> {
        let file = Passfile(FILE.as_bytes().to_vec());
        let found = file.find(&host, port, database, user);
        found.map(|password| String::from_utf8(password).expect("text"))
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let tcp = |name: &str| Host::Tcp(name.to_string());
        for (host, port, database, user, password) in [
            ("db", 5432, "app", "me", Some("one")),
            ("db", 5433, "else", "me", Some("two")),
            ("db", 5432, "app", "you", None),
            ("DB", 5432, "app", "me", None),
            ("c:\\", 1, "d", "u", Some("pass:with\\all:of it")),
            ("::1", 1, "d", "u", Some("six")),
            ("short", 1, "d", "u", None),
            ("localhost", 1, "d", "me", Some("here")),
            ("# db", 5432, "app", "me", None),
            ("far", 6000, "d", "u", Some("any")),
            ("far", 6000, "d", "you", None),
        ] {
            let found = find(tcp(host), port, database, user);
            assert_eq!(found.as_deref(), password, "{host}:{port}:{database}:{user}");
        }
    }

    #[test]
    fn a_unix_socket_is_localhost() {
        let unix = |folder: &str| find(Host::Unix(folder.into()), 5432, "d", "me");
        for folder in ["/var/run/postgresql", "/run/postgresql", "/tmp"] {
            assert_eq!(unix(folder).as_deref(), Some("here"), "{folder}");
        }
        assert_eq!(unix("/run/other").as_deref(), Some("there"));
    }

    /// As in libpq, for which the default folder has no name of its own.
    #[test]
    fn a_socket_in_the_default_folder_is_localhost_first_of_all() {
        let file = b"/var/run/postgresql:*:*:me:folder\n/run/postgresql:*:*:me:folder\n/tmp:*:*:me:folder\nlocalhost:*:*:me:here";
        let find = |folder: &str| {
            let found = password_in(file, &Host::Unix(folder.into()), 5432, "d", "me");
            String::from_utf8(found.expect("two lines fit")).expect("text")
        };
        assert_eq!(find("/var/run/postgresql"), "here");
        assert_eq!(find("/run/postgresql"), "here");
        assert_eq!(find("/tmp"), "folder");
    }

    #[test]
    fn a_file_that_others_may_read_is_ignored_with_a_word() {
        let folder = std::env::temp_dir().join(format!("passfile-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("pgpass");
        write(&path, FILE).expect("written");
        let with = |mode| {
            set_permissions(&path, Permissions::from_mode(mode)).expect("set");
            Passfile::read(&path, false).map(|file| file.0.len())
        };
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let word = with(mode).expect_err("ignored");
            assert!(word.contains("chmod 600") && word.contains("pgpass"), "{word}");
        }
        assert_eq!(with(0o600), Ok(FILE.len()));
        let none = folder.join("none");
        assert_eq!(Passfile::read(&none, false).map(|file| file.0.len()), Ok(0));
        assert!(Passfile::read(&none, true).is_err_and(|word| word.contains("none")));
        assert!(Passfile::read(&folder, false).is_err_and(|word| word.contains("plain file")));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}

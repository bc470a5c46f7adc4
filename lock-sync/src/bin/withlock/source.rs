//! The sources of the URL that names the place of the locks.

use crate::nested;
use crate::report::{printable, say};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{ioctl_fionbio, retry_on_intr};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The environment variable that contains the URL. The URL may contain a password, so the command does not
/// get the variable.
pub(crate) const URL: &str = "WITHLOCK_URL";
/// The environment variable that names a file with the URL.
pub(crate) const FILE: &str = "WITHLOCK_URL_FILE";
/// The application's own variable. The command keeps it.
const APPLICATION: &str = "PG_CONNECTION_STRING";
/// The name of a systemd credential.
const CREDENTIAL: &str = "withlock-url";
/// The file for all users of this machine.
const SYSTEM: &str = "/etc/withlock/url";

/// A wait for a file's content that takes longer is reported.
const SLOW: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// Longest content of a URL's file, in bytes.
const MOST: u64 = 16 << 10;

/// A URL, and its source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The option, variable or file that it was found in.
    pub(crate) source: String,
    pub(crate) url: String,
    /// True if an outer withlock handed the URL down.
    pub(crate) inherited: bool,
}

impl Found {
    /// Ignores white space around the URL, because secrets tend to end in a newline, and the byte order mark
    /// that some editors write.
    fn new(source: &str, text: &str) -> Result<Self, String> {
        let url = text.trim_start_matches('\u{feff}').trim();
        if url.is_empty() {
            return Err(format!("{source} is empty: put a URL into it, or remove it"));
        }
        if url.contains(char::is_control) {
            return Err(format!(
                "{source} contains more than one URL: put one URL there and nothing else"
            ));
        }
        Ok(Self { source: source.to_string(), url: url.to_string(), inherited: false })
    }
}

/// The URL of the first source, in the order of the help. `None` if nothing names a place.
pub(crate) fn find(option: Option<&str>) -> Result<Option<Found>, String> {
    first(option, |name| std::env::var_os(name), Path::new(SYSTEM))
}

fn first(
    option: Option<&str>,
    variable: impl Fn(&str) -> Option<OsString>,
    system: &Path,
) -> Result<Option<Found>, String> {
    if let Some(url) = option {
        return Found::new("--db", url).map(Some);
    }
    let text = |name: &str| {
        let text = variable(name).map(OsString::into_string).transpose();
        text.map_err(|_| format!("{name} is not UTF-8: put a URL into it"))
    };
    if let Some(url) = text(URL)? {
        return Found::new(URL, &url).map(Some);
    }
    if let Some(path) = variable(FILE) {
        if path.is_empty() {
            return Err(format!("{FILE} is empty: set it to the path of a file, or unset it"));
        }
        return named(Path::new(&path)).map(Some);
    }
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    let credential = folder("CREDENTIALS_DIRECTORY").map(|folder| folder.join(CREDENTIAL));
    let user = user.map(|folder| folder.join("withlock/url"));
    for path in [credential, user, Some(system.to_path_buf())].into_iter().flatten() {
        if let Some(text) = read(&path)? {
            return Found::new(&printable(&path), &text).map(Some);
        }
    }
    match text(APPLICATION)? {
        Some(url) => Found::new(APPLICATION, &url).map(Some),
        None => Ok(None),
    }
}

/// Reads a file that was named, and so must exist.
fn named(path: &Path) -> Result<Found, String> {
    if let Some(outer) = nested::Outer::of(path) {
        let text = if outer.is_there(path) { read(path).ok().flatten() } else { None };
        let text = text.ok_or_else(|| outer.silent())?;
        return Ok(Found { inherited: true, ..Found::new(FILE, &text)? });
    }
    match read(path)? {
        Some(text) => Found::new(&printable(path), &text),
        None => Err(format!(
            "{FILE} names {}, which does not exist: create the file, or unset the variable",
            printable(path)
        )),
    }
}

/// A file's text. `None` if the file does not exist. A file that exists and cannot be read is an error.
fn read(path: &Path) -> Result<Option<String>, String> {
    let mut text = String::new();
    let all = open(path).and_then(|file| file.take(MOST).read_to_string(&mut text));
    match all {
        Ok(_) => Ok(Some(text)),
        // A link to nothing exists, so it is an error.
        Err(error) if is_absent(&error) && path.symlink_metadata().is_err() => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(format!("{} is not UTF-8: put a URL into it", printable(path)))
        }
        Err(error) => Err(format!("{} cannot be read: {error}", printable(path))),
    }
}

/// Opens a file once there is something to read. Of a pipe that nobody writes to, it tells.
fn open(path: &Path) -> io::Result<File> {
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(at_once).open(path)?;
    let wait = |at_most: Option<&Timespec>| {
        retry_on_intr(|| poll(&mut [PollFd::new(&file, PollFlags::IN)], at_most))
    };
    if wait(Some(&SLOW))? == 0 {
        say!("waiting for somebody to write a URL to {}", printable(path));
        wait(None)?;
    }
    ioctl_fionbio(&file, false)?;
    Ok(file)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    /// Finds the source and the URL in a folder with these files, under these variables.
    fn found(
        files: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> Result<Option<(String, String)>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let path = folder.path().join(file);
            create_dir_all(path.parent().expect("a folder")).expect("made");
            write(path, text).expect("written");
        }
        let at = |value: &str| value.replace("DIR", &folder.path().display().to_string());
        let variable = |name: &str| {
            let value = variables.iter().find(|(variable, _)| *variable == name);
            value.map(|(_, value)| OsString::from(at(value)))
        };
        let found = first(None, variable, &folder.path().join("etc/withlock/url"));
        let plain = |text: String| text.replace(&at("DIR"), "DIR");
        found.map(|found| found.map(|found| (plain(found.source), found.url))).map_err(plain)
    }

    #[test]
    fn sources_come_in_the_order_of_the_help() {
        let mut files = vec![
            ("url", "sqlite:1\n"),
            ("cred/withlock-url", "sqlite:2\n"),
            ("xdg/withlock/url", "sqlite:3\n"),
            ("home/.config/withlock/url", "sqlite:4\n"),
            ("etc/withlock/url", "sqlite:5\n"),
        ];
        let mut variables = vec![
            ("WITHLOCK_URL", "sqlite:0"),
            ("WITHLOCK_URL_FILE", "DIR/url"),
            ("CREDENTIALS_DIRECTORY", "DIR/cred"),
            ("XDG_CONFIG_HOME", "DIR/xdg"),
            ("HOME", "DIR/home"),
            ("PG_CONNECTION_STRING", "sqlite:6"),
        ];
        let url = |files: &[_], variables: &[_]| {
            found(files, variables).expect("good").map(|(_, url)| url)
        };
        assert_eq!(url(&files, &variables).as_deref(), Some("sqlite:0"));
        variables.remove(0);
        assert_eq!(url(&files, &variables).as_deref(), Some("sqlite:1"));
        variables.remove(0);
        assert_eq!(url(&files, &variables).as_deref(), Some("sqlite:2"));
        // A unit may have other credentials.
        files.remove(1);
        assert_eq!(url(&files, &variables).as_deref(), Some("sqlite:3"));
        variables.remove(1);
        assert_eq!(url(&files, &variables).as_deref(), Some("sqlite:4"));
        variables.remove(1);
        assert_eq!(url(&files, &variables).as_deref(), Some("sqlite:5"));
        assert_eq!(url(&[], &variables).as_deref(), Some("sqlite:6"));
        assert_eq!(url(&[], &[]), None);
        assert_eq!(url(&[], &[("HOME", "/dev/null"), ("CREDENTIALS_DIRECTORY", "DIR")]), None);
    }

    /// Says the XDG specification. It would be another one in each folder.
    #[test]
    fn a_folder_that_is_not_an_absolute_path_is_none() {
        let own = tempfile::Builder::new().prefix("relative-").tempdir_in(".").expect("a folder");
        create_dir_all(own.path().join("withlock")).expect("made");
        write(own.path().join("withlock/url"), "sqlite:1").expect("written");
        write(own.path().join("withlock-url"), "sqlite:2").expect("written");
        let relative = own.path().file_name().and_then(|name| name.to_str()).expect("a name");
        let home = [("home/.config/withlock/url", "sqlite:3")];
        for name in ["XDG_CONFIG_HOME", "CREDENTIALS_DIRECTORY"] {
            let variables = [(name, relative), ("HOME", "DIR/home")];
            let (_, url) = found(&home, &variables).expect("good").expect("there");
            assert_eq!(url, "sqlite:3", "{name}");
        }
    }

    /// A place that was meant is never passed over for the next one.
    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_never_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        write(path("latin1"), b"sqlite:caf\xe9").expect("written");
        assert_eq!(read(&path("none")), Ok(None));
        assert_eq!(read(&path("latin1/none")), Ok(None));
        let latin = read(&path("latin1")).expect_err("not UTF-8");
        assert!(latin.contains("not UTF-8"), "{latin}");
        let long = read(&path(&"n".repeat(300))).expect_err("too long a name");
        assert!(long.contains("cannot be read"), "{long}");
    }

    /// Some have no end.
    #[test]
    fn a_file_is_read_only_as_far_as_a_url_may_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("url");
        File::create(&path).and_then(|file| file.set_len(3 * MOST)).expect("made");
        let length = read(&path).expect("read").map(|text| text.len());
        assert_eq!(length, usize::try_from(MOST).ok());
    }

    #[test]
    fn an_empty_source_is_an_error_and_never_none() {
        for variable in ["WITHLOCK_URL", "WITHLOCK_URL_FILE", "PG_CONNECTION_STRING"] {
            for value in ["", " \n"] {
                let error = found(&[], &[(variable, value)]).expect_err(variable);
                assert!(error.contains(variable), "{error}");
            }
        }
        for file in ["cred/withlock-url", "xdg/withlock/url", "etc/withlock/url"] {
            let variables = [("CREDENTIALS_DIRECTORY", "DIR/cred"), ("XDG_CONFIG_HOME", "DIR/xdg")];
            let error = found(&[(file, "\n")], &variables).expect_err(file);
            assert!(error.starts_with(&format!("DIR/{file} is empty")), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_an_error_and_not_skipped() {
        let named = |path| found(&[("folder/x", "")], &[("WITHLOCK_URL_FILE", path)]);
        assert!(
            named("DIR/none")
                .expect_err("missing")
                .contains("names DIR/none, which does not exist")
        );
        assert!(named("DIR/folder").expect_err("a folder").contains("DIR/folder"));
        let folder = [("etc/withlock/url/x", "")];
        assert!(found(&folder, &[]).expect_err("a folder").contains("etc/withlock/url"));
        let two = found(&[("etc/withlock/url", "sqlite:a\nsqlite:hunter2\n")], &[]);
        let error = two.expect_err("two URLs");
        assert!(error.contains("more than one URL") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_surrounds_a_url_is_no_part_of_it() {
        for text in
            ["sqlite:a", "sqlite:a\n", "sqlite:a\r\n", "\u{feff}sqlite:a\r\n", " \n\tsqlite:a \n\n"]
        {
            let cred = [("cred/withlock-url", text)];
            let (_, url) = found(&cred, &[("CREDENTIALS_DIRECTORY", "DIR/cred")])
                .expect("good")
                .expect("there");
            assert_eq!(url, "sqlite:a", "{text:?}");
            let (_, url) = found(&[], &[("WITHLOCK_URL", text)]).expect("good").expect("there");
            assert_eq!(url, "sqlite:a", "{text:?}");
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("url");
        std::os::unix::fs::symlink("nowhere", &link).expect("linked");
        first(None, |_| None, &link).expect_err("it was meant to be there");
    }
}

//! The place where locks are kept.

use crate::args::Args;
use crate::label::label;
use crate::manual;
use crate::nested::{Outer, PLACE, astray};
use crate::report::{printable, say};
use crate::source::{FILE, Found, URL, find};
use lock_sync::{Config, TableName};
use std::env::{var, var_os};
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A place, and the settings of its locks.
pub(crate) struct Place {
    pub(crate) config: Config,
    /// The place as a URL that is valid in any folder. It may contain a password.
    pub(crate) url: String,
    /// This user's own file, if no place was named.
    pub(crate) own: Option<PathBuf>,
}

impl Place {
    /// Finds the place in the command line, the environment or a file.
    pub(crate) fn of(args: &Args) -> Result<Self, String> {
        let place = match find(args.db.as_deref())? {
            Some(found) => {
                let place = Self::at(&found)?;
                if let Some(warning) = place.config.warning().filter(|_| !args.quiet) {
                    say!("{warning}");
                }
                place
            }
            None if args.ddl => Self::file(PathBuf::from("locks.db")),
            None => match astray() {
                Some(message) => return Err(message),
                None => {
                    let (folder, file) = default_file()?;
                    if let Some(doubt) = doubt().filter(|_| !args.quiet) {
                        say!(
                            "no place is configured, so locks are kept in this user's own file{doubt}"
                        );
                    }
                    // `--list` and the like create no folder.
                    if args.runs() {
                        make(&folder)?;
                    }
                    Self::file(file)
                }
            },
        };
        let Self { mut config, mut url, own } = place;
        if let Some(table) = &args.table {
            config = config.table(TableName::new(table).map_err(|error| error.to_string())?);
            url = with_setting(&url, "table", table);
        }
        if let Some(protocol) = args.protocol {
            config = config.protocol(protocol);
            url = with_setting(&url, "protocol", &protocol);
        }
        Ok(Self { config: settled(config, args), url, own })
    }

    fn at(found: &Found) -> Result<Self, String> {
        let Found { source, url, inherited } = found;
        let config = Config::from_url_and_env(url).map_err(|error| format!("{source}: {error}"))?;
        if *inherited && var(PLACE).ok() != Some(config.place()) {
            let outer = var_os(FILE).and_then(|path| Outer::of(Path::new(&path)));
            return Err(outer.map(|outer| outer.elsewhere()).unwrap_or_default());
        }
        Ok(Self { config, url: absolute(url)?, own: None })
    }

    fn file(path: PathBuf) -> Self {
        let config = Config::sqlite(path.clone());
        let url = config.place();
        Self { config, url, own: Some(path) }
    }
}

/// Adds the settings that do not belong to the place.
fn settled(config: Config, args: &Args) -> Config {
    let config = match &args.label {
        Some(label) => config.label(label),
        None => config.default_label(label(&args.command)),
    };
    match args.ttl {
        Some(ttl) => config.ttl(ttl),
        None => config,
    }
}

/// Gives a URL a setting, in place of the one that it may have: a URL that has it twice is refused.
fn with_setting(url: &str, setting: &str, value: &dyn Display) -> String {
    let (place, settings) = url.split_once('?').unwrap_or((url, ""));
    let is_other = |it: &&str| !it.is_empty() && it.split('=').next() != Some(setting);
    let others: String = settings.split('&').filter(is_other).map(|it| format!("{it}&")).collect();
    format!("{place}?{others}{setting}={value}")
}

/// Makes the path in an SQLite URL absolute.
fn absolute(url: &str) -> Result<String, String> {
    let path = url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
    match path {
        Some(path) if !path.starts_with('/') => {
            let folder = std::env::current_dir()
                .map_err(|error| format!("the current folder cannot be found: {error}"))?;
            Ok(format!("{}/{path}", Config::sqlite(folder).place()))
        }
        _ => Ok(url.to_string()),
    }
}

/// The program's name, for messages. Arguments may be secret.
pub(crate) fn shown(command: &[OsString]) -> String {
    let name = command.first().map(printable).unwrap_or_default();
    if name.is_empty() { "\"\"".to_string() } else { name }
}

/// Why this user's own file may not be the place that was meant: the end of a sentence.
fn doubt() -> Option<String> {
    let sudo = behind_sudo().map(|who| {
        format!(
            ", which {who}'s commands do not use: name a place with --db or in /etc/withlock/url"
        )
    });
    sudo.or_else(|| {
        let name = std::env::vars_os().map(|(name, _)| name).find(misnamed)?;
        let name = printable(name);
        Some(format!("; {name} means nothing to withlock: name a place with --db or {URL}"))
    })
}

/// True for a variable that could be meant to name the place, and is never read.
fn misnamed(variable: &OsString) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("WITHLOCK_") && !manual::has(&name)
}

/// The user that became this one by sudo. sudo drops variables and changes the home, so that user's own
/// commands are unlikely to use this user's file.
fn behind_sudo() -> Option<String> {
    let uid: u32 = var("SUDO_UID").ok()?.parse().ok()?;
    let is_other = uid != rustix::process::getuid().as_raw();
    is_other.then(|| printable(var_os("SUDO_USER").unwrap_or_else(|| uid.to_string().into())))
}

/// This user's folder and the file in it.
fn default_file() -> Result<(PathBuf, PathBuf), String> {
    let absolute = |name: &str| var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let folder = state
        .ok_or("no place is configured, and neither XDG_STATE_HOME nor HOME is an absolute path: name a place with --db, WITHLOCK_URL or /etc/withlock/url")?
        .join("withlock");
    let file = folder.join("locks.db");
    Ok((folder, file))
}

/// Creates a folder that only this user can enter.
fn make(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        format!(
            "the folder {} cannot be created: {error}; name another place with --db sqlite:FILE",
            printable(folder)
        )
    })
}

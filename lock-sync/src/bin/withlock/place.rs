//! Where locks are kept.

use crate::args::Args;
use crate::label::label;
use crate::report::printable;
use lock_sync::{Config, ConfigError, TableName};
use std::ffi::OsString;
use std::path::PathBuf;

/// The environment variables that may hold a URL with a password in it. The command does not get
/// them.
pub(crate) const URLS: [&str; 2] = ["WITHLOCK_URL", "PG_CONNECTION_STRING"];

const TOKEN: &str = "CONSUL_HTTP_TOKEN";

pub(crate) fn configure(args: &Args) -> Result<Config, String> {
    let config = match given_url(args)? {
        Some(url) => {
            with_token(url.parse().map_err(|error: ConfigError| error.to_string())?, &url)?
        }
        None if args.ddl => Config::sqlite("locks.db"),
        None => Config::sqlite(default_file()?),
    };
    let config = match &args.label {
        Some(label) => config.label(label),
        None => config.default_label(label(&args.command)),
    };
    let config = match &args.table {
        Some(table) => config.table(TableName::new(table).map_err(|error| error.to_string())?),
        None => config,
    };
    let config = match args.protocol {
        Some(protocol) => config.protocol(protocol),
        None => config,
    };
    Ok(match args.ttl {
        Some(ttl) => config.ttl(ttl),
        None => config,
    })
}

/// With Consul's token from where Consul's own tools look for it, if there is none in the URL.
fn with_token(config: Config, url: &str) -> Result<Config, String> {
    if !url.starts_with("consul:") || url.contains("token=") {
        return Ok(config);
    }
    match std::env::var(TOKEN) {
        Ok(token) if !token.is_empty() => Ok(config.token(token)),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{TOKEN} is not UTF-8")),
        _ => Ok(config),
    }
}

/// The program alone: arguments may be secret.
pub(crate) fn shown(command: &[OsString]) -> String {
    command.first().map(printable).unwrap_or_default()
}

fn given_url(args: &Args) -> Result<Option<String>, String> {
    if args.db.is_some() {
        return Ok(args.db.clone());
    }
    for name in URLS {
        match std::env::var(name) {
            Ok(url) if !url.is_empty() => return Ok(Some(url)),
            Err(std::env::VarError::NotUnicode(_)) => return Err(format!("{name} is not UTF-8")),
            _ => {}
        }
    }
    Ok(None)
}

/// This user's file, in a folder that nobody else can look into.
fn default_file() -> Result<PathBuf, String> {
    use std::os::unix::fs::DirBuilderExt;
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let folder = state
        .ok_or("neither XDG_STATE_HOME nor HOME is set: name a place with --db sqlite:FILE")?
        .join("withlock");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| {
        format!("{}: {error}; name another place with --db sqlite:FILE", folder.display())
    })?;
    Ok(folder.join("locks.db"))
}

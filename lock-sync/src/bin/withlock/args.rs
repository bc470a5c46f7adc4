//! The command line.

use clap::Parser;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::time::Duration;

/// Runs a command while holding a lock, so that no two run at once.
#[derive(Debug, Parser)]
#[command(name = "withlock", version, after_help = CODES, override_usage = "withlock [OPTIONS] NAME -- COMMAND [ARGUMENT]...")]
pub(crate) struct Args {
    /// The lock's name: 1 to 255 bytes, compared byte by byte
    #[arg(required_unless_present = "ddl")]
    pub(crate) name: Option<String>,

    /// Where locks are kept: postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or
    /// sqlite:FILE. A password is safer in the environment, where other users cannot see it:
    /// WITHLOCK_URL, else PG_CONNECTION_STRING. Without any: an SQLite file of this user's, for this machine
    #[arg(long, value_name = "URL")]
    pub(crate) db: Option<String>,

    /// Do not wait: if somebody else has the lock, exit with 75
    #[arg(long = "try", conflicts_with = "wait")]
    pub(crate) once: bool,

    /// Wait that long at most ("30s", "5m"), then exit with 124. Without, wait as long as it takes
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,

    /// If somebody else has the lock (with --wait: all that time), exit with 0
    #[arg(long)]
    pub(crate) skip: bool,

    /// How long the lock stays taken if this machine dies; renewed while the command runs [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) ttl: Option<Duration>,

    /// The table that locks are kept in [default: locks]
    #[arg(long, value_name = "[SCHEMA.]NAME")]
    pub(crate) table: Option<String>,

    /// Shown to those who wait for the lock [default: the command]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,

    /// Exit with this code instead of 75 or 124
    #[arg(short = 'E', long, value_name = "CODE")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// Say on standard error what happens, also without a terminal
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print the statement that creates the table, and exit
    #[arg(long)]
    pub(crate) ddl: bool,

    /// What to run, not through a shell
    #[arg(last = true, required_unless_present = "ddl", value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

const CODES: &str = "\
The command's exit code is passed on; 128+n if signal n ended it. withlock's own:
   75  --try: somebody else has the lock        123  the lock was lost; the command was stopped
  124  --wait: somebody else had it all along   125  withlock itself failed
  126  COMMAND cannot be executed               127  COMMAND was not found

The command finds WITHLOCK_NAME and WITHLOCK_FENCE in its environment; the fence is a number that is
higher at every grant of the lock. Signals are passed to it, and when the lock is lost it gets TERM,
then KILL before the lease counts as over. Standard output is the command's alone.";

/// Why there is nothing to run.
pub(crate) enum Stop {
    /// Something was asked for that is printed.
    Print(String),
    /// The command line makes no sense.
    Usage(String),
}

pub(crate) fn parse() -> Result<Args, Stop> {
    Args::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Stop::Print(error.render().to_string())
        }
        _ => Stop::Usage(one_line(&error.render().to_string())),
    })
}

/// What is wrong and what to do, without the usage that clap repeats.
fn one_line(error: &str) -> String {
    let end = ["\n\nUsage:", "\n\n  tip:", "\n\nFor more information"]
        .iter()
        .filter_map(|mark| error.find(mark))
        .min();
    let said: Vec<_> = error[..end.unwrap_or(error.len())].split_whitespace().collect();
    format!("{}; see 'withlock --help'", said.join(" ").trim_start_matches("error: "))
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write for example 30s, 5m or 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn errors_are_one_line() {
        let error = Args::try_parse_from(["withlock", "a", "--nope", "--", "true"])
            .expect_err("unknown option");
        let line = one_line(&error.render().to_string());
        assert!(
            !line.contains('\n') && line.contains("--nope") && line.contains("--help"),
            "{line}"
        );
    }
}

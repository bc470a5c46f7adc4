//! The command line.

use crate::ending::OnLost;
use crate::help;
use clap::error::ErrorKind;
use clap::{ArgGroup, CommandFactory, Parser};
use clap_complete::Shell;
use lock_core::duration;
use lock_sync::Protocol;
use std::ffi::OsString;
use std::time::Duration;

/// Runs a command while holding a lock, so that no two run at once.
#[derive(Debug, Parser)]
#[command(
    name = "withlock",
    version,
    override_usage = "withlock [OPTIONS] NAME -- COMMAND [ARGUMENT]...",
    after_help = help::AFTER,
    group = ArgGroup::new("instead").multiple(false).conflicts_with("command")
)]
pub(crate) struct Args {
    /// The lock's name: 1 to 255 bytes, compared byte by byte
    #[arg(required_unless_present_any = ["dashed", "list", "purge", "ddl", "completions", "man"])]
    name: Option<String>,

    /// The same, for a name that begins with a dash
    #[arg(
        long = "name",
        value_name = "NAME",
        allow_hyphen_values = true,
        conflicts_with = "name",
        hide_short_help = true
    )]
    dashed: Option<String>,

    /// What to run, not through a shell
    #[arg(last = true, required_unless_present = "instead", value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// Where locks are kept: postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE,
    /// consul://HOST/PREFIX or sqlite:FILE. Other users can see it here: for a password, see below
    #[arg(long, value_name = "URL", help_heading = "Where")]
    pub(crate) db: Option<String>,

    /// How they are kept: table, advisory or session [default: session on Consul, else table]
    #[arg(long, value_name = "HOW", value_parser = protocol, help_heading = "Where")]
    pub(crate) protocol: Option<Protocol>,

    /// The table that locks are kept in [default: locks]
    #[arg(long, value_name = "[SCHEMA.]NAME", help_heading = "Where")]
    pub(crate) table: Option<String>,

    /// Do not wait: if somebody else has the lock, exit with 75
    #[arg(short = 'n', long = "try", conflicts_with = "wait", help_heading = "Waiting")]
    pub(crate) once: bool,

    /// Wait that long at most, then exit with 124. Without, wait as long as it takes
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true, help_heading = "Waiting")]
    pub(crate) wait: Option<Duration>,

    /// If somebody else has the lock (with --wait: all that time), exit with 0
    #[arg(long, help_heading = "Waiting")]
    pub(crate) skip: bool,

    /// Exit with this code instead of 75 or 124
    #[arg(short = 'E', long, value_name = "CODE", help_heading = "Waiting")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// Share the lock with others that say --shared; PostgreSQL's advisory locks can
    #[arg(short, long, help_heading = "Holding")]
    pub(crate) shared: bool,

    /// How long the lock stays taken if this machine dies; renewed while the command runs [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) ttl: Option<Duration>,

    /// Keep the lock at least that long, also if the command ends sooner: for jobs that are done before
    /// the clocks of other machines have struck
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) min_hold: Option<Duration>,

    /// What the command gets when the lock can no longer be kept. term: TERM, and KILL by the end of the
    /// lease; kill: only KILL; ignore: nothing
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help_heading = "Holding"
    )]
    pub(crate) on_lost: OnLost,

    /// How long before KILL comes TERM [default: a sixth of the TTL]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) grace: Option<Duration>,

    /// Shown to those who wait for the lock [default: the program or script, without arguments]
    #[arg(long, value_name = "TEXT", help_heading = "Holding")]
    pub(crate) label: Option<String>,

    /// Show the locks that are held
    #[arg(long, group = "instead", conflicts_with_all = ["name", "dashed"], help_heading = "Instead of a command")]
    pub(crate) list: bool,

    /// Show who holds NAME: exit code 75 if somebody does, 0 if it is free
    #[arg(long, group = "instead", help_heading = "Instead of a command")]
    pub(crate) status: bool,

    /// Take NAME from whoever holds it: the holder is told that it has lost, and the fence rises. Exit
    /// code 0 when it is free, 75 if it was left alone
    #[arg(long = "break", group = "instead", help_heading = "Instead of a command")]
    pub(crate) break_hold: bool,

    /// Break it without asking
    #[arg(long, requires = "break_hold", help_heading = "Instead of a command")]
    pub(crate) yes: bool,

    /// Remove what is kept of locks that are free and were not taken for that long [default: 30d]
    #[arg(
        long,
        group = "instead",
        value_name = "TIME",
        value_parser = duration::parse,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30d",
        conflicts_with_all = ["name", "dashed"],
        help_heading = "Instead of a command"
    )]
    pub(crate) purge: Option<Duration>,

    /// Show locks as JSON, also on a terminal
    #[arg(long, help_heading = "Instead of a command")]
    pub(crate) json: bool,

    /// Print the statement that creates the table
    #[arg(long, group = "instead", help_heading = "Instead of a command")]
    pub(crate) ddl: bool,

    /// Say on standard error what happens, also without a terminal
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print what a shell needs to complete withlock's options: bash, elvish, fish, powershell or zsh
    #[arg(
        long,
        value_name = "SHELL",
        group = "instead",
        exclusive = true,
        hide_short_help = true,
        hide_possible_values = true,
        help_heading = "Instead of a command"
    )]
    pub(crate) completions: Option<Shell>,

    /// Print the manual page, for "man -l -"
    #[arg(
        long,
        group = "instead",
        exclusive = true,
        hide_short_help = true,
        help_heading = "Instead of a command"
    )]
    pub(crate) man: bool,
}

impl Args {
    /// The lock's name, however it was given.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().or(self.dashed.as_deref()).unwrap_or_default()
    }
}

/// Why there is nothing to run.
pub(crate) enum Stop {
    /// Help was asked for, or the version.
    Print(clap::Error),
    /// The command line makes no sense.
    Usage(String),
}

pub(crate) fn parse() -> Result<Args, Stop> {
    Args::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Print(error),
        _ => Stop::Usage(one_line(&error.render().to_string())),
    })
}

/// The definition of the command line, for what is made from it.
pub(crate) fn definition() -> clap::Command {
    Args::command()
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

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    text.parse().map_err(|_| "must be table, advisory or session")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
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

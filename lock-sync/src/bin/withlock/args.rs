//! The command line.

mod begin;
mod fault;
mod fit;

use crate::ending::OnLost;
use crate::help;
use clap::error::ErrorKind;
use clap::{ArgGroup, CommandFactory, FromArgMatches, Parser};
use clap_complete::Shell;
use lock_core::duration::{self, DurationError};
use lock_sync::Protocol;
use std::ffi::OsString;
use std::time::Duration;

/// Nobody means a longer time, and it can be added to a clock.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Runs a command while holding a lock, so that no two run at once.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "withlock",
    version,
    override_usage = "withlock [OPTIONS] NAME [--] COMMAND [ARGUMENT]...",
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

    /// The command to run, not through a shell. Options come before it; "--" may, and must if the command has one of its own
    #[arg(last = true, required_unless_present = "instead", value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// Where locks are kept: postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE,
    /// consul://HOST/PREFIX or sqlite:FILE. Other users can see it here: a
    /// password belongs into WITHLOCK_URL or a file
    #[arg(long, value_name = "URL", help_heading = "Where")]
    pub(crate) db: Option<String>,

    /// How they are kept: table, advisory or session [default: session on Consul, else table]
    #[arg(long, value_name = "HOW", value_parser = protocol, help_heading = "Where")]
    pub(crate) protocol: Option<Protocol>,

    /// The table that locks are kept in [default: locks]
    #[arg(long, value_name = "[SCHEMA.]NAME", help_heading = "Where")]
    pub(crate) table: Option<String>,

    /// Do not wait: if somebody else has the lock, exit with 75 (with --skip: 0)
    #[arg(short = 'n', long = "try", conflicts_with = "wait", help_heading = "Waiting")]
    pub(crate) once: bool,

    /// Wait that long at most, then exit with 124. Without, wait as long as it takes. A server that cannot be reached
    /// is waited for, too; if it stays away, exit with 125. A server that says nothing ends the wait up to two seconds late
    #[arg(short, long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Waiting")]
    pub(crate) wait: Option<Duration>,

    /// If somebody else has the lock (with --wait: all that time), exit with 0. Without --wait, do not wait
    #[arg(long, help_heading = "Waiting")]
    pub(crate) skip: bool,

    /// Exit with this code instead of 75 or 124
    #[arg(short = 'E', long, value_name = "CODE", help_heading = "Waiting")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// Share the lock with others that say --shared; PostgreSQL's advisory locks can
    #[arg(short, long, help_heading = "Holding")]
    pub(crate) shared: bool,

    /// How long the lock stays taken if this machine dies; renewed while the command runs [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) ttl: Option<Duration>,

    /// Keep the lock at least that long, also if the command ends sooner: for jobs that are done before
    /// the clocks of other machines have struck
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Holding")]
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

    /// How long before KILL comes TERM, with --on-lost term [default: a sixth of the TTL]
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) grace: Option<Duration>,

    /// Shown to waiters for the lock, after host and process id, 255 bytes in all [default: the program or
    /// script, without arguments]
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
    #[arg(long, help_heading = "Instead of a command")]
    pub(crate) yes: bool,

    /// Remove the rows of locks that are free and were not taken for that long, an hour at least [default: 30d]
    #[arg(
        long,
        group = "instead",
        value_name = "TIME",
        value_parser = unused,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30d",
        conflicts_with_all = ["name", "dashed"],
        help_heading = "Instead of a command"
    )]
    pub(crate) purge: Option<Duration>,

    /// Show locks as JSON
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

    /// Whether a command is to be run, and not something done instead.
    pub(crate) fn runs(&self) -> bool {
        !self.command.is_empty()
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
    read(std::env::args_os().collect())
}

fn read(words: Vec<OsString>) -> Result<Args, Stop> {
    let usage = |message: String| Stop::Usage(format!("{message}; see 'withlock --help'"));
    let mut definition = definition();
    definition.build();
    let words = begin::with_dashes(words, &definition).map_err(usage)?;
    let stop = |error: clap::Error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Print(error),
        _ => usage(fault::line(&error, &words)),
    };
    let matches = definition.try_get_matches_from(&words).map_err(stop)?;
    let args = Args::from_arg_matches(&matches).map_err(stop)?;
    fit::check(&args, &matches).map_err(usage)?;
    Ok(args)
}

/// The definition of the command line, for what is made from it.
pub(crate) fn definition() -> clap::Command {
    Args::command()
}

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    text.parse().map_err(|_| "must be table, advisory or session")
}

fn time(text: &str) -> Result<Duration, DurationError> {
    duration::parse(text)
        .and_then(|time| if time > LONGEST { Err(DurationError::TooLong) } else { Ok(time) })
}

/// How long a row must have been unused before it goes.
fn unused(text: &str) -> Result<Duration, String> {
    let time = time(text).map_err(|error| error.to_string())?;
    lock_core::admin::Question::purge(time).map_err(|error| error.to_string())?;
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }

    fn usage(line: &str) -> String {
        match read(line.split(' ').map(OsString::from).collect()) {
            Err(Stop::Usage(message)) => message,
            Err(Stop::Print(error)) => panic!("{line}: {error}"),
            Ok(args) => panic!("{line}: {args:?}"),
        }
    }

    #[test]
    fn errors_are_one_line() {
        for line in ["w a --nope -- true", "w a", "w", "w a -w", "w --list a"] {
            let message = usage(line);
            assert!(!message.contains('\n') && message.contains("--help"), "{message}");
        }
    }

    #[test]
    fn a_word_that_is_nearly_right_is_told_the_right_one() {
        for (line, says) in [
            ("w a --trry -- true", "did you mean --try?"),
            ("w a --trry make", "did you mean --try?"),
            ("w --lst", "did you mean --list?"),
            ("w a --on-lost kil -- true", "did you mean kill?"),
            ("w --completions bsh", "did you mean bash?"),
        ] {
            assert!(usage(line).contains(says), "{}", usage(line));
        }
        assert!(!usage("w a --xyzzy -- true").contains("mean"));
        assert!(usage("w a").contains("write: withlock NAME COMMAND"));
        assert!(!usage("w --status").contains("COMMAND"), "{}", usage("w --status"));
    }

    #[test]
    fn an_option_that_would_do_nothing_is_an_error() {
        let definition = definition();
        let word = |arg: &clap::Arg| {
            let long = arg.get_long()?;
            let value = match arg.get_id().as_str() {
                "db" => "=sqlite:x",
                "protocol" => "=table",
                "on_lost" => "=kill",
                "conflict_exit_code" => "=3",
                "table" | "label" | "dashed" => "=x",
                "purge" => "=30d",
                _ if arg.get_action().takes_values() => "=5s",
                _ => "",
            };
            Some(format!("--{long}{value}"))
        };
        let instead = ["--list", "--status x", "--break x", "--purge", "--ddl"];
        let mut accepted = Vec::new();
        for mode in instead {
            for option in definition.get_arguments().filter_map(word) {
                let line = format!("w {option} {mode}");
                if read(line.split(' ').map(OsString::from).collect()).is_ok() {
                    accepted.push(format!("{mode} {option}"));
                }
            }
        }
        let where_ = ["--db=sqlite:x", "--protocol=table", "--table=x"];
        let how = [
            &["--json", "--verbose"][..],
            &["--conflict-exit-code=3", "--json", "--verbose", "--quiet"],
            &["--conflict-exit-code=3", "--yes", "--verbose", "--quiet"],
            &["--verbose", "--quiet"],
            &[],
        ];
        let expected: Vec<_> = instead
            .into_iter()
            .zip(how)
            .flat_map(|(mode, how)| where_.iter().chain(how).map(move |o| format!("{mode} {o}")))
            .collect();
        assert_eq!(accepted, expected);
        for (line, says) in [
            ("w --skip -E 3 a -- true", "exits with 0"),
            ("w --grace 1s --on-lost kill a -- true", "sends no TERM"),
            ("w --grace 1s --on-lost ignore a -- true", "no signal"),
            ("w --json a -- true", "--list or --status"),
            ("w --yes a -- true", "--break"),
            ("w --status --json --quiet a", "--quiet"),
            ("w --list --ttl 5s", "--ttl cannot be used with --list, where it would do nothing"),
            ("w --ddl a", "NAME"),
        ] {
            assert!(usage(line).contains(says), "{}", usage(line));
        }
    }

    #[test]
    fn a_time_that_cannot_be_meant_is_an_error() {
        assert!(usage("w --purge=1s").contains("1h"), "{}", usage("w --purge=1s"));
        for option in ["--wait", "--min-hold", "--ttl", "--grace"] {
            let message = usage(&format!("w {option} 99999999999 a -- true"));
            assert!(message.contains("too long"), "{message}");
        }
    }
}

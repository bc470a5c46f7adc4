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
use lock_sync::{LockName, Protocol};
use std::ffi::OsString;
use std::time::Duration;

/// The longest time that an option takes. A clock can be moved by it without an overflow.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Runs a command while holding a lock, so that only one runs at a time.
#[derive(Debug, Parser)]
#[command(
    name = "withlock",
    version,
    override_usage = "withlock [OPTIONS] NAME [--] COMMAND [ARGUMENT]...",
    after_help = help::AFTER,
    group = ArgGroup::new("instead").multiple(false).conflicts_with("command")
)]
pub(crate) struct Args {
    /// Name of the lock: 1 to 255 bytes, compared byte by byte
    #[arg(required_unless_present_any = ["dashed", "list", "purge", "ddl", "completions", "man"])]
    name: Option<String>,

    /// Name of the lock, if it begins with a dash
    #[arg(
        long = "name",
        value_name = "NAME",
        allow_hyphen_values = true,
        conflicts_with = "name",
        hide_short_help = true
    )]
    dashed: Option<String>,

    /// Command to run, without a shell. Options come before it. A "--" before it is needed only if the command has a "--"
    /// of its own
    #[arg(last = true, required_unless_present = "instead", value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// Keep locks there: postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE,
    /// consul://HOST/PREFIX or sqlite:FILE. HOST may be several, as in db1,db2:5433. Other users can read this
    /// option with ps, so put a password into WITHLOCK_URL or a file instead
    #[arg(long, value_name = "URL", help_heading = "Where")]
    pub(crate) db: Option<String>,

    /// Keep locks as table, advisory or session, or as the npm package node-distributed-lock or sql-lock does [default:
    /// session on Consul, else table]
    #[arg(long, value_name = "HOW", value_parser = protocol, help_heading = "Where")]
    pub(crate) protocol: Option<Protocol>,

    /// Keep locks in this table [default: locks]
    #[arg(long, value_name = "[SCHEMA.]NAME", help_heading = "Where")]
    pub(crate) table: Option<String>,

    /// Do not wait: exit with 75 if someone else holds the lock
    #[arg(short = 'n', long = "try", conflicts_with = "wait", help_heading = "Waiting")]
    pub(crate) once: bool,

    /// Wait at most TIME, then exit with 124, or with 125 if the server could not be reached. A silent server ends
    /// the wait up to two seconds late. The default is to wait without a limit
    #[arg(short, long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Waiting")]
    pub(crate) wait: Option<Duration>,

    /// Exit with 0, without running the command, if someone else holds the lock. Implies --try, unless --wait is given
    #[arg(long, help_heading = "Waiting")]
    pub(crate) skip: bool,

    /// Exit with CODE instead of 75 or 124
    #[arg(short = 'E', long, value_name = "CODE", value_parser = code, help_heading = "Waiting")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// Let COUNT commands run at a time: the lock is one of COUNT permits, whose number COMMAND finds in WITHLOCK_PERMIT.
    /// All who use NAME so should give the same COUNT. Without this option, NAME is another lock
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(LockName::MAX_PERMITS)),
        conflicts_with_all = ["shared", "and"],
        help_heading = "Holding"
    )]
    pub(crate) permits: Option<u32>,

    /// Hold this lock, too: all or none. May be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "shared", help_heading = "Holding")]
    pub(crate) and: Vec<String>,

    /// Share the lock with others that say --shared. Only PostgreSQL's advisory locks can be shared
    #[arg(short, long, help_heading = "Holding")]
    pub(crate) shared: bool,

    /// Lead for as long as there is a way: stand by until the lock is free, run COMMAND while withlock has it, and after a loss
    /// or --max-hold do so again, with a new fence. A COMMAND that ends by itself ends withlock, with its exit code
    #[arg(long, help_heading = "Holding")]
    pub(crate) leader: bool,

    /// Lease time: how long the lock stays held if this machine dies. The lease is renewed while the command runs
    /// [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) ttl: Option<Duration>,

    /// Keep the lock for at least TIME, even if the command ends sooner. A quick job then runs once although the
    /// clocks of its machines differ. In a table, withlock need not wait for that; elsewhere it waits
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) min_hold: Option<Duration>,

    /// End the command by TIME after it got the lock, with the same signals as if the lock was lost, and exit with 123.
    /// A command that hangs then keeps nobody waiting for ever
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) max_hold: Option<Duration>,

    /// What the command gets when its lock is lost. term: TERM, then KILL before the lease ends. kill: KILL only.
    /// ignore: no signal
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help_heading = "Holding"
    )]
    pub(crate) on_lost: OnLost,

    /// Send TERM this long before KILL [default: a sixth of the TTL]
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true, help_heading = "Holding")]
    pub(crate) grace: Option<Duration>,

    /// Text that waiters see after host and process id, 255 bytes in all [default: the program or script, without
    /// arguments]
    #[arg(long, value_name = "TEXT", help_heading = "Holding")]
    pub(crate) label: Option<String>,

    /// List the locks that are held
    #[arg(long, group = "instead", conflicts_with_all = ["name", "dashed"], help_heading = "Instead of a command")]
    pub(crate) list: bool,

    /// Show the holder of NAME. Exit with 75 if the lock is held, with 0 if it is free
    #[arg(long, group = "instead", help_heading = "Instead of a command")]
    pub(crate) status: bool,

    /// Take NAME from its holder. The holder is told, and the fence rises. Exit with 0 if NAME is free then, with 75
    /// if its holder keeps it
    #[arg(long = "break", group = "instead", help_heading = "Instead of a command")]
    pub(crate) break_hold: bool,

    /// Answer yes to the question of --break
    #[arg(long, help_heading = "Instead of a command")]
    pub(crate) yes: bool,

    /// Remove the rows of locks that are free and were not acquired for TIME, which is at least 1h [default: 30d]
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

    /// Print locks as JSON
    #[arg(long, help_heading = "Instead of a command")]
    pub(crate) json: bool,

    /// Print the SQL statement that creates the table
    #[arg(long, group = "instead", help_heading = "Instead of a command")]
    pub(crate) ddl: bool,

    /// Report waiting and holding on standard error, even without a terminal
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Report errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print completions for a shell: bash, elvish, fish, powershell or zsh
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

    /// Print the manual page; read it with "man -l -"
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
    /// The lock's name, given as a word or by `--name`.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().or(self.dashed.as_deref()).unwrap_or_default()
    }

    /// True if there is a command to run. Without one, an option such as `--list` says what to do.
    pub(crate) fn runs(&self) -> bool {
        !self.command.is_empty()
    }
}

/// The reasons to end before anything runs.
pub(crate) enum Stop {
    /// The caller asked for the help or the version.
    Print(clap::Error),
    /// The command line is wrong. This is the error.
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

/// The definition of the command line, from which the completions and the manual page are made.
pub(crate) fn definition() -> clap::Command {
    Args::command()
}

fn code(text: &str) -> Result<u8, &'static str> {
    text.parse().map_err(|_| "an exit code is a number from 0 to 255")
}

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    text.parse().map_err(|_| "must be table, advisory, session, node-distributed-lock or sql-lock")
}

fn time(text: &str) -> Result<Duration, DurationError> {
    duration::parse(text)
        .and_then(|time| if time > LONGEST { Err(DurationError::TooLong) } else { Ok(time) })
}

/// The time of `--purge`. A row that was unused for as long is removed.
fn unused(text: &str) -> Result<Duration, String> {
    let time = time(text).map_err(|error| error.to_string())?;
    lock_core::admin::AdminRequest::purge(time).map_err(|error| error.to_string())?;
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
    fn the_longest_time_is_a_time_and_a_longer_one_is_not() {
        let ms = LONGEST.as_millis();
        assert_eq!(time(&format!("{ms}ms")), Ok(LONGEST));
        assert_eq!(time(&format!("{}ms", ms + 1)), Err(DurationError::TooLong));
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
            ("w --leader --try a -- true", "--try cannot be used with --leader"),
            ("w --leader --skip a -- true", "--skip cannot be used with --leader"),
            ("w --leader --wait 0 a -- true", "--wait cannot be used with --leader"),
            ("w --leader -E 3 a -- true", "-E) cannot be used with --leader"),
            ("w --leader --shared a -- true", "--permits"),
            ("w --leader --on-lost ignore a -- true", "cannot be started again"),
            ("w --json a -- true", "--list or --status"),
            ("w --yes a -- true", "--break"),
            ("w --status --json --quiet a", "--quiet"),
            ("w --list --ttl 5s", "--ttl cannot be used with --list, where it would do nothing"),
            ("w --ddl a", "NAME"),
        ] {
            assert!(usage(line).contains(says), "{}", usage(line));
        }
    }

    /// Else the command would run under the one that somebody did not mean.
    #[test]
    fn a_name_is_given_once() {
        for line in [
            "w n --name m",
            "w n --name m -- true",
            "w --status n --name m",
            "w --break n --name m --yes",
        ] {
            assert!(usage(line).contains("--name"), "{line}: {}", usage(line));
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

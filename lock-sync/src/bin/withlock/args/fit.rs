//! Combinations of options. An option that would have no effect is an error, because the caller meant
//! something by it.

use super::Args;
use crate::ending::OnLost;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use std::time::Duration;

/// The actions other than running a command, and the options that belong to each.
const INSTEAD: [(&str, &[&str]); 5] = [
    ("list", &["db", "protocol", "table", "json", "verbose"]),
    (
        "status",
        &[
            "name",
            "dashed",
            "db",
            "protocol",
            "table",
            "json",
            "conflict_exit_code",
            "verbose",
            "quiet",
        ],
    ),
    (
        "break_hold",
        &[
            "name",
            "dashed",
            "db",
            "protocol",
            "table",
            "yes",
            "conflict_exit_code",
            "verbose",
            "quiet",
        ],
    ),
    ("purge", &["db", "protocol", "table", "verbose", "quiet"]),
    ("ddl", &["db", "protocol", "table"]),
];

/// The options that say nothing about running a command, and the action of each.
const NOT_FOR_COMMANDS: [(&str, &str); 2] =
    [("json", "needs --list or --status"), ("yes", "needs --break")];

/// Fails for the first option that would have no effect. The error says what to do.
pub(super) fn check(args: &Args, matches: &ArgMatches) -> Result<(), String> {
    let definition = super::definition();
    let given: Vec<&Arg> = definition
        .get_arguments()
        .filter(|arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
        .collect();
    let is_given = |id: &str| given.iter().any(|arg| arg.get_id() == id);
    if is_given("completions") || is_given("man") {
        // clap lets these only stand alone.
        return Ok(());
    }
    match INSTEAD.iter().find(|(id, _)| is_given(id)) {
        Some((id, understood)) => {
            let odd = given.iter().find(|arg| {
                let other = arg.get_id().as_str();
                other != *id && !understood.contains(&other)
            });
            let instead = given.iter().find(|arg| arg.get_id() == id);
            if let (Some(odd), Some(instead)) = (odd, instead) {
                return Err(format!(
                    "{} cannot be used with {}, where it would do nothing",
                    shown(odd),
                    shown(instead)
                ));
            }
        }
        None => {
            if let Some((id, needs)) = NOT_FOR_COMMANDS.iter().find(|(id, _)| is_given(id)) {
                return Err(format!("--{id} {needs}"));
            }
            for_a_command(args)?;
        }
    }
    if args.json && args.quiet {
        return Err("--json cannot be used with --quiet, which prints nothing".to_string());
    }
    Ok(())
}

fn for_a_command(args: &Args) -> Result<(), String> {
    let error = match args {
        Args { skip: true, conflict_exit_code: Some(_), .. } => {
            "--conflict-exit-code (-E) cannot be used with --skip, which exits with 0 if someone else holds the \
             lock: leave out one of them"
        }
        Args { grace: Some(_), on_lost: OnLost::Kill, .. } => {
            "--grace cannot be used with --on-lost kill, which sends no TERM"
        }
        Args { grace: Some(_), on_lost: OnLost::Ignore, .. } => {
            "--grace cannot be used with --on-lost ignore, which sends no signal"
        }
        Args { max_hold: Some(_), on_lost: OnLost::Ignore, .. } => {
            "--max-hold cannot be used with --on-lost ignore, which sends no signal"
        }
        Args { leader: true, once: true, .. } => {
            "--try cannot be used with --leader, which stands by while someone else leads: leave out one of them"
        }
        Args { leader: true, skip: true, .. } => {
            "--skip cannot be used with --leader, which stands by while someone else leads: leave out one of them"
        }
        Args { leader: true, wait: Some(_), .. } => {
            "--wait cannot be used with --leader, which stands by for as long as it takes: leave out one of them"
        }
        Args { leader: true, conflict_exit_code: Some(_), .. } => {
            "--conflict-exit-code (-E) cannot be used with --leader, which never ends because someone else leads"
        }
        Args { leader: true, shared: true, .. } => {
            "--shared cannot be used with --leader, because a leader leads alone: --permits lets COUNT lead at a time"
        }
        Args { leader: true, on_lost: OnLost::Ignore, .. } => {
            "--on-lost ignore cannot be used with --leader: a command that was not ended cannot be started again"
        }
        Args { max_hold: Some(Duration::ZERO), .. } => {
            "--max-hold needs a time: without one, the command runs as long as it takes"
        }
        Args { min_hold: Some(min), max_hold: Some(max), .. } if min > max => {
            "--min-hold must not be longer than --max-hold"
        }
        _ => return Ok(()),
    };
    Err(error.to_string())
}

fn shown(arg: &Arg) -> String {
    match arg.get_long() {
        Some(long) => format!("--{long}"),
        None => arg.get_id().as_str().to_uppercase(),
    }
}

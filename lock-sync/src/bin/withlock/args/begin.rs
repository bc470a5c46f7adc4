//! The beginning of the command in a command line.
//!
//! `withlock NAME COMMAND…` needs no `--` if there is only one way to read it: the command begins with the
//! first word after NAME that is neither an option nor an option's value. All following words belong to the
//! command. This module inserts the `--` before clap reads the words.

use crate::report::printable;
use clap::{Arg, ArgAction, Command};
use lock_core::duration;
use std::ffi::{OsStr, OsString};

/// The words of a command line, the program's name first, with `--` before the command.
///
/// Clap complains about words that make no sense.
///
/// # Errors
/// The command line can be read in two ways. The error says where the `--` is missing.
pub(super) fn with_dashes(
    mut words: Vec<OsString>,
    definition: &Command,
) -> Result<Vec<OsString>, String> {
    let mut name: Option<usize> = None;
    let mut at = 1;
    while let Some(word) = words.get(at) {
        match kind(word, definition) {
            Kind::Dashes | Kind::Unknown => return Ok(words),
            Kind::Plain if name.is_some() => break,
            Kind::Plain => name = Some(at),
            Kind::Option { is_name, takes_next } => {
                at += usize::from(takes_next);
                // `--name=NAME` is one word.
                name = if is_name { Some(at) } else { name };
                if takes_next && words.get(at).is_some_and(|value| value == "--") {
                    return Ok(words);
                }
            }
        }
        at += 1;
    }
    let (Some(name), Some(program)) = (name, words.get(at)) else { return Ok(words) };
    let shown = |word: &OsStr| format!("{:?}", printable(word));
    if let (Some(before), Some(word)) = (words.get(name.wrapping_sub(1)), words.get(name))
        && let Some(sum) = sum(before, word)
    {
        return Err(format!(
            "{} could be the lock's name or a part of the time {sum:?}: put quotes around the time, or -- \
             before the command",
            shown(word)
        ));
    }
    if words[at..].iter().any(|word| word == "--") {
        return Err(format!(
            "the command could begin with {} or after the later \"--\": put -- before its first word, also \
             if it has a -- of its own; a lock's name with spaces needs quotes",
            shown(program)
        ));
    }
    words.insert(at, "--".into());
    Ok(words)
}

/// The kinds of words before the command.
enum Kind {
    Dashes,
    Plain,
    Unknown,
    Option {
        is_name: bool,
        /// True if the next word is the option's value.
        takes_next: bool,
    },
}

fn kind(word: &OsStr, definition: &Command) -> Kind {
    let text = word.to_string_lossy();
    let find = |is: &dyn Fn(&&Arg) -> bool| definition.get_arguments().find(is);
    let option = |arg: &Arg, has_value: bool| Kind::Option {
        is_name: arg.get_id() == "dashed",
        takes_next: takes_value(arg) && !has_value && !arg.is_require_equals_set(),
    };
    if text == "--" {
        return Kind::Dashes;
    }
    if let Some(long) = text.strip_prefix("--") {
        let (long, value) = long.split_once('=').map_or((long, None), |(long, v)| (long, Some(v)));
        return match find(&|arg| arg.get_long() == Some(long)) {
            Some(arg) => option(arg, value.is_some()),
            None => Kind::Unknown,
        };
    }
    // A dash alone is a word.
    let Some(letters) = text.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
        return Kind::Plain;
    };
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        match find(&|arg| arg.get_short() == Some(letter)) {
            None => return Kind::Unknown,
            // The rest of the word is its value.
            Some(arg) if takes_value(arg) => return option(arg, !letters.as_str().is_empty()),
            Some(_) => {}
        }
    }
    Kind::Option { is_name: false, takes_next: false }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// `1h 30m` without quotes is two words.
fn sum(before: &OsStr, word: &OsStr) -> Option<String> {
    let sum = format!("{} {}", before.to_str()?.rsplit('=').next()?, word.to_str()?);
    duration::parse(&sum).is_ok().then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::super::definition;
    use super::*;

    fn read(line: &str) -> Result<String, String> {
        let words = line.split(' ').map(OsString::from).collect();
        let read = with_dashes(words, &definition().tap_built())?;
        let words: Vec<_> = read.iter().map(|word| word.to_string_lossy()).collect();
        Ok(words.join(" "))
    }

    trait Built {
        fn tap_built(self) -> Self;
    }

    impl Built for Command {
        fn tap_built(mut self) -> Self {
            self.build();
            self
        }
    }

    #[test]
    fn the_command_begins_with_the_first_word_after_the_name_that_is_no_option() {
        for (line, expected) in [
            ("w deploy make", "w deploy -- make"),
            ("w deploy make -j4", "w deploy -- make -j4"),
            ("w deploy make --try", "w deploy -- make --try"),
            ("w deploy make --help", "w deploy -- make --help"),
            ("w -n deploy make", "w -n deploy -- make"),
            ("w deploy -n make -n", "w deploy -n -- make -n"),
            ("w deploy -w 5m make", "w deploy -w 5m -- make"),
            ("w deploy -w5m make", "w deploy -w5m -- make"),
            ("w deploy -vw 5m make", "w deploy -vw 5m -- make"),
            ("w deploy --wait=5m make", "w deploy --wait=5m -- make"),
            (
                "w --db sqlite:x deploy --ttl 1m make all",
                "w --db sqlite:x deploy --ttl 1m -- make all",
            ),
            ("w --name -x make", "w --name -x -- make"),
            ("w --name=-x -n make", "w --name=-x -n -- make"),
            ("w deploy - x", "w deploy -- - x"),
            ("w deploy -E 3 -n make", "w deploy -E 3 -n -- make"),
            ("w -w 5m deploy make", "w -w 5m deploy -- make"),
            ("w -w 5m 30x make", "w -w 5m 30x -- make"),
        ] {
            assert_eq!(read(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_said_in_full_or_makes_no_sense_is_left_as_it_is() {
        for line in [
            "w",
            "w deploy",
            "w deploy -- make -- x",
            "w deploy --db sqlite:x -- make",
            "w -- deploy make",
            "w deploy --",
            "w deploy --nope make",
            "w deploy -x make",
            "w deploy -w",
            "w deploy -w -- make",
            "w --name -- -- make",
            "w --status deploy",
            "w --list",
            "w --purge=1d",
            "w -w 1h 30m -- make",
        ] {
            assert_eq!(read(line).as_deref(), Ok(line), "{line}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (line, says) in [
            ("w my lock -- make", "begin with \"lock\" or after"),
            ("w deploy npm test -- --watch", "begin with \"npm\" or after"),
            ("w deploy make --", "begin with \"make\" or after"),
            ("w -w 1h 30m make", "\"30m\" could be the lock's name"),
            ("w --wait=1h 30m deploy make", "\"30m\" could be the lock's name"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(says) && error.contains("put"), "{error}");
        }
    }
}

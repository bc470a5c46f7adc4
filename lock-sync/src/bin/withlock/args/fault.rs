//! The error for a wrong command line, in one line.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// clap's error and our advice, without the usage that clap appends.
pub(super) fn line(error: &Error, words: &[OsString]) -> String {
    let text = error.render().to_string();
    let end = ["\n\nUsage:", "\n\n  tip:", "\n\nFor more information"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min();
    let said: Vec<_> = text[..end.unwrap_or(text.len())].split_whitespace().collect();
    let said = said.join(" ");
    format!("{}{}", said.trim_start_matches("error: "), advice(error, words).unwrap_or_default())
}

fn advice(error: &Error, words: &[OsString]) -> Option<String> {
    let meant = [ContextKind::SuggestedArg, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(|kind| error.get(kind));
    if let Some(ContextValue::String(word)) = meant {
        return Some(format!("; did you mean {word}?"));
    }
    if error.kind() == ErrorKind::MissingRequiredArgument {
        let missing = error.get(ContextKind::InvalidArg).map(ToString::to_string);
        let command = missing.is_some_and(|names| names.contains("COMMAND"));
        return command.then(|| "; write: withlock NAME COMMAND".to_string());
    }
    let in_full = words.iter().any(|word| word == "--");
    (error.kind() == ErrorKind::UnknownArgument && !in_full)
        .then(|| "; if it belongs to the command, put -- before the command".to_string())
}

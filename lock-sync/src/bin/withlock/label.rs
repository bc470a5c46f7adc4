//! The name that waiters see for a command.
//!
//! Arguments may be secret. A word is shown only if every word before it is known, and if it can only be a
//! program, a script's file or a Python module.

use crate::report::printable;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A program that runs another program, which its later words name.
struct Wrapper {
    name: &'static str,
    /// Options without a value of their own. `*` stands for any end of the word, and `-#` for a number.
    flags: &'static [&'static str],
    /// Options whose value is the next word.
    valued: &'static [&'static str],
    /// True if `NAME=VALUE` may come before the program.
    assigns: bool,
    /// Number of words between the options and the program.
    positional: usize,
}

#[rustfmt::skip]
const WRAPPERS: [Wrapper; 9] = [
    Wrapper { name: "env", flags: &["-", "-i", "--ignore-environment", "--unset=*", "--chdir=*"],
        valued: &["-u", "--unset", "-C", "--chdir"], assigns: true, positional: 0 },
    Wrapper { name: "nice", flags: &["-#", "-n*", "--adjustment=*"],
        valued: &["-n", "--adjustment"], assigns: false, positional: 0 },
    Wrapper { name: "ionice", flags: &["-t", "-c*", "-n*", "--class=*", "--classdata=*"],
        valued: &["-c", "-n", "--class", "--classdata"], assigns: false, positional: 0 },
    Wrapper { name: "timeout", flags: &["-v", "--verbose", "--foreground", "--preserve-status", "-k*", "-s*", "--kill-after=*", "--signal=*"],
        valued: &["-k", "--kill-after", "-s", "--signal"], assigns: false, positional: 1 },
    Wrapper { name: "sudo", flags: &["-E", "-H", "-n", "--preserve-env", "--non-interactive", "--set-home", "--user=*", "--group=*"],
        valued: &["-u", "-g", "--user", "--group"], assigns: true, positional: 0 },
    Wrapper { name: "doas", flags: &["-n"], valued: &["-u"], assigns: false, positional: 0 },
    Wrapper { name: "nohup", flags: &[], valued: &[], assigns: false, positional: 0 },
    Wrapper { name: "setsid", flags: &["-c", "-f", "-w", "--ctty", "--fork", "--wait"],
        valued: &[], assigns: false, positional: 0 },
    Wrapper { name: "stdbuf", flags: &["-i*", "-o*", "-e*", "--input=*", "--output=*", "--error=*"],
        valued: &["-i", "-o", "-e"], assigns: false, positional: 0 },
];

/// The program's name. An interpreter is followed by its script. A wrapper, such as `env`, is left out.
pub(crate) fn label(command: &[OsString]) -> String {
    let rest = without_wrappers(command);
    let Some((program, arguments)) = rest.split_first() else { return String::new() };
    let shown = printable(program);
    match script(&base(program), arguments) {
        Some(script) => format!("{shown} {script}"),
        None => shown,
    }
}

fn without_wrappers(mut command: &[OsString]) -> &[OsString] {
    while let Some(inner) = command.split_first().and_then(|(program, rest)| {
        let program = base(program);
        let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.name == program)?;
        inner(wrapper, rest)
    }) {
        command = inner;
    }
    command
}

/// The command that a wrapper runs, if each word before it is known.
fn inner<'a>(wrapper: &Wrapper, mut rest: &'a [OsString]) -> Option<&'a [OsString]> {
    let mut positional = wrapper.positional;
    loop {
        let word = rest.first()?.to_str()?;
        let known = |flag: &&str| match flag.strip_suffix('*') {
            Some(start) => word.len() > start.len() && word.starts_with(start),
            None if *flag == "-#" => {
                word.len() > 1 && word[1..].bytes().all(|b| b.is_ascii_digit())
            }
            None => word == *flag,
        };
        let skip = if word == "--" {
            let program = rest.get(1 + positional..)?;
            return (!program.is_empty()).then_some(program);
        } else if wrapper.valued.contains(&word) {
            2
        } else if wrapper.flags.iter().any(known) {
            1
        } else if word.starts_with('-') {
            return None;
        } else if wrapper.assigns && word.contains('=') {
            1
        } else if positional > 0 {
            positional -= 1;
            1
        } else {
            return Some(rest);
        };
        rest = rest.get(skip..)?;
    }
}

/// The script of an interpreter: a file's name without its folders, or the option that contains the program's
/// text.
fn script(interpreter: &str, arguments: &[OsString]) -> Option<String> {
    let versioned = interpreter.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let (flags, valued, inline) = match versioned {
        "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" => ("abefhiklmnpruvxBCEHPT", "oO", "c"),
        "python" | "pypy" => ("bBdEhiIOPqsSuvVxR", "WX", "c"),
        "perl" => ("wWtTcuU", "", "eE"),
        "ruby" => ("wWvc", "", "e"),
        "node" | "php" => ("", "", "er"),
        _ => return None,
    };
    let mut words = arguments.iter();
    loop {
        let word = words.next()?;
        let Some(letters) = word.to_str()?.strip_prefix('-') else {
            return Some(printable(base(word)));
        };
        let last = letters.chars().last()?;
        let known = |c: char| flags.contains(c);
        if letters == "-" {
            return words.next().map(|word| printable(base(word)));
        } else if letters == "m" && versioned == "python" {
            return words.next().map(|module| format!("-m {}", printable(module)));
        } else if letters.chars().all(known) {
            continue;
        } else if !letters[..letters.len() - last.len_utf8()].chars().all(known) {
            return None;
        } else if inline.contains(last) {
            return Some(format!("-{last}"));
        } else if valued.contains(last) {
            words.next()?;
        } else {
            return None;
        }
    }
}

fn base(word: &OsStr) -> String {
    Path::new(word).file_name().unwrap_or(word).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, expected: &str) {
        let words: Vec<OsString> = command.split(' ').map(OsString::from).collect();
        assert_eq!(label(&words), expected, "{command}");
    }

    #[test]
    fn a_program_is_shown_without_its_arguments() {
        check("./deploy --token secret", "./deploy");
        check("/usr/bin/make all", "/usr/bin/make");
        check("curl -u me:secret", "curl");
        assert_eq!(label(&[]), "");
        assert_eq!(label(&["a\nb".into()]), "a?b");
    }

    #[test]
    fn an_interpreter_is_shown_with_its_script() {
        check("bash deploy.sh secret", "bash deploy.sh");
        check("bash -eux -o pipefail /srv/ops/deploy.sh secret", "bash deploy.sh");
        check("/bin/bash -euo pipefail deploy.sh", "/bin/bash deploy.sh");
        check("sh -- deploy.sh", "sh deploy.sh");
        check("python3.11 -u -W ignore x.py secret", "python3.11 x.py");
        check("python -m backup secret", "python -m backup");
        check("/usr/bin/python3 -u -m backup secret", "/usr/bin/python3 -m backup");
        check("python3.11 -m backup secret", "python3.11 -m backup");
        check("perl -w x.pl", "perl x.pl");
        check("node server.js", "node server.js");
        check("ruby -w x.rb secret", "ruby x.rb");
    }

    #[test]
    fn the_text_of_a_program_is_not_shown() {
        check("sh -c secret", "sh -c");
        check("bash -exc secret secret", "bash -c");
        check("python3 -c secret", "python3 -c");
        check("perl -e secret", "perl -e");
        check("perl -we secret", "perl -e");
        check("node -e secret", "node -e");
        check("php -r secret", "php -r");
    }

    #[test]
    fn what_runs_another_program_is_left_out() {
        check("env A=secret B=secret deploy secret", "deploy");
        check("env -i -u HOME A=secret bash x.sh", "bash x.sh");
        check("nice -n 10 ionice -c2 -n 7 tar cf secret", "tar");
        check("nice -10 tar", "tar");
        check("timeout -k 5 5m deploy secret", "deploy");
        check("timeout --signal=INT 5 sh -c secret", "sh -c");
        check("sudo -u postgres psql secret", "psql");
        check("sudo -E A=secret -- deploy", "deploy");
        check("nohup setsid -w stdbuf -oL ./run", "./run");
        check("timeout -v -- 5 deploy secret", "deploy");
        check("sudo -- deploy secret", "deploy");
    }

    /// A shorter label is better than a secret in it.
    #[test]
    fn nothing_follows_a_word_that_is_not_known() {
        check("env -S secret deploy", "env");
        // A digit is missing, and so is a value.
        check("nice - deploy", "nice");
        check("env --chdir= deploy", "env");
        check("sudo -p secret deploy", "sudo");
        check("timeout --odd secret 5 deploy", "timeout");
        check("bash --rcfile secret x.sh", "bash");
        check("perl -I secret x.pl", "perl");
        check("python3 --odd secret x.py", "python3");
        check("node --require secret x.js", "node");
        check("bash", "bash");
        check("env", "env");
        check("env A=secret", "env");
        check("sudo", "sudo");
        check("timeout 5", "timeout");
        check("bash -", "bash");
        check("sh -s secret", "sh");
    }
}
